"""Handlers written for older signatures: `on_connect(sid, environ)`, `on_disconnect(sid)`.

Only a pure function lives here. python-socketio finds out by catching
TypeError, which runs a handler twice when the TypeError is its own.
"""

import inspect
from collections.abc import Callable
from typing import Any


def fitting(handler: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """As many of `args`, from the first, as `handler` takes by position."""
    number = 0
    for parameter in inspect.signature(handler).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return args
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            number += 1
    return args[:number]
