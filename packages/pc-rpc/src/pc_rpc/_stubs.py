"""Typed stubs of a live server's targets, for editors and type checkers.

The one idea to keep in mind: the texts of the server are not trusted. An annotation goes into the
stub only if it consists of types that the stub itself knows; others become ``Any``. The stub is
valid Python even if the server is faulty or hostile.
"""

from __future__ import annotations

import ast
import inspect
import keyword
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pc_rpc._signatures import Annotation, signature

BUILTIN_TYPES = frozenset(
    {"bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "set"}
    | {"slice", "str", "tuple", "type"}
)
_ALIASES = {
    "Any": "Any",
    "Dict": "dict",
    "List": "list",
    "None": "None",
    "Optional": "Optional",
    "Set": "set",
    "Tuple": "tuple",
    "Union": "Union",
    "ndarray": "numpy.ndarray[Any, Any]",
}

_IMPORTED = frozenset({"Any", "Optional", "Protocol", "Union"})

_ITERATORS = {"def": "Iterator", "async def": "AsyncIterator"}
"""The return type of a stream, by the keyword of the other methods of the class."""

_ITEM_TYPES = frozenset({"Iterator", "Generator", "AsyncIterator", "AsyncGenerator"})

_LOOKED_UP = _IMPORTED | {"builtins", "numpy"} | set(_ITERATORS.values())
"""Names in annotations besides the built-in types. If a method of the class has one of these names,
the annotation uses an alias with a leading underscore; no method of a stub has one."""

_RESERVED = _IMPORTED | set(_ITERATORS.values())

LONGEST_ANNOTATION = 800
"""Characters. Python reads at most 200 nested brackets, and the shortest type with brackets,
"set[...]", has five characters; the types of real methods are far shorter."""

MOST_DOTS = 16
"""Dots in a name. Python reads at most 100 levels of indentation, and each dot makes one."""

HEADER = '''"""Methods of the RPC server {server}.

Written by ``pc-rpc stubs``. Not needed when the program runs: import it for type checking only.

    if TYPE_CHECKING:
        from this_module import {example}

    with Client["{example}"]({arguments}) as {variable}:
        ...
"""

from __future__ import annotations
'''


def stub_module(server: str, arguments: str, targets: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the source of a module with a class for each target, and one for `AsyncioClient`.

    Parameters
    ----------
    server, arguments : str
        The server in words, and as the arguments of a client.
    targets : dict of str to dict
        The method lists, by the names of the targets.
    """
    names = _class_names(targets)
    example = next(iter(names.values()), "Target")
    header = HEADER.format(
        server=server, arguments=arguments, example=example, variable=example.lower()
    )
    classes = [
        _stub_class(prefix + names[target], define, target, described)
        for target, described in targets.items()
        for prefix, define in (("", "def"), ("Asyncio", "async def"))
    ]
    return "\n\n".join([header + _imports("".join(classes)), *classes])


def _imports(classes: str) -> str:
    """Return the import lines for the names that annotations use."""

    def used(module: str, name: str) -> list[str]:
        found = re.search(rf"\b{name}\.", classes)
        return [f"import {module}" + (f" as {name}" if name != module else "")] if found else []

    def named(name: str) -> bool:
        return re.search(rf"\b{name}\b", classes) is not None

    hidden = sorted(name for name in _IMPORTED if named(f"_{name}"))
    iterators = sorted(name for name in _ITERATORS.values() if named(rf"{name}\["))
    aliases = sorted(name for name in _ITERATORS.values() if named(rf"_{name}\["))
    standard = [
        *used("builtins", "builtins"),
        *used("builtins", "_builtins"),
        *([f"from collections.abc import {', '.join(iterators)}"] if iterators else []),
        *(f"from collections.abc import {name} as _{name}" for name in aliases),
        "from typing import Any, Optional, Protocol, Union",
        *(f"from typing import {name} as _{name}" for name in hidden),
    ]
    blocks = [standard, [*used("numpy", "numpy"), *used("numpy", "_numpy")]]
    return "".join("\n" + "\n".join(lines) + "\n" for lines in blocks if lines)


def _class_names(targets: Iterable[str]) -> dict[str, str]:
    """Return a unique class name for each target."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for target in targets:
        name = plain = class_name(target)
        number = 1
        while not taken.isdisjoint(own := {name, f"Asyncio{name}"}):
            number += 1
            name = f"{plain}_{number}"
        names[target] = name
        taken |= own
    return names


def class_name(target: str) -> str:
    """Return a class name for a target.

    Examples
    --------
    >>> class_name("master_dataset_db"), class_name("3-axis"), class_name("none")
    ('MasterDatasetDb', 'Target3Axis', 'TargetNone')
    """
    spaced = (
        character if f"_{character}".isidentifier() and character != "_" else " "
        for character in unicodedata.normalize("NFKC", target)
    )
    name = "".join(word[:1].upper() + word[1:] for word in "".join(spaced).split())
    return name if _is_name(name) and name not in _RESERVED else f"Target{name}"


def _is_name(text: str) -> bool:
    """Return whether a class, method or parameter can have exactly this name."""
    return (
        text.isidentifier()
        and not keyword.iskeyword(text)
        and text != "__debug__"
        and text == unicodedata.normalize("NFKC", text)
    )


def _stub_class(name: str, define: str, target: str, described: Mapping[str, Any]) -> str:
    head = [f"class {name}(Protocol):", f"    {_docstring(f'The target {target!r}.')}"]
    methods = {
        method: entry
        for method, entry in described["methods"].items()
        if method.count(".") <= MOST_DOTS
        and all(_is_name(word) and not word.startswith("_") for word in method.split("."))
    }
    return "\n".join(head + _body(methods, described.get("streams") or (), define)) + "\n"


def _body(methods: Mapping[str, Any], streams: Collection[str], define: str) -> list[str]:
    """Return the lines within a class: its methods, and a class for each part with dotted names."""
    own = {name: entry for name, entry in methods.items() if "." not in name}
    parts = {name.partition(".")[0] for name in methods} - set(own)
    taken = {*own, *parts}
    lines: list[str] = []
    for name, (spec, doc) in own.items():
        items = _ITERATORS[define] if name in streams else None
        how = "def" if items else define
        lines += ["", f"    {how} {name}{_parameters(spec, taken, items)}:"]
        lines.append(f"        {_docstring(doc)}" if doc else "        ...")
    for part in sorted(parts):
        inner = {
            name.removeprefix(f"{part}."): entry
            for name, entry in methods.items()
            if name.startswith(f"{part}.")
        }
        lines += ["", f"    class _part_{part}({_unshadowed('Protocol', taken)}):"]
        within = {name.removeprefix(f"{part}.") for name in streams if name.startswith(f"{part}.")}
        lines += [f"    {line}".rstrip() for line in _body(inner, within, define)[1:]]
        lines += ["", f"    {part}: _part_{part}"]
    return lines


def _docstring(text: str) -> str:
    first = text.strip().split("\n")[0].strip()
    encodable = first.encode("utf-8", "backslashreplace").decode()  # no lone surrogates
    escaped = encodable.replace("\\", "\\\\").replace('"', '\\"')
    return '"""' + "".join(c if c.isprintable() else repr(c)[1:-1] for c in escaped) + '"""'


def _parameters(spec: Mapping[str, Any], methods: Collection[str], items: str | None) -> str:
    """Return the parameters and the return type of a method, as written behind its name.

    `items` is the return type without its argument if the method returns a stream.
    """
    found = signature(spec)
    if found is None or not all(map(_is_name, found.parameters)):
        result = f"{items}[Any]" if items else "Any"
        return _unshadowed(f"(self, *args: Any, **kwargs: Any) -> {result}", methods)

    def typed(annotation: Any) -> Annotation:
        return Annotation(_unshadowed(annotation_text(annotation), methods))

    own = "self"
    while own in found.parameters:  # an argument that is called "self"
        own = f"_{own}"
    parameters = [inspect.Parameter(own, inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    for parameter in found.parameters.values():
        default = parameter.default
        if default is not parameter.empty:
            default = Annotation("...")
        parameters.append(
            parameter.replace(annotation=typed(parameter.annotation), default=default)
        )
    result = typed(found.return_annotation)
    if items:
        of = item_text(found.return_annotation)
        result = Annotation(_unshadowed(f"{items}[{of}]", methods))
    return str(inspect.Signature(parameters, return_annotation=result))


def _unshadowed(annotation: str, methods: Collection[str]) -> str:
    """Qualify the names in an annotation that methods of the class would hide.

    Examples
    --------
    >>> _unshadowed("dict[str, set[int]]", {"set", "get"})
    'dict[str, builtins.set[int]]'
    >>> _unshadowed("numpy.ndarray[Any, Any]", {"numpy"})
    '_numpy.ndarray[Any, Any]'
    """

    def qualified(match: re.Match[str]) -> str:
        name = match[0]
        if name not in methods:
            return name
        if name in BUILTIN_TYPES:
            return f"{qualified_builtins}.{name}"
        return f"_{name}" if name in _LOOKED_UP else name

    qualified_builtins = "_builtins" if "builtins" in methods else "builtins"
    return re.sub(r"(?<!\.)\b[^\W\d]\w*", qualified, annotation)


def annotation_text(annotation: Any) -> str:
    """Return an annotation of a method list as text for the stub.

    Examples
    --------
    >>> annotation_text("typing.Optional[list[int]]"), annotation_text("laser.Power")
    ('Optional[list[int]]', 'Any')
    """
    if not isinstance(annotation, str):
        return "Any"
    try:
        text = _safe(ast.parse(annotation.strip("'\""), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "Any"
    return text if len(text) <= LONGEST_ANNOTATION else "Any"


def item_text(annotation: Any) -> str:
    """Return the type of the items of an iterator, from its annotation in a method list.

    Examples
    --------
    >>> item_text("collections.abc.Generator[tuple[int, float], None, str]"), item_text("Iterator")
    ('tuple[int, float]', 'Any')
    """
    if not isinstance(annotation, str):
        return "Any"
    try:
        match ast.parse(annotation.strip("'\""), mode="eval").body:
            case ast.Subscript(value=value, slice=item):
                if ast.unparse(value).rpartition(".")[2] in _ITEM_TYPES:
                    first = item.elts[0] if isinstance(item, ast.Tuple) and item.elts else item
                    return annotation_text(ast.unparse(first))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    return "Any"


def _safe(node: ast.expr) -> str:
    """Return the text of a type; raise ValueError if it contains unknown ones."""
    match node:
        case ast.Constant(value=None):
            return "None"
        case ast.Constant(value=value) if value is ...:
            return "..."
        case (
            ast.Name(id=name)
            | ast.Attribute(value=ast.Name(id="typing" | "numpy" | "np"), attr=name)
        ):
            if name in BUILTIN_TYPES:
                return name
            if name in _ALIASES:
                return _ALIASES[name]
        case ast.Subscript(
            value=ast.Name(id="Annotated")
            | ast.Attribute(value=ast.Name("typing"), attr="Annotated"),
            slice=ast.Tuple(elts=[kind, *_]),
        ):
            return _safe(kind)  # the rest is documentation, a unit for example
        case ast.Subscript(value=value, slice=ast.Tuple(elts=items)):
            return f"{_generic(value)}[{', '.join(map(_safe, items)) or '()'}]"
        case ast.Subscript(value=value, slice=item):
            return f"{_generic(value)}[{_safe(item)}]"
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return f"{_safe(left)} | {_safe(right)}"
    raise ValueError(ast.dump(node))


def _generic(node: ast.expr) -> str:
    """Return the text of a generic type, without its default arguments."""
    return _safe(node).removesuffix("[Any, Any]")
