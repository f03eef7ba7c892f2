"""Typed stubs of a live server's targets, for editors and type checkers.

The one idea to keep in mind: what the server says is text from elsewhere. An annotation goes into
the stub only if it is made of nothing but types that the stub itself knows; all else is ``Any``.
"""

from __future__ import annotations

import ast
import inspect
import keyword
import re
from collections.abc import Mapping
from typing import Any

from pc_rpc._remote import Annotation, signature

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

HEADER = '''"""Methods of the RPC server {server}, as told by itself.

Written by ``pc-rpc stubs``. Not needed when the program runs: import it for type checking only.

    if TYPE_CHECKING:
        from this_module import {example}

    with Client["{example}"]({arguments}) as {variable}:
        ...
"""

from __future__ import annotations

from typing import Any, Optional, Protocol, Union

import numpy
'''


def stub_module(server: str, arguments: str, targets: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the source of a module with a class for each target, and one for `AsyncioClient`.

    Parameters
    ----------
    server, arguments : str
        The server as people, and as the arguments of a client, write it.
    targets : dict of str to dict
        The method lists, by the names of the targets.
    """
    names = {target: class_name(target) for target in targets}
    example = next(iter(names.values()), "Target")
    text = HEADER.format(
        server=server, arguments=arguments, example=example, variable=example.lower()
    )
    for target, described in targets.items():
        for prefix, define in (("", "def"), ("Asyncio", "async def")):
            text += "\n\n" + _stub_class(prefix + names[target], define, target, described)
    if "numpy." not in text:
        text = text.replace("\nimport numpy\n", "")
    return text


def class_name(target: str) -> str:
    """Return a class name for a target.

    Examples
    --------
    >>> class_name("master_dataset_db"), class_name("3-axis")
    ('MasterDatasetDb', 'Target3Axis')
    """
    words = re.findall(r"[^\W_]+", target)
    name = "".join(word[:1].upper() + word[1:] for word in words)
    return name if name.isidentifier() else f"Target{name}"


def _stub_class(name: str, define: str, target: str, described: Mapping[str, Any]) -> str:
    lines = [f"class {name}(Protocol):", f"    {_docstring(f'The target {target!r}.')}"]
    for method, entry in described["methods"].items():
        if method.isidentifier() and not keyword.iskeyword(method):
            spec, doc = entry
            lines += ["", f"    {define} {method}{_parameters(spec)}:"]
            lines.append(f"        {_docstring(doc)}" if doc else "        ...")
    return "\n".join(lines) + "\n"


def _docstring(text: str) -> str:
    first = text.strip().split("\n")[0].strip()
    escaped = first.replace("\\", "\\\\").replace('"', '\\"')
    return f'"""{escaped}"""'


def _parameters(spec: Mapping[str, Any]) -> str:
    """Return the parameters and the result of a method, as they stand behind its name."""
    found = signature(spec)
    if found is None:
        return "(self, *args: Any, **kwargs: Any) -> Any"
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    for parameter in found.parameters.values():
        annotation = Annotation(annotation_text(parameter.annotation))
        default = parameter.empty if parameter.default is parameter.empty else ...
        parameters.append(parameter.replace(annotation=annotation, default=default))
    if "self" in found.parameters:  # an argument, and not the object itself
        parameters[0] = parameters[0].replace(name="_self")
    result = Annotation(annotation_text(found.return_annotation))
    shown = inspect.Signature(parameters, return_annotation=result)
    return str(shown).replace("Ellipsis", "...")


def annotation_text(annotation: Any) -> str:
    """Return an annotation from a method list as the stub may have it.

    Examples
    --------
    >>> annotation_text("typing.Optional[list[int]]"), annotation_text("laser.Power")
    ('Optional[list[int]]', 'Any')
    """
    if not isinstance(annotation, str):
        return "Any"
    try:
        return _safe(ast.parse(annotation.strip("'\""), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "Any"


def _safe(node: ast.expr) -> str:
    """Return the text of a type, or raise ValueError if it is not made of known ones."""
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
        case ast.Subscript(value=value, slice=ast.Tuple(elts=items)):
            return f"{_generic(value)}[{', '.join(map(_safe, items))}]"
        case ast.Subscript(value=value, slice=item):
            return f"{_generic(value)}[{_safe(item)}]"
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return f"{_safe(left)} | {_safe(right)}"
    raise ValueError(ast.dump(node))


def _generic(node: ast.expr) -> str:
    """Return the text of a type that parameters are about to be given to."""
    return _safe(node).removesuffix("[Any, Any]")
