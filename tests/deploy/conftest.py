"""The site and its fronts, started once for all modules of this room.

A test that takes `front` runs for every row of the table, or for those that a
`fronts` mark chooses: `@fronts(lambda kind: kind.tls)`.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nti.appserver.testing.process import free_port
from tests.deploy import programs
from tests.deploy.fronts import FRONTS, PING, Front, Kind, Site


def fronts(wanted: Callable[[Kind], bool] = lambda kind: True) -> pytest.MarkDecorator:
    """Run a test for each front whose row is wanted."""
    names = [kind.name for kind in FRONTS if wanted(kind)]
    return pytest.mark.parametrize("front", names, indirect=True)


#: A page that says in its text what a WebSocket has echoed.
WEBSOCKET_PAGE = """<body><script>
const page = performance.getEntriesByType("navigation")[0].nextHopProtocol;
const websocket = new WebSocket(`wss://${location.host}/dataserver2/socket`);
websocket.onopen = () => websocket.send(`echo of a page that came by ${page}`);
websocket.onmessage = (event) => { document.body.innerText = event.data; };
websocket.onerror = () => { document.body.innerText = "refused"; };
</script></body>"""


def make_folder(root: Path) -> Path:
    """The folder of static files, with some that are not for everybody."""
    (root / "library").mkdir(parents=True)
    (root / "guide").mkdir()
    (root / "guide/index.html").write_text("the guide")
    (root / "style.css").write_text("a { color: red }\n" * 100)
    (root / "websocket.html").write_text(WEBSOCKET_PAGE)
    (root / "library/page.html").write_text("without a policy")
    (root / ".well-known").mkdir()
    (root / ".well-known/security.txt").write_text("Contact: us")
    for hidden in (".secret", ".git/config", "guide/.htaccess"):
        (root / hidden).parent.mkdir(exist_ok=True)
        (root / hidden).write_text("secret")
    return root


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    for program in ("nginx", "haproxy", "stunnel", "openssl"):
        programs.need(program)
    folder = tmp_path_factory.mktemp("site")
    port, static, path = free_port(), free_port(), folder / "app.sock"
    root = make_folder(folder / "www")
    environ = {"NTI_APPSERVER_PING_INTERVAL": str(PING)}
    common = {"workers": 1, "graceful_timeout": 5}
    tcp = programs.Gunicorn(folder / "tcp", "tcp", environ, listen=f"127.0.0.1:{port}", **common)
    unix = programs.Gunicorn(folder / "unix", "unix", environ, socket=path, **common)
    files = programs.nginx(
        folder / "static",
        "static",
        static=f"127.0.0.1:{static}",
        root=root,
        server_name="localhost",
    )
    with contextlib.ExitStack() as stack:
        for process in (tcp, unix, files):
            stack.enter_context(process)
        programs.wait_for_port(files, static)
        yield Site(
            folder,
            root,
            {"tcp": tcp, "unix": unix},
            {"tcp": f"127.0.0.1:{port}", "unix": f"unix:{path}"},
            static,
            programs.certificate(folder),
        )


@pytest.fixture(scope="session")
def running(site: Site) -> Iterator[Callable[[str], Front]]:
    """Starts a front when it is first asked for."""
    started: dict[str, Front | AssertionError] = {}
    kinds = {kind.name: kind for kind in FRONTS}
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Front:
            if name not in started:
                if name.startswith("pound"):
                    programs.need("pound")
                try:
                    started[name] = Front(kinds[name], site).start(stack)
                except AssertionError as problem:
                    started[name] = problem
            found = started[name]
            if isinstance(found, AssertionError):
                raise found
            return found

        yield start


@pytest.fixture
def front(request: pytest.FixtureRequest, running: Callable[[str], Front]) -> Front:
    return running(request.param)
