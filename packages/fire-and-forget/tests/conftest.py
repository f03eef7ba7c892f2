"""Fixtures: a driver whose calls take as long as the test wants."""

import logging
import threading

import pytest


class SlowDriver:
    """Every call of `set` waits for `may_end`; calls that overlap are detected."""

    gain = 3

    def __init__(self):
        self.started = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.values = []
        self.overlapped = False
        self._busy = threading.Lock()

    def set(self, value):
        """Set the value."""
        if not self._busy.acquire(blocking=False):
            self.overlapped = True
            return
        try:
            self.started.release()
            self.may_end.acquire()
            self.values.append(value)
        finally:
            self._busy.release()

    def note(self, value):
        self.values.append(value)

    def fail(self, error):
        raise error


@pytest.fixture
def driver():
    driver = SlowDriver()
    yield driver
    driver.may_end.release(10_000)  # so that every worker can end
    assert not driver.overlapped


# In debug mode asyncio logs slow callbacks. These messages depend on the load of the computer, and
# would appear among the records that tests compare.
logging.getLogger("asyncio").addFilter(lambda record: "took %.3f seconds" not in str(record.msg))
