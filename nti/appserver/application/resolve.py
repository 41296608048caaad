"""Objects named `module:name` in a setting, and making an application of one.

Nothing here knows which settings there are. It runs while a process starts;
importing a module may do anything that module likes, switches included.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from nti.appserver.errors import ConfigurationError
from nti.appserver.worker.deferred import WSGIApplication

EXPECTED = "module:name, such as mysite.web:main"


def named(text: str, setting: str) -> Any:
    """The object that `text` names; `name` may have dots.

    :param setting: the setting that `text` comes from, for the error.
    :raises ConfigurationError: the text has another form, or there is no such
        module or name. An error inside of the module comes through as it is.
    """
    module_name, colon, path = text.partition(":")
    if not (module_name and colon and path):
        raise ConfigurationError(f"setting {setting} is {text!r}", EXPECTED)
    found: Any = _imported(module_name, text, setting)
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ConfigurationError(
                f"setting {setting} is {text!r}, but {name!r} is not in {module_name}", EXPECTED
            ) from None
    return found


def _imported(module_name: str, text: str, setting: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as problem:
        missing = problem.name or ""
        if module_name != missing and not module_name.startswith(missing + "."):
            raise  # the module is there, and imports one that is not
        raise ConfigurationError(
            f"setting {setting} is {text!r}, but there is no module {missing}",
            EXPECTED,
            "install it, or start in the folder that holds it",
        ) from None


def application_from(
    found: Any, name: str, global_conf: Mapping[str, str], app_conf: Mapping[str, Any]
) -> WSGIApplication:
    """The WSGI application that `found` is, or that it makes.

    - One required parameter and `**settings`: a Pyramid `main` (PasteDeploy's
      application factory): called with `global_conf` and `app_conf`.
    - No required parameter: a factory, called without arguments.
    - Anything else: the WSGI application itself (PEP 3333).

    :raises ConfigurationError: what was found or made is not callable.
    """
    made = found
    if callable(found):
        make = _maker(found, global_conf, app_conf)
        if make is not None:
            made = make()
    if not callable(made):
        how = "is" if made is found else "made"
        raise ConfigurationError(
            f"setting application is {name!r}, which {how} {made!r}",
            "a WSGI application, a factory of one, or a Pyramid main",
        )
    application: WSGIApplication = made
    return application


def _maker(
    found: Callable[..., Any], global_conf: Mapping[str, str], app_conf: Mapping[str, Any]
) -> Callable[[], Any] | None:
    """How to call a factory; None when `found` is the application itself."""
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):  # written in C: no factory has that
        return None
    kinds = {parameter.kind for parameter in parameters}
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return None
    required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    if not required:
        return found
    if len(required) == 1 and inspect.Parameter.VAR_KEYWORD in kinds:
        return lambda: found(dict(global_conf), **app_conf)
    return None
