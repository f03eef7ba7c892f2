"""What has to be sent of a function: its code, and what it uses of the module around it.

The one idea to keep in mind: each global name is looked up here, when the function is sent, and
becomes an import, a value or code of its own; or else it must be in the namespace there. What is
neither is refused before anything is executed, in one error that names all of it.
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

# A module may define stand-ins for them, for type checkers. In sent code they are the controller's.
CONTROLLERS_NAMES = frozenset({"controller_driver", "controller_initial_namespace"})

# Executed there before anything else: so `send` fails, and not a call later.
_NEEDS = '''
def _remote_exec_needs(what, imports, names):
    """Import what a function needs; refuse it if that, or a name, is not to be had here."""
    import builtins

    lacking = []
    for line in imports:
        try:
            exec(line, globals())
        except Exception as error:
            lacking.append(f"{{line.strip()!r}} fails there ({{error}})")
    for name in names:
        if name not in globals() and not hasattr(builtins, name):
            lacking.append(f"{{name!r}} is neither defined here nor there")
    if lacking:
        raise TypeError(f"cannot send {{what}}: " + "; ".join(lacking))


_remote_exec_needs({what!r}, {imports!r}, {names!r})
'''

# The values come as arguments, exact in their types; the controller's own names win.
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
        What it is called by.
    imports : str
        Lines that import what it, and what is sent with it, refers to by global names.
    constants : dict of str to object
        Values of global names, of types that PYON has.
    definitions : list of Definition
        What has to be executed, in this order; the function itself comes last.
    required : list of str
        Global names that must be there already.
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
        """The file that it is from."""
        return self.definitions[-1].origin

    @property
    def first_line(self) -> int:
        """Of the function in that file."""
        return self.definitions[-1].first_line

    @property
    def helpers(self) -> dict[str, tuple[str, object]]:
        """What comes along, by name: the module that it is from, and what it is."""
        module = self.definitions[-1].thing.__module__
        things = {name: (module, value) for name, value in self.constants.items()}
        for one in self.definitions[:-1]:
            things[one.name] = (one.thing.__module__, one.thing)
        return things

    @property
    def needs(self) -> str:
        """Code that imports, and raises `TypeError` where something is lacking; "" for nothing."""
        if not (self.imports or self.required):
            return ""
        lines = self.imports.splitlines()
        return _NEEDS.format(what=self.name, imports=lines, names=self.required)


def source_of(function: Any, called_at: tuple[str, int] | None = None) -> Source:
    """Return what has to be sent of a function.

    Parameters
    ----------
    function : function
        May be decorated, if the decorators tell what they wrap (as `functools.wraps` does).
    called_at : (str, int), optional
        File and line that it is being sent from: see `definition_of`.

    Raises
    ------
    TypeError
        It cannot be sent, or something that it needs cannot. Names all of it.
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
        # Parts before their package: the name is the package's.
        "".join(line for _, line in sorted(collector.imports)),
        collector.constants,
        list(collector.definitions.values()),
        sorted(collector.required),
    )


