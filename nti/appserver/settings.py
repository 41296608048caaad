"""The one table of settings, and reading it from ini, environment and command line.

Each field of `Settings` is a row: its name, type, unit, default and meaning.
The ini names (`appserver.NAME`), the environment names (`NTI_APPSERVER_NAME`),
the options of `nti-appserver` (`--name`) and the reference page are all made
from it. A new setting is a new row here and nothing else.

Nothing in this file waits or switches; it imports the standard library alone
because gunicorn's arbiter reads it before any worker is patched.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from nti.appserver.errors import ConfigurationError

INI_PREFIX = "appserver."
ENVIRON_PREFIX = "NTI_APPSERVER_"

MIB = 1024 * 1024


@dataclass(frozen=True)
class Kind:
    """How the text of a setting becomes its value.

    :param parse: takes the stripped text; raises ValueError for a bad one.
    :param expected: completes "expected ..." in the error message.
    :param shown: the text of a value, as one would write it.
    """

    parse: Callable[[str], Any]
    expected: str
    shown: Callable[[Any], str] = str


def _boolean(text: str) -> bool:
    try:
        return {"1": True, "true": True, "yes": True, "on": True}[text.lower()]
    except KeyError:
        pass
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError(text)


def whole(low: int, high: int) -> Kind:
    """A whole number from `low` to `high`."""

    def parse(text: str) -> int:
        number = int(text)
        if not low <= number <= high:
            raise ValueError(text)
        return number

    return Kind(parse, f"a whole number from {low} to {high}")


def seconds(low: float, high: float) -> Kind:
    """A time in seconds, decimals allowed, from `low` to `high`."""

    def parse(text: str) -> float:
        number = float(text)
        if not low <= number <= high:
            raise ValueError(text)
        return number

    return Kind(parse, f"seconds from {low:g} to {high:g}")


def size(low: int, high: int) -> Kind:
    """A number of bytes; the suffixes k, m and g count 1024 times over."""

    def parse(text: str) -> int:
        scale = {"k": 1024, "m": MIB, "g": 1024 * MIB}.get(text[-1:].lower())
        number = int(text) if scale is None else int(text[:-1]) * scale
        if not low <= number <= high:
            raise ValueError(text)
        return number

    expected = f"bytes from {low} to {_in_units(high)}, such as 65536, 64k or 1m"
    return Kind(parse, expected, _in_units)


def _in_units(number: int) -> str:
    """A number of bytes with the largest suffix that leaves it whole."""
    for suffix, scale in (("g", 1024 * MIB), ("m", MIB), ("k", 1024)):
        if number and number % scale == 0:
            return f"{number // scale}{suffix}"
    return str(number)


def choice(*words: str) -> Kind:
    """One of a few words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return Kind(parse, "one of " + ", ".join(words))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


TEXT = Kind(str, "text")
BOOLEAN = Kind(_boolean, "true or false")
WORDS = Kind(_words, "words, separated by spaces or commas")


