"""Binary data outside the text: separate buffers, and long base64 that is cut out before parsing.

A text may refer to buffers by number in place of base64. This serves two purposes. The caller of
`encode` can receive large data as memory instead of as text. And before parsing, a reader replaces
each long base64 text of an array by a random negative number, so that no parser has to scan
megabytes of base64. Cutting only saves time: if a cut remains unused, or there is any error, the
original text is read instead.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence

from ._on_demand import load_base64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._base64 import Base64


CUT_SIZE = 16_384
"""Minimum length, in characters, of base64 that is cut out: shorter base64 is read faster in
place."""

HEADER_SIZE = 256
"""Maximum number of characters from the name of an array's form to base64 that is cut out."""

Data = bytes | memoryview
NO_CUTS: Mapping[int, str | memoryview] = {}

ARRAY = r"""
    (?<=")nparray"\s*,\s* \[\s* \[([0-9,\s]*)\] \s*,\s* ("[^"\\]*") \s*,\s* (")   # v2
  | (?<!\w)nparray\s*\(\s* \(([0-9,\s]*)\) \s*,\s* ("[^"\\]*"|'[^'\\]*') \s*,\s* (b["'])  # v1
"""
"""Groups: the shape, the dtype with its quotation marks, and the opening mark of the base64."""


class Buffers:
    """The buffers that a text refers to. Each is used once, so that no two values share memory."""

    def __init__(
        self, given: Sequence[memoryview] = (), cuts: Mapping[int, str | memoryview] = NO_CUTS
    ) -> None:
        self._given = given
        self._cuts = cuts
        self._left = {*range(len(given)), *cuts}

    def data(self, spelled: object) -> Data | Base64:
        """Return the data for base64, or for the number of a buffer or cut, in the text.

        Raises
        ------
        ValueError
            If `spelled` is neither.
        """
        if isinstance(spelled, (str, bytes)):
            data: bytes = load_base64().from_base64(spelled)
            return data
        if type(spelled) is not int or spelled not in self._left:
            raise ValueError(
                "expected base64, or the number of a buffer that has not been used yet"
            )
        self._left.remove(spelled)
        if spelled >= 0:
            return self._given[spelled]
        cut_out: Base64 = load_base64().Base64(self._cuts[spelled])
        return cut_out

    def with_cuts(self, cuts: Mapping[int, str | memoryview]) -> Buffers:
        """Return the same buffers, all unused, with these cuts."""
        return Buffers(self._given, cuts)

    def again(self) -> Buffers:
        """Return the same buffers, all unused, for another pass over the text."""
        return self if self is NO_BUFFERS else Buffers(self._given, self._cuts)

    @property
    def unused(self) -> int:
        """The number of buffers and cuts that have not been used."""
        return len(self._left)


NO_BUFFERS = Buffers()


def cut(text: Any) -> tuple[Any, dict[int, str | memoryview]]:
    """Cut the long base64 of arrays out of a str or bytes; return the rest and the cuts."""
    name: Any = "nparray" if isinstance(text, str) else b"nparray"
    pieces: list[Any] = []
    cuts: dict[int, str | memoryview] = {}
    first = -int.from_bytes(os.urandom(7), "big") - 1  # so that no text can have it
    done = 0
    at = text.find(name)
    while at >= 0:
        header = _long_array(text, at)
        at += len(name)
        if header is not None:
            start = header.end()
            quote = text[start - 1 : start]
            stop = start + _expected_length(header)
            if text[stop : stop + 1] != quote:
                stop = text.find(quote, start)
            if stop - start >= CUT_SIZE:
                number = str(first - len(cuts))
                pieces.append(text[done : header.start(header.lastindex or 0)])
                pieces.append(number if isinstance(text, str) else number.encode())
                cuts[first - len(cuts)] = (
                    text[start:stop] if isinstance(text, str) else memoryview(text)[start:stop]
                )
                done = at = stop + 1
        at = text.find(name, at)
    pieces.append(text[done:])
    return text[:0].join(pieces), cuts


def has_long_arrays(text: str | bytes) -> bool:
    """Return whether the first array in `text` is long: then most of the text may be base64."""
    at = text.find("nparray" if isinstance(text, str) else b"nparray", 0, CUT_SIZE)  # type: ignore[arg-type]
    return at >= 0 and _long_array(text, at) is not None


def _long_array(text: Any, at: int) -> re.Match[Any] | None:
    """Match the text before the base64 of an array; None if the base64 is short, as usual."""
    is_str = isinstance(text, str)
    if text.find('"' if is_str else b'"', at + HEADER_SIZE, at + CUT_SIZE) >= 0:
        return None
    return re.compile(ARRAY if is_str else ARRAY.encode(), re.VERBOSE).match(
        text, at, at + HEADER_SIZE
    )


def _expected_length(header: re.Match[Any]) -> int:
    """Compute the length of the base64 from shape and dtype, which is faster than finding its end.

    A wrong result, as for other dtypes, is detected: base64 contains no quotation mark.
    """
    sizes, dtype, _ = (part for part in header.groups() if part is not None)
    comma = "," if isinstance(sizes, str) else b","
    try:
        items = math.prod(int(size) for size in sizes.split(comma) if size.strip())
        return (items * int(dtype[3:-1]) + 2) // 3 * 4
    except ValueError:
        return 0
