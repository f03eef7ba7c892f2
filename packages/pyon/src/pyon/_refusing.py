"""Texts of errors about a value: what it is, and why it cannot be written."""

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
"""Names of the types of `standard_types`, which is not loaded for an error."""

LONG_INT = 10_000
"""Number of bits beyond which an error shows only the size of an integer."""


def describe(x: object) -> str:
    """Return the type of a value and a short `repr`."""
    return f"{type(x).__qualname__} {shorten(x)}"


def shorten(x: object) -> str:
    """Return a short `repr` of any object, on one line."""
    from reprlib import Repr

    class Short(Repr):
        def repr_int(self, x: int, level: int) -> str:
            """Return only the size of a long integer: conversion to digits takes quadratic time."""
            bits = x.bit_length()
            return f"<int of {bits} bits>" if bits > LONG_INT else super().repr_int(x, level)

    try:
        return " ".join(Short().repr(x).split())
    except Exception as error:  # repr is users' code; its error is not the one to report
        return f"<its repr raised {type(error).__name__}>"


def no_type(name: object) -> str:
    """Return the error text for the name of a type that is not registered, in a text to read."""
    register = "register it, as the program that wrote the text did"
    if isinstance(name, str) and name in STANDARD:
        register = "pyon.standard_types.register() registers it"
    return f"no type is called {shorten(name)}: {register}"


def no_form(x: object) -> str:
    """Return the reason why a value is refused, and what to do about it."""
    for base in type(x).__mro__[1:]:
        if base in SPELLED:
            kind = f"of a subclass of {base.__name__}"
            return f"{describe(x)} is {kind}: convert it, or register its type"
    hint = ""
    if (
        type(x).__name__ in STANDARD
        and type(x).__module__.partition(".")[0] in sys.stdlib_module_names
    ):
        hint = " (pyon.standard_types.register() does)"
    return f"{describe(x)} has no PYON form: convert it, or register its type{hint}"
