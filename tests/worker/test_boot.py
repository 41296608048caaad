"""How a worker starts: patched, then its application, then it accepts; or it says why not."""

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nti.appserver.testing.process import GunicornProcess, wait_until
from tests.worker.conftest import Serve, fetch, workers_booted

COMMAND = "gunicorn -k nti.appserver.gunicorn.GeventApplicationWorker nti.appserver.gunicorn:app"


def test_the_application_is_imported_in_the_patched_worker(serve: Serve) -> None:
    server = serve().wait_until_serving()
    found = fetch(server)
    assert found["patched"]
    assert found["imported_in"] == found["pid"] != server.pid
    assert f"Serving {server.url}/\n" in server.output()


@pytest.mark.parametrize("app", ["nti.appserver.gunicorn:app", ""], ids=["app", "paste"])
def test_preloading_leaves_the_application_unmade_in_the_arbiter(
    serve: Serve, folder: Path, app: str
) -> None:
    """In a pipeline the promise is inside of filters that PasteDeploy has put around it."""
    (folder / "site.ini").write_text(PIPELINE)
    (folder / "myfilter.py").write_text(FILTER)
    options = () if app else ("--paste", "site.ini")
    server = serve("--preload", *options, app=app).wait_until_serving()
    found = fetch(server)
    assert found["imported_in"] == found["pid"] != server.pid
    if not app:
        assert (folder / "filtered").read_text() == str(server.pid)


PIPELINE = """
[pipeline:main]
pipeline = mark site
[filter:mark]
paste.filter_app_factory = myfilter:mark
[app:site]
use = egg:nti.appserver
appserver.application = mysite:app
"""

FILTER = """
import os
def mark(app, global_conf):
    open("filtered", "w").write(str(os.getpid()))
    return lambda environ, start_response: app(environ, start_response)
"""


@pytest.mark.parametrize("preload", [False, True])
def test_each_greenlet_has_its_transaction_manager(serve: Serve, preload: bool) -> None:
    server = serve(*["--preload"] * preload).wait_until_serving()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fetch(server, "sleep=0.5"), range(4)))
    assert len({one["pid"] for one in found}) == 1
    assert len({one["manager"] for one in found}) == 4


def test_any_other_application_is_served(serve: Serve) -> None:
    server = serve(app="mysite:app").wait_until_serving()
    assert fetch(server)["patched"]


def test_a_preloaded_application_with_unsafe_modules_is_refused(serve: Serve, folder: Path) -> None:
    (folder / "locals.py").write_text("import threading\nclass Mine(threading.local): pass\n")
    (folder / "foreign.py").write_text(
        "import transaction, pyramid.threadlocal, locals\nfrom mysite import app\n"
    )
    server = serve("--preload", app="foreign:app")
    assert server.wait() == 3
    output = server.output()
    assert "transaction (all greenlets share one transaction)" in output
    assert "pyramid.threadlocal (all greenlets share one current request)" in output
    assert "locals (all greenlets share its thread-local data)" in output
    assert "without --preload" in output


def test_workers_after_hup_may_have_asyncio_from_the_control_socket(
    serve: Serve, folder: Path
) -> None:
    """gunicorn's arbiter imports asyncio for it, once its first workers run."""
    (folder / "home").mkdir()
    server = GunicornProcess(
        cwd=folder,
        environ={
            "HOME": str(folder / "home"),
            "XDG_RUNTIME_DIR": str(folder / "home"),
            "NTI_APPSERVER_APPLICATION": "mysite:app",
            "NTI_APPSERVER_STORAGE": "none",
        },
    )
    server.command.remove("--no-control-socket")
    with server:
        server.wait_until_serving()
        first = fetch(server)["pid"]
        server.wait_for_output("Control socket listening")
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: fetch(server)["pid"] != first, "a new worker answers")
    assert "Cannot serve" not in server.output()
    assert len(workers_booted(server)) == 2


@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
def test_another_worker_class_is_refused_with_the_command_to_use(folder: Path, worker: str) -> None:
    with GunicornProcess("nti.appserver.gunicorn:app", worker=worker, cwd=folder) as server:
        assert server.wait() == 4
    assert COMMAND in server.output()
    assert "Traceback" not in server.output()


def test_gunicorn_checks_its_configuration_with_app(serve: Serve) -> None:
    server = serve("--check-config")
    assert server.wait() == 0
    assert server.output() == ""


