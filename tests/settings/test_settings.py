"""The settings table: three sources, one precedence, errors that name what to mend."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import MIB, Settings, load_settings, table

ROWS = {row.name: row for row in table()}


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_default() -> None:
    ini = {"appserver.attempts": "4", "appserver.var": "ini", "appserver.bus": "redis://ini"}
    environ = {"NTI_APPSERVER_ATTEMPTS": "5", "NTI_APPSERVER_VAR": "environ"}
    found = load_settings(ini=ini, environ=environ, cli={"attempts": "6", "var": None})
    assert (found.attempts, found.var, found.bus) == (6, "environ", "redis://ini")
    assert found.connection_limit == Settings().connection_limit


def test_other_keys_are_no_settings() -> None:
    ini = {"pyramid.debug_all": "true", "here": "/srv"}
    environ = {"PATH": "/bin", "NTI_APPSERVER_CONFIG": "site.ini"}
    assert load_settings(ini=ini, environ=environ) == Settings()


@pytest.mark.parametrize(
    ("given", "source", "shown", "near"),
    [
        ({"ini": {"appserver.atempts": "3"}}, "ini", "appserver.atempts", "appserver.attempts"),
        (
            {"environ": {"NTI_APPSERVER_STORGE": "none"}},
            "environment",
            "NTI_APPSERVER_STORGE",
            "NTI_APPSERVER_STORAGE",
        ),
        ({"cli": {"librari": "x"}}, "command line", "librari", "library"),
    ],
)
def test_an_unknown_setting_is_an_error_that_names_the_nearest(
    given: dict[str, Any], source: str, shown: str, near: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(**given)
    message = str(caught.value)
    assert message.startswith(f"{source}: unknown setting {shown!r}")
    assert f"did you mean {near}?" in message


def test_a_name_like_no_other_is_an_error_too() -> None:
    with pytest.raises(ConfigurationError, match="see `nti-appserver serve --help`"):
        load_settings(cli={"zzzzzzzz": 1})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("attempts", "1", 1),
        ("attempts", " 100 ", 100),
        ("storage_wait", "2.5", 2.5),
        ("body_memory", "64k", 64 * 1024),
        ("body_memory", "1M", MIB),
        ("body_replay", "2g", 2048 * MIB),
        ("strict_reads", "yes", True),
        ("strict_reads", "OFF", False),
        ("strict_reads", "", False),
        ("origins", "https://a, https://b https://c", ("https://a", "https://b", "https://c")),
        ("origins", "", ()),
        ("client_source", "forwarded", "forwarded"),
        ("library", "  /srv/library ", "/srv/library"),
    ],
)
def test_texts_become_values(name: str, text: str, value: Any) -> None:
    assert getattr(load_settings(cli={name: text}), name) == value


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("attempts", "0", "a whole number from 1 to 100"),
        ("attempts", "three", "a whole number from 1 to 100"),
        ("attempts", "1.5", "a whole number"),
        ("storage_wait", "-1", "seconds from 0 to 3600"),
        ("storage_wait", "nan", "seconds from"),
        ("body_memory", "2 loaves", "bytes from 0"),
        ("body_memory", "2g", "such as 65536, 64k or 1m"),
        ("strict_reads", "perhaps", "true or false"),
        ("client_source", "rumour", "one of x-forwarded-for, forwarded, proxy, none"),
    ],
)
def test_a_bad_value_is_an_error_that_says_what_was_expected(
    name: str, text: str, expected: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ={f"NTI_APPSERVER_{name.upper()}": text})
    assert f"environment: setting {name} is {text!r}; expected" in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize("row", table(), ids=lambda row: str(row.name))
def test_a_row_has_its_names_and_its_default_reads_as_itself(row: Any) -> None:
    assert row.ini_name == f"appserver.{row.name}"
    assert row.environ_name == f"NTI_APPSERVER_{row.name.upper()}"
    assert row.option == "--" + row.name.replace("_", "-")
    assert row.doc.endswith(".")
    for value in (row.default, row.default_text):
        assert row.parse(value, "test") == row.default


def test_sizes_are_told_as_one_would_write_them() -> None:
    assert ROWS["cache_size"].default_text == "20m"
    assert ROWS["body_memory"].default_text == "256k"
    assert ROWS["worker_memory"].default_text == "0"
    assert ROWS["cache_size"].kind.expected.startswith("bytes from 0 to 1024g, ")


def test_values_of_python_code_are_taken_as_they_are() -> None:
    found = load_settings(cli={"strict_reads": True, "attempts": 7, "origins": ("*",)})
    assert (found.strict_reads, found.attempts, found.origins) == (True, 7, ("*",))


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().attempts = 5  # type: ignore[misc]


def test_the_rows_are_in_the_order_of_the_class() -> None:
    assert list(ROWS)[:2] == ["application", "var"]
