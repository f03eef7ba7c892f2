"""What of a function is sent: its source, its place in its file, the modules that it refers to."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple


class Source(NamedTuple):
    """A function as it is sent.

    Attributes
    ----------
    imports : str
        Code that imports the modules which the function refers to by a global name.
    code : str
        The function's own code.
    origin : str
        The file that it is from.
    first_line : int
        Of the function in that file.
    """

    imports: str
    code: str
    origin: str
    first_line: int


def source_of(function: Any) -> Source:
    """Return what has to be sent of a function.

    Raises
    ------
    TypeError
        It cannot be sent: it is no function, has no source, or needs what is not in its source.
    """
    function = inspect.unwrap(function)
    if not isinstance(function, FunctionType):
        raise TypeError(f"expected a function, got {function!r:.100}")
    name = function.__qualname__
    if function.__name__ == "<lambda>":
        raise TypeError(f"cannot send {name}: a lambda has no name to be called by; use def")
    if function.__code__.co_freevars:
        local = ", ".join(function.__code__.co_freevars)
        raise TypeError(f"cannot send {name}: it uses local variables from around it: {local}")
    try:
        lines, first_line = inspect.getsourcelines(function)
    except (OSError, TypeError) as error:
        raise TypeError(f"cannot send {name}: its source is not available") from error
    return Source(
        _imports(function),
        textwrap.dedent("".join(lines)),
        inspect.getsourcefile(function) or function.__code__.co_filename,
        max(first_line, 1),
    )


def _imports(function: FunctionType) -> str:
    lines = []
    for name in sorted(set(_names(function.__code__))):
        module = function.__globals__.get(name)
        if isinstance(module, ModuleType):
            lines.append(f"import {module.__name__} as {name}\n")
    return "".join(lines)


def _names(code: CodeType) -> Iterator[str]:
    """Yield the global names and attributes that code mentions, that of nested functions too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
