"""The table of checks, in the order in which they are told. A new check is a row here."""

from nti.appserver.doctor.checks import limits, loading, permissions
from nti.appserver.doctor.finding import Check

CHECKS: tuple[Check, ...] = (
    Check("loading", "gunicorn's configuration and the application load.", loading.loading),
    Check("patching", "Nothing unsafe is imported before patching.", loading.patching),
    Check("drivers", "No driver blocks the worker while it waits.", loading.drivers),
    Check("storage", "The storage's server can be reached.", loading.storage),
    Check("descriptors", "Descriptors for all connections.", limits.descriptors),
    Check("backlog", "The kernel's bound on waiting connections.", limits.backlog),
    Check("leases", "Database connections for all requests.", limits.leases),
    Check("space", "Room for data.", limits.space),
    Check("folders", "var and its sockets are the site's own.", permissions.folders),
    Check("sockets", "Who may connect to a unix socket.", permissions.sockets),
    Check("keys", "Who may read private keys.", permissions.keys),
)
