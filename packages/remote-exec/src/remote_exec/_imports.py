"""The statement that imports a value elsewhere, found from the value, not from its import here.

So star imports, relative imports and cells of a notebook make no difference.
"""

from __future__ import annotations

import functools
import logging
import re
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any


def is_importable(name: str, namespace: dict[str, Any]) -> bool:
    """Return whether a name is undefined in a namespace, or can be imported elsewhere."""
    value = namespace.get(name)
    return (
        name not in namespace
        or isinstance(value, ModuleType)
        or import_line(name, value, namespace) is not None
    )


def import_line(name: str, value: object, namespace: dict[str, Any]) -> str | None:
    """Return the line that imports a value; None if it is defined in the namespace's own module.

    For loggers and compiled regular expressions the line creates an equal object.
    """
    if isinstance(value, logging.Logger):
        return f"import logging; {name} = logging.getLogger({value.name!r})\n"
    if isinstance(value, re.Pattern):
        return f"import re; {name} = re.compile({value.pattern!r}, {value.flags})\n"
    own = namespace.get("__name__")
    if getattr(value, "__module__", None) == own:
        return None
    for module in _homes(value, {own, "__main__"}):
        for attribute in dict.fromkeys((getattr(value, "__name__", name), name)):
            if _has(module, attribute, value):
                return f"from {module} import {attribute} as {name}\n"
    return None


def _homes(value: Any, ours: set[Any]) -> Iterator[str]:
    """Yield the modules that a value may be imported from, the most likely first."""
    if not callable(value):
        return
    home = getattr(value, "__module__", None)
    parts = home.split(".") if isinstance(home, str) and home not in ours else []
    paths = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    yield from (path for path in paths if not _is_private(path))
    yield from (path.replace("_", "") for path in paths if path.startswith("_"))  # _functools
    if not isinstance(value, FunctionType):  # C objects may lack their module, as numpy's ufuncs
        yield from sorted(set(sys.modules) - ours, key=functools.partial(_distance, type(value)))
    yield from paths


def _distance(kind: type, path: str) -> tuple[bool, bool, int, str]:
    """Return a sort key: modules that are likely to define a value of this type come first."""
    top = path.partition(".")[0]
    of_its_type = top == kind.__module__.partition(".")[0] or top in sys.stdlib_module_names
    return _is_private(path), not of_its_type, len(path), path


def _is_private(path: str) -> bool:
    return path.startswith("_") or "._" in path


def _has(module: str, attribute: str, value: object) -> bool:
    return vars(sys.modules.get(module) or object).get(attribute, _has) is value
