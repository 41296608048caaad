"""Imports run downwards only: each room knows the rooms below it and none beside it."""

import pytest

from tests.house.source import PACKAGE, Module, modules

#: Modules that take bytes and give bytes; any room above may use them.
SANS_IO = {"websocket.protocol", "websocket.frames", "websocket.deflate"}

#: Programs that run as processes of their own, patched like a worker: doors, wherever they lie.
PROGRAMS = {"doctor.rehearsal", "doctor.drivers", "doctor.storages"}

#: From the ground up. Rooms of one storey do not import each other.
STOREYS = (
    ("errors", "settings", "metrics", "health", "origins", "request_id", "children", "pastefile"),
    ("sans-I/O",),
    ("hub",),
    ("worker", "handover"),
    ("storage",),
    ("transactions",),
    ("http", "websocket", "socketio", "ops", "deploy"),
    ("application", "pyramid"),
    ("programs",),
    ("gunicorn", "cli", "doctor"),
    ("testing", "dataserver", "__main__"),
)
FLOOR = {room: floor for floor, rooms in enumerate(STOREYS) for room in rooms}

#: The ground floor's modules build on one another in this order.
GROUND = (
    "errors",
    "metrics",
    "health",
    "settings",
    "origins",
    "request_id",
    "children",
    "pastefile",
)


def room_of(name: str) -> str:
    """The room that a module of the package belongs to; '' for the package itself."""
    rest = name.removeprefix(PACKAGE).removeprefix(".")
    if rest in PROGRAMS:
        return "programs"
    return "sans-I/O" if rest in SANS_IO else rest.partition(".")[0]


def may_import(importer: str, imported: str) -> bool:
    """Whether one room may know the other."""
    if importer == imported or not imported:
        return True
    if importer in GROUND and imported in GROUND:
        return GROUND.index(imported) < GROUND.index(importer)
    return FLOOR[imported] < FLOOR[importer]


def inner_imports(module: Module) -> list[tuple[str, int]]:
    """Imports of the package's own modules, each with its line."""
    return [(name, line) for name, line in module.imports() if name.startswith(PACKAGE)]


#: All but the package itself, which names pyramid's includeme, lazily.
IN_ROOMS = sorted(name for name in modules() if room_of(name))


@pytest.mark.parametrize("name", IN_ROOMS)
def test_a_module_imports_only_rooms_below_its_own(name: str) -> None:
    module = modules()[name]
    room = room_of(name)
    upwards = [
        f"{module.path.name}:{line} imports {imported}"
        for imported, line in inner_imports(module)
        if not may_import(room, room_of(imported))
    ]
    assert not upwards, f"{room} may not know: {upwards}"


def test_sans_io_modules_are_there() -> None:
    assert {f"{PACKAGE}.{name}" for name in SANS_IO} <= set(modules())


def test_every_room_has_its_place() -> None:
    rooms = {room_of(name) for name in modules()} - {""}
    assert rooms <= set(FLOOR), "a room without a storey; say in STOREYS where it stands"


def test_http_knows_neither_websocket_nor_socketio() -> None:
    """gunicorn.py hands it their hooks; their sans-I/O code is no exception."""
    for name, module in modules().items():
        if room_of(name) == "http":
            known = {room_of(imported) for imported, _ in inner_imports(module)}
            assert not known & {"websocket", "socketio", "sans-I/O"}, name


def test_only_the_hub_room_knows_monkey_patching() -> None:
    knowing = {
        name
        for name, module in modules().items()
        if any(imported.startswith("gevent.monkey") for imported, _ in module.imports())
    }
    assert {room_of(name) for name in knowing} <= {"hub", "programs"}, knowing


def test_sans_io_code_does_no_io() -> None:
    """The protocol rooms take bytes and give bytes: no sockets, no greenlets, no threads."""
    forbidden = {"gevent", "socket", "ssl", "select", "selectors", "threading", "asyncio"}
    for name, module in modules().items():
        if room_of(name) == "sans-I/O":
            known = {imported.partition(".")[0] for imported, _ in module.imports()}
            assert not known & forbidden, name
