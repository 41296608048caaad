"""The watch for greenlet switches under a native lock sees one, and nothing else."""

from nti.appserver.testing.patched import run


def test_a_switch_under_a_native_lock_is_reported_with_its_place() -> None:
    printed = run(
        """
        import gevent
        from nti.appserver.hub import native
        from nti.appserver.hub.debug import SwitchWatch
        watch = SwitchWatch()
        lock, nested = native.Lock(), native.RLock()
        watch.start()
        with lock, nested, nested:
            pass
        gevent.sleep(0)
        assert not watch.violations, watch.violations
        def forbidden():
            with nested:
                gevent.sleep(0)
        forbidden()
        watch.stop()
        assert watch.locks == 2
        assert len(watch.violations) >= 1
        print("forbidden" in watch.violations[0])
        """
    )
    assert printed == "True\n"


def test_locks_of_another_thread_are_its_own_affair() -> None:
    printed = run(
        """
        import gevent
        from nti.appserver.hub import native
        from nti.appserver.hub.debug import SwitchWatch
        watch = SwitchWatch()
        lock, held = native.Lock(), []
        def hold():
            with lock:
                held.append(True)
                while len(held) < 2:
                    native.sleep(0.001)
            held.append(None)
        native.start_new_thread(hold, ())
        watch.start()
        while not held:
            gevent.sleep(0.001)
        gevent.sleep(0.01)
        held.append(True)
        while len(held) < 3:
            gevent.sleep(0.001)
        watch.stop()
        print(watch.violations)
        """
    )
    assert printed == "[]\n"
