"""What proxies do to a request on its way from a URL to a worker.

The site's own answer is compared with what was sent (`nti.appserver.ops.echo`),
so nothing is guessed from a proxy's configuration. That needs the site's
runtime folder: the doctor runs on its machine, as its user.
"""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult

from nti.appserver.doctor.client import Answer, ask
from nti.appserver.doctor.finding import Finding, fault, warning
from nti.appserver.doctor.subject import Subject
from nti.appserver.ops.echo import PREFIX, folder_for
from nti.appserver.ops.registry import folder_for as records_for

#: An address for documentation (RFC 5737): nobody comes from there.
FORGED = "203.0.113.77"

#: What a client may send to pass for another, besides X-Forwarded-For.
_OTHERS = {
    "X-Forwarded-Host": "forged.example",
    "X-Forwarded-Ssl": "on",
    "X-Forwarded-Protocol": "ssl",
    "X-Real-IP": FORGED,
    "X-Scheme": "https",
    "Forwarded": f"for={FORGED};proto=https",
}

Seen = dict[str, Any]


def proxying(subject: Subject) -> Iterator[Finding]:
    """The client, the scheme and the host arrive, and cannot be forged."""
    for url in subject.urls:
        try:
            with _name(subject) as target:
                yield from _of(subject, url, target)
        except PermissionError as problem:
            yield warning(
                url.geturl(),
                f"what proxies do could not be seen: {problem}",
                "whether readers can pass for others is not known",
                "run the doctor on the site's machine, as its user, with --var or its environment",
            )
        except OSError as problem:
            yield fault(
                url.geturl(),
                f"no answer: {problem}",
                "readers do not reach the site",
                "start the front, and see its own log",
            )


@contextlib.contextmanager
def _name(subject: Subject) -> Iterator[str]:
    """A path that the site's workers answer while it lasts."""
    records = records_for(subject.settings)
    if not records.is_dir():
        raise PermissionError(f"no site has run with {records}")
    folder = folder_for(records)
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / secrets.token_hex(16)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        yield PREFIX + path.name
    finally:
        path.unlink(missing_ok=True)


def _of(subject: Subject, url: SplitResult, target: str) -> Iterator[Finding]:
    answer = ask(url, target, subject.patience)
    seen = _seen(answer)
    if seen is None:
        yield fault(
            url.geturl(),
            f"{target} was answered with {answer.status}, not by a worker of this site",
            "paths under /socket.io/ do not reach the application, and perhaps others neither",
            "pass /socket.io/ on to the application (`nti-appserver config` prints how); --var "
            "names the folder of the site behind this URL",
        )
        return
    yield from _host(url, seen)
    if seen["peer"] and tuple(seen["peer"]) == answer.here:
        return  # there is no proxy on the way
    yield from _client(subject, url, seen)
    yield from _scheme(url, seen)
    yield from _forged(subject, url, target)
    yield from _operations(subject, url)


def _seen(answer: Answer) -> Seen | None:
    try:
        found = json.loads(answer.text)
    except ValueError:
        return None
    return found if answer.status == 200 and isinstance(found, dict) else None


def _host(url: SplitResult, seen: Mapping[str, Any]) -> Iterator[Finding]:
    host = seen["headers"].get("HTTP_HOST", "")
    if host != url.netloc.rpartition("@")[2]:
        yield fault(
            url.geturl(),
            f"Host arrives as {host!r}",
            "links and redirects lead elsewhere, and WebSockets are refused for their Origin",
            "nginx: proxy_set_header Host $http_host; HAProxy and Pound keep it by themselves",
        )


def _client(subject: Subject, url: SplitResult, seen: Mapping[str, Any]) -> Iterator[Finding]:
    source = subject.settings.client_source
    header = {"x-forwarded-for": "X-Forwarded-For", "forwarded": "Forwarded"}.get(source)
    if header is None:
        return
    sent = seen["headers"].get("HTTP_" + header.upper().replace("-", "_"))
    if sent is None:
        yield fault(
            url.geturl(),
            f"the proxy sends no {header}; the client arrives as {seen['client']!r}, the proxy",
            "logs, limits and the application take all readers for one",
            "nginx: proxy_set_header X-Forwarded-For $remote_addr; HAProxy: http-request "
            "set-header X-Forwarded-For %[src]",
        )
    elif not seen["trusted"]:
        yield _untrusted(url, seen, f"{header}: {sent}")


def _untrusted(url: SplitResult, seen: Mapping[str, Any], sent: str) -> Finding:
    address = seen["peer"][0] if seen["peer"] else "?"
    return fault(
        url.geturl(),
        f"{sent!r} comes from the proxy at {address}, which is not trusted",
        "the client and the scheme that it names are ignored",
        f"gunicorn: forwarded_allow_ips = '127.0.0.1,{address}'",
    )


def _scheme(url: SplitResult, seen: Mapping[str, Any]) -> Iterator[Finding]:
    if seen["scheme"] == url.scheme:
        return
    sent = seen["headers"].get("HTTP_X_FORWARDED_PROTO")
    if sent == url.scheme and not seen["trusted"]:
        return  # told with the client's address
    yield fault(
        url.geturl(),
        f"the scheme arrives as {seen['scheme']}, X-Forwarded-Proto as {sent!r}",
        "links lead to the other scheme, and Socket.IO refuses WebSockets for their Origin",
        "nginx: proxy_set_header X-Forwarded-Proto $scheme; HAProxy: http-request set-header "
        "X-Forwarded-Proto https if { ssl_fc }",
    )


def _forged(subject: Subject, url: SplitResult, target: str) -> Iterator[Finding]:
    """What a client can make the application believe."""
    other = "http" if url.scheme == "https" else "https"
    sent = {"X-Forwarded-For": FORGED, "X-Forwarded-Proto": other}
    seen = _seen(ask(url, target, subject.patience, headers=sent))
    replace = "the proxy must replace {0}, not add to it: nginx: proxy_set_header {0} {1}"
    if seen is None or seen["client"] == FORGED:
        yield fault(
            url.geturl(),
            f"a client that sends X-Forwarded-For: {FORGED} is taken for {FORGED}",
            "everyone can choose the address that logs, limits and permissions see",
            replace.format("X-Forwarded-For", "$remote_addr"),
        )
    if seen is None or (seen["scheme"] == other and seen["trusted"]):
        yield fault(
            url.geturl(),
            f"a client that sends X-Forwarded-Proto: {other} is taken to come by {other}",
            "secure cookies and links are made for a connection that is none",
            replace.format("X-Forwarded-Proto", "$scheme"),
        )
    passed = []
    for name, value in _OTHERS.items():
        found = _seen(ask(url, target, subject.patience, headers={name: value}))
        key = "HTTP_" + name.upper().replace("-", "_")
        if found is None or found["headers"].get(key) == value:
            passed.append(name)
    if passed:
        yield warning(
            url.geturl(),
            f"clients' own {', '.join(passed)} reach the application",
            "applications and libraries believe such headers; contradictory ones are a 400",
            "; ".join(f'nginx: proxy_set_header {name} ""' for name in passed),
        )


def _operations(subject: Subject, url: SplitResult) -> Iterator[Finding]:
    answer = ask(url, "/_ops/ping", subject.patience)
    if answer.status == 200 and answer.text.strip() == "pong":
        yield fault(
            url.geturl(),
            "/_ops/ping is answered through the proxy",
            "anybody can read the site's metrics and see when it is in trouble",
            "nginx: location ^~ /_ops/ { return 404; } and send X-Forwarded-For",
        )
