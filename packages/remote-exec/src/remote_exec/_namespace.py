"""The namespaces of sent code, as modules that Python's own tools can see.

A namespace is the dictionary of a module in `sys.modules`, and `linecache` has the text of its
code. So tracebacks and warnings show the lines of sent code, and libraries that look up a class by
the name of its module (dataclasses, pickle, typing) find it.
"""

from __future__ import annotations

import hashlib
import itertools
import linecache
import sys
from collections.abc import Mapping
from types import CodeType, ModuleType
from typing import Any

_numbers = itertools.count(1)

__tracebackhide__ = True  # as in _server


class Namespace:
    """The namespace of one connection.

    Parameters
    ----------
    initial : mapping of str to object
        The controller-wide names. They are copied; later changes of `initial` have no effect here.
    """

    def __init__(self, initial: Mapping[str, Any]) -> None:
        self.name = f"remote_code_{next(_numbers)}"
        self._module = ModuleType(self.name)
        self._module.__dict__.update(initial)
        self._module.__dict__["controller_initial_namespace"] = initial
        self._sources: list[str] = []
        sys.modules[self.name] = self._module

    def compile(self, code: str, origin: str | None, first_line: int) -> CodeType:
        """Compile code for this namespace, and register its text for tracebacks.

        Parameters
        ----------
        code : str
            The source.
        origin : str, optional
            The file that the code is from, for tracebacks.
        first_line : int
            Number of the code's first line in that file.
        """
        if not isinstance(code, str):
            raise TypeError(f"code must be a str, not {type(code).__name__}")
        filename = f"<code {len(self._sources) + 1} of {self.name}"
        filename += f", from {origin}>" if origin else ">"
        source = "\n" * (first_line - 1) + code
        # An entry without a modification time stays in linecache until it is removed.
        linecache.cache[filename] = (
            len(source),
            None,
            source.splitlines(keepends=True),
            filename,
        )
        self._sources.append(filename)
        return compile(source, filename, "exec", dont_inherit=True)

    def execute(self, code: CodeType) -> None:
        """Execute code in the namespace."""
        exec(code, self._module.__dict__)  # noqa: S102  # the purpose of this package

    def find(self, name: str) -> Any:
        """Return the value of a name."""
        try:
            return self._module.__dict__[name]
        except KeyError:
            raise NameError(
                f"name {name!r} is not defined in the namespace of this connection", name=name
            ) from None

    def close(self) -> None:
        """Remove the module and the text of its code."""
        sys.modules.pop(self.name, None)
        for filename in self._sources:
            linecache.cache.pop(filename, None)


def digest(code: str) -> str:
    """Return the identifier of code in the log: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()[:16]
