"""PasteDeploy's filter `egg:nti.appserver#socketio`.

Runs once, while the application loads.
"""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from nti.appserver.errors import ConfigurationError
from nti.appserver.settings import filter_settings


def filter_app(app: Any, global_conf: Mapping[str, str], **local_conf: str) -> Any:
    """The application with `SocketIOMiddleware` around it.

    :param global_conf: settings under their ini names, `appserver.NAME`.
    :param local_conf: the same, where `namespaces` names classes or instances
        as module:name.
    :raises ConfigurationError: a setting is unknown or bad, or a namespace is
        not there.
    """
    from nti.appserver.socketio.middleware import SocketIOMiddleware

    settings = filter_settings(global_conf, local_conf, os.environ)
    return SocketIOMiddleware(app, [find_namespace(name) for name in settings.namespaces], settings)


def find_namespace(name: str) -> Any:
    """The namespace that module:name is, an instance, or a class to be called.

    :raises ConfigurationError: there is none.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as problem:
        raise ConfigurationError(
            f"namespaces: {name!r}: {problem}", "module:name of a Socket.IO namespace"
        ) from problem
    return found() if isinstance(found, type) else found
