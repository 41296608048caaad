"""PasteDeploy's filters around an application of one's own, served by `gunicorn --paste`."""

import urllib.request
from pathlib import Path

from nti.appserver.testing.process import GunicornProcess
from nti.appserver.testing.socketio import SocketIO
from nti.appserver.testing.websocket import WebSocket

PIPELINE = """
[pipeline:main]
pipeline = websocket socketio transactions site

[filter:websocket]
use = egg:nti.appserver#websocket
subprotocols = echo

[filter:socketio]
use = egg:nti.appserver#socketio
appserver.namespaces = mysite:Counting

[filter:transactions]
use = egg:nti.appserver#transactions
attempts = 5

[app:site]
paste.app_factory = mysite:main
"""

SITE = """
from nti.appserver.settings import Settings
from nti.appserver.socketio import Namespace
from nti.appserver.storage import open_database
from nti.appserver.transactions import connection, use_database

def count():
    root = connection().root()
    root["count"] = root.get("count", 0) + 1
    return root["count"]

class Counting(Namespace):
    def on_count(self, sid):
        return count()

def site(environ, start_response):
    websocket = environ.get("wsgi.websocket")
    if websocket is not None:
        websocket.send(websocket.receive())
        return []
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(count()).encode()]

def main(global_conf):
    settings = Settings(var="var")
    use_database(open_database("file://Data.fs", settings), settings)
    return site
"""


def count(server: GunicornProcess) -> str:
    """The answer to a POST, which counts."""
    with urllib.request.urlopen(f"{server.url}/", data=b"", timeout=30) as answer:
        return str(answer.read().decode())


def test_a_pipeline_has_websocket_socketio_and_transactions(tmp_path: Path) -> None:
    (tmp_path / "site.ini").write_text(PIPELINE)
    (tmp_path / "mysite.py").write_text(SITE)
    with GunicornProcess("", "--paste", "site.ini", cwd=tmp_path) as server:
        server.wait_until_serving()
        assert count(server) == "1"
        with SocketIO(server.url) as client:
            assert client.call("count") == [2]
        address = server.url.replace("http", "ws", 1)
        with WebSocket(address, subprotocols=["echo"]) as websocket:
            assert websocket.subprotocol == "echo"
            websocket.send("hello")
            assert websocket.receive() == "hello"
    with GunicornProcess("", "--paste", "site.ini", cwd=tmp_path) as server:
        server.wait_until_serving()
        assert count(server) == "3"
