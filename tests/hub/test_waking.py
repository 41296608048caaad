"""Answers that native threads give, and the hub that is woken for them."""

import threading

import pytest

from nti.appserver.hub.waking import Answer
from nti.appserver.testing.patched import run


def test_without_a_hub_the_thread_waits() -> None:
    answer = Answer()
    threading.Timer(0.05, answer.give, ["value"]).start()
    assert answer.wait() == "value"
    failing = Answer()
    failing.fail(KeyError("missing"))
    with pytest.raises(KeyError, match="missing"):
        failing.wait()


def test_greenlets_wait_while_others_run_and_none_is_forgotten() -> None:
    """A native thread answers as fast as it can, in bursts and one at a time."""
    printed = run(
        """
        import queue, gevent
        from nti.appserver.hub import native
        from nti.appserver.hub.waking import Answer
        calls = []
        def serve():
            while True:
                if not calls:
                    native.sleep(0.0001)
                    continue
                number, answer = calls.pop()
                if number is None:
                    return
                if number % 7:
                    answer.give(number)
                else:
                    answer.fail(ValueError(number))
        native.start_new_thread(serve, ())
        def ask(number):
            answer = Answer()
            calls.append((number, answer))
            try:
                return answer.wait()
            except ValueError as problem:
                return -problem.args[0]
        jobs = [gevent.spawn(lambda n=n: [ask(n * 20 + k) for k in range(20)]) for n in range(200)]
        gevent.joinall(jobs, raise_error=True, timeout=60)
        for n, job in enumerate(jobs):
            assert [abs(each) for each in job.value] == [n * 20 + k for k in range(20)]
        calls.append((None, None))
        print("ok")
        """
    )
    assert printed == "ok\n"


def test_a_timeout_comes_through_and_the_late_answer_is_nobodys() -> None:
    printed = run(
        """
        import gevent
        from nti.appserver.hub.waking import Answer
        answer = Answer()
        try:
            with gevent.Timeout(0.05):
                answer.wait()
        except gevent.Timeout:
            print("timeout")
        answer.give(1)
        gevent.sleep(0.05)
        print(answer.ready)
        """
    )
    assert printed == "timeout\nTrue\n"


def test_waiting_to_the_end_defers_a_kill_and_drops_a_timeout_that_is_over() -> None:
    printed = run(
        """
        import gevent
        from nti.appserver.hub.waking import Answer
        notes = []
        answer = Answer()
        def wait():
            try:
                notes.append(answer.wait_to_the_end())
                gevent.sleep(10)
            finally:
                notes.append("ended")
        job = gevent.spawn(wait)
        gevent.sleep(0.01)
        job.kill(block=False)
        gevent.sleep(0.05)
        assert notes == []
        answer.give("value")
        job.join(10)
        assert notes == ["value", "ended"], notes

        answer = Answer()
        def wait_with_timeout():
            with gevent.Timeout(0.02):
                notes.append(answer.wait_to_the_end())
            gevent.sleep(0.1)
            notes.append("undisturbed")
        job = gevent.spawn(wait_with_timeout)
        gevent.sleep(0.1)
        answer.give("late")
        job.join(10)
        assert notes[2:] == ["late", "undisturbed"], notes
        print("ok")
        """
    )
    assert printed == "ok\n"


def test_the_hub_itself_cannot_wait() -> None:
    printed = run(
        """
        import gevent
        from nti.appserver.hub.waking import Answer
        def callback():
            try:
                Answer().wait()
            except RuntimeError as problem:
                print(problem)
        gevent.get_hub().loop.run_callback(callback)
        gevent.sleep(0.05)
        """
    )
    assert "spawn a greenlet" in printed


def test_an_answer_for_a_thread_that_has_ended_with_its_hub_is_nobodys() -> None:
    printed = run(
        """
        import gevent
        from nti.appserver.hub import native
        from nti.appserver.hub.waking import Answer
        left = []
        def life():
            gevent.sleep(0)  # gives the thread a hub
            left.append(Answer())
            gevent.get_hub().destroy(destroy_loop=True)
            left.append("over")
        gevent.sleep(0)  # gevent deadlocks where two threads make their first hubs at a time
        native.start_new_thread(life, ())
        while len(left) < 2:
            native.sleep(0.01)
        left[0].give("late")
        print("ok")
        """
    )
    assert printed == "ok\n"


def test_a_native_thread_that_was_given_a_hub_leaves_no_descriptor() -> None:
    printed = run(
        """
        import gevent, os, time
        from nti.appserver.hub.threads import NativeThread
        gevent.get_hub()  # two that are made at once may wait for each other for ever (gevent 26.9)
        def nap():
            time.sleep(0.001)  # patched
        def held():
            return len(os.listdir("/proc/self/fd"))
        for number in range(6):
            thread = NativeThread(nap, "napping")
            thread.start()
            thread.join(20)
            assert not thread.is_alive()
            if number == 2:
                before = held()
        print(held() - before)
        """
    )
    assert printed == "0\n"


def test_one_turn_of_the_hub_is_short() -> None:
    """Many woken greenlets that calculate do not keep a timer waiting for all of them."""
    printed = run(
        """
        import time, gevent
        from nti.appserver.hub.waking import Answer
        answers = [Answer() for _ in range(500)]
        def calculate(answer):
            answer.wait()
            until = time.perf_counter() + 0.001
            while time.perf_counter() < until:
                pass
        jobs = [gevent.spawn(calculate, answer) for answer in answers]
        gevent.sleep(0.01)
        for answer in answers:
            answer.give(None)
        began = time.perf_counter()
        gevent.sleep(0.001)
        before = sum(job.ready() for job in jobs)
        gevent.joinall(jobs)
        assert time.perf_counter() - began > 0.5
        assert before < 250, before
        print("ok")
        """
    )
    assert printed == "ok\n"
