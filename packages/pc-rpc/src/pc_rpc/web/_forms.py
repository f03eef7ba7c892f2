"""Forms for methods, from the method list, and arguments from the texts typed into them; pure.

The one idea to keep in mind: neither the method list nor the typed texts are evaluated. Annotations
are texts with a few known spellings; everything else is PYON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyon

__all__ = ["Field", "Form", "arguments", "forms_of"]

MOST_METHODS = 2000
"""Methods that are shown; more than any driver has."""

LONGEST_DOC = 20_000
"""Characters of a docstring that are shown."""

LONGEST_DEFAULT = 200
"""Characters of a default value that are shown."""

_ANNOTATED = re.compile(r"(?:typing\.)?Annotated\[(.+), *('[^'\\]*'|\"[^\"\\]*\")\]")
_OPTIONAL = re.compile(r"(?:typing\.)?Optional\[(.+)\]|(.+?) *\| *None|None *\| *(.+)")
_LITERAL = re.compile(r"(?:typing\.)?Literal(\[.+\])")
_SIMPLE = {"float": "float", "int": "int", "bool": "bool", "str": "str"}
_PARAMETERS = re.compile(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", re.MULTILINE | re.DOTALL)
_PARAMETER = re.compile(r"^(\w[\w, ]*?)(?: *:.*)?\n((?:[ \t]+.*\n?|\n)*)", re.MULTILINE)


@dataclass(frozen=True)
class Field:
    """One parameter.

    Attributes
    ----------
    name : str
        Name of the parameter.
    kind : {"float", "int", "bool", "str", "choice", "pyon"}
        Kind of the value.
    required : bool
        Whether the parameter has no default value.
    default : str
        The default value, as text.
    unit : str
        The unit of an annotation such as ``Annotated[float, "W"]``.
    help : str
        The description of the parameter in the docstring.
    choices : list
        The values of a choice.
    place : {"argument", "keyword", "arguments", "keywords"}
        How it is passed; the last two are ``*args`` and ``**kwargs``.
    """

    name: str
    kind: str = "pyon"
    required: bool = True
    default: str = ""
    unit: str = ""
    help: str = ""
    choices: list[Any] = field(default_factory=list)
    place: str = "argument"

    def as_dict(self) -> dict[str, Any]:
        """Return the field, as it is sent to a page."""
        shown = [choice if isinstance(choice, str) else repr(choice) for choice in self.choices]
        return {**self.__dict__, "choices": shown}


@dataclass(frozen=True)
class Form:
    """One method."""

    name: str
    doc: str
    fields: list[Field]

    def as_dict(self) -> dict[str, Any]:
        """Return the form, as it is sent to a page."""
        fields = [one.as_dict() for one in self.fields]
        return {"name": self.name, "doc": self.doc, "fields": fields}


def forms_of(listed: Mapping[str, Any]) -> dict[str, Form]:
    """Return a form for each method of a method list, also for malformed entries."""
    methods = listed.get("methods")
    if not isinstance(methods, Mapping):
        return {}
    return {str(name): _form(str(name), methods[name]) for name in [*methods][:MOST_METHODS]}


def _form(name: str, described: Any) -> Form:
    spec, doc = described if _is_pair(described) else ({}, None)
    doc = doc[:LONGEST_DOC] if isinstance(doc, str) else ""
    if not isinstance(spec, Mapping):
        return Form(name, doc, [])
    helps = _helps(doc)
    annotations = _mapping(spec.get("annotations"))
    names = _names(spec.get("args"))[1:]
    defaults = spec.get("defaults")
    defaults = list(defaults) if isinstance(defaults, (list, tuple)) else []
    known = dict(zip(names[len(names) - len(defaults) :], defaults, strict=False))
    fields = [_field(one, annotations, helps, known, "argument") for one in names]
    if isinstance(spec.get("varargs"), str):
        more = Field(spec["varargs"], required=False, help="a list", place="arguments")
        fields.append(more)
    keywords = _mapping(spec.get("kwonlydefaults"))
    for one in _names(spec.get("kwonlyargs")):
        fields.append(_field(one, annotations, helps, keywords, "keyword"))  # noqa: PERF401
    if isinstance(spec.get("varkw"), str):
        more = Field(spec["varkw"], required=False, help="a dict", place="keywords")
        fields.append(more)
    return Form(name, doc, fields)


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2


def _names(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, Sequence) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _field(
    name: str,
    annotations: Mapping[str, Any],
    helps: Mapping[str, str],
    defaults: Mapping[str, Any],
    place: str,
) -> Field:
    annotation = annotations.get(name)
    has_default = name in defaults
    text = annotation if isinstance(annotation, str) else ""
    kind, unit, choices = _kind(text.strip(), optional=has_default)
    default = defaults.get(name)
    if kind == "pyon" and not text and has_default:
        kind = _SIMPLE.get(type(default).__name__, "pyon")
    shown = repr(default)[:LONGEST_DEFAULT] if has_default else ""
    if kind == "str" and isinstance(default, str):
        shown = default[:LONGEST_DEFAULT]
    return Field(name, kind, not has_default, shown, unit, helps.get(name, ""), choices, place)


def _kind(annotation: str, *, optional: bool) -> tuple[str, str, list[Any]]:
    """Return the kind of a field, its unit and its choices.

    Examples
    --------
    >>> _kind("float", optional=False), _kind("typing.Annotated[int, 'ms']", optional=False)
    (('float', '', []), ('int', 'ms', []))
    >>> _kind("Literal['slow', 'fast']", optional=False), _kind("float | None", optional=True)
    (('choice', '', ['slow', 'fast']), ('float', '', []))
    >>> _kind("float | None", optional=False)
    ('pyon', '', [])
    """
    unit = ""
    if found := _ANNOTATED.fullmatch(annotation):
        annotation, unit = found[1], found[2][1:-1]
    if optional and (found := _OPTIONAL.fullmatch(annotation)):
        annotation = found[1] or found[2] or found[3]
    if found := _LITERAL.fullmatch(annotation):
        try:
            choices = pyon.decode(found[1])
        except pyon.DecodeError:
            return "pyon", unit, []
        return "choice", unit, choices
    return _SIMPLE.get(annotation, "pyon"), unit, []


def _helps(doc: str) -> dict[str, str]:
    r"""Return the description of each parameter in a docstring in numpydoc's style.

    Examples
    --------
    >>> _helps("Ramp.\n\nParameters\n----------\npower : float\n    In watts.\n")
    {'power': 'In watts.'}
    """
    section = _PARAMETERS.search(f"{doc}\n")
    found = _PARAMETER.findall(section[1]) if section else []
    return {
        name.strip(): " ".join(text.split()) for names, text in found for name in names.split(",")
    }


def arguments(form: Form, typed: Mapping[str, str]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments that were typed into a form.

    Parameters
    ----------
    form : Form
        The form.
    typed : mapping
        Texts by names of parameters. An empty text: the default value.

    Raises
    ------
    ValueError
        A value is missing or invalid; the message names the parameter.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    left_out = ""
    for one in form.fields:
        text = typed.get(one.name, "")
        if not text and not (one.kind == "str" and one.required):
            if one.required:
                raise ValueError(f"{one.name}: a value is needed")
            left_out = left_out or (one.name if one.place == "argument" else "")
            continue
        value = _value(one, text)
        if one.place == "arguments":
            if left_out:
                raise ValueError(f"{left_out}: a value is needed, as there are more behind it")
            args += _of_type(one, value, (list, tuple))
        elif one.place == "keywords":
            kwargs |= _of_type(one, value, (dict,))
        elif one.place == "keyword" or left_out:
            kwargs[one.name] = value
        else:
            args.append(value)
    return args, kwargs


def _value(one: Field, text: str) -> Any:
    try:
        if one.kind == "choice":
            return one.choices[int(text)]
        if one.kind == "bool":
            return {"true": True, "false": False}[text]
        if one.kind == "str":
            return text
        value = pyon.decode(text)
        if one.kind == "float" and type(value) is int:
            return float(value)
        if one.kind in {"float", "int"} and type(value).__name__ != one.kind:
            raise ValueError("it is another type")
    except (ValueError, LookupError, OverflowError) as error:
        expected = {"float": "a number", "int": "a whole number"}.get(one.kind, "a PYON value")
        hint = ""
        if one.kind == "pyon" and text.isidentifier():
            hint = f'; a text needs quotes: "{text}"'
        raise ValueError(f"{one.name}: expected {expected}, got {text[:80]!r}{hint}") from error
    return value


def _of_type(one: Field, value: Any, types: tuple[type, ...]) -> Any:
    if not isinstance(value, types):
        raise ValueError(f"{one.name}: expected {one.help}, got {type(value).__name__}")
    return value
