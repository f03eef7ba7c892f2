"""What an error says of a value: what it is, and why it cannot be written."""

from __future__ import annotations

import sys

from ._types import SPELLED

STANDARD = frozenset(
    [
        "datetime",
        "date",
        "time",
        "timedelta",
        "timezone",
        "ZoneInfo",
        "Decimal",
        "UUID",
        "PosixPath",
        "WindowsPath",
        "PurePosixPath",
        "PureWindowsPath",
        "range",
        "frozenset",
        "bytearray",
        "deque",
    ]
)
"""Names of the types that `standard_types` has forms for; it is not loaded for an error."""

LONG_INT = 10_000
"""Bits beyond which an error does not show an integer, not even in part."""


def describe(x: object) -> str:
    """Give the type of a value and a short `repr`."""
    return f"{type(x).__qualname__} {shorten(x)}"


def shorten(x: object) -> str:
    """Give a short `repr` of anything, on one line."""
    from reprlib import Repr

    class Short(Repr):
        def repr_int(self, x: int, level: int) -> str:
            """Give no digits of what has many: to make them takes time by the square of them."""
            bits = x.bit_length()
            return f"<int of {bits} bits>" if bits > LONG_INT else super().repr_int(x, level)

    try:
        return " ".join(Short().repr(x).split())
    except Exception as error:  # repr is the user's code; the error to report is another one
        return f"<its repr raised {type(error).__name__}>"


def no_form(x: object) -> str:
    """Say that a value has no form, why that may be, and what gives it one."""
    for base in type(x).__mro__[1:]:
        if base in SPELLED:
            return f"{describe(x)} is no exact {base.__name__}: convert it, or register its type"
    hint = ""
    if (
        type(x).__name__ in STANDARD
        and type(x).__module__.partition(".")[0] in sys.stdlib_module_names
    ):
        hint = " (pyon.standard_types.register() does)"
    return f"{describe(x)} has no PYON form: convert it, or register its type{hint}"
