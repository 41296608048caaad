"""Modules that wait in C, where gevent does not see it, and the worker with them.

Runs in the rehearsal, after the application was imported; nothing is called
that could wait.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any


def _has_no_wait_callback(module: Any) -> bool:
    """psycopg2 has a hook for greenlets; with one set it is cooperative."""
    return module.extensions.get_wait_callback() is None


def _always(module: Any) -> bool:
    return True


_PURE = "take PyMySQL or mysql-connector's pure Python, which gevent can patch"
_THREADS = "run its calls in gevent.get_hub().threadpool"

#: Module, whether it blocks as it is imported now, and what to do.
_TABLE: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "psycopg2": (
        _has_no_wait_callback,
        (
            "leave its wait callback as the worker has set it, or call "
            "psycogreen.gevent.patch_psycopg() where the application is imported"
        ),
    ),
    "MySQLdb": (_always, _PURE),
    "_mysql_connector": (_always, _PURE),
    "pyodbc": (_always, _THREADS),
    "pymssql": (_always, _THREADS),
    "cx_Oracle": (_always, "take oracledb in thin mode"),
    "_ldap": (_always, "take ldap3, which is pure Python"),
    "pycurl": (_always, "take requests or urllib3"),
    "pylibmc": (_always, "take pymemcache"),
    "zmq.backend.cython": (_always, "import zmq.green in place of zmq"),
    "grpc._cython.cygrpc": (_always, "call grpc.experimental.gevent.init_gevent() first"),
    "confluent_kafka": (_always, "take kafka-python, or " + _THREADS),
}


def blocking_modules() -> dict[str, str]:
    """Those of the table that are imported and block, each with its mend."""
    found = {}
    for name, (blocks, mend) in _TABLE.items():
        module = sys.modules.get(name)
        if module is not None and blocks(module):
            found[name] = mend
    return found
