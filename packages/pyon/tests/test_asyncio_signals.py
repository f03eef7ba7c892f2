"""Signals on another thread, which behave like signals that arrive just before the loop waits."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from pyon.asyncio_signals import Waker, run

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="no signals to one thread"
)

WAITS = """
import asyncio, signal, threading, time
from pyon.asyncio_signals import run

def interrupt():
    time.sleep(0.3)  # by then the loop waits
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    threading.Event().wait()

async def main():
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        await asyncio.get_running_loop().create_future()
    finally:
        print("ended in order")

try:
    run(main())
except KeyboardInterrupt:
    print("interrupted")
"""


def test_control_c_that_comes_on_another_thread_ends_the_wait():
    done = subprocess.run(
        [sys.executable, "-c", WAITS], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("ended in order\ninterrupted\n", "")


def test_run_returns_and_raises_as_asyncio_does():
    async def divide(a, b):
        return a / b

    assert run(divide(6, 3)) == 2
    with pytest.raises(ZeroDivisionError):
        run(divide(1, 0))


def descriptors():
    return set(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else set()


async def test_the_loop_is_restored_at_the_end():
    before = descriptors()
    for _ in range(3):
        with Waker():
            await asyncio.sleep(0)
    assert descriptors() == before
    assert signal.set_wakeup_fd(-1) == -1


async def test_an_existing_wakeup_descriptor_is_kept():
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        signal.set_wakeup_fd(writing.fileno())
        try:
            with Waker():
                assert signal.set_wakeup_fd(writing.fileno()) == writing.fileno()
        finally:
            assert signal.set_wakeup_fd(-1) == writing.fileno()


def test_outside_of_the_main_thread_the_waker_does_nothing():
    results = []

    async def main():
        with Waker():
            results.append(await asyncio.sleep(0, "ran"))

    thread = threading.Thread(target=lambda: results.append(run(main())))
    thread.start()
    thread.join(60)
    assert results == ["ran", None]
