"""What a PasteDeploy file says of a site: its application, and its settings.

For the server, which makes that application, and for commands that run beside
it. Runs anywhere, in gunicorn's arbiter too.
"""

import os
from collections.abc import Mapping
from typing import Any

from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import Settings, load_settings


def site_in(config_uri: str) -> Any:
    """PasteDeploy's description of the application in a file.

    :param config_uri: the file's path, with `#name` where the application is not `main`.
    :raises ConfigurationError: there is no such file, or no such application in it.
    """
    import configparser

    from paste.deploy import loadwsgi

    path, _, name = config_uri.partition("#")
    path = os.path.abspath(path.removeprefix("config:"))
    if not os.path.isfile(path):
        raise ConfigurationError(f"there is no file {path}", "a PasteDeploy ini file")
    try:
        return loadwsgi.loadcontext(loadwsgi.APP, f"config:{path}", name=name or None)
    except (configparser.Error, LookupError) as problem:
        raise ConfigurationError(
            f"{path} cannot be read: {' '.join(str(problem).split())}", "a PasteDeploy ini file"
        ) from None


def settings_from(config_uri: str | None, given: Mapping[str, Any]) -> Settings:
    """The settings that the site of a PasteDeploy file would serve with, for commands beside it.

    :param config_uri: as `site_in` takes it; None: no file.
    :param given: what the command line gives; None is a value not given.
    :raises ConfigurationError: a setting or the file is wrong.
    """
    ini = site_in(config_uri).config() if config_uri else {}
    return load_settings(ini=ini, environ=os.environ, cli=given)
