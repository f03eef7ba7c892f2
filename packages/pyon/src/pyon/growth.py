"""Growth: arrays that get new rows at their end, at amortised constant cost.

numpy's arrays have a fixed size. An array that has grown is a view of the first rows of a larger
piece of memory, which has room for more; the next one is a longer view of the same memory. So every
row is written once, and older views stay as they are.

Loads numpy: `import pyon` does not load this module. All functions may be called by any thread, but
two threads must not let the same array grow at the same time.

    series = grown(series, as_row(series, 1.5))
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

__all__ = ["as_row", "as_rows", "grown", "is_successor"]

ROOM_SHARE = 8
"""The memory gets larger by 1/8 at a time: while it moves, 2 1/8 arrays are kept; by the time that
it is full again every row has been copied nine times at most, a tenth of what an append takes."""

LEAST_ROOM = 64
"""Rows by which the memory gets larger at least: short arrays are not moved all the time."""

_KINDS = {float: "fc", int: "iufc", bool: "biufc"}
"""Kinds of dtypes that a Python number goes into without loss of what it is."""


class _Memory(np.ndarray):
    """Rows, of which the first `used` ones are in use. It is never part of a structure itself."""

    used: int
    origin: weakref.ref[Any]  # the array that it began with, and the word for its line


def grown(array: Any, x: Any) -> Any:
    """Return an array with a row more at its end (or rows, if `x` has as many dimensions).

    Parameters
    ----------
    array : numpy.ndarray of shape (n, ...)
        With at least one dimension. It keeps its length and values. Its first growth copies it;
        what has grown shares memory with what it grows to next, so that an element that is set in
        the one is set in the other.
    x : object
        A row of shape ``array.shape[1:]``, or an array of shape (m, ...) of m rows, as `as_row` and
        `as_rows` return them: nothing is checked here.

    Returns
    -------
    numpy.ndarray
        Of shape (n + 1, ...), or (n + m, ...), and the dtype of `array`.

    Raises
    ------
    ValueError, TypeError
        By numpy: `x` is no row of this array, nor rows.
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
    """Return memory that begins with `array` and has room for `length` rows."""
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
    """Tell whether one array is what the other one has grown to, by `grown`."""
    memory, other = array.base, older.base
    if type(memory) is not _Memory:
        return type(other) is _Memory and other.origin() is array
    return memory.origin() is older or (type(other) is _Memory and other.origin is memory.origin)


def as_row(array: Any, x: Any) -> Any:
    """Return what to append to an array for a row that a user gave.

    Parameters
    ----------
    array : numpy.ndarray of shape (n, ...)
        What is to grow.
    x : object
        A row: a number, a list or array of shape ``array.shape[1:]``, a record. An array of as many
        dimensions as `array` counts as several rows.

    Returns
    -------
    object
        A number, record or array that has the dtype of `array` and shares no memory with `x`.

    Raises
    ------
    TypeError, ValueError
        It is no row of that array; the message says why.
    """
    if not array.ndim:
        raise TypeError("an array without a dimension cannot grow")
    if array.ndim == 1 and array.dtype.kind in _KINDS.get(type(x), ""):
        return x
    if isinstance(x, np.ndarray) and x.ndim == array.ndim:  # as the mods of `extend` have it
        return as_rows(array, x)
    row = _converted(array, x)
    if row.shape != array.shape[1:]:
        raise ValueError(
            f"expected a row of shape {array.shape[1:]}, got {row.shape}: extend takes several rows"
        )
    return row[()]


def as_rows(array: Any, values: Any) -> Any:
    """Return what to append to an array for several rows that a user gave.

    Parameters
    ----------
    array : numpy.ndarray of shape (n, ...)
        What is to grow.
    values : numpy.ndarray or sequence
        The rows: anything that numpy makes an array of shape (m, ...) of.

    Returns
    -------
    numpy.ndarray
        Of shape (m, ...) and the dtype of `array`; it shares no memory with `values`.

    Raises
    ------
    TypeError, ValueError
        They are no rows of that array; the message says why.
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
    """Return values with the dtype of an array, unless that would change what they are."""
    if array.dtype.names is None:
        given = np.asarray(values)
        is_text = array.dtype.kind in "SU"  # which would be cut short
        if not np.can_cast(given.dtype, array.dtype, "safe" if is_text else "same_kind"):
            raise TypeError(f"expected what fits into {array.dtype}, got {given.dtype}")
    return np.array(values, array.dtype)
