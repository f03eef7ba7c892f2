"""The blocking front end, used as a script would: the publisher is in another thread."""

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sync_struct import Notifier, Publisher, SubscriptionLost, UnknownNotifier, mirror
from sync_struct._link import Link


@contextlib.contextmanager
def publisher(**notifiers):
    """Run a publisher in a thread; yield its port, and a function that stops it."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    server, stopped = Publisher(notifiers), asyncio.Event()

    async def main():
        await server.start("127.0.0.1", 0)
        found.append(server.port)
        ready.set()
        await stopped.wait()
        await server.stop()

    found = []
    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    assert ready.wait(10)

    def stop():
        if thread.is_alive():
            loop.call_soon_threadsafe(stopped.set)
            thread.join()

    try:
        yield found[0], stop
    finally:
        stop()
        loop.close()


def test_a_script_follows_a_structure():
    told = []
    n = Notifier({"x": 1, "a": np.arange(3)})
    with publisher(d=n) as (port, _), mirror("127.0.0.1", port, "d", told.append) as view:
        assert view["x"] == 1
        assert view.state == "live"
        n["x"] = 2
        view.wait(lambda d: d["x"] == 2, timeout=10)
        assert len(view) == 2
        assert "x" in view
        assert "y" not in view
        assert sorted(view) == ["a", "x"]
        assert [mod["action"] for mod in told] == ["init", "setitem"]
        with view.lock:
            assert view.raw_view["x"] == 2
            threading.Thread(target=n["a"].__setitem__, args=(0, 7)).start()
            view.wait(timeout=10)
            assert view.raw_view["a"].tolist() == [7, 1, 2]
        held = view.read
        n["x"] = 3
        view.wait(lambda d: d["x"] == 3, timeout=10)
        assert held["x"] == 2
        with pytest.raises(TimeoutError):
            view.wait(timeout=0.01)
        assert "live" in repr(view)
    view.close()
    assert view.state == "closed"
    assert view["x"] == 3


def test_who_waits_is_woken_when_the_mirror_is_closed():
    n = Notifier({"x": 1})
    with publisher(d=n) as (port, _):
        view = mirror("127.0.0.1", port, "d")
        with ThreadPoolExecutor() as pool:
            waiting = [pool.submit(view.wait, lambda d: False), pool.submit(view.wait)]
            view.close()
            for wait in waiting:
                with pytest.raises(SubscriptionLost, match="closed"):
                    wait.result(30)
        with pytest.raises(SubscriptionLost):
            view.wait()
        view.wait(lambda d: d["x"] == 1)  # what is true already is not waited for


def test_a_callback_may_close_the_mirror(caplog):
    n = Notifier({"x": 1})
    closed = threading.Event()

    def close(mod):
        if mod["action"] != "init":
            view.close()
            closed.set()

    with publisher(d=n) as (port, _):
        view = mirror("127.0.0.1", port, "d", close)
        n["x"] = 2
        assert closed.wait(30)
        with view.lock:
            assert view.lock.wait_for(lambda: view.state == "closed", 30)
    assert caplog.text == ""


def test_a_sign_of_life_is_no_update(monkeypatch):
    n = Notifier({"x": 1})
    with publisher(d=n) as (port, _), mirror("127.0.0.1", port, "d") as view:
        pongs = []
        receive = Link.message_received
        monkeypatch.setattr(
            Link, "message_received", lambda link, m: (receive(link, m), pongs.append(m.line))
        )
        updates = view._subscriber.updates
        view._loop.call_soon_threadsafe(view._subscriber._link.send, '{"action":"ping"}')
        with view.lock:
            while not pongs:
                view.lock.wait(0.01)
            assert view._subscriber.updates == updates


def test_a_part_of_it():
    n = Notifier({"x": {"y": 1}})
    with publisher(d=n) as (port, _), mirror("127.0.0.1", port, "d", path=["x"]) as view:
        n["x"]["y"] = 2
        view.wait(lambda d: d == {"y": 2}, timeout=10)


def test_what_cannot_be_mirrored_is_an_error_at_once():
    with publisher(d=Notifier({})) as (port, stop):
        with pytest.raises(UnknownNotifier, match="'d'"):
            mirror("127.0.0.1", port, "nope")
        stop()
        with pytest.raises(ConnectionRefusedError):
            mirror("127.0.0.1", port, "d")


def test_it_outlives_the_publisher():
    n = Notifier({"x": 1})
    with publisher(d=n) as (port, stop), mirror("127.0.0.1", port, "d") as view:
        stop()
        with view.lock:
            view.lock.wait_for(lambda: view.state == "stale", 10)
        assert view["x"] == 1
