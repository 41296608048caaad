"""Who may write: one-time tokens, sessions, and telling requests of readers apart.

`model` has the persistent classes, `policy` is Pyramid's security policy,
`invitation` shows the operator the token, `views` is /dataserver2/session.
"""

from typing import Any


def includeme(config: Any) -> None:
    """Add the session's resource and the security policy."""
    from nti.appserver.dataserver.signin.policy import SessionPolicy

    config.set_security_policy(SessionPolicy())
    config.add_route("session", "/dataserver2/session")
    config.scan("nti.appserver.dataserver.signin.views")
