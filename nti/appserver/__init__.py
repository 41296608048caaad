"""The application server for ZODB applications that talk to browsers in real time.

Importing this package imports nothing else: gunicorn's arbiter does so before
any worker is patched. The rooms are imported by name.
"""

from typing import Any

__version__ = "1.0.0.dev0"


def includeme(config: Any) -> None:
    """Pyramid's `config.include('nti.appserver')`; see `nti.appserver.pyramid`."""
    from nti.appserver.pyramid import includeme as include

    include(config)
