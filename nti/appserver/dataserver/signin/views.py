"""/dataserver2/session: signing in, who one is, signing out.

Each view runs in the request's unit of work.
"""

from typing import Any

from pyramid.security import forget, remember
from pyramid.view import view_config, view_defaults

from nti.appserver.dataserver.signin import invitation
from nti.appserver.dataserver.signin.policy import WRITE, secret_of
from nti.appserver.dataserver.site import get_site
from nti.appserver.dataserver.web.negotiation import json_body, text_field
from nti.appserver.errors import ClientError

#: Characters of a name and of a token.
NAME_LIMIT = 64
TOKEN_LIMIT = 200


@view_defaults(route_name="session", renderer="json")
class SessionViews:
    """The session of the request's reader."""

    def __init__(self, request: Any) -> None:
        self.request = request
        request.response.cache_control = "no-store"

    @view_config(request_method="GET")
    def show(self) -> dict[str, Any]:
        """Who has signed in, and the token that changes must repeat."""
        session = self.request.identity
        return _resource(session)

    @view_config(request_method="POST")
    def sign_in(self) -> dict[str, Any]:
        """Use up the one-time token: a cookie, or with `"bearer": true` a secret to send."""
        body = json_body(self.request)
        token = text_field(body, "token", TOKEN_LIMIT)
        name = " ".join(text_field(body, "name", NAME_LIMIT).split())
        found = get_site().door.sign_in(token, name)
        if found is None:
            raise ClientError(
                403, "Forbidden", "This token opens nothing: it is wrong or was used before."
            )
        secret, session = found
        invitation.renew(self.request.registry["settings"])
        self.request.response.status = 201
        if body.get("bearer") is True:
            return {**_resource(session), "bearer": secret}
        remember(self.request, session.name, secret=secret)
        return _resource(session)

    @view_config(request_method="DELETE", permission=WRITE)
    def sign_out(self) -> Any:
        """End the session."""
        get_site().door.sign_out(secret_of(self.request) or "")
        forget(self.request)
        response = self.request.response
        response.status = 204
        response.content_type = None
        return response


def _resource(session: Any) -> dict[str, Any]:
    return {
        "Class": "Session",
        "href": "/dataserver2/session",
        "name": session.name if session else None,
        "csrf": session.csrf if session else None,
    }
