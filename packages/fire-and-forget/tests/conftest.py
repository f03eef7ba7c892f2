"""A driver that takes as long as the test wants."""

import logging
import threading

import pytest


class SlowDriver:
    """Every call of `set` waits until the test lets it go; two at once would be noticed."""

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
    driver.may_end.release(10_000)  # no worker is left hanging, whatever a test did
    assert not driver.overlapped


# In debug mode asyncio logs which callbacks were slow. That depends on what else the computer does,
# and would be found among the records that tests count.
logging.getLogger("asyncio").addFilter(lambda record: "took %.3f seconds" not in str(record.msg))