def setting(default: Any, kind: Kind, doc: str) -> Any:
    """A row of the table."""
    return field(default=default, metadata={"kind": kind, "doc": doc})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The values that one process runs with; see `load_settings`."""

    # -- what is served, from where
    application: str = setting(
        "nti.appserver.dataserver:main",
        TEXT,
        "The application, as module:name: a Pyramid `main(global_config, **settings)`, another "
        "factory called without arguments, or a WSGI callable.",
    )
    var: str = setting(
        "var", TEXT, "The folder for data, logs and sockets; made with mode 0700 when absent."
    )
    runtime_dir: str = setting(
        "", TEXT, "The folder for sockets and locks of the running site; empty: `run` under `var`."
    )
    storage: str = setting(
        "embedded",
        TEXT,
        "Where objects are kept: `embedded` (a private ZEO server under `var`, shared by all "
        "workers), `none`, or a zodburi such as `file://`, `zeo://`, `zconfig://`, `postgresql://`.",
    )
    storage_wait: float = setting(
        30.0,
        seconds(0, 3600),
        "How long a starting worker waits for a storage that is not there yet.",
    )
    storage_timeout: float = setting(
        10.0,
        seconds(1, 3600),
        "How long a ZEO server may be mute or away before what needs it is answered with 503.",
    )
    cache_size: int = setting(
        20 * MIB, size(0, 1 << 40), "ZEO's client cache of one worker, bytes on disk."
    )
    library: str = setting(
        "", TEXT, "The folder of content units that /library serves; empty: the sample that ships."
    )
    url: str = setting(
        "",
        TEXT,
        "The address at which readers reach the site, such as `https://example.org`, for links "
        "that are shown; empty: where gunicorn listens.",
    )
    namespaces: tuple[str, ...] = setting(
        (), WORDS, "Socket.IO namespaces, as module:name, beside those that the application adds."
    )
    bus: str = setting(
        "local",
        TEXT,
        "How workers tell each other of emits: `local` (unix sockets in `runtime_dir`) or `redis://`.",
    )

    # -- units of work
    attempts: int = setting(
        3, whole(1, 100), "How often a unit of work is tried when it conflicts, the first included."
    )
    connection_limit: int = setting(
        100, whole(1, 100_000), "Database connections that one worker leases at a time."
    )
    connection_wait: float = setting(
        5.0,
        seconds(0, 3600),
        "How long a unit of work waits for a database connection before it is answered with 503.",
    )
    strict_reads: bool = setting(
        False,
        BOOLEAN,
        "Refuse writes in a GET or HEAD request instead of reporting and discarding them.",
    )
    request_deadline: float = setting(
        30.0, seconds(0.1, 86_400), "After this a unit of work is not tried again."
    )
    stream_deadline: float = setting(
        300.0,
        seconds(0.1, 86_400),
        "How long a streamed response may go on reading from the database after its commit.",
    )
    body_memory: int = setting(
        256 * 1024,
        size(0, 1 << 30),
        "A request body up to this is kept in memory for another attempt, a larger one on disk.",
    )
    body_replay: int = setting(
        64 * MIB,
        size(0, 1 << 40),
        "A request body above this is not kept, and its request not tried again.",
    )

    # -- connections
    client_source: str = setting(
        "x-forwarded-for",
        choice("x-forwarded-for", "forwarded", "proxy", "none"),
        "Where a trusted proxy names the client: X-Forwarded-For with X-Forwarded-Proto, "
        "Forwarded (RFC 7239), the PROXY protocol, or nowhere.",
    )
    connections: int = setting(
        20_000,
        whole(1, 1_000_000),
        "Open connections of one worker, idle ones included; more are not accepted.",
    )
    websocket_limit: int = setting(
        10_000,
        whole(0, 1_000_000),
        "Open WebSockets of one worker, apart from worker_connections; past it 503.",
    )
    body_files: int = setting(
        16 * MIB,
        size(0, 1 << 40),
        "Bytes of large response bodies, of those that the application keeps, that a worker keeps "
        "as files in memory, which are sent without a copy; 0: none.",
    )
    handshake_timeout: float = setting(
        10.0, seconds(0.1, 3600), "How long a TLS handshake may take."
    )
    head_timeout: float = setting(
        10.0, seconds(0.1, 3600), "How long the head of a request may take from its first byte."
    )
    body_timeout: float = setting(
        30.0,
        seconds(0.1, 3600),
        "How long a request body may be waited for; what comes of it gives time back.",
    )
    send_timeout: float = setting(
        30.0,
        seconds(0.1, 3600),
        "How long a client may keep what is sent to it waiting; what it takes gives time back.",
    )
    body_rate: int = setting(
        500,
        size(0, 1 << 30),
        "Bytes that give a second of body_timeout or send_timeout back, so that a client that is "
        "slower is given up; 0: any byte gives all of it back.",
    )

    # -- WebSocket and Socket.IO
    websocket_message_size: int = setting(
        1 * MIB, size(1, 1 << 30), "The largest WebSocket message, after decompression."
    )
    websocket_queue_size: int = setting(
        4 * MIB, size(1, 1 << 30), "Bytes queued for a slow WebSocket before it is closed."
    )
    websocket_deflate: bool = setting(
        False,
        BOOLEAN,
        "Compress WebSocket messages where the client can (RFC 7692); costs processor time.",
    )
    origins: tuple[str, ...] = setting(
        (),
        WORDS,
        "Origins besides the site's own that may open WebSockets and Socket.IO; * is any.",
    )
    ping_interval: float = setting(25.0, seconds(0.1, 3600), "Engine.IO: the time between pings.")
    ping_timeout: float = setting(20.0, seconds(0.1, 3600), "Engine.IO: how long a pong may take.")
    connect_timeout: float = setting(
        45.0,
        seconds(0.1, 3600),
        "Socket.IO: how long a client may take to join a namespace before it is closed.",
    )

    # -- operations
    blocked_hub: float = setting(
        0.5,
        seconds(0, 3600),
        "Report a greenlet that keeps the hub from running for longer than this; 0: never.",
    )
    debug_units: bool = setting(
        False,
        BOOLEAN,
        "Report persistent objects that are kept past their unit of work; slow, for development.",
    )
    log_format: str = setting("text", choice("text", "json"), "How log lines are written.")
    ops_allow: tuple[str, ...] = setting(
        (),
        WORDS,
        "Addresses and networks that may see /_ops/ besides trusted peers that ask for themselves.",
    )
    worker_memory: int = setting(
        0,
        size(0, 1 << 44),
        "A worker whose memory in RAM passes this is replaced, its requests done first; 0: never.",
    )
    worker_age: float = setting(
        0.0,
        seconds(0, 31_536_000),
        "A worker is replaced at about this age, a tenth more or less; 0: never.",
    )
    crash_loop: int = setting(
        10,
        whole(0, 10_000),
        "gunicorn stops after so many workers in a row that crash within 10 seconds of their "
        "start; 0: never.",
    )


@dataclass(frozen=True)
class Row:
    """One setting as the table describes it."""

    name: str
    kind: Kind
    default: Any
    doc: str

    @property
    def ini_name(self) -> str:
        return INI_PREFIX + self.name

    @property
    def environ_name(self) -> str:
        return ENVIRON_PREFIX + self.name.upper()

    @property
    def option(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def default_text(self) -> str:
        """The default as one would write it."""
        if isinstance(self.default, tuple):
            return " ".join(self.default)
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if isinstance(self.default, float):
            return f"{self.default:g}"
        return self.kind.shown(self.default)

    def parse(self, value: Any, source: str) -> Any:
        """The value for `value`, a text or (from Python code) a value already.

        :raises ConfigurationError: names the setting, its source, the value
            seen and what was expected.
        """
        text = " ".join(value) if isinstance(value, (list, tuple)) else str(value).strip()
        try:
            return self.kind.parse(text)
        except ValueError:
            raise ConfigurationError(
                f"{source}: setting {self.name} is {text!r}", self.kind.expected
            ) from None


def _row(spec: "Field[Any]") -> Row:
    assert spec.default is not MISSING
    return Row(spec.name, spec.metadata["kind"], spec.default, spec.metadata["doc"])


def table() -> Sequence[Row]:
    """Every setting, in the order of the reference page."""
    return tuple(map(_row, fields(Settings)))


def load_settings(
    *,
    ini: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    cli: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings that these sources give; a later one wins over an earlier one.

    :param ini: keys that begin with `appserver.` are read, the others are the
        application's own and ignored.
    :param environ: keys that begin with `NTI_APPSERVER_` are read;
        `NTI_APPSERVER_CONFIG` names an ini file and is not a setting.
    :param cli: keys are the names themselves; None is a value not given.
    :raises ConfigurationError: a name that no row has, with the nearest that
        one has, or a value that does not parse.
    """
    rows = {row.name: row for row in table()}
    values: dict[str, Any] = {}
    for source, shown, name, value in _given(ini or {}, environ or {}, cli or {}):
        if name not in rows:
            near = get_close_matches(name, rows, 1)
            mend = (
                f"did you mean {_spelt(rows[near[0]], source)}?"
                if near
                else "see `nti-appserver serve --help`"
            )
            raise ConfigurationError(f"{source}: unknown setting {shown!r} = {value!r}", mend=mend)
        values[name] = rows[name].parse(value, source)
    return Settings(**values)


