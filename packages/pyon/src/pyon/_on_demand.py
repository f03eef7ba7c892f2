"""Modules that are loaded when a value first needs them; most values need none of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


@cache
def load_base64() -> ModuleType:
    """Load the base64 functions."""
    from . import _base64

    return _base64


@cache
def load_fast() -> ModuleType:
    """Load the functions that use msgspec."""
    from . import _fast

    return _fast


@cache
def load_arrays() -> ModuleType:
    """Load the functions for numpy; the ImportError without numpy says what to install."""
    try:
        from . import _arrays as module
    except ModuleNotFoundError as error:
        raise ImportError("the PYON text holds numpy data; to read it, install numpy") from error
    return module


@cache
def load_lines() -> ModuleType:
    """Load the writer of pretty and sorted texts; messages and plain texts do not need it."""
    from . import _lines

    return _lines


@cache
def load_v1_reader() -> ModuleType:
    """Load the reader of v1; v2 and writers do not need it."""
    from . import _v1_reader

    return _v1_reader


@cache
def load_v1_small() -> Callable[[str], Any]:
    """Load the reader of small v1 texts."""
    from ._v1_small import read_small

    return read_small


@cache
def load_tokens() -> ModuleType:
    """Load the functions that find strings and comments in a text."""
    from . import _v1_tokens

    return _v1_tokens


@cache
def load_diagnosis() -> ModuleType:
    """Load the explanations of errors."""
    from . import _diagnosis

    return _diagnosis


@cache
def load_fraction() -> type:
    """Load `Fraction`, whose import takes longer than that of pyon."""
    from fractions import Fraction

    return Fraction
