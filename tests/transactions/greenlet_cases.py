"""Units of work among greenlets. `test_greenlets` runs these in a patched process.

Every case is a pytest test of its own; the process that collects the suite
never imports this file.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import gevent.lock
import pytest
import transaction
from persistent import Persistent

from nti.appserver.request_id import current_request_id, set_request_id
from nti.appserver.settings import Settings
from nti.appserver.transactions import (
    ForeignUse,
    NoUnitOfWork,
    TransactionMiddleware,
    configure,
    connection,
    on_abort,
    on_commit,
    run,
)
from nti.appserver.transactions.current import GREENLETS, slot
from nti.appserver.transactions.instruments import FOREIGN_USES, LEASES
from nti.appserver.transactions.shield import shielded

from .waiting import Waiting

Stored = Callable[[str], Any]


class Counter(Persistent):
    """Something that everybody changes."""

    value = 0


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(database: Any) -> Iterator[None]:
    before = LEASES.value
    yield
    assert LEASES.value == before, "a connection was not given back"
    assert slot.unit is None
    assert transaction.manager.manager._txn is None
    run(put, "still", "usable")  # no lock was left behind


def put(name: str, value: Any) -> None:
    connection().root()[name] = value


def test_this_process_is_patched() -> None:
    assert GREENLETS
    assert transaction.manager.manager is not gevent.spawn(lambda: transaction.manager.manager).get(
        timeout=20
    )


def test_two_greenlets_never_share_a_transaction(stored: Stored) -> None:
    seen: dict[int, list[Any]] = {}

    def work(number: int) -> None:
        seen[number] = mine = []
        for _ in range(5):
            mine.append((transaction.get(), connection()))
            gevent.sleep(0)
        put(str(number), number)
        raise_in_odd(number)

    def raise_in_odd(number: int) -> None:
        if number % 2:
            raise ValueError("odd")

    greenlets = [gevent.spawn(run, work, number) for number in range(10)]
    gevent.joinall(greenlets, timeout=20)
    for mine in seen.values():
        assert len(set(mine)) == 1
    assert len({mine[0] for mine in seen.values()}) == 10
    assert [stored(str(number)) for number in range(10)] == [
        None if number % 2 else number for number in range(10)
    ]


def test_a_spawned_greenlet_starts_clean() -> None:
    def work() -> None:
        put("x", 1)
        with pytest.raises(NoUnitOfWork):
            gevent.spawn(connection).get(timeout=20)
        assert gevent.spawn(lambda: transaction.manager.manager._txn).get(timeout=20) is None
        seen: list[int] = []
        gevent.spawn(on_commit, seen.append, 1).get(timeout=20)
        assert seen == [1], "no unit of work runs there, so it happened at once"

    run(work)


def test_the_parents_objects_are_noticed_in_a_spawned_greenlet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run(put, "counter", Counter())

    def work() -> None:
        counter = connection().root()["counter"]
        connection().cacheMinimize()
        before = FOREIGN_USES.labels("read").value
        assert gevent.spawn(lambda: counter.value).get(timeout=20) == 0
        assert FOREIGN_USES.labels("read").value == before + 1
        assert "was used by a greenlet that runs no unit of work" in caplog.text

        def change() -> None:
            counter.value = 1

        with pytest.raises(ForeignUse, match="Counter"):
            gevent.spawn(run, change).get(timeout=20)

    with pytest.raises(ForeignUse, match="Counter"):  # it may be changed in memory
        run(work)
    assert run(lambda: connection().root()["counter"].value) == 0


@pytest.mark.parametrize("phase", ["tpc_begin", "commit", "tpc_vote", "tpc_finish"])
def test_a_switch_inside_a_commit_does_not_mix_two_commits(phase: str, stored: Stored) -> None:
    waiting = Waiting(phase, key="")

    def slow() -> None:
        put("slow", 1)
        transaction.get().join(waiting)

    first = gevent.spawn(run, slow)
    assert waiting.reached.wait(20)
    second = gevent.spawn(run, put, "quick", 2)
    gevent.sleep(0.01)
    waiting.go_on.set()
    first.get(timeout=20)
    second.get(timeout=20)
    assert (stored("slow"), stored("quick")) == (1, 2)


@pytest.mark.parametrize("phase", ["tpc_begin", "commit", "tpc_vote"])
@pytest.mark.parametrize("how", ["kill", "timeout"])
def test_a_greenlet_killed_before_the_vote_is_over_leaves_nothing(
    phase: str, how: str, stored: Stored
) -> None:
    waiting = Waiting(phase)
    effects: list[str] = []

    def work() -> None:
        put("x", 1)
        on_commit(effects.append, "committed")
        on_abort(effects.append, "aborted")
        transaction.get().join(waiting)

    def timed() -> None:
        with gevent.Timeout(0.05):
            run(work)

    greenlet = gevent.spawn(timed if how == "timeout" else lambda: run(work))
    assert waiting.reached.wait(20)
    if how == "kill":
        greenlet.kill(timeout=20)
    else:
        with pytest.raises(gevent.Timeout):
            greenlet.get(timeout=20)
    assert "tpc_abort" in waiting.asked
    assert "tpc_finish" not in waiting.asked
    assert effects == ["aborted"]
    assert stored("x") is None


@pytest.mark.parametrize("how", ["kill", "timeout", "error"])
@pytest.mark.parametrize("key", ["", "zz"])
def test_a_greenlet_killed_while_it_finishes_commits_whole(
    how: str, key: str, stored: Stored
) -> None:
    """Whether the database has finished before or not; and its effects happen."""
    waiting = Waiting("tpc_finish", key)
    effects: list[str] = []
    after: list[str] = []

    def work() -> None:
        put("x", 1)
        on_commit(gevent.sleep, 0)
        on_commit(effects.append, "committed")
        on_abort(effects.append, "aborted")
        transaction.get().join(waiting)

    def whole() -> None:
        run(work)
        after.append("went on")

    greenlet = gevent.spawn(whole)
    assert waiting.reached.wait(20)
    if how == "kill":
        greenlet.kill(block=False)
    elif how == "timeout":
        gevent.get_hub().loop.run_callback(greenlet.throw, gevent.Timeout(1))
    else:
        greenlet.kill(ValueError("told to"), block=False)
    gevent.sleep(0.01)
    assert not greenlet.dead, "it waits for its commit"
    waiting.go_on.set()
    greenlet.join(20)
    assert greenlet.dead
    assert after == [], "the kill came through after all"
    assert effects == ["committed"]
    assert stored("x") == 1


def test_kills_one_after_another_do_not_come_through_either(stored: Stored) -> None:
    waiting = Waiting("tpc_finish")

    def work() -> None:
        put("x", 1)
        transaction.get().join(waiting)

    greenlet = gevent.spawn(run, work)
    assert waiting.reached.wait(20)
    for _ in range(5):
        greenlet.kill(block=False)
        gevent.sleep(0)
    waiting.go_on.set()
    greenlet.join(20)
    assert isinstance(greenlet.value, gevent.GreenletExit)
    assert stored("x") == 1


def test_a_greenlet_killed_while_all_is_undone_leaves_no_lock(stored: Stored) -> None:
    waiting = Waiting("tpc_abort", key="")

    def work() -> None:
        put("x", 1)
        transaction.get().join(waiting)

    class Failing(Waiting):
        def __getattr__(self, name: str) -> Any:
            if name == "tpc_vote":
                raise ValueError("in vote")
            return super().__getattr__(name)

    def both() -> None:
        work()
        transaction.get().join(Failing("", key="zzz"))

    greenlet = gevent.spawn(run, both)
    assert waiting.reached.wait(20)
    greenlet.kill(block=False)
    gevent.sleep(0.01)
    waiting.go_on.set()
    greenlet.join(20)
    assert isinstance(greenlet.value, gevent.GreenletExit), "the kill was lost"
    assert stored("x") is None


@pytest.mark.parametrize("problem", [gevent.GreenletExit, gevent.Timeout])
def test_a_kill_or_timeout_in_the_function_aborts(
    problem: type[BaseException], stored: Stored
) -> None:
    def work() -> None:
        put("x", 1)
        raise problem

    with pytest.raises(problem):
        run(work)
    assert stored("x") is None


def test_the_commit_lock_is_waited_for_by_switching(stored: Stored) -> None:
    waiting = Waiting("tpc_vote")

    def slow() -> None:
        put("slow", 1)
        transaction.get().join(waiting)

    first = gevent.spawn(run, slow)
    assert waiting.reached.wait(20)
    others = [gevent.spawn(run, put, str(number), number) for number in range(5)]
    gevent.sleep(0.01)
    assert not any(other.ready() for other in others)
    waiting.go_on.set()
    gevent.joinall([first, *others], timeout=20, raise_error=True)
    assert stored("4") == 4


def test_increments_of_one_counter_are_never_lost(stored: Stored) -> None:
    run(put, "counter", Counter())
    configure(Settings(attempts=100))

    def increment() -> None:
        counter = connection().root()["counter"]
        value = counter.value
        gevent.sleep(0)
        counter.value = value + 1

    gevent.joinall([gevent.spawn(run, increment) for _ in range(30)], timeout=60, raise_error=True)
    assert run(lambda: connection().root()["counter"].value) == 30


def test_leases_are_waited_for_in_order() -> None:
    configure(Settings(connection_limit=1, connection_wait=20))
    order: list[int] = []

    def work(number: int) -> None:
        connection()
        order.append(number)
        gevent.sleep(0)

    greenlets = [gevent.spawn(run, work, number) for number in range(20)]
    gevent.joinall(greenlets, timeout=20, raise_error=True)
    assert order == list(range(20))


def test_one_killed_while_it_waits_for_a_lease_takes_no_place() -> None:
    configure(Settings(connection_limit=1, connection_wait=20))
    hold = gevent.event.Event()

    def holding() -> None:
        connection()
        hold.wait(20)

    first = gevent.spawn(run, holding)
    gevent.sleep(0)
    waiting = [gevent.spawn(run, connection) for _ in range(3)]
    gevent.sleep(0)
    waiting[0].kill(timeout=20)
    hold.set()
    gevent.joinall([first, *waiting[1:]], timeout=20, raise_error=True)
    run(connection)


def streaming(app: Any) -> Any:
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/s", "SCRIPT_NAME": ""}
    return TransactionMiddleware(app)(environ, lambda *args: None)


def chunks(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [])

    def made() -> Iterator[bytes]:
        connection()
        yield b"a"
        connection().root()
        gevent.sleep(0)
        yield b"b"

    return made()


def test_a_slow_client_loses_its_lease_when_the_time_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    configure(Settings(stream_deadline=0.1))
    before = LEASES.value
    body = streaming(chunks)
    assert next(body) == b"a"
    assert LEASES.value == before + 1
    with gevent.Timeout(20):
        while LEASES.value != before:
            gevent.sleep(0.01)  # nobody asks for a chunk meanwhile
    with pytest.raises(Exception, match="stream_deadline"):
        next(body)
    body.close()


def test_a_streamed_response_may_be_sent_by_another_greenlet() -> None:
    body = streaming(chunks)
    assert gevent.spawn(list, body).get(timeout=20) == [b"a", b"b"]
    body.close()


def test_the_shield_hands_on_what_is_raised_inside() -> None:
    def fail() -> None:
        gevent.sleep(0)
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        shielded(None, fail)
    assert shielded(None, gevent.sleep, 0) is None


def test_the_shield_lets_no_exception_in_and_loses_none() -> None:
    done: list[int] = []

    def work() -> BaseException | None:
        return shielded(None, lambda: (gevent.sleep(0.05), done.append(1)))

    greenlet = gevent.spawn(work)
    gevent.sleep(0)
    greenlet.kill(KeyError("first"), block=False)
    gevent.sleep(0)
    greenlet.kill(KeyError("second"), block=False)
    arrived = greenlet.get(timeout=20)
    assert done == [1]
    assert isinstance(arrived, KeyError)
    assert arrived.args == ("first",)


def test_effects_that_wait_are_not_mixed_up(caplog: pytest.LogCaptureFixture) -> None:
    order: list[tuple[int, int]] = []

    def effect(number: int, place: int) -> None:
        gevent.sleep(0)
        order.append((number, place))

    def work(number: int) -> None:
        for place in range(5):
            on_commit(effect, number, place)

    greenlets = [gevent.spawn(run, work, number) for number in range(5)]
    gevent.joinall(greenlets, timeout=20, raise_error=True)
    for number in range(5):
        assert [place for who, place in order if who == number] == [0, 1, 2, 3, 4]
    with caplog.at_level(logging.ERROR):
        assert caplog.text == ""


def test_a_failing_effect_is_logged_with_the_request_id() -> None:
    """Though it runs in a greenlet of its own, and without a formatter of ours."""
    seen: list[tuple[str, str]] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append((record.getMessage(), current_request_id()))

    def work() -> None:
        put("x", 1)
        on_commit(lambda: 1 // 0)

    logger, lines = logging.getLogger("nti.appserver.transactions"), Lines()
    logger.addHandler(lines)
    set_request_id("of-this-request")
    try:
        run(work)
    finally:
        set_request_id("")
        logger.removeHandler(lines)
    ((message, request_id),) = seen
    assert "effect" in message
    assert request_id == "of-this-request"


def test_a_native_looking_thread_is_a_greenlet_here() -> None:
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(slot.unit))

    def work() -> None:
        thread.start()
        thread.join(20)

    run(work)
    assert seen == [None]
