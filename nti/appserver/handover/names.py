"""Workers' names, and the one question of which worker a request belongs to.

A worker's name is random, so that no process number that is used again makes
one worker pass for another. Nothing here waits or switches.
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass

#: The request may be served by any worker, and which shall be left to chance.
ANY = "*"

#: How a worker's name is written, for patterns.
PATTERN = "[0-9a-f]{8}"

_name = ""


def worker_name() -> str:
    """This process's name: eight hexadecimal digits, drawn when first asked for."""
    global _name
    if not _name:
        _name = secrets.token_hex(4)
    return _name


def _forget() -> None:
    global _name
    _name = ""


os.register_at_fork(after_in_child=_forget)


@dataclass(frozen=True)
class Route:
    """What a room above says about requests that belong to a certain worker.

    :param mark: bytes that every such request has; others are not looked at further.
    :param owner: given the beginning of a request, names the worker: ANY, or ""
        when whoever has it may serve it. It is called for each such request
        and may not switch.
    """

    mark: bytes
    owner: Callable[[bytes], str]


_route: Route | None = None


def use_route(route: Route) -> None:
    """Ask `route` from now on, in this process."""
    global _route
    _route = route


def route() -> Route | None:
    """The route in use; None where every worker may serve everything."""
    return _route
