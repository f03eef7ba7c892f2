"""The source of one function or class: its text, its place in its file, the names that it uses.

The one idea to keep in mind: a file may have been edited since it was imported, or be the wrong
one. So its text is compared with the running code before it is sent.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import linecache
import symtable
import textwrap
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import NamedTuple

# Attribute of a decorated function: how many of its decorators, from below, are sent with it.
_SENT_DECORATORS = "__remote_exec_decorators__"


class UnsendableError(TypeError):
    """The reason why a function or class cannot be sent; `send` collects these."""


class Definition(NamedTuple):
    """A function or class as its source defines it.

    Attributes
    ----------
    name : str
        Its name in the source.
    code : str
        The code with its decorators, dedented.
    origin : str
        The file that the code is from.
    first_line : int
        Number of the code's first line in that file.
    names : frozenset of str
        The global names that the code uses, decorators, defaults and nested functions included.
    assigned : frozenset of str
        The global names that a call of the function assigns.
    annotations : frozenset of str
        The global names that only the annotations use.
    tree : ast.AST
        The parsed code; without annotations if they are not evaluated.
    thing : function or class
        The function or class itself.
    """

    name: str
    code: str
    origin: str
    first_line: int
    names: frozenset[str]
    assigned: frozenset[str]
    annotations: frozenset[str]
    tree: ast.AST
    thing: FunctionType | type

    def postponed(self) -> Definition:
        """Return the same definition with annotations that are not evaluated."""
        return self._replace(
            code="from __future__ import annotations\n" + self.code,
            first_line=max(self.first_line - 1, 1),
            annotations=frozenset(),
            tree=_without_annotations(self.tree),
        )


def definition_of(thing: FunctionType | type, called_at: tuple[str, int] | None) -> Definition:
    """Return the definition of a function or class.

    Parameters
    ----------
    thing : function or class
        The function or class to be defined elsewhere.
    called_at : (str, int) or None
        File and line of the call that sends it. If that is the line of one of its decorators, this
        decorator and those above it are not sent.

    Raises
    ------
    UnsendableError
        It has no source, or its file has changed since it was imported.
    """
    if thing.__name__ == "<lambda>":
        raise UnsendableError("a lambda has no name to be called by; use def")
    lines, first_line = _lines(thing)
    code = textwrap.dedent("".join(lines))
    node = _parsed(code)
    skipped = _skipped_lines(thing, node, first_line, called_at)
    if skipped:
        code = "".join(code.splitlines(keepends=True)[skipped:])
        first_line += skipped
        node = _parsed(code)
    if isinstance(thing, FunctionType):
        # At its own line, which since Python 3.13 is a constant in the code of a nested class.
        _compare(thing.__code__, "\n" * (first_line - 1) + code, _postpones(thing))
    names, assigned = _global_names(_without_annotations(node))
    every_name, _ = _global_names(node)
    found = Definition(
        node.name,
        code,
        _origin(thing),
        first_line,
        names - {node.name},
        assigned,
        every_name - names - {node.name},
        node,
        thing,
    )
    return found.postponed() if _postpones(thing) else found


def _origin(thing: FunctionType | type) -> str:
    try:
        return inspect.getsourcefile(thing) or _filename(thing)
    except (OSError, TypeError):  # a class in a notebook
        return _filename(thing)


def _filename(thing: FunctionType | type) -> str:
    return thing.__code__.co_filename if isinstance(thing, FunctionType) else thing.__module__


def _lines(thing: FunctionType | type) -> tuple[list[str], int]:
    try:
        return inspect.getsourcelines(thing)
    except (OSError, TypeError) as error:
        # The text of doctests, notebooks and some consoles is in linecache only.
        found = _function_lines(thing) if isinstance(thing, FunctionType) else _class_lines(thing)
        if found is None:
            raise UnsendableError(
                "its source is not available: define it in a file or a notebook"
            ) from error
        return found


def _function_lines(function: FunctionType) -> tuple[list[str], int] | None:
    lines = linecache.getlines(function.__code__.co_filename)
    first_line = function.__code__.co_firstlineno
    if not 0 < first_line <= len(lines):
        return None
    return inspect.getblock(lines[first_line - 1 :]), first_line


def _class_lines(cls: type) -> tuple[list[str], int] | None:
    """Find the definition of a class that contains one of its methods."""
    for method in vars(cls).values():
        if not isinstance(method, FunctionType) or method.__module__ != cls.__module__:
            continue
        lines = linecache.getlines(method.__code__.co_filename)
        line = method.__code__.co_firstlineno
        for node in _definitions("".join(lines)):
            last = node.end_lineno or node.lineno
            if node.name == cls.__name__ and node.lineno <= line <= last:
                first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
                return lines[first - 1 : last], first
    return None


def _definitions(text: str) -> list[ast.ClassDef]:
    try:
        return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    except (SyntaxError, ValueError):
        return []


def _parsed(code: str) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef:
    try:
        (node,) = ast.parse(code).body
    except (SyntaxError, ValueError) as error:
        raise UnsendableError("its source cannot be parsed on its own") from error
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        raise UnsendableError("its source is not a definition: use def")
    return node


def _skipped_lines(
    thing: FunctionType | type,
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef,
    first_line: int,
    called_at: tuple[str, int] | None,
) -> int:
    """Return the number of lines of the decorator that sends, and of those above it."""
    decorators = node.decorator_list
    if called_at is not None and called_at[0] == _filename(thing):
        line = called_at[1] - first_line + 1
        for index, decorator in enumerate(decorators):
            if decorator.lineno <= line <= (decorator.end_lineno or decorator.lineno):
                setattr(thing, _SENT_DECORATORS, len(decorators) - index - 1)
    sent: int | None = vars(thing).get(_SENT_DECORATORS)
    if sent is None:
        return 0
    last = decorators[len(decorators) - sent - 1]
    return last.end_lineno or last.lineno


def _compare(running: CodeType, code: str, postponed: bool) -> None:
    """Raise UnsendableError unless the text compiles to the running code."""
    flags = __future__.annotations.compiler_flag if postponed else 0
    compiled = compile(code, "<source>", "exec", flags=flags, dont_inherit=True)
    candidates = [one for one in _codes(compiled) if one.co_name == running.co_name]
    # The running code may have more traits than the text: pytest rewrites assertions, for example.
    if not any(_traits(one) <= _traits(running) for one in candidates):
        raise UnsendableError("its file has changed since it was imported: reload the module")


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _traits(code: CodeType) -> set[tuple[str, str]]:
    count = code.co_argcount + code.co_kwonlyargcount
    traits = {("arguments", repr(code.co_varnames[:count]))}
    for one in _codes(code):
        traits |= {("name", name) for name in (*one.co_names, *one.co_freevars)}
        traits |= {
            (type(constant).__name__, repr(constant))
            for constant in one.co_consts
            if isinstance(constant, int | float | complex | str | bytes)
            and constant != one.co_qualname  # of a class: includes the names of enclosing scopes
        }
    return traits


def _postpones(thing: FunctionType | type) -> bool:
    """Return whether its annotations are not evaluated when it is defined."""
    if isinstance(thing, FunctionType):
        return bool(thing.__code__.co_flags & __future__.annotations.compiler_flag)
    methods = (value for value in vars(thing).values() if isinstance(value, FunctionType))
    return any(map(_postpones, methods))


def _global_names(node: ast.AST) -> tuple[frozenset[str], frozenset[str]]:
    """Return the global names that a definition uses, and those that a call of it assigns."""
    used, assigned = set(), set()
    tables = [symtable.symtable(ast.unparse(node), "<source>", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            outermost = table.get_type() == "module"
            if symbol.is_global() or (outermost and not symbol.is_assigned()):
                used.add(symbol.get_name())
                if symbol.is_assigned() and not outermost:
                    assigned.add(symbol.get_name())
    return frozenset(used), frozenset(assigned)


class _Unannotated(ast.NodeTransformer):
    """Removes the annotations from a tree."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)  # the name stays a local variable
        return self.generic_visit(node)


def _without_annotations(node: ast.AST) -> ast.AST:
    return _Unannotated().visit(ast.parse(ast.unparse(node)).body[0])  # type: ignore[no-any-return]
