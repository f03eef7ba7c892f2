"""Shared fixtures: the comparison of values."""

import logging

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# The tests run beside busy processes, so durations mean nothing.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


LONG_DOUBLE = np.dtype("g")
LONG_DOUBLE_BYTES = 10 if np.finfo("g").nmant == 63 else LONG_DOUBLE.itemsize
"""Of those that a long double takes: on x86 the rest is padding, which holds anything."""


def fields(a):
    """Return the bytes of an array or scalar, without padding between and behind fields."""
    clean = np.zeros(a.shape, a.dtype)
    clean[...] = a
    if a.dtype.char not in "gG":
        return clean.tobytes()
    each = clean.reshape(-1).view(np.uint8).reshape(-1, LONG_DOUBLE.itemsize)
    return each[:, :LONG_DOUBLE_BYTES].tobytes()


def is_same(a, b):
    """Compare type, value, sign of zero, order and dtype, down to the last bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and fields(a) == fields(b)
    if isinstance(a, float | complex):
        return repr(a) == repr(b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(is_same, a, b))
    if isinstance(a, dict):
        return is_same(list(a.items()), list(b.items()))
    if isinstance(a, slice):
        return is_same((a.start, a.stop, a.step), (b.start, b.stop, b.step))
    if isinstance(a, set):
        return sorted(map(repr, a)) == sorted(map(repr, b))
    return a == b


@pytest.fixture(scope="session")
def same():
    return is_same


@pytest.fixture(params=[1, 2], ids=["v1", "v2"], scope="session")
def version(request):
    return request.param


# In debug mode asyncio logs slow callbacks. That depends on the load of the computer, and such
# records would be among those that tests count.
logging.getLogger("asyncio").addFilter(lambda record: "took %.3f seconds" not in str(record.msg))
