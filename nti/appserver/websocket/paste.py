"""PasteDeploy's filter `egg:nti.appserver#websocket`.

Runs once, while the application loads.
"""

import os
from collections.abc import Mapping
from typing import Any

from nti.appserver.settings import filter_settings


def filter_app(app: Any, global_conf: Mapping[str, str], **local_conf: str) -> Any:
    """The application with `WebSocketMiddleware` around it.

    :param global_conf: settings under their ini names, `appserver.NAME`.
    :param local_conf: the same; besides `subprotocols`, separated by spaces.
    :raises ConfigurationError: a setting is unknown or bad.
    """
    from nti.appserver.websocket.middleware import WebSocketMiddleware

    subprotocols = local_conf.pop("subprotocols", "").split()
    settings = filter_settings(global_conf, local_conf, os.environ)
    return WebSocketMiddleware(app, settings, subprotocols=subprotocols)