def filter_settings(
    global_conf: Mapping[str, str], local_conf: Mapping[str, str], environ: Mapping[str, str]
) -> Settings:
    """The settings of a PasteDeploy filter, whose own keys may leave the `appserver.` out.

    :param global_conf: the file's `[DEFAULT]`.
    :param local_conf: the filter's own section, which wins.
    :raises ConfigurationError: as `load_settings`.
    """
    own = {INI_PREFIX + key.removeprefix(INI_PREFIX): value for key, value in local_conf.items()}
    return load_settings(ini={**global_conf, **own}, environ=environ)


def _spelt(row: Row, source: str) -> str:
    """A row's name as it is written in this source."""
    return {"ini": row.ini_name, "environment": row.environ_name}.get(source, row.name)


def _given(
    ini: Mapping[str, Any], environ: Mapping[str, str], cli: Mapping[str, Any]
) -> Iterator[tuple[str, str, str, Any]]:
    """Each value given: its source in words, its name as written, the setting, the value."""
    for key, value in ini.items():
        if key.startswith(INI_PREFIX):
            yield "ini", key, key[len(INI_PREFIX) :], value
    for key, value in environ.items():
        if key.startswith(ENVIRON_PREFIX) and key != ENVIRON_PREFIX + "CONFIG":
            yield "environment", key, key[len(ENVIRON_PREFIX) :].lower(), value
    for name, value in cli.items():
        if value is not None:
            yield "command line", name, name, value
