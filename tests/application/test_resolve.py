"""What the setting `application` may name, and how each is told from the others."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nti.appserver.application.resolve import application_from, named
from nti.appserver.errors import ConfigurationError


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path; modules imported from it are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", "").startswith(str(tmp_path)):
            del sys.modules[name]


def test_a_name_may_have_dots_on_both_sides() -> None:
    assert named("os.path:join", "application") is named("os:path.join", "application")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mysite", "setting application is 'mysite'; expected module:name"),
        (":app", "expected module:name"),
        ("os:", "expected module:name"),
        ("nowhere_at_all:app", "there is no module nowhere_at_all; expected"),
        ("os.nowhere:app", "there is no module os.nowhere"),
        ("os:nothing", "'nothing' is not in os"),
    ],
)
def test_a_name_of_nothing_is_an_error_that_says_why(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        named(text, "application")
    assert said in str(caught.value)


def test_an_import_that_fails_inside_of_the_module_comes_through(modules: Path) -> None:
    (modules / "needy_module.py").write_text("import nowhere_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        named("needy_module:app", "application")


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return [b""]


class Callable:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return [b""]


class WithArguments:
    """As webob's decorators have it."""

    def __call__(self, request: Any, *args: Any, **kwargs: Any) -> list[bytes]:
        return [b""]


class Iterating:
    """PEP 3333 allows a class whose instances are the answer."""

    def __init__(self, environ: Any, start_response: Any) -> None: ...


@pytest.mark.parametrize(
    "found", [wsgi, Callable(), WithArguments(), Iterating, partial(wsgi), Callable().__call__]
)
def test_an_application_is_not_called(found: Any) -> None:
    assert application_from(found, "m:n", {}, {}) is found


@pytest.mark.parametrize(
    "factory", [lambda: wsgi, lambda debug=False: wsgi, partial(lambda x: x, wsgi)]
)
def test_a_factory_is_called_without_arguments(factory: Any) -> None:
    assert application_from(factory, "m:n", {}, {}) is wsgi


def test_a_class_without_arguments_is_a_factory() -> None:
    assert isinstance(application_from(Callable, "m:n", {}, {}), Callable)


def test_a_pyramid_main_gets_the_configuration() -> None:
    seen = SimpleNamespace()

    def main(global_config: dict[str, str], extra: int = 0, **settings: Any) -> Any:
        seen.conf, seen.settings = global_config, settings
        return wsgi

    assert application_from(main, "m:main", {"here": "/srv"}, {"a.b": "c"}) is wsgi
    assert (seen.conf, seen.settings) == ({"here": "/srv"}, {"a.b": "c"})


@pytest.mark.parametrize(("found", "how"), [(5, "which is 5"), (lambda: None, "which made None")])
def test_what_cannot_be_called_is_no_application(found: Any, how: str) -> None:
    with pytest.raises(ConfigurationError, match=how):
        application_from(found, "m:n", {}, {})


def test_an_error_of_the_factory_comes_through() -> None:
    def main() -> Any:
        raise KeyError("missing")

    with pytest.raises(KeyError):
        application_from(main, "m:main", {}, {})
