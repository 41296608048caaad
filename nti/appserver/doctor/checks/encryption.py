"""TLS: certificates and their dates, who vouches for them, and old versions."""

import socket
import ssl
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import SplitResult

from nti.appserver.doctor.certificate import validity
from nti.appserver.doctor.client import port_of, unverified
from nti.appserver.doctor.finding import Finding, fault, warning
from nti.appserver.doctor.subject import Subject

#: A certificate that ends within this should have been renewed: most renewals come 30 days before.
SOON = timedelta(days=14)

_RENEW = "renew it, and have it renewed by itself: certbot renew, with a deploy hook that reloads"


def certificates(subject: Subject) -> Iterator[Finding]:
    """Certificates hold today and for a while."""
    path = subject.loaded.gunicorn.get("certfile")
    if path:
        try:
            der = ssl.PEM_cert_to_DER_cert(_first_certificate(Path(path).read_text("ascii")))
        except (OSError, ValueError) as problem:
            yield fault(path, str(problem), "gunicorn cannot serve TLS", "mend certfile")
        else:
            yield from _dates(path, der)
    for url in subject.urls:
        if url.scheme == "https":
            yield from _of(subject, url)


def _first_certificate(text: str) -> str:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    inner = text.partition(begin)[2].partition(end)[0]
    return f"{begin}{inner}{end}"


def _of(subject: Subject, url: SplitResult) -> Iterator[Finding]:
    try:
        der = _presented(subject, url, unverified())
        yield from _dates(url.geturl(), der)
        _presented(subject, url, ssl.create_default_context())
    except ssl.SSLCertVerificationError as problem:
        if problem.verify_code != _EXPIRED:  # told with its dates
            yield fault(
                url.geturl(),
                f"the certificate is not believed: {problem.verify_message}",
                "browsers show a warning in place of the site",
                "get one for this name from an authority that browsers know, with the "
                "intermediate certificates behind it in the file",
            )
    except OSError as problem:
        yield fault(
            url.geturl(),
            f"TLS failed: {problem}",
            "readers do not reach the site",
            "see the front's own log",
        )


#: OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED.
_EXPIRED = 10


def _presented(subject: Subject, url: SplitResult, context: ssl.SSLContext) -> bytes:
    """The server's certificate, in DER."""
    address = (url.hostname or "", port_of(url))
    with (
        socket.create_connection(address, subject.patience) as plain,
        context.wrap_socket(plain, server_hostname=url.hostname) as encrypted,
    ):
        return encrypted.getpeercert(binary_form=True) or b""


def _dates(about: str, der: bytes) -> Iterator[Finding]:
    try:
        begins, ends = validity(der)
    except ValueError as problem:
        yield fault(about, str(problem), "browsers refuse it", "put a certificate there")
        return
    now = datetime.now(UTC)
    why = "browsers show a warning in place of the site, and programs do not connect"
    if now > ends:
        yield fault(about, f"the certificate ended {ends:%Y-%m-%d %H:%M} UTC", why, _RENEW)
    elif now < begins:
        mend = "set this machine's clock, or wait"
        yield fault(about, f"the certificate begins {begins:%Y-%m-%d %H:%M} UTC", why, mend)
    elif ends - now < SOON:
        days = (ends - now).days
        seen = f"the certificate ends {ends:%Y-%m-%d %H:%M} UTC, in {days} days"
        yield warning(about, seen, f"then {why}", _RENEW)


def old_versions(subject: Subject) -> Iterator[Finding]:
    """TLS 1.0 and 1.1 are refused (RFC 8996)."""
    for url in subject.urls:
        if url.scheme != "https":
            continue
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            if _accepts(subject, url, version):
                yield warning(
                    url.geturl(),
                    f"{version.name.replace('v', ' ').replace('_', '.')} is accepted",
                    "it is deprecated (RFC 8996), and audits find it",
                    "nginx: ssl_protocols TLSv1.2 TLSv1.3; HAProxy: ssl-min-ver TLSv1.2; Pound: "
                    "Disable TLSv1_1; stunnel: sslVersionMin = TLSv1.2",
                )


def _accepts(subject: Subject, url: SplitResult, version: ssl.TLSVersion) -> bool:
    """Whether a handshake of that version succeeds; no where this machine's OpenSSL cannot try."""
    context = unverified()
    try:
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
        _presented(subject, url, context)
    except (OSError, ValueError):
        return False
    return True
