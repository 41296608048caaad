"""Errors as answers: problem details (RFC 9457) for programs, a short page for readers.

Pyramid's exception views live here. They run in the request's greenlet after
its unit of work has been aborted or is about to be.
"""

from html import escape
from typing import Any

from pyramid.exceptions import PredicateMismatch, URLDecodeError
from pyramid.httpexceptions import HTTPException, HTTPForbidden
from pyramid.view import exception_view_config, forbidden_view_config

from nti.appserver.dataserver.web.negotiation import wants_html
from nti.appserver.errors import HTTPFault


@exception_view_config(HTTPFault)
def fault(problem: HTTPFault, request: Any) -> Any:
    """What this package's rooms and views raise on purpose."""
    response = answer(request, problem.status, problem.title, problem.detail)
    response.headers.extend(problem.headers)
    return response


@forbidden_view_config()
def forbidden(problem: HTTPForbidden, request: Any) -> Any:
    """The security policy said no: 401 when nobody has signed in, else 403, with its words."""
    detail = str(getattr(problem.result, "msg", "") or "")
    if request.authenticated_userid is not None:
        return answer(request, 403, "Forbidden", detail)
    response = answer(request, 401, "Unauthorized", detail)
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


@exception_view_config(URLDecodeError)
def bad_address(problem: URLDecodeError, request: Any) -> Any:
    """The address is none that the site could have given out."""
    return answer(request, 400, "Bad Request", "The address is not UTF-8.")


@exception_view_config(PredicateMismatch)
def other_method(problem: PredicateMismatch, request: Any) -> Any:
    """The resource is there, without this method (RFC 9110, section 15.5.6)."""
    allowed = ", ".join(sorted(_methods(request)))
    response = answer(
        request,
        405,
        "Method Not Allowed",
        f"The method is {request.method!r}; expected one of {allowed}.",
    )
    response.headers["Allow"] = allowed
    return response


def _methods(request: Any) -> set[str]:
    """The methods that the views of the request's route take."""
    views = request.registry.introspector.get_category("views", ())
    found = {
        view["introspectable"]["request_methods"]
        for view in views
        if view["introspectable"]["route_name"] == request.matched_route.name
    }
    return found | {"HEAD"} if "GET" in found else found


@exception_view_config(HTTPException)
def other(problem: HTTPException, request: Any) -> Any:
    """Pyramid's own, such as no such route."""
    if problem.status_code < 400:
        return problem
    return answer(request, problem.status_code, problem.title, _detail(problem))


def _detail(problem: HTTPException) -> str:
    if problem.status_code == 404:
        return "There is nothing at this address."
    return str(problem.explanation or "")


def answer(request: Any, status: int, title: str, detail: str) -> Any:
    """A response that says what is wrong, in the form that the client prefers."""
    response = request.response
    response.status = f"{status} {title}"
    response.vary = ("Accept",)
    response.cache_control = "no-store"
    if wants_html(request):
        response.content_type = "text/html"
        response.text = (
            "<!doctype html>\n"
            f'<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>\n'
            '<link rel="stylesheet" href="/static/plain.css">\n'
            f"<main><h1>{escape(title)}</h1>\n<p>{escape(detail)}</p>\n"
            '<p><a href="/">To the library</a></p></main></html>\n'
        )
    else:
        response.content_type = "application/problem+json"
        response.json_body = {
            "type": "about:blank",
            "title": title,
            "status": status,
            "detail": detail,
        }
    return response
