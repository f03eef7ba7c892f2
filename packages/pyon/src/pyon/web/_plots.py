"""Arrays reduced for drawing: lines and images with no more points than the screen has.

The one idea to keep in mind: a reduced line keeps every spike, because it has the smallest and the
largest value of each interval. A reduced image has the means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyon.web._values import SAMPLE, line_of, number_of

__all__ = ["Drawing", "image", "line", "spark"]

WIDEST = 2048
"""Maximum width of a drawing that a page may request, in points or pixels."""

MOST_PIXELS = 2**24
"""Maximum number of elements of an image that are read. Of a larger image, only every second,
third, ... row and column is."""

LEVELS = 254
"""Number of levels between the smallest and the largest value of an image. Level 0 is for values
that are not finite."""

FLOATS = (float, complex, np.floating, np.complexfloating)

ENDS = 4
"""Number of values at either end that are given as text."""


@dataclass(frozen=True)
class Drawing:
    """A drawing for a page: facts as JSON, and binary data."""

    facts: dict[str, Any]
    buffers: list[bytes]


def line(values: Any, width: int) -> Drawing:
    """Return a line of at most `width` pairs of points; two lines for complex numbers.

    Parameters
    ----------
    values : array or list of numbers
        The values, drawn against their index.
    width : int
        Width of the drawing in pixels.
    """
    width = max(16, min(width, WIDEST))
    first = 0
    if isinstance(values, list):
        first = max(0, len(values) - SAMPLE)
        shown = [_of_list(values)]
    else:
        shown = _as_floats(values)
    size = shown[0].size
    bucket = max(1, -(-size // width)) if size > 2 * width else 1
    series = [_shortest(one, bucket) for one in shown]
    notes = [f"the last {size:,} of {first + size:,}"] if first else []
    if bucket > 1:
        notes.append(f"{size:,} points: smallest and largest of each {bucket:,}")
    facts = {
        "start": first,
        "step": 1 if bucket == 1 else bucket / 2,
        "series": ["real", "imaginary"][: len(series)] if len(series) > 1 else [""],
        "note": "; ".join(notes),
        "ends": _ends(values),
    }
    return Drawing(facts, [one.astype("<f8").tobytes() for one in series])


def spark(values: Any) -> Drawing:
    """Return a line in the size of a word."""
    shown = _of_list(values) if isinstance(values, list) else _as_floats(values)[0]
    bucket = max(1, -(-shown.size // 40)) if shown.size > 80 else 1
    return Drawing({}, [_shortest(shown, bucket).astype("<f8").tobytes()])


def _of_list(values: list[Any]) -> NDArray[Any]:
    """Return the last items of a list of numbers; NaN for integers beyond the range of floats."""
    last = values[-SAMPLE:]
    try:
        return np.array(last, dtype=float)
    except OverflowError:
        return np.array([np.nan if (one := number_of(x)) is None else one for x in last])


def _as_floats(values: NDArray[Any]) -> list[NDArray[Any]]:
    if values.dtype.kind == "c":
        return [*_as_floats(values.real), *_as_floats(values.imag)]
    with np.errstate(over="ignore"):  # of long doubles
        return [values.astype(float)]


def _shortest(values: NDArray[Any], bucket: int) -> NDArray[Any]:
    """Return the smallest and the largest value of each bucket, alternating."""
    values = np.where(np.isfinite(values), values, np.nan)
    if bucket == 1:
        return values
    starts = np.arange(0, values.size, bucket)
    pairs = np.empty(2 * starts.size)
    pairs[::2] = np.fmin.reduceat(values, starts)
    pairs[1::2] = np.fmax.reduceat(values, starts)
    return pairs


def _ends(values: Any) -> str:
    """Return the values at either end as text."""
    size = len(values)
    if size <= 2 * ENDS:
        return _listed(values)
    return f"{_listed(values[:ENDS])}  …  {_listed(values[-ENDS:])}"


def _listed(values: Any) -> str:
    return "  ".join(
        f"{value:.6g}" if isinstance(value, FLOATS) else line_of(value) for value in values
    )


def image(values: NDArray[Any], width: int) -> Drawing:
    """Return an image of at most `width` pixels across and down, in levels of grey.

    Parameters
    ----------
    values : array of two dimensions
        The values, with the first row at the top.
    width : int
        Maximum width and height in pixels.
    """
    width = max(16, min(width, WIDEST))
    height, across = values.shape
    stride = 1
    while values[::stride, ::stride].size > MOST_PIXELS:
        stride += 1
    part = values[::stride, ::stride]
    floats = np.abs(part) if part.dtype.kind == "c" else part
    factor = max(1, -(-max(floats.shape) // width))
    shown = _means(floats, factor)
    levels, low, high = _levels(shown)
    note = ""
    if factor * stride > 1:
        what = "means of" if stride == 1 else "some of each"
        note = f"{height:,} x {across:,}, {what} {factor * stride} x {factor * stride}"
    facts = {
        "rows": shown.shape[0],
        "columns": shown.shape[1],
        "shape": [height, across],
        "low": low,
        "high": high,
        "note": note,
    }
    return Drawing(facts, [levels.tobytes()])


def _means(values: NDArray[Any], factor: int) -> NDArray[Any]:
    if factor == 1:
        return values.astype(float)
    rows, columns = (np.arange(0, length, factor) for length in values.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.add.reduceat(np.add.reduceat(values.astype(float), rows, 0), columns, 1)
    counts = [np.diff(np.append(s, n)) for s, n in zip((rows, columns), values.shape, strict=True)]
    return np.asarray(sums / np.outer(*counts))


def _levels(values: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
    """Return the levels of values (from 1 on; 0: not finite), and the range of the values."""
    finite = np.isfinite(values)
    everything = bool(finite.all())
    known = values if everything else values[finite]
    if not known.size:
        return np.zeros(values.shape, np.uint8), 0.0, 0.0
    low, high = float(known.min()), float(known.max())
    half = high / 2 - low / 2  # high - low may be beyond the range of floats
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (values / 2 - low / 2) * (LEVELS / half) if half > 0 else np.zeros(values.shape)
    if not everything:
        scaled = np.where(finite, scaled, -1)
    return (scaled + 1.5).astype(np.uint8), low, high
