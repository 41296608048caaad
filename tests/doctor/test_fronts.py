"""What the doctor finds on the way from a URL to a worker: nginx, well and badly configured."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nti.appserver.testing.process import GunicornProcess, ServerProcess, free_port
from tests.deploy import programs

from .conftest import ROOT, Diagnose

#: What a front has to say to the application.
GOOD = """
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host "";
    proxy_set_header X-Forwarded-Ssl "";
    proxy_set_header X-Forwarded-Protocol "";
    proxy_set_header Forwarded "";
    proxy_set_header X-Real-IP "";
    proxy_set_header X-Scheme "";
"""

CONF = """
{user} daemon off; pid {folder}/pid; events {{}}
http {{
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; access_log off;
  map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
  upstream app {{ {servers} }}
  server {{ listen 127.0.0.1:{port}{ssl}; {tls} location / {{ proxy_pass http://app; {lines} }} }}
}}
"""

Front = Callable[..., str]


@pytest.fixture
def front(site: GunicornProcess, tmp_path: Path) -> Iterator[Front]:
    """Starts an nginx and gives its URL; `without` are lines of GOOD that it lacks."""
    with ExitStack() as stack:

        def start(*without: str, more: str = "", tls: str = "", ports: tuple[int, ...] = ()) -> str:
            lines = [
                line for line in GOOD.splitlines() if not any(word in line for word in without)
            ]
            port = free_port()
            servers = " ".join(f"server 127.0.0.1:{p};" for p in ports or (site.port,))
            (tmp_path / "nginx.conf").write_text(
                CONF.format(
                    user="user root;" if os.geteuid() == 0 else "",
                    folder=tmp_path,
                    port=port,
                    servers=servers,
                    lines="\n".join([*lines, more]),
                    ssl=" ssl" if tls else "",
                    tls=tls,
                )
            )
            command = [programs.need("nginx"), "-e", "stderr", "-p", str(tmp_path)]
            command += ["-c", str(tmp_path / "nginx.conf")]
            server = stack.enter_context(ServerProcess(command, cwd=tmp_path))
            programs.wait_for_port(server, port)
            return f"{'https' if tls else 'http'}://127.0.0.1:{port}/"

        yield start


@pytest.fixture
def ask(diagnose: Diagnose, site: GunicornProcess) -> Diagnose:
    """The doctor, told where the site's folder is."""
    return lambda *arguments, **options: diagnose(
        "--var", str(site.cwd / "var"), *arguments, **options
    )


def test_a_good_front_has_no_findings(front: Front, ask: Diagnose) -> None:
    url = front(more="location /_ops/ { return 404; }")
    assert ask("--url", url, only="proxying").findings == []
    assert ask("--url", url, "--slow", only="realtime").findings == []


def test_the_site_itself_is_no_proxy(site: GunicornProcess, ask: Diagnose) -> None:
    assert ask("--url", site.url, only="proxying").findings == []
    assert ask("--url", site.url, only="realtime").findings == []


@pytest.mark.parametrize(
    ("without", "seen"),
    [
        ("Host $http_host", "Host arrives as 'app'"),
        ("X-Forwarded-For", "the proxy sends no X-Forwarded-For"),
        ("X-Forwarded-For", "is taken for 203.0.113.77"),
        ("X-Forwarded-Proto", "is taken to come by https"),
        ("X-Real-IP", "clients' own X-Real-IP reach"),
    ],
)
def test_a_line_that_is_missing(front: Front, ask: Diagnose, without: str, seen: str) -> None:
    found = ask("--url", front(without), only="proxying")
    (finding,) = [each for each in found.of("proxying") if seen in each["seen"]]
    assert without.split()[0] in finding["mend"]


def test_operational_pages_that_a_naive_front_shows(front: Front, ask: Diagnose) -> None:
    """Of one that says nothing of its clients the application cannot tell that it is one."""
    found = ask("--url", front("X-"), only="proxying").of("proxying")
    assert "/_ops/ping is answered" in found[-1]["seen"]


def test_upgrade_headers_that_are_missing(front: Front, ask: Diagnose) -> None:
    found = ask("--url", front("Upgrade", "Connection"), only="realtime")
    first, second = found.of("realtime")
    assert "takes the Upgrade header away" in first["why"]
    assert "proxy_set_header Upgrade" in first["mend"]
    assert "could not change from polling" in second["seen"]


def test_a_scheme_that_is_lost(front: Front, ask: Diagnose, tmp_path: Path) -> None:
    url = front("X-Forwarded-Proto", tls=_tls(tmp_path, 90))
    seen = [each["seen"] for each in ask("--url", url, only="proxying").of("proxying")]
    assert any("the scheme arrives as http" in each for each in seen)
    refused = ask("--url", url, only="realtime").of("realtime")[0]
    assert "403" in refused["seen"]


def test_a_proxy_that_is_not_trusted(front: Front, diagnose: Diagnose, tmp_path: Path) -> None:
    environ = {
        "NTI_APPSERVER_APPLICATION": "tests.deploy.site:answer",
        "NTI_APPSERVER_STORAGE": "none",
        "PYTHONPATH": str(ROOT),
    }
    folder = tmp_path / "other"
    folder.mkdir()
    options = ("--forwarded-allow-ips", "10.9.9.9", "--graceful-timeout", "2")
    server = GunicornProcess("nti.appserver.gunicorn:app", *options, cwd=folder, environ=environ)
    with server:
        server.wait_until_serving()
        url = front(ports=(server.port,))
        found = diagnose("--url", url, "--var", str(folder / "var"), only="proxying")
        (finding,) = [each for each in found.findings if "not trusted" in each["seen"]]
        assert finding["mend"] == "gunicorn: forwarded_allow_ips = '127.0.0.1,127.0.0.1'"


def test_machines_without_stickiness(
    front: Front, site: GunicornProcess, ask: Diagnose, tmp_path: Path
) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    options = ("--graceful-timeout", "2")
    second = GunicornProcess(
        "nti.appserver.gunicorn:app", *options, cwd=folder, environ=site.environ
    )
    with second:
        second.wait_until_serving()
        found = ask("--url", front(ports=(site.port, second.port)), only="realtime")
    assert "keep a client on its machine" in found.of("realtime")[0]["mend"]


def test_a_proxy_that_does_not_wait_for_the_ping(front: Front, ask: Diagnose) -> None:
    found = ask("--url", front(more="proxy_read_timeout 1s;"), "--slow", only="realtime")
    assert "proxy_read_timeout" in found.of("realtime")[-1]["mend"]


def test_a_front_that_passes_nothing_on(front: Front, ask: Diagnose) -> None:
    url = front(more="location /socket.io/ { return 404; }")
    assert "answered with 404" in ask("--url", url, only="proxying").one("proxying")["seen"]
    assert "answered with 404" in ask("--url", url, only="realtime").of("realtime")[0]["seen"]


def test_nobody_there(ask: Diagnose) -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    for check in ("proxying", "realtime"):
        assert "no answer" in ask("--url", url, only=check).one(check)["seen"]


def test_from_another_machine(site: GunicornProcess, diagnose: Diagnose) -> None:
    """Where the site's folder is not, it says so."""
    found = diagnose("--url", site.url, only="proxying").one("proxying")
    assert found["severity"] == "warning"
    assert "on the site's machine" in found["mend"]


# -- TLS


def _tls(folder: Path, ends: int, *, begins: int = -100, lines: str = "") -> str:
    """nginx's lines for a certificate of its own, with its dates in days from now."""
    key, crt = folder / "server.key", folder / "server.crt"
    _certificate(folder, key, crt, (begins, ends))
    return f"ssl_certificate {crt}; ssl_certificate_key {key}; {lines}"


CA = """
[ca]
default_ca = own
[own]
database = {folder}/index.txt
new_certs_dir = {folder}
default_md = sha256
policy = any
rand_serial = yes
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = IP:127.0.0.1
"""


def _certificate(folder: Path, key: Path, crt: Path, days: tuple[int, int]) -> None:
    """By openssl's `ca`, the only one of its commands that makes one for the past."""
    openssl, now = programs.need("openssl"), datetime.now(UTC) + timedelta(minutes=5)
    (folder / "index.txt").write_text("")
    (folder / "ca.cnf").write_text(CA.format(folder=folder))
    request = folder / "request.pem"
    new = [openssl, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    new += ["-nodes", "-subj", "/CN=site.example", "-keyout", str(key), "-out", str(request)]
    subprocess.run(new, check=True, capture_output=True)
    begins, ends = (f"{now + timedelta(days=each):%Y%m%d%H%M%SZ}" for each in days)
    sign = [openssl, "ca", "-batch", "-selfsign", "-notext", "-config", str(folder / "ca.cnf")]
    sign += ["-keyfile", str(key), "-in", str(request), "-out", str(crt)]
    sign += ["-startdate", begins, "-enddate", ends]
    subprocess.run(sign, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("begins", "ends", "severity", "seen"),
    [
        (-100, -3, "fault", "the certificate ended"),
        (-100, 5, "warning", "in 5 days"),
        (3, 100, "fault", "the certificate begins"),
    ],
)
def test_dates_of_a_certificate(
    front: Front, ask: Diagnose, tmp_path: Path, begins: int, ends: int, severity: str, seen: str
) -> None:
    tls = _tls(tmp_path, ends, begins=begins)
    found = ask("--url", front(tls=tls), only="certificates").of("certificates")
    (finding,) = [each for each in found if seen in each["seen"]]
    assert finding["severity"] == severity
    conf = f'certfile = "{tmp_path / "server.crt"}"\n'
    assert seen in ask(only="certificates", conf=conf).one("certificates")["seen"]


def test_a_certificate_that_nobody_vouches_for(
    front: Front, ask: Diagnose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = front(tls=_tls(tmp_path, 90))
    found = ask("--url", url, only="certificates").one("certificates")
    assert "self-signed" in found["seen"]
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.crt"))
    assert ask("--url", url, only="certificates").findings == []
    other = ask("--url", url.replace("127.0.0.1", "localhost"), only="certificates")
    assert "localhost" in other.one("certificates")["seen"]


def test_old_versions_of_tls(front: Front, ask: Diagnose, tmp_path: Path) -> None:
    old = "ssl_protocols TLSv1.1 TLSv1.2; ssl_ciphers ALL:@SECLEVEL=0;"
    url = front(tls=_tls(tmp_path, 90, lines=old))
    found = ask("--url", url, only="tls-versions").one("tls-versions")
    assert found["seen"] == "TLS 1.1 is accepted"
    url = front(tls=_tls(tmp_path, 90, lines="ssl_protocols TLSv1.2 TLSv1.3;"))
    assert ask("--url", url, only="tls-versions").findings == []
