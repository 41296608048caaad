"""The table of checks, in the order in which they are told. A new check is a row here."""

from nti.appserver.doctor.checks import (
    encryption,
    limits,
    loading,
    permissions,
    proxying,
    realtime,
    versions,
)
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
    Check("trust", "Whose word about the client counts.", permissions.trust),
    Check("keys", "Who may read private keys.", permissions.keys),
    Check("requirements", "The versions that the package asks for.", versions.requirements),
    Check("known-faults", "No version with a known fault.", versions.known_faults),
    Check("python", "A tested Python.", versions.python),
    Check("certificates", "Certificates are believed, today and soon.", encryption.certificates),
    Check("tls-versions", "No deprecated TLS.", encryption.old_versions, needs_url=True),
    Check("proxying", "Client, scheme, host through proxies.", proxying.proxying, needs_url=True),
    Check("realtime", "Socket.IO through proxies.", realtime.realtime, needs_url=True),
)
