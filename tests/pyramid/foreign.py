"""A pytest plugin under which the suites of pyramid_tm and pyramid_retry test our code.

It runs in a process of its own. `config.include` of either package installs
ours with that package's defaults, and the doubles of pyramid_tm's suite become
real transaction managers that keep the same notes.
"""

from typing import Any

import pyramid_retry
import pyramid_tm
import pytest
import transaction
from pyramid.config import PHASE1_CONFIG
from pyramid.tweens import EXCVIEW

from nti.appserver.pyramid import Request, default_commit_veto
from nti.appserver.pyramid.policy import UnitOfWorkPolicy
from nti.appserver.pyramid.predicates import (
    LastAttemptPredicate,
    RetryableErrorPredicate,
    TMActivePredicate,
)
from nti.appserver.pyramid.request import transaction_manager
from nti.appserver.pyramid.tween import tween_factory


def _tween_factory(handler: Any, registry: Any) -> Any:
    """Ours with the defaults of pyramid_tm: no veto, and GET may write."""
    settings = registry.settings
    settings.setdefault("tm.writes_in_reads", "true")
    if "pyramid_tm.commit_veto" not in settings:
        settings.setdefault("tm.commit_veto", None)
    return tween_factory(handler, registry)


def _include_tm(config: Any) -> None:
    config.add_tween("pyramid_tm.tm_tween_factory", over=EXCVIEW)
    config.set_request_factory(Request)
    config.add_view_predicate("tm_active", TMActivePredicate)


def _include_retry(config: Any) -> None:
    config.add_view_predicate("last_retry_attempt", LastAttemptPredicate)
    config.add_view_predicate("retryable_error", RetryableErrorPredicate)

    def register() -> None:
        settings = config.get_settings()
        hook = config.maybe_dotted(settings.get("retry.activate_hook"))
        config.set_execution_policy(UnitOfWorkPolicy(int(settings["retry.attempts"]), hook))

    config.action(None, register, order=PHASE1_CONFIG)


pyramid_tm.tm_tween_factory = _tween_factory
pyramid_tm.default_commit_veto = default_commit_veto
pyramid_tm.create_tm = transaction_manager
pyramid_tm.TMActivePredicate = TMActivePredicate
pyramid_tm.includeme = _include_tm
pyramid_retry.includeme = _include_retry
if not hasattr(pytest, "yield_fixture"):  # its name until pytest 8
    pytest.yield_fixture = pytest.fixture


class RecordingManager(transaction.TransactionManager):
    """Takes the place of pyramid_tm's `DummyTransaction`, which is no transaction at all."""

    def __init__(
        self, doomed: bool = False, retryable: bool = False, finish_with_exc: Any = None
    ) -> None:
        super().__init__(explicit=True)
        self.doomed = doomed
        self.retryable = retryable
        self.finish_with_exc = finish_with_exc
        self.began = self.committed = self.aborted = 0
        self.user: str | None = None
        self._note: str | None = None

    def begin(self) -> Any:
        self.began += 1
        tx = super().begin()
        tx.join(_Recorder(self, tx))
        if self.doomed:
            tx.doom()
        return tx


class _Recorder:
    def __init__(self, manager: RecordingManager, tx: Any) -> None:
        self.manager = manager
        self.tx = tx

    def sortKey(self) -> str:
        return ""

    def should_retry(self, problem: Exception) -> bool:
        return self.manager.retryable

    def _finish(self) -> None:
        # The storages write the path before the name of the user.
        self.manager.user = self.tx.user.removeprefix("/ ") or None
        self.manager._note = self.tx.description
        if self.manager.finish_with_exc:
            raise self.manager.finish_with_exc

    def tpc_begin(self, tx: Any) -> None:
        pass

    tpc_vote = tpc_finish = tpc_abort = tpc_begin

    def commit(self, tx: Any) -> None:
        self.manager.committed += 1
        self._finish()

    def abort(self, tx: Any) -> None:
        if not self.manager.committed:
            self.manager.aborted += 1
            self._finish()


def pytest_collection_modifyitems(items: list[Any]) -> None:
    for item in items:
        if hasattr(item.module, "DummyTransaction"):
            item.module.DummyTransaction = RecordingManager
