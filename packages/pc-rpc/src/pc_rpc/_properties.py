"""Methods that read and set the properties of a driver: ``get_power``, ``set_power``.

The one idea to keep in mind: properties are found by the types of the entries in the dictionaries
of the driver's classes. None is read before a client calls the method.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from pc_rpc._attributes import has, is_method, of_class


class Accessor(NamedTuple):
    """A method that reads or sets a property.

    Attributes
    ----------
    attribute : str
        The name of the property.
    member : object
        The entry of that name in the dictionary of a class.
    sets : bool
        Whether it sets the property; otherwise it reads it.
    """

    attribute: str
    member: Any
    sets: bool

    @property
    def name(self) -> str:
        """The name of the method for clients."""
        return f"{'set' if self.sets else 'get'}_{self.attribute}"

    @property
    def function(self) -> Any:
        """The function of the driver that reads or sets; None if it is not known, or missing."""
        kind = type(self.member)
        if issubclass(kind, property):
            return property.__dict__["fset" if self.sets else "fget"].__get__(self.member)
        if issubclass(kind, functools.cached_property):
            return None if self.sets else self.member.func
        return None

    def bind(self, target: object) -> Callable[..., Any]:
        """Return the function that clients call. It uses the attribute of the target itself."""

        def read() -> Any:
            return getattr(target, self.attribute)

        def change(value: Any) -> None:
            setattr(target, self.attribute, value)

        bound: Callable[..., Any] = change if self.sets else read
        bound.__name__ = bound.__qualname__ = self.name
        return bound

    def described(self) -> Callable[..., Any]:
        """Return a function with the signature of the method, with ``self`` first."""

        def read(self: object) -> Any: ...

        def change(self: object, value: Any) -> None: ...

        method: Callable[..., Any] = change if self.sets else read
        noted = self._annotation()
        method.__annotations__ = {} if noted is None else {noted[0]: noted[1]}
        return method

    def _annotation(self) -> tuple[str, Any] | None:
        """Return the annotation of the result or of the value, with the name of the parameter.

        If the value has no annotation, that of the result is used.
        """
        if not self.sets:
            notes = _annotations(self.function)
            return ("return", notes["return"]) if "return" in notes else None
        code = self.function.__code__ if type(self.function) is types.FunctionType else None
        notes = _annotations(self.function)
        if code is not None and code.co_argcount > 1 and code.co_varnames[1] in notes:
            return "value", notes[code.co_varnames[1]]
        read = self._replace(sets=False)._annotation()
        return None if read is None else ("value", read[1])


def accessors(target: object, taken: Mapping[str, Any]) -> dict[str, Accessor]:
    """Return the methods for the properties of a target, by name.

    A property is a `property`, a `functools.cached_property`, or any other descriptor of a class
    that can be read and set. Slots, plain attributes and descriptors that can only be read, which
    may be a kind of method, are not properties.

    Parameters
    ----------
    target : object
        The driver.
    taken : dict of str to object
        Its attributes, which are not replaced by methods of the same names.
    """
    found = {}
    for attribute, member in of_class(type(target)).items():
        if attribute.startswith("_") or not is_property(member):
            continue
        for accessor in (Accessor(attribute, member, False), Accessor(attribute, member, True)):
            if _works(accessor) and accessor.name not in taken:
                found[accessor.name] = accessor
    return found


def is_property(member: object) -> bool:
    """Say whether an entry in the dictionary of a class is a property."""
    kind = type(member)
    if issubclass(kind, (property, functools.cached_property)):
        return True
    described = has(kind, "__get__") and has(kind, "__set__") and not is_method(member)
    return described and kind is not types.MemberDescriptorType


def _works(accessor: Accessor) -> bool:
    """Say whether a property can be read, or set; True if that is not known."""
    kind = type(accessor.member)
    tells = issubclass(kind, (property, functools.cached_property))
    return not tells or accessor.function is not None


def _annotations(function: Any) -> Mapping[str, Any]:
    if type(function) is not types.FunctionType:
        return {}
    notes = inspect.get_annotations(function)
    return {name: note for name, note in notes.items() if not isinstance(note, TypeVar)}
