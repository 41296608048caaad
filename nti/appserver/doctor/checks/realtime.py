"""Socket.IO through a URL, by polling, WebSocket, and the change from one to the other."""

import json
from collections.abc import Iterator
from urllib.parse import SplitResult, urlencode

from nti.appserver.doctor.client import Answer, NotUpgraded, WebSocket, ask
from nti.appserver.doctor.finding import Finding, fault, warning
from nti.appserver.doctor.subject import Subject

#: Requests of one session, each on a connection of its own.
POLLS = 6

_UPGRADE = (
    "nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header "
    'Connection "upgrade" (`nti-appserver config nginx` prints the whole)'
)


def realtime(subject: Subject) -> Iterator[Finding]:
    """Socket.IO's clients can connect, and stay."""
    for url in subject.urls:
        try:
            yield from _websocket(subject, url)
            yield from _polling(subject, url)
        except OSError as problem:
            yield fault(
                url.geturl(),
                f"Socket.IO got no answer: {problem}",
                "live pages do not connect",
                "start the front and the site, and see their logs",
            )


def _target(**fields: str) -> str:
    return "/socket.io/?" + urlencode({"EIO": "4", **fields})


# -- WebSocket


def _websocket(subject: Subject, url: SplitResult) -> Iterator[Finding]:
    try:
        with WebSocket(url, _target(transport="websocket"), subject.patience) as websocket:
            opened = websocket.receive()
    except NotUpgraded as refused:
        yield _refused(url, refused)
        return
    if not opened.startswith("0{"):
        yield fault(
            url.geturl(),
            f"a WebSocket at /socket.io/ begins with {opened[:80]!r}",
            "Socket.IO's clients do not understand it",
            "let /socket.io/ lead to this application alone",
        )


def _refused(url: SplitResult, refused: NotUpgraded) -> Finding:
    seen = f"a WebSocket at /socket.io/ was answered with {refused}"
    if refused.status == 403:
        return fault(
            url.geturl(),
            seen,
            "pages of this very site cannot open WebSockets: its scheme or Host arrives wrong",
            "mend what the check `proxying` says; for pages of other sites the setting `origins`",
        )
    if refused.status in (400, 426) and "WebSocket request" in refused.text:
        return fault(
            url.geturl(),
            seen,
            "the proxy takes the Upgrade header away: clients fall back to polling, or fail",
            _UPGRADE,
        )
    return fault(
        url.geturl(),
        seen,
        "live pages do not connect by WebSocket",
        f"pass /socket.io/ on to the application. {_UPGRADE}",
    )


# -- polling


def _polling(subject: Subject, url: SplitResult) -> Iterator[Finding]:
    opened = ask(url, _target(transport="polling"), subject.patience)
    sid = _sid(opened)
    if sid is None:
        yield fault(
            url.geturl(),
            f"polling /socket.io/ was answered with {opened.status}: {opened.text[:80]!r}",
            "clients that begin by polling, the default, do not connect",
            "pass /socket.io/ on to the application",
        )
        return
    yield from _session(subject, url, sid)


def _sid(answer: Answer) -> str | None:
    if answer.status != 200 or not answer.text.startswith("0{"):
        return None
    return str(json.loads(answer.text[1:])["sid"])


def _session(subject: Subject, url: SplitResult, sid: str) -> Iterator[Finding]:
    """Requests of one session reach its worker; it can become a WebSocket."""
    target = _target(transport="polling", sid=sid)
    for number in range(POLLS):
        answer = ask(url, target, subject.patience, method="POST", body="3")
        if answer.status != 200:
            yield fault(
                url.geturl(),
                f"request {number + 1} of a session was answered with {answer.status}: "
                f"{answer.text[:80]!r}",
                "clients that poll lose their session again and again",
                "one machine: serve with this package's worker class; several: let the balancer "
                "keep a client on its machine (`nti-appserver config haproxy` prints how)",
            )
            return
    try:
        with WebSocket(url, _target(transport="websocket", sid=sid), subject.patience) as changed:
            changed.send("2probe")
            if changed.receive() != "3probe":
                raise NotUpgraded(101, "the probe was not answered")
            if subject.slow:
                yield from _silence(subject, url)
    except NotUpgraded as refused:
        if refused.status != 0:
            yield warning(
                url.geturl(),
                f"a session could not change from polling to a WebSocket: {refused}",
                "clients go on polling, which costs the server several times as much",
                _UPGRADE,
            )


def _silence(subject: Subject, url: SplitResult) -> Iterator[Finding]:
    """A poll is held until the server's ping; what cuts it off before ends every quiet session."""
    opened = ask(url, _target(transport="polling"), subject.patience)
    sid = _sid(opened)
    if sid is None:
        return
    interval = json.loads(opened.text[1:])["pingInterval"] / 1000
    target = _target(transport="polling", sid=sid)
    ask(url, target, subject.patience, method="POST", body="40")
    ask(url, target, subject.patience)  # the answer to that
    try:
        answer = ask(url, target, interval + subject.patience)
        seen = "" if answer.text.startswith("2") else f"{answer.status}: {answer.text[:80]!r}"
    except OSError as problem:
        seen = str(problem)
    if seen:
        yield fault(
            url.geturl(),
            f"a poll without news was not held for the {interval:g} s to the next ping: {seen}",
            "every quiet client that polls is cut off, again and again",
            "let the proxy wait longer than that: nginx: proxy_read_timeout 60s; HAProxy: timeout "
            "server 60s; Pound: TimeOut 60",
        )
