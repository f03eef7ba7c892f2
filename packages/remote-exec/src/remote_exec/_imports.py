"""Which line imports a value elsewhere: told from the value, not from how it was imported here.

So it does not matter whether there was a star import, a relative one, or a cell of a notebook.
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
    """Say whether a name of a namespace means what an import gives elsewhere, too, or nothing."""
    value = namespace.get(name)
    return (
        name not in namespace
        or isinstance(value, ModuleType)
        or import_line(name, value, namespace) is not None
    )


def import_line(name: str, value: object, namespace: dict[str, Any]) -> str | None:
    """Return the line that imports a value; None if it is from the namespace's own module.

    Loggers and compiled regular expressions, which modules keep as constants, are made anew.
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
    """Name the modules that a value may be imported from, the likeliest first."""
    if not callable(value):
        return
    home = getattr(value, "__module__", None)
    parts = home.split(".") if isinstance(home, str) and home not in ours else []
    paths = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    yield from (path for path in paths if not _is_private(path))
    yield from (path.replace("_", "") for path in paths if path.startswith("_"))  # _functools
    if not isinstance(value, FunctionType):  # what is built in may not tell: numpy's ufuncs
        yield from sorted(set(sys.modules) - ours, key=functools.partial(_distance, type(value)))
    yield from paths


def _distance(kind: type, path: str) -> tuple[bool, bool, int, str]:
    """Return a key that sorts modules by how likely they are the home of a value of a type."""
    top = path.partition(".")[0]
    of_its_type = top == kind.__module__.partition(".")[0] or top in sys.stdlib_module_names
    return _is_private(path), not of_its_type, len(path), path


def _is_private(path: str) -> bool:
    return path.startswith("_") or "._" in path


def _has(module: str, attribute: str, value: object) -> bool:
    return vars(sys.modules.get(module) or object).get(attribute, _has) is value
