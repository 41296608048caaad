"""`AppServer` and `make_app` in a process that is not patched: the package as a library."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from nti.appserver.application import AppServer, configured, make_app
from nti.appserver.application.database import check_owner, make_var
from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import Settings
from nti.appserver.storage import open_database
from nti.appserver.transactions import connection, use_database


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What making an application keeps for its process is undone."""
    monkeypatch.setattr(configured, "_in_use", None)
    monkeypatch.chdir(tmp_path)
    yield
    configured.end()
    use_database(None, Settings())


def counting(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Counts its requests in the database."""
    root = connection().root()
    root["count"] = root.get("count", 0) + 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(root["count"]).encode()]


def main(global_config: dict[str, str], **settings: Any) -> Any:
    """As a Pyramid application's: answers with what it was given."""
    given = [global_config.get("where"), settings.get("my.key"), settings["appserver.settings"]]

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{given[0]} {given[1]} {given[2].attempts}".encode()]

    return application


def test_a_request_passes_the_whole_chain(tmp_path: Path) -> None:
    settings = Settings(var=str(tmp_path / "var"))
    database = open_database("memory://", settings)
    configured.at_end(database.close)
    app = TestApp(AppServer(counting, settings, database=database))
    assert app.post("/").text == "1"
    answer = app.post("/")
    assert answer.text == "2"
    assert answer.headers["X-Request-ID"]
    assert app.get("/_ops/ping").status_int == 200
    assert app.get("/socket.io/?EIO=4&transport=polling").text.startswith("0{")


def test_make_app_opens_the_database_and_makes_the_application() -> None:
    app = TestApp(make_app(application=f"{__name__}:counting", storage="file://Data.fs"))
    assert [app.post("/").text for _ in range(2)] == ["1", "2"]
    assert Path("var").stat().st_mode & 0o777 == 0o700
    configured.end()
    again = TestApp(make_app(application=f"{__name__}:counting", storage="file://Data.fs"))
    assert again.post("/").text == "3"


INI = """
[DEFAULT]
where = here
[app:main]
use = egg:nti.appserver
appserver.application = {module}:main
appserver.storage = none
appserver.attempts = 4
my.key = value
[app:other]
use = call:{module}:main
my.key = other
appserver.storage = none
appserver.attempts = 5
appserver.settings = none
"""


def test_a_file_gives_settings_and_the_applications_own_keys(tmp_path: Path) -> None:
    (tmp_path / "site.ini").write_text(INI.format(module=__name__))
    assert TestApp(make_app("site.ini")).get("/").text == "here value 4"
    assert TestApp(make_app("site.ini", attempts=9)).get("/").text == "here value 9"
    assert configured.settings_in_use().attempts == 9


def keys(global_config: dict[str, str], **settings: Any) -> Any:
    """As a Pyramid application's: answers with the names of what it was given."""

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [" ".join(sorted(settings)).encode()]

    return application


def test_an_application_is_not_given_the_files_keys_that_are_settings(tmp_path: Path) -> None:
    text = INI.replace("{module}:main", "{module}:keys").format(module=__name__)
    (tmp_path / "site.ini").write_text(text)
    assert TestApp(make_app("site.ini")).get("/").text == "appserver.settings my.key"


def test_an_application_of_its_own_in_a_file_is_wrapped(tmp_path: Path) -> None:
    text = INI.replace("appserver.settings = none\n", "").format(module=__name__ + ":plain")
    (tmp_path / "site.ini").write_text(text.replace(":plain:main", ":plain"))
    answer = TestApp(make_app("site.ini#other")).get("/")
    assert answer.text == "plain other"
    assert answer.headers["X-Request-ID"]
    assert configured.settings_in_use().attempts == 5


def plain(global_conf: dict[str, str], **local_conf: str) -> Any:
    """An application factory of PasteDeploy that knows nothing of this package."""

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"plain {local_conf['my.key']}".encode()]

    return application


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"there is no file {tmp_path}/absent.ini"):
        make_app("absent.ini")


def test_an_unknown_setting_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean storage"):
        make_app(storge="none")
    (tmp_path / "site.ini").write_text("[app:main]\nuse=egg:nti.appserver\nappserver.storge=x\n")
    with pytest.raises(ConfigurationError, match=r"did you mean appserver\.storage"):
        make_app("site.ini")


def test_a_file_that_is_none_of_pastedeploys_is_named(tmp_path: Path) -> None:
    (tmp_path / "site.ini").write_text("no section\n")
    with pytest.raises(ConfigurationError, match=r"site\.ini cannot be read: .*section.* line: 1"):
        make_app("site.ini")


@pytest.mark.parametrize("uri", ["file://Data.fs", "memory://"])
def test_a_storage_of_one_process_wants_one_worker(uri: str) -> None:
    check_owner(Settings(storage=uri), 1)
    with pytest.raises(ConfigurationError, match="with 2 workers"):
        check_owner(Settings(storage=uri), 2)


@pytest.mark.parametrize("uri", ["embedded", "zeo://localhost:8100"])
def test_a_shared_storage_takes_any_number_of_workers(uri: str) -> None:
    check_owner(Settings(storage=uri), 8)


def test_a_folder_of_data_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be made \(File exists\)"):
        make_var(Settings(var="taken"))


def test_what_was_opened_is_closed_in_the_other_order(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[str] = []

    def fail() -> None:
        raise OSError("the disk is full")

    for close in (lambda: closed.append("first"), fail, lambda: closed.append("last")):
        configured.at_end(close)
    with caplog.at_level(logging.ERROR):
        configured.end()
    assert closed == ["last", "first"]
    assert "the disk is full" in caplog.text
