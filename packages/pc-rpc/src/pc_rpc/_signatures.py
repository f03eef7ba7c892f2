"""Signatures of remote methods, from the method list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import inspect
    from collections.abc import Mapping


class Annotation(str):
    """The text of an annotation, whose repr has no quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def signature(spec: Mapping[str, Any]) -> inspect.Signature | None:
    """Return the signature that an entry of the method list describes, without ``self``.

    None if the entry is malformed.
    """
    import inspect

    parameter, empty = inspect.Parameter, inspect.Parameter.empty
    notes = spec.get("annotations") or {}

    def annotation(name: str) -> Any:
        return Annotation(notes[name]) if name in notes else empty

    def make(name: str, kind: Any, default: Any = empty) -> inspect.Parameter:
        return parameter(name, kind, default=default, annotation=annotation(name))

    try:
        names, defaults = list(spec.get("args") or ()), list(spec.get("defaults") or ())
        filled = [*[empty] * (len(names) - len(defaults)), *defaults]
        positional = list(zip(names, filled, strict=False))
        if names[:1] in (["self"], ["cls"]):
            del positional[0]
        parameters = [make(name, parameter.POSITIONAL_OR_KEYWORD, d) for name, d in positional]
        if spec.get("varargs"):
            parameters.append(make(spec["varargs"], parameter.VAR_POSITIONAL))
        only = spec.get("kwonlydefaults") or {}
        parameters += [
            make(name, parameter.KEYWORD_ONLY, dict(only).get(name, empty))
            for name in spec.get("kwonlyargs") or ()
        ]
        if spec.get("varkw"):
            parameters.append(make(spec["varkw"], parameter.VAR_KEYWORD))
        return inspect.Signature(parameters, return_annotation=annotation("return"))
    except (TypeError, ValueError, LookupError):
        return None


def part_of(described: Any, key: str) -> Mapping[Any, Any]:
    """Return a dict of a method list; an empty one if the server sent something else."""
    part = described.get(key) if isinstance(described, dict) else None
    return part if isinstance(part, dict) else {}
