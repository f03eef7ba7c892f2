"""Publishing from programs without asyncio."""

import contextlib
import socket
import subprocess
import sys
import threading

import pytest
from sync_struct import Notifier, UnknownNotifier, mirror, publish


def test_a_script_without_asyncio_publishes():
    lab = Notifier({"x": 1, "log": []})
    with contextlib.ExitStack() as stack:
        publisher = stack.enter_context(publish("127.0.0.1", 0, {"lab": lab}))
        with mirror("127.0.0.1", publisher.port, "lab") as seen:
            assert seen == {"x": 1, "log": []}
            threads = [
                threading.Thread(target=lambda: [lab["log"].append(i) for i in range(100)])
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            seen.wait(lambda d: len(d["log"]) == 400, timeout=30)
            for thread in threads:
                thread.join()
            assert seen == lab.read
            assert publisher.counters["lab"].subscribers == 1
            publisher.add_notifier("other", Notifier([]))
            with mirror("127.0.0.1", publisher.port, "other") as other:
                assert other == []
            publisher.remove_notifier("other")
            with pytest.raises(UnknownNotifier):
                mirror("127.0.0.1", publisher.port, "other")
    with pytest.raises(RuntimeError, match="closed"):
        publisher.port
    publisher.close()
    lab["x"] = 2


def test_errors_at_the_start_are_raised_to_the_caller():
    lab = Notifier({})
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, pytest.raises(OSError, match="in use"):
        publish("127.0.0.1", taken.getsockname()[1], {"lab": lab})
    with pytest.raises(TypeError, match=r"'lab': .*Notifier\(...\)"):
        publish("127.0.0.1", 0, {"lab": {}})
    with pytest.raises(ValueError, match="overflow"):
        publish("127.0.0.1", 0, {"lab": lab}, overflow="no")
    with pytest.raises(ValueError, match="part"):
        publish("127.0.0.1", 0, {"lab": Notifier({"a": []})["a"]})


def test_several_publishers_serve_one_notifier():
    lab = Notifier({"x": 1})
    with (
        publish("127.0.0.1", 0, {"a": lab}) as first,
        publish(["127.0.0.1"], 0, {"b": lab}) as second,
        mirror("127.0.0.1", first.port, "a") as a,
        mirror("127.0.0.1", second.port, "b") as b,
    ):
        lab["x"] = 2
        for seen in (a, b):
            seen.wait(lambda d: d["x"] == 2, timeout=30)


SCRIPT = """
from sync_struct import Notifier, mirror, publish
lab = Notifier({"x": 1})
publisher = publish("127.0.0.1", 0, {"lab": lab})
seen = mirror("127.0.0.1", publisher.port, "lab")
print(seen["x"])
raise SystemExit(3)
"""


def test_a_program_that_forgets_to_close_ends_nevertheless():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 3)


def test_a_closed_publisher_reports_it():
    with publish("127.0.0.1", 0, {"lab": Notifier({})}) as publisher:
        pass
    for use in (
        lambda: publisher.counters,
        lambda: publisher.add_notifier("a", Notifier({})),
        lambda: publisher.remove_notifier("lab"),
    ):
        with pytest.raises(RuntimeError, match=r"publisher of 'lab' at .* is closed"):
            use()


def test_a_listener_on_the_publishers_own_thread_can_call_the_publisher():
    lab, asked = Notifier({}), []
    with publish("127.0.0.1", 0, {"lab": lab}) as publisher:
        thread = publisher._thread
        lab.add_listener(lambda mod: asked.append(publisher.counters["lab"].subscribers))
        thread.call(lambda: lab.update(x=1))
        assert asked == [0]
