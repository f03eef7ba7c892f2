"""Modules that are loaded when a value first needs them: most values need none."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


@cache
def load_base64() -> ModuleType:
    """Load what knows base64."""
    from . import _base64

    return _base64


@cache
def load_fast() -> ModuleType:
    """Load what knows msgspec."""
    from . import _fast

    return _fast


@cache
def load_arrays() -> ModuleType:
    """Load what knows numpy; raise ImportError, with what to install, where it is missing."""
    try:
        from . import _arrays as module
    except ModuleNotFoundError as error:
        raise ImportError("the PYON text holds numpy data; to read it, install numpy") from error
    return module


@cache
def load_lines() -> ModuleType:
    """Load what writes in lines, or sorted: wires and plain texts do without."""
    from . import _lines

    return _lines


@cache
def load_v1_reader() -> ModuleType:
    """Load the reader of v1: v2 and writers do without."""
    from . import _v1_reader

    return _v1_reader


@cache
def load_v1_small() -> Callable[[str], Any]:
    """Load the reader of small v1 texts."""
    from ._v1_small import read_small

    return read_small


@cache
def load_tokens() -> ModuleType:
    """Load what looks at the strings and comments of a text."""
    from . import _v1_tokens

    return _v1_tokens


@cache
def load_diagnosis() -> ModuleType:
    """Load what explains errors."""
    from . import _diagnosis

    return _diagnosis


@cache
def load_fraction() -> type:
    """Load `Fraction`, which takes longer than all of pyon."""
    from fractions import Fraction

    return Fraction
