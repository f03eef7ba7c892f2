"""Forms for the classes of a module: dataclasses, enumerations, named tuples.

The one idea to keep in mind: only classes whose values can be restored exactly have a form. All
forms are created before the first is registered, so that a module is registered as a whole or not
at all.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

from ._codec import Codec


class _Form(NamedTuple):
    type: type
    name: str
    encode: Callable[[Any], Iterable[Any]]
    decode: Callable[..., Any]


def register_module(codec: Codec, module: ModuleType, prefix: str | None) -> list[type]:
    """Register the classes of a module; see `Codec.register_module`."""
    if not isinstance(module, ModuleType):
        raise TypeError(f"expected a module, not {module!r:.100}")
    before = f"{module.__name__}." if prefix is None else prefix
    forms = [
        _Form(kind, before + kind.__qualname__, *functions)
        for kind in _classes(vars(module), module.__name__, "")
        if not codec.is_registered(kind) and (functions := _functions(kind)) is not None
    ]
    done: list[_Form] = []
    try:
        for form in forms:
            codec.register(form.type, name=form.name, encode=form.encode, decode=form.decode)
            done.append(form)
    except BaseException:
        for form in done:
            codec.deregister(form.type, form.name)
        raise
    return [form.type for form in forms]


def _classes(contents: Any, module: str, outer: str) -> Iterator[type]:
    """Yield the public classes that are defined in a module, including nested classes."""
    for name, kind in list(contents.items()):
        here = isinstance(kind, type) and kind.__module__ == module
        if here and not name.startswith("_") and kind.__qualname__ == outer + name:
            yield kind
            yield from _classes(vars(kind), module, f"{kind.__qualname__}.")


def _functions(kind: type) -> tuple[Callable[[Any], Iterable[Any]], Callable[..., Any]] | None:
    """Return the encode and decode functions of a class; None if it has no form."""
    if issubclass(kind, enum.Flag):
        return (lambda x: (x.value,)), kind
    if issubclass(kind, enum.Enum):
        return ((lambda x: (x.name,)), (lambda name: kind[name])) if len(kind) else None
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return tuple, kind
    if "__dataclass_fields__" in vars(kind):
        return _of_dataclass(kind)
    return None


def _of_dataclass(kind: type) -> tuple[Callable[[Any], Iterable[Any]], Callable[..., Any]]:
    fields = dataclasses.fields(kind)
    lost = [field.name for field in fields if not field.init]
    pseudo: dict[str, Any] = vars(kind)["__dataclass_fields__"]
    lost += [name for name in pseudo if _is_init_only(pseudo[name])]
    if lost or not vars(kind)["__dataclass_params__"].init:
        why = (
            f"the field {lost[0]!r} is not both an argument and an attribute"
            if lost
            else "it was defined with init=False"
        )
        raise ValueError(
            f"{kind.__qualname__} cannot be registered with its module, because {why}: register it "
            "separately first"
        )
    names = [field.name for field in fields]

    def take_apart(x: Any) -> Iterable[Any]:
        return [getattr(x, name) for name in names]

    def put_together(*arguments: Any) -> Any:
        if len(arguments) > len(names):
            raise ValueError(f"expected at most {len(names)} arguments, got {len(arguments)}")
        return kind(**dict(zip(names, arguments, strict=False)))

    return take_apart, put_together


def _is_init_only(field: Any) -> bool:
    return field._field_type is dataclasses._FIELD_INITVAR  # type: ignore[attr-defined]
