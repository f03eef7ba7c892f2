"""The contents of the dictionaries of an object and of its classes, and their kinds.

The one idea to keep in mind: nothing is read through the object, so no property, descriptor,
``__getattr__``, ``__class__`` or lazily imported module runs.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_C_FUNCTIONS = (types.BuiltinFunctionType, types.MethodWrapperType, types.MethodType)
_IMMUTABLE_DICTS = (types.GetSetDescriptorType, types.MemberDescriptorType)

# Of classes, read past any metaclass.
bases_of: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
contents_of: Callable[[type], Mapping[str, Any]] = type.__dict__["__dict__"].__get__


def attributes(target: object) -> dict[str, Any]:
    """Return the contents of the dictionaries of an object and its classes, and of its slots."""
    found = of_class(type(target))
    for name, member in list(found.items()):
        if type(member) is types.MemberDescriptorType and name not in {"__dict__", "__weakref__"}:
            found.update(_slot(name, member, target))
    for name, member in own_attributes(target).items():
        # A computed attribute of the class goes first: its cached value does not make it a method.
        if type(name) is str and not (name in found and is_computed(found[name])):
            found[name] = member
    return found


def of_class(kind: type) -> dict[str, Any]:
    """Return the contents of the dictionaries of a class and its bases, by name."""
    found: dict[str, Any] = {}
    for base in reversed(bases_of(kind)):
        found.update(contents_of(base))
    return found


def values_of(target: object) -> dict[str, str]:
    """Return the public names of a target that are no methods, each "property" or "attribute"."""
    return {
        name: "property" if is_computed(member) else "attribute"
        for name, member in sorted(attributes(target).items())
        if not name.startswith("_") and not is_method(member)
    }


def own_attributes(target: object) -> dict[str, Any]:
    """Return the contents of the dictionary of an object itself."""
    for base in bases_of(type(target)):
        descriptor = contents_of(base).get("__dict__")
        if descriptor is not None:
            if type(descriptor) not in _IMMUTABLE_DICTS:
                break  # computed by the class
            own = descriptor.__get__(target)
            return dict.copy(own) if issubclass(type(own), dict) else dict(own or ())
    return {}


def _slot(name: str, member: Any, target: object) -> dict[str, Any]:
    try:
        return {name: member.__get__(target)}  # reads the object's memory: no code runs
    except AttributeError:
        return {}  # not set


def has(kind: type, name: str) -> bool:
    """Say whether a type, or a base of it, has an attribute of a name."""
    return any(name in contents_of(base) for base in bases_of(kind))


def _in_c(kind: type, name: str) -> bool:
    """Say whether a special method of a type is written in C."""
    for base in bases_of(kind):
        if name in contents_of(base):
            return type(contents_of(base)[name]) is types.WrapperDescriptorType
    return False


def is_computed(member: object) -> bool:
    """Say whether an entry of a dictionary is a descriptor that computes a value."""
    return has(type(member), "__get__") and not is_method(member)


def computes_attributes(target: object) -> bool:
    """Say whether a target may have attributes that are in no dictionary."""
    kind = type(target)
    if has(kind, "__getattr__") or not _in_c(kind, "__getattribute__"):
        return True
    return issubclass(kind, types.ModuleType) and "__getattr__" in own_attributes(target)


def kind_of(target: object) -> str:
    """Return the name of an object's class."""
    return type.__dict__["__name__"].__get__(type(target))  # type: ignore[no-any-return]


# Kinds of members.


def is_method(member: object) -> bool:
    """Say whether an entry of a dictionary is a function or method of any kind."""
    kind = type(member)
    if issubclass(kind, (staticmethod, classmethod)):
        return _in_c(kind, "__get__") and is_method(_wrapped(member))
    if kind in {functools.partialmethod, functools.singledispatchmethod}:
        return is_method(_wrapped(member))
    return issubclass(kind, functools.partial) or is_function(kind)


def is_function(kind: type) -> bool:
    """Say whether a type is a type of functions, in any language.

    Their calls and their binding to an object are implemented in C: those of Python, Cython,
    `functools.lru_cache` and wrapt, for example. No class that computes an attribute is like that.
    """
    return issubclass(kind, _C_FUNCTIONS) or (_in_c(kind, "__call__") and _in_c(kind, "__get__"))


def _wrapped(member: Any) -> Any:
    """Return the function that a method object of one of Python's types wraps; None for others."""
    kind = type(member)
    for cls in (staticmethod, classmethod, types.MethodType):
        if issubclass(kind, cls):
            return cls.__dict__["__func__"].__get__(member)
    if issubclass(kind, functools.partial):
        return functools.partial.__dict__["func"].__get__(member)
    if kind in {functools.partialmethod, functools.singledispatchmethod}:
        return member.func
    return None


def layers(member: object) -> Iterator[object]:
    """Yield a method and the objects that it wraps, the function itself last."""
    while member is not None:
        yield member
        member = _wrapped(member)
