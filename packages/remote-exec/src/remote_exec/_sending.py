"""What of a function is sent: its source, its place in its file, the modules that it refers to."""

from __future__ import annotations
import __future__

import ast
import inspect
import sys
import textwrap
from types import FunctionType, ModuleType
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
    code = textwrap.dedent("".join(lines))
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        raise TypeError(f"cannot send {name}: its source does not stand alone") from error
    if function.__code__.co_flags & __future__.annotations.compiler_flag:
        _drop_annotations(tree)
        code, first_line = "from __future__ import annotations\n" + code, first_line - 1
    return Source(
        _imports(tree, function.__globals__),
        code,
        inspect.getsourcefile(function) or function.__code__.co_filename,
        max(first_line, 1),
    )


def _drop_annotations(tree: ast.AST) -> None:
    """Drop them from a tree, because what they mention is not looked up."""
    for node in ast.walk(tree):
        for field in {"annotation", "returns"}.intersection(node._fields):
            setattr(node, field, None)


def _imports(tree: ast.AST, namespace: dict[str, Any]) -> str:
    """Return code that imports the modules which names in the tree refer to, and their parts."""
    lines = set()
    for node in ast.walk(tree):
        name, *attributes = _dotted(node)
        module = namespace.get(name)
        if isinstance(module, ModuleType):
            path = module.__name__
            lines.add((-1, f"import {path} as {name}\n"))
            for depth, attribute in enumerate(attributes):
                path = f"{path}.{attribute}"
                if path in sys.modules:
                    lines.add((-2 - depth, f"import {path} as {name}\n"))
    return "".join(line for _, line in sorted(lines))  # the module itself last: the name is its


def _dotted(node: ast.AST) -> list[str]:
    """Return the parts of a dotted name; of anything else, one that no variable has."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [*_dotted(node.value), node.attr]
    return [""]
