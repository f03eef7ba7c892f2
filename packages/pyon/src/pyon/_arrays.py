"""numpy arrays and scalars, taken apart into dtype, shape and bytes, and put together again.

The only module of the codec that imports numpy; it is loaded with the first array or numpy scalar.
A dtype in a text is checked here against the complete grammar of PYON dtypes before it is passed to
numpy.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any

import numpy as np

from ._base64 import CHUNK, Base64, decode_into, decoded_size, from_base64

MAX_EMPTY_ITEM = 65_536
"""Maximum item size, in bytes, of an array without items. numpy allocates one item even then, so
otherwise a short text could request any amount of memory."""

DIRECT_SIZE = 4096
"""Bytes from which an array is encoded from its own memory; below, a copy is faster than a view."""

DTYPE = re.compile(
    r"""
    [<>|=]?                                          # byte order
    (?: b1 | [iu][1248] | f(?:2|4|8|12|16) | c(?:8|16|24|32)
      | [iIqQ]                                       # C's int and long long, as scalars
      | [SUV][0-9]{1,9}
      | [mM]8 (?: \[ (?:[1-9][0-9]{0,8})? (?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as) \] )?
    )
    """,
    re.VERBOSE,
)
NAMES = {
    "bool": "|b1",
    **{f"int{8 * n}": f"<i{n}" for n in (1, 2, 4, 8)},
    **{f"uint{8 * n}": f"<u{n}" for n in (1, 2, 4, 8)},
    **{f"float{8 * n}": f"<f{n}" for n in (2, 4, 8, 12, 16)},
    **{f"complex{8 * n}": f"<c{n}" for n in (8, 16, 24, 32)},
}
"""Results of ``str(dtype)``, as arrays were written until May 2016, on little-endian machines. For
strings and big-endian dtypes it returns a code."""

DATES = re.compile(r"(datetime|timedelta)64(\[.*\])?")
"""The same for dates, whose names end with a unit."""

LONG_DOUBLES = {"f": (12, 16), "c": (24, 32)}
"""Item sizes of long doubles, which only some machines have, by kind."""
X87_MANTISSA = 63
X87_BYTES = 10
"""Significant bytes of an x87 long double. The other bytes are padding and are written as zeros."""

DtypeSpec = str | list[tuple[Any, ...]]

ARRAY = np.ndarray
SCALARS: frozenset[type] = frozenset(
    [*(np.dtype(code).type for code in "?bhilqBHILQefdgFDGSUV"), np.datetime64, np.timedelta64]
)


def take_apart(x: np.ndarray[Any, Any]) -> tuple[tuple[int, ...], DtypeSpec, bytes | memoryview]:
    """Return shape, dtype and bytes (in C order, in the byte order of the dtype) of an array.

    Raises
    ------
    ValueError
        If the dtype has no PYON form.
    """
    dtype = x.dtype
    spec = _dtype_spec(dtype)
    _check_item(dtype.itemsize, x.nbytes)
    if _is_padded(dtype):
        x = _without_padding(x)
    if x.nbytes < DIRECT_SIZE:
        return x.shape, spec, x.tobytes()
    return x.shape, spec, np.ascontiguousarray(x).reshape(-1).view(np.uint8).data


def take_scalar_apart(x: np.generic) -> tuple[DtypeSpec, bytes]:
    """Return dtype and bytes of a numpy scalar; raises ValueError as `take_apart` does."""
    dtype = x.dtype
    spec = _dtype_spec(dtype)
    if type(spec) is str and np.dtype(spec).type is not type(x):
        spec = spec[0] + dtype.char
    _check_item(dtype.itemsize, dtype.itemsize)
    if _is_padded(dtype):
        return spec, _without_padding(np.asarray(x)).tobytes()
    return spec, x.tobytes()[: dtype.itemsize]


def readable(x: np.generic) -> list[str]:
    """Return a list with the text of a numeric or date scalar; an empty list for other scalars."""
    if x.dtype.kind not in "biufcmM":
        return []
    try:
        return [str(x)]
    except (ValueError, OverflowError, SystemError):  # numpy cannot format it
        return []


class Layout:
    """Checked dtype and shape of an array without its data."""

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._dtype = dtype
        self._shape = shape
        self._items = math.prod(shape)
        self._size = self._items * dtype.itemsize
        _check_item(dtype.itemsize, self._size)

    def fill(self, data: bytes | memoryview) -> np.ndarray[Any, Any]:
        """Return the array of these data, in their memory if that is writable, otherwise in a copy.

        Raises
        ------
        ValueError
            If the data has the wrong size.
        """
        if len(data) != self._size:
            _check_size(self._dtype, self._items, len(data))
        if not self._size:
            return np.ndarray(self._shape, self._dtype)
        array: np.ndarray[Any, Any] = np.ndarray(self._shape, self._dtype, data)
        return array if array.flags.behaved else array.copy()

    def fill_base64(self, text: str | memoryview) -> np.ndarray[Any, Any]:
        """Return the array of base64 data; raises ValueError as `fill` does."""
        if len(text) < CHUNK or decoded_size(text) != self._size:
            return self.fill(from_base64(text))
        array: np.ndarray[Any, Any] = np.empty(self._shape, self._dtype)
        decode_into(text, array.reshape(-1).view(np.uint8).data)
        return array


def layout(shape: object, spec: object) -> Layout:
    """Read shape and dtype, as returned by `take_apart`.

    Raises
    ------
    ValueError
        If they are invalid.
    """
    if not isinstance(shape, (list, tuple)) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("the shape of an array must be non-negative integers")
    return Layout(_read_dtype(spec), tuple(shape))


def put_together(
    shape: object, spec: object, data: bytes | memoryview | Base64
) -> np.ndarray[Any, Any]:
    """Return the array. It is writable and aligned, and no other object uses its memory."""
    described = layout(shape, spec)
    return described.fill_base64(data.text) if isinstance(data, Base64) else described.fill(data)


def put_scalar_together(spec: object, data: bytes | memoryview) -> Any:
    """Return the numpy scalar; raises ValueError as `put_together` does."""
    dtype = _read_dtype(spec)
    view = memoryview(data)
    _check_size(dtype, 1, view.nbytes)
    if dtype.kind == "S":  # not through an array, which would strip trailing NULs
        return dtype.type(bytes(view))
    if dtype.kind == "U":
        order = "be" if dtype.str[0] == ">" else "le"
        return dtype.type(str(view, f"utf-32-{order}", "surrogatepass"))
    memory = bytearray(view) or bytearray(1)
    scalar: Any = np.ndarray((), dtype, memory)[()]
    return scalar


def _is_padded(dtype: np.dtype[Any]) -> bool:
    """Return whether an item may have padding bytes."""
    return dtype.names is not None or dtype.itemsize in LONG_DOUBLES.get(dtype.kind, ())


def _without_padding(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a copy in which the padding is zero instead of random memory."""
    if x.dtype.names is None:
        return _clean_long_doubles(x)
    clean = np.zeros(x.shape, x.dtype)
    _copy_fields(x, clean)
    return clean


