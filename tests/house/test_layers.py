"""Imports run downwards only: each room knows the rooms below it and none beside it."""

import pytest

from tests.house.source import PACKAGE, Module, modules

#: From the ground up. Rooms of one storey do not import each other.
STOREYS = (
    ("errors", "settings", "metrics"),
    ("websocket.protocol",),
    ("hub",),
    ("storage",),
    ("transactions",),
    ("http", "websocket", "socketio", "ops", "deploy"),
    ("application", "pyramid"),
    ("gunicorn", "cli"),
    ("testing", "dataserver"),
)
FLOOR = {room: floor for floor, rooms in enumerate(STOREYS) for room in rooms}

#: The ground floor's modules build on one another in this order.
GROUND = ("errors", "metrics", "settings")


def room_of(name: str) -> str:
    """The room that a module of the package belongs to; '' for the package itself."""
    rest = name.removeprefix(PACKAGE).removeprefix(".")
    sans_io = [room for room in FLOOR if "." in room and (rest + ".").startswith(room + ".")]
    return sans_io[0] if sans_io else rest.partition(".")[0]


def may_import(importer: str, imported: str) -> bool:
    """Whether one room may know the other."""
    if importer == imported or not imported:
        return True
    if importer in GROUND and imported in GROUND:
        return GROUND.index(imported) < GROUND.index(importer)
    return FLOOR[imported] < FLOOR[importer]


def inner_imports(module: Module) -> list[tuple[str, int]]:
    return [(name, line) for name, line in module.imports() if name.startswith(PACKAGE)]


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_imports_only_rooms_below_its_own(name: str) -> None:
    module = modules()[name]
    room = room_of(name)
    if not room:
        pytest.skip("the package itself names pyramid's includeme, lazily")
    upwards = [
        f"{module.path.name}:{line} imports {imported}"
        for imported, line in inner_imports(module)
        if not may_import(room, room_of(imported))
    ]
    assert not upwards, f"{room} may not know: {upwards}"


def test_every_room_has_its_place() -> None:
    rooms = {room_of(name) for name in modules()} - {""}
    assert rooms <= set(FLOOR), "a room without a storey; say in STOREYS where it stands"


def test_http_knows_neither_websocket_nor_socketio() -> None:
    """gunicorn.py hands it their hooks; their sans-I/O code is no exception."""
    for name, module in modules().items():
        if room_of(name) == "http":
            known = {room_of(imported).partition(".")[0] for imported, _ in inner_imports(module)}
            assert not known & {"websocket", "socketio"}, name


def test_only_the_hub_room_knows_monkey_patching() -> None:
    knowing = {
        name
        for name, module in modules().items()
        if any(imported == "gevent.monkey" for imported, _ in monkey_imports(module))
    }
    assert {room_of(name) for name in knowing} <= {"hub"}, knowing


def monkey_imports(module: Module) -> list[tuple[str, int]]:
    """`import gevent.monkey` and `from gevent import monkey` alike."""
    import ast

    found = list(module.imports())
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module == "gevent":
            found += [(f"gevent.{alias.name}", node.lineno) for alias in node.names]
    return found


def test_sans_io_code_does_no_io() -> None:
    """The protocol rooms take bytes and give bytes: no sockets, no greenlets, no threads."""
    forbidden = {"gevent", "socket", "ssl", "select", "selectors", "threading", "asyncio"}
    for name, module in modules().items():
        if "." in room_of(name):
            known = {imported.partition(".")[0] for imported, _ in module.imports()}
            assert not known & forbidden, name