class Sent:
    """What has been sent into one namespace, so that what comes next agrees with it."""

    def __init__(self) -> None:
        self._things: dict[str, tuple[str, object]] = {}  # module and value, by name

    def news(self, source: Source) -> list[Definition]:
        """Return which definitions are to be executed, the function's own in any case.

        Raises
        ------
        TypeError
            Something that comes along is called like something else of another module.
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
        """Remember what has been sent."""
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
    """Follows the names that a function uses, and those that they use in turn."""

    def __init__(self, function: FunctionType, called_at: tuple[str, int] | None) -> None:
        self.imports: set[tuple[int, str]] = set()
        self.constants: dict[str, Any] = {}
        self.definitions: dict[str, Definition] = {}
        self.required: set[str] = set()
        self.reasons: list[str] = []
        self._main = function
        self._called_at = called_at
        self._meanings: dict[str, object] = {}  # of names there, once all is sent

    def define(self, thing: FunctionType | type, prefix: str = "") -> str:
        """Take in the source of a function or class, behind all that it uses; return its name."""
        found = definition_of(thing, self._called_at if thing is self._main else None)
        if self._is_news(found.name, thing):
            self.reasons += [prefix + tie for tie in _ties(thing)]
            namespace = _namespace_of(thing, self._main.__globals__)
            if not all(is_importable(name, namespace) for name in found.annotations):
                found = found.postponed()
            local = thing.__code__.co_freevars if isinstance(thing, FunctionType) else ()
            for used in sorted((found.names | found.annotations).difference(local)):
                self._follow(used, found, namespace)
            self.definitions[found.name] = found
        return found.name

    def _is_news(self, name: str, meaning: object) -> bool:
        """Say whether a name has no meaning yet; it can have one only."""
        if name not in self._meanings:
            self._meanings[name] = meaning
            return True
        if self._meanings[name] is not meaning:
            self.reasons.append(f"{name} is the name of two things that would have to be sent")
        return False

    def _follow(self, name: str, user: Definition, namespace: dict[str, Any]) -> None:
        """Find out what a global name means here, and have that sent."""
        if name in CONTROLLERS_NAMES:
            self.required.add(name)
        elif name.startswith("__") or name not in namespace:
            if not hasattr(builtins, name) and name not in user.assigned:
                self.required.add(name)
        elif isinstance(value := namespace[name], ModuleType):
            self._import_module(name, value, user.tree)
        elif (line := import_line(name, value, namespace)) is not None:
            if self._is_news(name, value):
                self.imports.add((0, line))
        elif isinstance(thing := _unwrapped(value), FunctionType | type):
            self._define_helper(name, thing)
        elif self._is_news(name, value):
            self._take_value(name, value)

    def _define_helper(self, name: str, thing: FunctionType | type) -> None:
        try:
            own_name = self.define(thing, f"{name}: ")
        except UnsendableError as error:
            self.reasons.append(f"{name}: {error}")
            return
        if name != own_name and self._is_news(name, thing):
            alias = self.definitions.get(own_name)
            if alias is not None:  # None: it uses itself by another name, and is not there yet
                code = f"{name} = {own_name}\n"
                self.definitions[name] = alias._replace(name=name, code=code)
            else:
                self.reasons.append(f"{name} is another name of {own_name}, which uses it")

    def _take_value(self, name: str, value: object) -> None:
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
    if thing.__module__ == main.get("__name__"):  # which need not be what sys.modules has
        return main
    return vars(sys.modules.get(thing.__module__, ModuleType("gone")))


def _unwrapped(value: Any) -> Any:
    """Return what decorators have wrapped, where they tell."""
    if isinstance(value, type) or not callable(value):
        return value
    try:
        return inspect.unwrap(value)
    except ValueError:  # something that answers every name with one more wrapper
        return value


def _ties(thing: FunctionType | type) -> Iterator[str]:
    """Say what ties a function to the place where it was defined, if anything does."""
    if not isinstance(thing, FunctionType):
        return
    local = ", ".join(_local_names(thing))
    if local:
        yield f"it uses local variables from around it: {local}"
    owner = thing.__qualname__.rpartition(".")[0]
    if owner and not owner.endswith("<locals>") and thing.__code__.co_varnames[:1] == ("self",):
        yield f"it is a method, and its {owner} stays here; use a function"


def _local_names(function: FunctionType) -> Iterator[str]:
    """Name the variables from around a function that are not the function itself."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for name, cell in cells:
        try:
            itself = _unwrapped(cell.cell_contents) is function
        except ValueError:  # empty as yet: the function is just being decorated, or that is later
            itself = name == function.__name__
        if not itself:
            yield name


def _attributes(tree: ast.AST, name: str) -> Iterator[list[str]]:
    """Find where a name is followed by attributes, and give those."""
    for node in ast.walk(tree):
        first, *attributes = _dotted(node)
        if first == name and attributes:
            yield attributes


def _dotted(node: ast.AST) -> list[str]:
    """Return the parts of a dotted name; of anything else, one that no variable has."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [*_dotted(node.value), node.attr]
    return [""]
