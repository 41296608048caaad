"""`make_app`, and `paste_app` for PasteDeploy: the application that settings ask for.

gunicorn's arbiter imports this module when it preloads a PasteDeploy file. So
the rooms that hold locks and thread-locals are imported by `_made`, which runs
once in a worker, in its main greenlet, before the worker accepts.
"""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from nti.appserver.pastefile import site_in
from nti.appserver.settings import INI_PREFIX, Settings, load_settings
from nti.appserver.worker.boot import site_address
from nti.appserver.worker.deferred import DeferredApplication, WSGIApplication, in_arbiter

#: The key under which a Pyramid main finds the `Settings` that its process runs with.
SETTINGS_KEY = INI_PREFIX + "settings"

logger = logging.getLogger(__name__)

_in_use: Settings | None = None
_closing: list[Callable[[], object]] = []


def use_settings(settings: Settings) -> None:
    """An `AppServer` was made with these: its worker serves with them, too."""
    global _in_use
    _in_use = settings


def settings_in_use() -> Settings:
    """The settings of the last `AppServer` of this process; where none is, the environment's.

    :raises ConfigurationError: those of the environment are wrong.
    """
    return _in_use if _in_use is not None else load_settings(environ=os.environ)


def site_url(settings: Settings) -> str:
    """The address at which readers reach the site, without a slash at its end, for links.

    That is the setting `url`, else where this worker listens; '' in a process
    that is no worker, in one that does not serve yet, and behind a unix socket.
    """
    return settings.url.rstrip("/") or site_address()


def at_end(close: Callable[[], object]) -> None:
    """Have `end` call `close`; the last given is called first."""
    _closing.append(close)


def end() -> None:
    """Worker: its requests are done; close what making the application has opened."""
    while _closing:
        try:
            _closing.pop()()
        except Exception:
            logger.exception("an error while the worker ends")


def make_app(config_uri: str | None = None, **settings: Any) -> WSGIApplication:
    """The application that settings ask for, with an `AppServer` around it.

    In gunicorn's arbiter it is only promised, and made in the worker before
    that accepts.

    :param config_uri: a PasteDeploy file, with `#name` where the application
        in it is not `main`. One that uses egg:nti.appserver is served as it
        says; any other is the application that the `AppServer` is put around.
    :param settings: rows of the settings table; they win over the environment,
        which wins over the file.
    :raises ConfigurationError: a setting or the file is wrong.
    """
    return _now_or_promised(lambda: _from_file_or_settings(config_uri, settings))


def paste_app(global_conf: Mapping[str, str], **local_conf: str) -> WSGIApplication:
    """PasteDeploy's application factory, `use = egg:nti.appserver`.

    Keys that begin with `appserver.` are settings, the others are handed to
    the application when it is a Pyramid main.
    """
    ini = {**global_conf, **local_conf}
    values = load_settings(ini=ini, environ=os.environ)
    return _now_or_promised(lambda: _made(values, global_conf, local_conf))


def _now_or_promised(make: Callable[[], WSGIApplication]) -> WSGIApplication:
    return DeferredApplication(make) if in_arbiter() else make()


def _from_file_or_settings(config_uri: str | None, given: Mapping[str, Any]) -> WSGIApplication:
    if config_uri is None:
        return _made(load_settings(environ=os.environ, cli=given), {}, {})
    context = site_in(config_uri)
    conf = context.config()
    values = load_settings(ini=conf, environ=os.environ, cli=given)
    local_conf = dict(context.local_conf)
    if context.object is paste_app:
        return _made(values, context.global_conf, local_conf)
    from nti.appserver.application.appserver import AppServer
    from nti.appserver.application.database import open_for

    database = open_for(values)
    return AppServer(context.create(), values, database=database)


def _made(
    settings: Settings, global_conf: Mapping[str, str], local_conf: Mapping[str, str]
) -> WSGIApplication:
    """Worker: import the application, open its database, make it, wrap it, in this order.

    The import comes first because most mistakes show there, and a worker that
    has not opened a FileStorage yet has not asked the old one to give it up.
    """
    from nti.appserver.application.appserver import AppServer
    from nti.appserver.application.database import open_for
    from nti.appserver.application.resolve import application_from, named

    found = named(settings.application, "application")
    database = open_for(settings)
    conf: dict[str, Any] = {
        key: value for key, value in local_conf.items() if not key.startswith(INI_PREFIX)
    }
    conf[SETTINGS_KEY] = settings
    application = application_from(found, settings.application, global_conf, conf)
    return AppServer(application, settings, database=database)