def test_the_package_is_a_library_under_another_worker_class(folder: Path) -> None:
    (folder / "wsgi.py").write_text(
        "from nti.appserver.application import make_app\n"
        "app = make_app(application='mysite:app', storage='none')\n"
    )
    with GunicornProcess("wsgi:app", worker="gthread", cwd=folder) as server:
        server.wait_until_serving()
        assert not fetch(server)["patched"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def main():\n    return 1 / 0\n", ["Traceback", "return 1 / 0", "ZeroDivisionError"]),
        ("import nowhere_at_all\n", ["Traceback", "No module named 'nowhere_at_all'"]),
        ("def man(): pass\n", ["'main' is not in failing", "module:name"]),
        ("main = 5\n", ["which is 5", "a Pyramid main"]),
    ],
    ids=["raises", "imports", "misnamed", "no-application"],
)
def test_an_error_while_loading_is_printed_whole_and_ends_gunicorn(
    serve: Serve, folder: Path, text: str, said: list[str]
) -> None:
    (folder / "failing.py").write_text(text)
    server = serve(application="failing:main")
    assert server.wait() == 3
    for words in said:
        assert words in server.output()
    assert "gunicorn ends" in server.output()
    assert len(workers_booted(server)) == 1


#: The first time it is told to end, as by HUP, while its start waits for a thread.
TOLD_TO_END = """
import os, pathlib, signal, threading
if not pathlib.Path("told").exists():
    pathlib.Path("told").touch()
    done = threading.Event()
    def work():
        os.kill(os.getpid(), signal.SIGTERM)
        done.set()
    threading.Thread(target=work).start()
    done.wait()
from mysite import app
"""


def test_a_worker_told_to_end_while_it_starts_does_not_end_gunicorn(
    serve: Serve, folder: Path
) -> None:
    """The signal's SystemExit is raised in the thread, and its end is then waited for in vain."""
    (folder / "told_to_end.py").write_text(TOLD_TO_END)
    server = serve(application="told_to_end:app").wait_until_serving()
    assert fetch(server)["patched"]
    assert "Told to end while it started" in server.output()


def test_a_hook_that_fails_after_hup_does_not_end_gunicorn(serve: Serve, folder: Path) -> None:
    (folder / "conf.py").write_text(
        "import pathlib\n"
        "def post_worker_init(worker):\n"
        "    assert not pathlib.Path('broken').exists(), 'the hook is broken'\n"
    )
    server = serve("-c", "conf.py").wait_until_serving()
    pid = fetch(server)["pid"]
    (folder / "broken").touch()
    server.send_signal(signal.SIGHUP)
    server.wait_for_output("This worker serves on")
    assert "the hook is broken" in server.output()
    assert fetch(server)["pid"] == pid


def test_a_bad_setting_ends_gunicorn_without_a_traceback(serve: Serve) -> None:
    server = serve(attempts="many")
    assert server.wait() == 1
    assert "setting attempts is 'many'; expected a whole number from 1 to 100" in server.output()
    assert "Traceback" not in server.output()


def test_a_storage_of_one_process_is_refused_with_several_workers(
    serve: Serve, folder: Path
) -> None:
    server = serve("--workers", "4", storage=f"file://{folder}/Data.fs")
    assert server.wait() == 3
    assert "with 4 workers; expected a storage that several processes" in server.output()
    assert "set storage to `embedded`" in server.output()


def test_the_folder_of_data_is_private(serve: Serve, folder: Path) -> None:
    serve().wait_until_serving()
    assert (folder / "var").stat().st_mode & 0o777 == 0o700


def test_what_the_application_logs_is_in_gunicorns_format(serve: Serve, folder: Path) -> None:
    (folder / "talking.py").write_text(
        "import logging\nfrom mysite import app as served\n"
        "def app(environ, start_response):\n"
        "    logging.getLogger('shop').info('sold %d', 3)\n"
        "    return served(environ, start_response)\n"
    )
    server = serve(application="talking:app").wait_until_serving()
    pid = fetch(server)["pid"]
    server.wait_for_output("sold 3")
    line = next(line for line in server.output().splitlines() if "sold 3" in line)
    assert line.startswith("[20")
    assert f"[{pid}] [INFO]" in line
    assert line.endswith("shop: sold 3")


def test_the_arbiter_imports_nothing_unsafe(folder: Path) -> None:
    """The whole way of a preloaded PasteDeploy file, and that of the command."""
    (folder / "site.ini").write_text("[app:main]\nuse = egg:nti.appserver\n")
    done = subprocess.run(
        [sys.executable, "-c", ARBITER], cwd=folder, check=True, capture_output=True, text=True
    )
    loaded = set(json.loads(done.stdout))
    assert not loaded & {
        "ZODB",
        "ZEO",
        "transaction",
        "concurrent.futures",
        "requests",
        "asyncio",
        "pyramid",
        "mysite",
    }


ARBITER = """
import json, sys
import gunicorn.app.wsgiapp, gunicorn.arbiter, gunicorn.app.pasterapp
from gunicorn.util import load_class
load_class("nti.appserver.gunicorn.GeventApplicationWorker").setup()
gunicorn.app.pasterapp.get_wsgi_app("site.ini")
import nti.appserver.cli
print(json.dumps(sorted(sys.modules)))
"""
