"""A function with its dependencies, as code to be sent.

The one idea to keep in mind: each global name that the function uses is looked up here when it is
sent, and becomes an import, a value, or code; otherwise it must exist in the namespace at the
controller. Names for which none of these hold are refused in one error that lists all of them,
before the function's code is executed.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import pyon

from remote_exec._imports import import_line, is_importable
from remote_exec._source import Definition, UnsendableError, definition_of

# Modules may define placeholders for them, for type checkers. Sent code uses the controller's.
CONTROLLERS_NAMES = frozenset({"controller_driver", "controller_initial_namespace"})

# Executed at the controller before the function's code, so that `send` fails and not a later call.
_NEEDS = '''
def _remote_exec_needs(what, imports, names):
    """Import what a function needs; raise TypeError if an import fails or a name is missing."""
    import builtins

    missing = []
    for line in imports:
        try:
            exec(line, globals())
        except Exception as error:
            missing.append(f"{{line.strip()!r}} fails at the controller ({{error}})")
    for name in names:
        if name not in globals() and not hasattr(builtins, name):
            missing.append(f"{{name!r}} is defined neither here nor at the controller")
    if missing:
        raise TypeError(f"cannot send {{what}}: " + "; ".join(missing))


_remote_exec_needs({what!r}, {imports!r}, {names!r})
'''

# The values are passed as arguments, with exact types; they never replace the controller's names.
DEFINE = '''
def _remote_exec_define(values):
    """Define names in this namespace."""
    own = globals().get("controller_initial_namespace", {})
    globals().update({name: value for name, value in values.items() if name not in own})
'''


class Source(NamedTuple):
    """A function as it is sent.

    Attributes
    ----------
    name : str
        Its name in the namespace.
    imports : str
        Import statements for the global names that the definitions use.
    constants : dict of str to object
        Values of global names, of types that PYON has.
    definitions : list of Definition
        Definitions to be executed, in this order; the last one is the function itself.
    required : list of str
        Global names that must exist in the namespace already.
    """

    name: str
    imports: str
    constants: dict[str, Any]
    definitions: list[Definition]
    required: list[str]

    @property
    def code(self) -> str:
        """The function's own code."""
        return self.definitions[-1].code

    @property
    def origin(self) -> str:
        """The file that the function is from."""
        return self.definitions[-1].origin

    @property
    def first_line(self) -> int:
        """Number of the function's first line in that file."""
        return self.definitions[-1].first_line

    @property
    def helpers(self) -> dict[str, tuple[str, object]]:
        """Constants and helper definitions by name: their module, and their value."""
        module = self.definitions[-1].thing.__module__
        things = {name: (module, value) for name, value in self.constants.items()}
        for one in self.definitions[:-1]:
            things[one.name] = (one.thing.__module__, one.thing)
        return things

    @property
    def needs(self) -> str:
        """Code that imports, and raises `TypeError` if something is missing; may be empty."""
        if not (self.imports or self.required):
            return ""
        lines = self.imports.splitlines()
        return _NEEDS.format(what=self.name, imports=lines, names=self.required)


def source_of(function: Any, called_at: tuple[str, int] | None = None) -> Source:
    """Return what has to be sent of a function.

    Parameters
    ----------
    function : function
        May be decorated, if the decorators set ``__wrapped__`` (as `functools.wraps` does).
    called_at : (str, int), optional
        File and line of the call that sends it: see `definition_of`.

    Raises
    ------
    TypeError
        The function, or something that it needs, cannot be sent. The message names all of these.
    """
    function = inspect.unwrap(function)
    if not isinstance(function, FunctionType):
        raise TypeError(f"expected a function, got {_shown(function)}")
    collector = _Collector(function, called_at)
    try:
        collector.define(function)
    except UnsendableError as error:
        collector.reasons.append(str(error))
    if collector.reasons:
        raise TypeError(f"cannot send {function.__qualname__}: " + "; ".join(collector.reasons))
    return Source(
        list(collector.definitions)[-1],
        # Submodules before their package: the name is to be bound to the package.
        "".join(line for _, line in sorted(collector.imports)),
        collector.constants,
        list(collector.definitions.values()),
        sorted(collector.required),
    )


class Sent:
    """The values that have been sent into one namespace.

    A later function must not replace them, and unchanged definitions are not sent twice.
    """

    def __init__(self) -> None:
        self._things: dict[str, tuple[str, object]] = {}  # module and value, by name

    def unsent(self, source: Source) -> list[Definition]:
        """Return the definitions that must be executed; the function's own is always among them.

        Raises
        ------
        TypeError
            A name was sent before with another meaning, from another module.
        """
        *helpers, main = source.definitions
        clashes = [name for name, value in source.helpers.items() if self._clashes(name, value)]
        if clashes:
            raise TypeError(
                f"cannot send {source.name}: {', '.join(clashes)} would replace what was sent from "
                "another module under the same name; use another connection, or another name"
            )
        known = {name: value for name, (_, value) in self._things.items()}
        return [*(one for one in helpers if known.get(one.name) is not one.thing), main]

    def add(self, source: Source) -> None:
        """Record that a source has been sent."""
        module, function = source.definitions[-1].thing.__module__, source.definitions[-1].thing
        things = source.helpers | {source.name: (module, function)}
        self._things |= things

    def _clashes(self, name: str, new: tuple[str, object]) -> bool:
        old = self._things.get(name, new)
        if old[0] == new[0] or old[1] is new[1]:
            return False
        if isinstance(old[1], FunctionType | type) or isinstance(new[1], FunctionType | type):
            return True
        return pyon.encode(old[1]) != pyon.encode(new[1])


