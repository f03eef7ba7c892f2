"""The end of the interpreter, in real processes."""

import os
import subprocess
import sys

import pytest
from fire_and_forget import FFProxy

PROLOGUE = """
import sys, threading, time
import fire_and_forget
from fire_and_forget import FFProxy

def slow(text):
    started.set()
    may_end.wait()
    for _ in range(1000):
        time.sleep(0)  # the main thread goes on, unless it waits for the call
    sys.stdout.write(text)

def stuck():
    started.set()
    threading.Event().wait()

started, may_end = threading.Event(), threading.Event()
"""


def run(script):
    """Run a script to its end; the time-out checks that it does not hang."""
    return subprocess.run(
        [sys.executable, "-c", PROLOGUE + script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_a_call_that_is_running_at_exit_is_finished():
    done = run("""
import atexit
proxy = FFProxy(slow)
proxy("finished")
started.wait()
atexit.register(may_end.set)  # runs before the earlier handler of the package
""")
    assert (done.stdout, done.stderr) == ("finished", "")


def test_calls_that_wait_at_exit_are_made_even_if_the_proxy_was_deleted():
    done = run("""
may_end.set()
proxy = FFProxy(slow, when_busy="queue", queue_size=3)
for text in "abc":
    proxy(text)
del proxy
""")
    assert (done.stdout, done.stderr) == ("abc", "")


def test_a_call_that_never_ends_is_abandoned_with_a_warning():
    done = run("""
proxies = [FFProxy(stuck, when_busy="queue", queue_size=9, exit_timeout=0.5) for _ in range(3)]
for proxy in proxies:
    proxy()
    proxy()
started.wait()
""")
    assert done.stderr.splitlines() == ["abandoned at exit: stuck and 1 waiting calls"] * 3


def test_exit_timeout_zero_abandons_at_once():
    done = run("""
proxy = FFProxy(stuck, exit_timeout=0)
proxy()
started.wait()
""")
    assert done.stderr == "abandoned at exit: stuck and 0 waiting calls\n"


def test_an_idle_proxy_does_not_delay_the_exit():
    done = run("""
may_end.set()
proxy = FFProxy(slow, exit_timeout=None)
proxy("x")
proxy.ff_join()
""")
    assert (done.stdout, done.stderr) == ("x", "")


def test_a_call_after_the_background_has_ended_is_dropped_with_a_warning():
    done = run("""
import atexit
atexit.unregister(fire_and_forget._threaded._finish_at_exit)

def late():
    proxy("late")

atexit.register(late)
atexit.register(fire_and_forget._threaded._finish_at_exit)  # the one registered last runs first
may_end.set()
proxy = FFProxy(slow)
proxy("in time")
proxy.ff_join()
""")
    assert done.stdout == "in time"
    assert done.stderr == ("dropped a call of slow: the background has ended (1 dropped so far)\n")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_proxy_that_was_used_before_a_fork_refuses_calls_in_the_child():
    """The thread exists in the parent only, so the call could not be made."""
    proxy = FFProxy(int)
    proxy()
    proxy.ff_join()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            proxy()
        except RuntimeError:
            code = 42
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
