"""Growing arrays: new rows at their end, at amortised constant cost.

numpy arrays have a fixed size. A grown array is a view of the first rows of a larger piece of
memory that has room for more rows; the next grown array is a longer view of the same memory. So
every row is written once, and older views do not change.

This module loads numpy; `import pyon` does not load this module. All functions may be called from
any thread, but two threads must not grow the same array at the same time.

    series = grown(series, as_row(series, 1.5))
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

__all__ = ["as_row", "as_rows", "grown", "is_successor"]

ROOM_SHARE = 8
"""The memory is enlarged by 1/8 at a time. While it is copied, it takes 2 1/8 times the size of the
array. On average every row is copied at most nine times, which is a tenth of the cost of an
append."""

LEAST_ROOM = 64
"""Minimum number of rows by which the memory is enlarged, so that short arrays are rarely
copied."""

_KINDS = {float: "fc", int: "iufc", bool: "biufc"}
"""Kinds of dtypes to which a number of this Python type can be assigned without losing its kind."""


class _Memory(np.ndarray):
    """Memory for rows, of which the first `used` are in use. Never part of a structure itself."""

    used: int
    origin: weakref.ref[Any]  # the array that was grown first; identifies all its successors


def grown(array: Any, x: Any) -> Any:
    """Return an array with a row added at its end, or several if `x` has as many dimensions.

    Parameters
    ----------
    array : numpy.ndarray of shape (n, ...)
        At least one-dimensional. Its length and values do not change. It is copied when it grows
        for the first time. A grown array shares memory with its successor: an element that is set
        in one is set in the other.
    x : object
        A row of shape ``array.shape[1:]``, or an array of shape (m, ...) of m rows, as returned by
        `as_row` and `as_rows`: it is not checked here.

    Returns
    -------
    numpy.ndarray
        Of shape (n + 1, ...), or (n + m, ...), and the dtype of `array`.

    Raises
    ------
    ValueError, TypeError
        From numpy: `x` is neither a row nor several rows of this array.
    """
    length = len(array)
    if not isinstance(x, np.ndarray) or x.ndim < array.ndim:
        memory = _with_room(array, length + 1)
        memory[length] = x
        memory.used = length + 1
    else:
        memory = _with_room(array, length + len(x))
        memory[length : length + len(x)] = x
        memory.used = length + len(x)
    return np.ndarray((memory.used, *array.shape[1:]), array.dtype, memory)


def _with_room(array: Any, length: int) -> Any:
    """Return memory with the rows of `array` at its beginning and room for `length` rows."""
    memory = array.base
    is_memory = type(memory) is _Memory
    if is_memory and memory.used == len(array) and length <= len(memory):
        return memory
    room = max(length + length // ROOM_SHARE, length + LEAST_ROOM)
    larger = np.ndarray.__new__(_Memory, (room, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    larger.origin = memory.origin if is_memory else weakref.ref(array)
    return larger


def is_successor(array: Any, older: Any) -> bool:
    """Return whether one array was grown from the other one, or both from the same array."""
    memory, other = array.base, older.base
    if type(memory) is not _Memory:
        return type(other) is _Memory and other.origin() is array
    return memory.origin() is older or (type(other) is _Memory and other.origin is memory.origin)


def as_row(array: Any, x: Any) -> Any:
    """Return a row given by a user in the form for `grown`.

    Parameters
    ----------
    array : numpy.ndarray of shape (n, ...)
        The array to grow.
    x : object
        A row: a number, a list or array of shape ``array.shape[1:]``, or a record. An array with as
        many dimensions as `array` is several rows.

    Returns
    -------
    object
        A number, record or array that has the dtype of `array` and shares no memory with `x`.

    Raises
    ------
    TypeError, ValueError
        It is not a row of that array; the message gives the reason.
    """
    if not array.ndim:
        raise TypeError("an array without a dimension cannot grow")
    if array.ndim == 1 and array.dtype.kind in _KINDS.get(type(x), ""):
        return x
    if isinstance(x, np.ndarray) and x.ndim == array.ndim:  # as in the mods of `extend`
        return as_rows(array, x)
    row = _converted(array, x)
    if row.shape != array.shape[1:]:
        raise ValueError(
            f"expected a row of shape {array.shape[1:]}, got {row.shape}: extend takes several rows"
        )
    return row[()]


def as_rows(array: Any, values: Any) -> Any:
    """Return several rows given by a user in the form for `grown`.

    Parameters
    ----------
    array : numpy.ndarray of shape (n, ...)
        The array to grow.
    values : numpy.ndarray or sequence
        The rows: any object that numpy can convert to an array of shape (m, ...).

    Returns
    -------
    numpy.ndarray
        Of shape (m, ...) and the dtype of `array`; it shares no memory with `values`.

    Raises
    ------
    TypeError, ValueError
        They are not rows of that array; the message gives the reason.
    """
    if not array.ndim:
        raise TypeError("an array without a dimension cannot grow")
    if not isinstance(values, np.ndarray) and not len(values):
        return np.empty((0, *array.shape[1:]), array.dtype)
    rows = _converted(array, values)
    if rows.ndim != array.ndim or rows.shape[1:] != array.shape[1:]:
        raise ValueError(
            f"expected rows of shape {array.shape[1:]}, got an array of shape {rows.shape}"
        )
    return rows


def _converted(array: Any, values: Any) -> Any:
    """Return values with the dtype of an array; TypeError if the conversion would lose data."""
    if array.dtype.names is None:
        given = np.asarray(values)
        is_text = array.dtype.kind in "SU"  # which could be truncated
        if not np.can_cast(given.dtype, array.dtype, "safe" if is_text else "same_kind"):
            raise TypeError(f"expected what fits into {array.dtype}, got {given.dtype}")
    return np.array(values, array.dtype)
