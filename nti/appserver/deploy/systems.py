"""The catalogue: each system, its variants, the options each takes and the files each makes.

A new system is a row here and a template in `templates/`. Nothing here waits
or switches.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """One file that a variant makes.

    :param template: its name in `templates/`.
    :param place: where the system looks for it.
    """

    name: str
    template: str
    place: str


@dataclass(frozen=True)
class Variant:
    """One way to use a system.

    :param options: names of rows in `options.OPTIONS`; any other option is refused.
    :param defaults: (option, text) pairs that differ from the table for this variant.
    """

    name: str
    doc: str
    options: tuple[str, ...]
    files: tuple[File, ...]
    defaults: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class System:
    """A program that a site is made of.

    :param check: the command that says whether a configuration is well formed.
    :param apply: the command that puts it to use.
    """

    name: str
    doc: str
    variants: tuple[Variant, ...]
    check: str
    apply: str

    @property
    def options(self) -> tuple[str, ...]:
        """The options of all variants, each once."""
        return tuple(dict.fromkeys(name for v in self.variants for name in v.options))


_NGINX = (File("nti-appserver.conf", "nginx.conf.j2", "/etc/nginx/conf.d/"),)
_NGINX_STATIC = ("server_name", "root", "nginx_log")
_NGINX_PROXY = (*_NGINX_STATIC, "app", "timeout", "ping_interval", "max_body")
_HAPROXY = (File("haproxy.cfg", "haproxy.cfg.j2", "/etc/haproxy/"),)
_HAPROXY_PLAIN = ("http", "static", "app", "timeout", "ping_interval", "connections")
_POUND = (File("pound.cfg", "pound.cfg.j2", "/etc/pound/"),)
_POUND_PLAIN = ("http", "static", "app", "timeout", "ping_interval")
_GUNICORN = (File("gunicorn.conf.py", "gunicorn.conf.py.j2", "/etc/nti-appserver/"),)
_GUNICORN_ANY = (
    "application",
    "workers",
    "worker_connections",
    "graceful_timeout",
    "proxies",
    "timeout",
    "var",
)
_UNIT = "/etc/systemd/system/"
_SYSTEMD = (
    File("nti-appserver.service", "systemd.service.j2", _UNIT),
    File("nti-appserver.socket", "systemd.socket.j2", _UNIT),
)
_SYSTEMD_ANY = ("prefix", "config", "user", "group", "graceful_timeout", "open_files")

SYSTEMS: tuple[System, ...] = (
    System(
        "nginx",
        "Static files with gzip, alone or with the application behind it.",
        (
            Variant(
                "implicit",
                "What lies in the folder is served, all else goes to the application.",
                ("http", *_NGINX_PROXY),
                _NGINX,
            ),
            Variant(
                "explicit",
                "Listed paths go to the application, all else is a file or a 404.",
                ("http", *_NGINX_PROXY),
                _NGINX,
            ),
            Variant(
                "complete",
                "The implicit variant with TLS; plain HTTP is sent there.",
                ("http", "https", "certificate", "key", "nginx_version", *_NGINX_PROXY),
                _NGINX,
            ),
            Variant(
                "static",
                "Files alone, for HAProxy or Pound in front.",
                ("static", "proxies", *_NGINX_STATIC),
                _NGINX,
            ),
            Variant(
                "main",
                "nginx.conf around the others: processes, descriptors, connections.",
                ("nginx_user", "connections", "mime_types"),
                (File("nginx.conf", "nginx-main.conf.j2", "/etc/nginx/"),),
            ),
        ),
        check="nginx -t",
        apply="systemctl reload nginx",
    ),
    System(
        "haproxy",
        "Dispatches by path between nginx and one application server or several.",
        (
            Variant("plain", "Plain HTTP.", _HAPROXY_PLAIN, _HAPROXY),
            Variant(
                "tls",
                "TLS ends here; plain HTTP is sent there.",
                (*_HAPROXY_PLAIN, "https", "combined"),
                _HAPROXY,
            ),
            Variant(
                "stunnel",
                "TLS ends in stunnel in front, which names the client by the PROXY protocol.",
                (*_HAPROXY_PLAIN, "from_stunnel"),
                _HAPROXY,
            ),
            Variant(
                "several",
                "Several application servers; a Socket.IO session stays on its own. With TLS.",
                (*_HAPROXY_PLAIN, "https", "combined"),
                _HAPROXY,
                defaults=(("app", "10.0.0.11:8081 10.0.0.12:8081"),),
            ),
        ),
        check="haproxy -c -f /etc/haproxy/haproxy.cfg",
        apply="systemctl reload haproxy",
    ),
    System(
        "pound",
        "Pound 4 dispatches by path between nginx and the application server.",
        (
            Variant("plain", "Plain HTTP.", _POUND_PLAIN, _POUND),
            Variant(
                "tls",
                "TLS ends here; plain HTTP is sent there.",
                (*_POUND_PLAIN, "https", "combined", "server_name"),
                _POUND,
            ),
        ),
        check="pound -c -f /etc/pound/pound.cfg",
        apply="systemctl restart pound",
    ),
    System(
        "stunnel",
        "Ends TLS in front of HAProxy.",
        (
            Variant(
                "haproxy",
                "To HAProxy's variant stunnel.",
                ("https", "from_stunnel", "combined"),
                (File("nti-appserver.conf", "stunnel.conf.j2", "/etc/stunnel/"),),
            ),
        ),
        check="stunnel /etc/stunnel/nti-appserver.conf",
        apply="systemctl restart stunnel4",
    ),
    System(
        "gunicorn",
        "The application server itself.",
        (
            Variant("tcp", "Listens on a port.", ("listen", *_GUNICORN_ANY), _GUNICORN),
            Variant(
                "unix",
                "Listens on a unix socket, for a front on the same machine.",
                ("socket", *_GUNICORN_ANY),
                _GUNICORN,
                defaults=(("socket", "/run/nti-appserver/app.sock"),),
            ),
            Variant(
                "logfiles",
                "Listens on a port and logs to files that logrotate turns over.",
                ("listen", "log_dir", *_GUNICORN_ANY),
                _GUNICORN,
            ),
        ),
        check="nti-appserver doctor --check --gunicorn /etc/nti-appserver/gunicorn.conf.py",
        apply="systemctl reload nti-appserver",
    ),
    System(
        "systemd",
        "Starts the server, keeps its socket through restarts, and confines it.",
        (
            Variant("tcp", "The socket is a port.", ("listen", *_SYSTEMD_ANY), _SYSTEMD),
            Variant(
                "unix",
                "The socket is a file that the front's group may use.",
                ("socket", "socket_group", *_SYSTEMD_ANY),
                _SYSTEMD,
            ),
        ),
        check="systemd-analyze verify nti-appserver.service nti-appserver.socket",
        apply="systemctl daemon-reload && systemctl enable --now nti-appserver.socket",
    ),
    System(
        "logrotate",
        "Turns over the log files of gunicorn's variant logfiles.",
        (
            Variant(
                "daily",
                "Fourteen days, compressed.",
                ("log_dir", "user", "group"),
                (File("nti-appserver", "logrotate.j2", "/etc/logrotate.d/"),),
            ),
        ),
        check="logrotate --debug /etc/logrotate.d/nti-appserver",
        apply="",
    ),
    System(
        "launchd",
        "Starts the server on macOS.",
        (
            Variant(
                "daemon",
                "At boot, for all users.",
                ("prefix", "config", "user", "group", "var"),
                (
                    File(
                        "com.nextthought.nti-appserver.plist",
                        "launchd.plist.j2",
                        "/Library/LaunchDaemons/",
                    ),
                ),
            ),
        ),
        check="plutil -lint com.nextthought.nti-appserver.plist",
        apply="launchctl bootstrap system "
        "/Library/LaunchDaemons/com.nextthought.nti-appserver.plist",
    ),
)
