"""PasteDeploy's filter `egg:nti.appserver#transactions`.

Runs once, while the application loads.
"""

import os
from collections.abc import Mapping
from typing import Any

from nti.appserver.settings import filter_settings


def filter_app(app: Any, global_conf: Mapping[str, str], **local_conf: str) -> Any:
    """The application with `TransactionMiddleware` around it.

    :param global_conf: settings under their ini names, `appserver.NAME`.
    :param local_conf: the same, or the names alone.
    :raises ConfigurationError: a setting is unknown or bad.
    """
    from nti.appserver.transactions.middleware import TransactionMiddleware

    settings = filter_settings(global_conf, local_conf, os.environ)
    return TransactionMiddleware(app, settings)