def _copy_fields(x: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> None:
    for name in x.dtype.names or ():
        if x[name].dtype.names is not None:
            # assigning arrays of structured dtypes would copy their padding
            _copy_fields(x[name], target[name])
        else:
            target[name] = _clean_long_doubles(x[name]) if _is_padded(x[name].dtype) else x[name]


def _clean_long_doubles(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a C-contiguous copy of long doubles in which the padding is zero."""
    clean = np.array(x, order="C")
    if np.finfo(np.longdouble).nmant == X87_MANTISSA:
        size = np.dtype(np.longdouble).itemsize
        parts = clean.reshape(-1).view(np.uint8).reshape(-1, size)
        if clean.dtype.isnative:
            parts[:, X87_BYTES:] = 0
        else:
            parts[:, : size - X87_BYTES] = 0
    return clean


def _dtype_spec(dtype: np.dtype[Any]) -> DtypeSpec:
    if dtype.names is None:
        if DTYPE.fullmatch(dtype.str):
            return dtype.str
    else:
        spec: list[tuple[Any, ...]] = dtype.descr
        if _read_fields(spec) == dtype and _has_plain_items(dtype):
            return spec
    raise ValueError(f"no PYON form for the dtype {dtype}")


def _has_plain_items(dtype: np.dtype[Any]) -> bool:
    """Return whether the items of all structured parts are plain void scalars, not records."""
    dtype = dtype.base
    return dtype.names is None or (
        dtype.type is np.void and all(_has_plain_items(dtype[name]) for name in dtype.names)
    )


def _check_size(dtype: np.dtype[Any], items: int, nbytes: int) -> None:
    if nbytes != items * dtype.itemsize:
        raise ValueError(
            f"{items} items of dtype {dtype} take {items * dtype.itemsize} bytes, not {nbytes}"
        )
    _check_item(dtype.itemsize, nbytes)


def _check_item(itemsize: int, nbytes: int) -> None:
    if not nbytes and itemsize > MAX_EMPTY_ITEM:
        raise ValueError(
            f"an array without items has an item size of {itemsize} bytes, "
            f"more than {MAX_EMPTY_ITEM}"
        )


def _read_dtype(spec: object) -> np.dtype[Any]:
    if type(spec) is str:
        return _read_plain_dtype(spec)
    if type(spec) is list:
        return _read_fields(spec)
    raise ValueError("the dtype of an array must be a string or a list of fields")


@lru_cache(maxsize=256)
def _read_plain_dtype(spec: str) -> np.dtype[Any]:
    code = NAMES.get(spec, spec)
    if date := DATES.fullmatch(spec):
        code = f"<{'M' if date[1] == 'datetime' else 'm'}8{date[2] or ''}"
    if not DTYPE.fullmatch(code):
        raise ValueError(f"not a PYON dtype: {spec[:40]!r}")
    try:
        dtype = np.dtype(code)
    except (TypeError, OverflowError) as error:
        if code[-2:] in ("12", "16", "24", "32") and code[-3] in LONG_DOUBLES:
            raise ValueError(f"this machine has no long doubles of the kind {spec!r}") from error
        raise ValueError(f"not a numpy dtype: {spec!r}") from error
    if dtype.itemsize < 0:  # numpy 1.26 overflows
        raise ValueError(f"not a numpy dtype: {spec!r}")
    return dtype


def _read_fields(spec: list[Any]) -> np.dtype[Any]:
    """Read the list of fields of a structured dtype; a field with an empty name is padding."""
    names, titles, formats, offsets = [], [], [], []
    offset = 0
    for field in spec:
        name, title, format_ = _read_field(field)
        if name:
            names.append(name)
            titles.append(title)
            formats.append(format_)
            offsets.append(offset)
        offset += format_.itemsize
    description = {"names": names, "titles": titles, "formats": formats, "offsets": offsets}
    try:
        return np.dtype({**description, "itemsize": offset})  # type: ignore[call-overload, no-any-return]
    except (TypeError, OverflowError) as error:
        raise ValueError(f"not a numpy dtype: {error}") from error


def _read_field(field: Any) -> tuple[str, str | None, np.dtype[Any]]:
    if type(field) not in (tuple, list) or len(field) not in (2, 3):
        raise ValueError("a field of a dtype must be (name, dtype) or (name, dtype, shape)")
    title, name = (
        field[0] if type(field[0]) in (tuple, list) and len(field[0]) == 2 else (None, field[0])
    )
    if type(name) is not str or type(title) not in (str, type(None)):
        raise ValueError("the name of a field must be a string, or two: title and name")
    format_ = _read_dtype(field[1])
    if len(field) == 3:
        shape = field[2]
        if type(shape) not in (tuple, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("the shape of a field must be non-negative integers")
        format_ = np.dtype((format_, tuple(shape)))
    return name, title, format_
