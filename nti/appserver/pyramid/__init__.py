"""Pyramid: `config.include('nti.appserver')`.

What may live here: how a Pyramid request becomes a unit of work, and what this
package adds to the configurator. The policy runs every request, in its
greenlet; the tween commits inside the router; the rest runs while the
application is configured. It takes the places of pyramid_tm and pyramid_retry.
"""

import os
from typing import Any

from pyramid.config import PHASE1_CONFIG
from pyramid.tweens import EXCVIEW

from nti.appserver.pyramid.policy import UnitOfWorkPolicy
from nti.appserver.pyramid.predicates import (
    LastAttemptPredicate,
    RetryableErrorPredicate,
    TMActivePredicate,
)
from nti.appserver.pyramid.request import Request
from nti.appserver.pyramid.tween import default_commit_veto
from nti.appserver.settings import INI_PREFIX, Settings, load_settings

__all__ = ["NAMESPACES_KEY", "SETTINGS_KEY", "Request", "default_commit_veto", "includeme"]

#: Where `config.add_socketio_namespace` keeps them in the registry.
NAMESPACES_KEY = "nti.appserver.namespaces"

#: Under this key a Pyramid main is handed the `Settings` that its process runs with.
SETTINGS_KEY = INI_PREFIX + "settings"


def includeme(config: Any) -> None:
    """Make every request a unit of work, and add this package's directives.

    The settings of pyramid_tm and pyramid_retry are understood:
    `tm.commit_veto` (aborts 4xx, 5xx and X-Tm unless it is set; empty: no veto),
    `tm.activate_hook`, `tm.manager_hook`, `tm.annotate_user`, `retry.attempts`,
    `retry.activate_hook`. Besides them, `tm.writes_in_reads = true` lets GET and
    HEAD requests write.

    :raises pyramid.exceptions.ConfigurationConflictError: pyramid_retry is
        included, too; leave it and pyramid_tm out.
    """
    config.add_tween("nti.appserver.pyramid.tween.tween_factory", over=EXCVIEW)
    config.set_request_factory(Request)
    config.add_view_predicate("tm_active", TMActivePredicate)
    config.add_view_predicate("last_retry_attempt", LastAttemptPredicate)
    config.add_view_predicate("retryable_error", RetryableErrorPredicate)
    config.add_directive("add_socketio_namespace", add_socketio_namespace)

    def register() -> None:
        given = config.registry.settings
        attempts = int(given.get("retry.attempts") or _settings(given).attempts)
        given["retry.attempts"] = attempts
        hook = config.maybe_dotted(given.get("retry.activate_hook") or None)
        config.set_execution_policy(UnitOfWorkPolicy(attempts, hook))

    config.action(None, register, order=PHASE1_CONFIG)


def add_socketio_namespace(config: Any, namespace: Any) -> None:
    """Serve a Socket.IO namespace with this application.

    :param namespace: an instance of `socketio.Namespace`; see `nti.appserver.socketio`.
    :raises pyramid.exceptions.ConfigurationConflictError: two have the same name.
    """

    def register() -> None:
        config.registry.setdefault(NAMESPACES_KEY, []).append(namespace)

    name = getattr(namespace, "namespace", "/")
    config.action(("nti.appserver.namespace", name), register)


def _settings(given: Any) -> Settings:
    settings = given.get(SETTINGS_KEY)
    if isinstance(settings, Settings):
        return settings
    ini = {key: value for key, value in given.items() if key != SETTINGS_KEY}
    return load_settings(ini=ini, environ=os.environ)
