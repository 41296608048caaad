"""The access log, at the cost of what its format shows.

gunicorn fills in every atom of every request. Where its own `Logger` is in use
and nothing of it is overridden, the atoms are made when the format asks for
them, and where the line goes to one stream as it is, it is written there without
a `LogRecord`, which costs more than all the atoms. Any other logger (statsd, a
class of one's own, logconfig) is called as gunicorn calls it. Runs in the
greenlet of the request.
"""

import logging
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from gunicorn.glogging import Logger, SafeAtoms

#: Called with response, request, environ and the seconds it took.
Log = Callable[[Any, Any, dict[str, Any], float], object]


def access_log(log: Any, cfg: Any) -> Log | None:
    """How to write the line of one request; None where no log is kept."""
    kind = type(log)
    if kind.access is not Logger.access:
        return lambda resp, req, environ, seconds: log.access(
            resp, req, environ, timedelta(seconds=seconds)
        )
    if not log.access_log_enabled:
        return None
    configured = cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json
    overridden = (
        kind.atoms is not Logger.atoms
        or kind.now is not Logger.now
        or log.atoms_wrapper_class is not SafeAtoms
    )
    if configured or overridden:
        return lambda resp, req, environ, seconds: log.access(
            resp, req, environ, timedelta(seconds=seconds)
        )
    return _Lazy(log, cfg).write


class _Lazy:
    def __init__(self, log: Any, cfg: Any) -> None:
        self._log = log
        self._format = cfg.access_log_format
        self._line = line_maker(cfg.access_log_format)
        self._second = 0
        self._now = ""

    def write(self, resp: Any, req: Any, environ: dict[str, Any], seconds: float) -> None:
        logger = self._log.access_log
        if not logger.isEnabledFor(logging.INFO):
            return
        atoms = Atoms(self, resp, req, environ, seconds)
        bare = bare_handler(logger)
        if bare is not None:
            # The handler's lock is not needed: one thread writes here, and nothing switches.
            try:
                stream, finish = bare
                line = self._line(atoms)
                stream.write((line if finish is None else finish(line)) + "\n")
                stream.flush()
                return
            except Exception:
                pass  # logging meets it again, and reports it
        record = logger.makeRecord(
            logger.name, logging.INFO, "(access log)", 0, self._format, (atoms,), None
        )
        logger.handle(record)

    def now(self) -> str:
        """gunicorn's %(t)s, made once a second."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._now = time.strftime("[%d/%b/%Y:%H:%M:%S %z]", time.localtime(second))
        return self._now

    def eager(self, atoms: "Atoms") -> dict[str, Any]:
        """All atoms, as gunicorn makes them."""
        taken = timedelta(seconds=atoms.seconds)
        made = self._log.atoms(atoms.resp, atoms.req, atoms.environ, taken)
        atoms_by_name: dict[str, Any] = SafeAtoms(made)
        return atoms_by_name


def bare_handler(logger: logging.Logger) -> tuple[Any, Callable[[str], str] | None] | None:
    """The stream to which a logger writes nothing but messages, and what finishes them.

    A formatter that needs no record of a message has the method `finish_line`.

    :return: None: it does otherwise.
    """
    if len(logger.handlers) != 1 or logger.propagate or logger.filters:
        return None
    handler = logger.handlers[0]
    formatter = handler.formatter
    finish = getattr(formatter, "finish_line", None)
    bare = (
        type(logger) is logging.Logger
        and type(handler) in (logging.StreamHandler, logging.FileHandler)
        and formatter is not None
        and (finish is not None or type(formatter) is logging.Formatter)
        and formatter._fmt == "%(message)s"
        and not handler.filters
        and handler.level <= logging.INFO
    )
    stream = getattr(handler, "stream", None)
    return (stream, finish) if bare and stream is not None else None


def line_maker(pattern: str) -> Callable[["Atoms"], str]:
    """A function that writes the atoms of a request into a format.

    Where the format is of nothing but known atoms it is taken apart here, once.
    """
    first, *rest = _CONVERSION.split(pattern)
    names, literals = rest[::2], [first, *rest[1::2]]
    if "%" in "".join(literals) or not all(name in _ATOMS for name in names):
        return lambda atoms: pattern % atoms
    template = "%s".join(literals)
    makers = [_ATOMS[name] for name in names]

    def line(atoms: Atoms) -> str:
        return template % tuple([make(atoms) for make in makers])

    return line


class Atoms(dict[str, Any]):
    """The atoms of one line, each made when it is asked for, its quotation marks escaped."""

    def __init__(
        self, log: _Lazy, resp: Any, req: Any, environ: dict[str, Any], seconds: float
    ) -> None:
        super().__init__(l="-")  # logging takes only a mapping that is not empty
        self.log = log
        self.resp = resp
        self.req = req
        self.environ = environ
        self.seconds = seconds

    def __missing__(self, key: str) -> Any:
        make = _ATOMS.get(key)
        if make is None:
            return self.log.eager(self)[key]
        return make(self)


#: An atom in a format.
_CONVERSION = re.compile(r"%\(([^()]*)\)s")


def _escaped(value: Any) -> Any:
    return value.replace('"', '\\"') if isinstance(value, str) else value


def _field(name: str, absent: Any = "-") -> Callable[[Atoms], Any]:
    return lambda atoms: _escaped(atoms.environ.get(name, absent))


def _request_line(atoms: Atoms) -> str:
    environ = atoms.environ
    line = f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {environ['SERVER_PROTOCOL']}"
    return line.replace('"', '\\"')


_ATOMS: dict[str, Callable[[Atoms], Any]] = {
    "h": _field("REMOTE_ADDR"),
    "l": lambda atoms: "-",
    "t": lambda atoms: atoms.log.now(),
    "r": _request_line,
    "s": lambda atoms: _escaped(str(atoms.resp.status).split(None, 1)[0]),
    "m": _field("REQUEST_METHOD", None),
    "U": _field("PATH_INFO", None),
    "q": _field("QUERY_STRING", None),
    "H": _field("SERVER_PROTOCOL", None),
    "b": lambda atoms: str(atoms.resp.sent),
    "B": lambda atoms: atoms.resp.sent,
    "f": _field("HTTP_REFERER"),
    "a": _field("HTTP_USER_AGENT"),
    "T": lambda atoms: int(atoms.seconds),
    "D": lambda atoms: int(atoms.seconds * 1_000_000),
    "M": lambda atoms: int(atoms.seconds * 1000),
    "L": lambda atoms: f"{atoms.seconds:.6f}",
    "u": lambda atoms: (
        "-" if "HTTP_AUTHORIZATION" not in atoms.environ else atoms.log.eager(atoms)["u"]
    ),
}