def _shown(thing: object) -> str:
    try:
        return f"{thing!r:.100}"
    except Exception:  # a repr may raise anything
        return f"a {type(thing).__name__}"


class _Collector:
    """Follows the global names that a function uses, and those that these use in turn."""

    def __init__(self, function: FunctionType, called_at: tuple[str, int] | None) -> None:
        self.imports: set[tuple[int, str]] = set()
        self.constants: dict[str, Any] = {}
        self.definitions: dict[str, Definition] = {}
        self.required: set[str] = set()
        self.reasons: list[str] = []
        self._main = function
        self._called_at = called_at
        self._meanings: dict[str, object] = {}  # the value of each name in the namespace

    def define(self, thing: FunctionType | type, prefix: str = "") -> str:
        """Add the definition of a function or class after its dependencies; return its name."""
        found = definition_of(thing, self._called_at if thing is self._main else None)
        if self._bind(found.name, thing):
            self.reasons += [prefix + reason for reason in _scope_dependencies(thing)]
            namespace = _namespace_of(thing, self._main.__globals__)
            if not all(is_importable(name, namespace) for name in found.annotations):
                found = found.postponed()
            local = thing.__code__.co_freevars if isinstance(thing, FunctionType) else ()
            for used in sorted((found.names | found.annotations).difference(local)):
                self._follow(used, found, namespace)
            self.definitions[found.name] = found
        return found.name

    def _bind(self, name: str, meaning: object) -> bool:
        """Bind a name; return whether it was unbound. A second meaning is an error."""
        if name not in self._meanings:
            self._meanings[name] = meaning
            return True
        if self._meanings[name] is not meaning:
            self.reasons.append(f"{name} is the name of two different objects to be sent")
        return False

    def _follow(self, name: str, user: Definition, namespace: dict[str, Any]) -> None:
        """Look up a global name here, and add what has to be sent for it."""
        if name in CONTROLLERS_NAMES:
            self.required.add(name)
        elif name.startswith("__") or name not in namespace:
            if not hasattr(builtins, name) and name not in user.assigned:
                self.required.add(name)
        elif isinstance(value := namespace[name], ModuleType):
            self._import_module(name, value, user.tree)
        elif (line := import_line(name, value, namespace)) is not None:
            if self._bind(name, value):
                self.imports.add((0, line))
        elif isinstance(thing := _unwrapped(value), FunctionType | type):
            self._define_helper(name, thing)
        elif self._bind(name, value):
            self._add_constant(name, value)

    def _define_helper(self, name: str, thing: FunctionType | type) -> None:
        try:
            own_name = self.define(thing, f"{name}: ")
        except UnsendableError as error:
            self.reasons.append(f"{name}: {error}")
            return
        if name != own_name and self._bind(name, thing):
            alias = self.definitions.get(own_name)
            if alias is not None:  # None: it refers to itself by the alias, while being defined
                code = f"{name} = {own_name}\n"
                self.definitions[name] = alias._replace(name=name, code=code)
            else:
                self.reasons.append(f"{name} is another name of {own_name}, which uses it")

    def _add_constant(self, name: str, value: object) -> None:
        try:
            pyon.encode(value)
        except Exception as error:  # registered forms may raise anything
            self.reasons.append(f"{name} is a {type(value).__name__} ({error})")
        else:
            self.constants[name] = value

    def _import_module(self, name: str, module: ModuleType, tree: ast.AST) -> None:
        self.imports.add((0, f"import {module.__name__} as {name}\n"))
        for attributes in _attributes(tree, name):
            path = module.__name__
            for depth, attribute in enumerate(attributes):
                path = f"{path}.{attribute}"
                if path in sys.modules:
                    self.imports.add((-1 - depth, f"import {path} as {name}\n"))


def _namespace_of(thing: FunctionType | type, main: dict[str, Any]) -> dict[str, Any]:
    if isinstance(thing, FunctionType):
        return thing.__globals__
    if thing.__module__ == main.get("__name__"):  # sys.modules may have another module by that name
        return main
    return vars(sys.modules.get(thing.__module__, ModuleType("gone")))


def _unwrapped(value: Any) -> Any:
    """Return the function inside decorators that set ``__wrapped__``."""
    if isinstance(value, type) or not callable(value):
        return value
    try:
        return inspect.unwrap(value)
    except ValueError:  # an endless chain, of an object that has every attribute
        return value


def _scope_dependencies(thing: FunctionType | type) -> Iterator[str]:
    """Yield the reasons why a function depends on the scope of its definition."""
    if not isinstance(thing, FunctionType):
        return
    local = ", ".join(_local_names(thing))
    if local:
        yield f"it uses local variables of an enclosing function: {local}"
    owner = thing.__qualname__.rpartition(".")[0]
    if owner and not owner.endswith("<locals>") and thing.__code__.co_varnames[:1] == ("self",):
        yield f"it is a method of {owner}, which is not sent; use a function"


def _local_names(function: FunctionType) -> Iterator[str]:
    """Yield the free variables of a function, except for the function itself."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for name, cell in cells:
        try:
            itself = _unwrapped(cell.cell_contents) is function
        except ValueError:  # an empty cell: the variable is not assigned yet, as during decoration
            itself = name == function.__name__
        if not itself:
            yield name


def _attributes(tree: ast.AST, name: str) -> Iterator[list[str]]:
    """Yield the attribute chains that follow a name, as in ``name.a.b``."""
    for node in ast.walk(tree):
        first, *attributes = _dotted(node)
        if first == name and attributes:
            yield attributes


def _dotted(node: ast.AST) -> list[str]:
    """Return the parts of a dotted name; for other nodes, a first part that no name equals."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [*_dotted(node.value), node.attr]
    return [""]
