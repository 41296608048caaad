"""A data manager that waits, for cases in a patched process."""

from typing import Any

import gevent.event
import transaction


class Waiting:
    """A data manager that waits in one phase until it is told to go on."""

    def __init__(self, phase: str, key: str = "zz") -> None:
        self.phase = phase
        self.key = key
        self.reached = gevent.event.Event()
        self.go_on = gevent.event.Event()
        self.asked: list[str] = []
        self.transaction_manager = transaction.manager.manager

    def sortKey(self) -> str:
        return self.key

    def __getattr__(self, name: str) -> Any:
        if name not in ("tpc_begin", "commit", "tpc_vote", "tpc_finish", "tpc_abort", "abort"):
            raise AttributeError(name)

        def asked(tx: Any) -> None:
            if name == self.phase:
                self.reached.set()
                self.go_on.wait(20)
            self.asked.append(name)

        return asked
