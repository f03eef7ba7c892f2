"""Whether a function is awaited, or gives items, determined without calling it.

The one idea to keep in mind: a generator function is recognised by its code, any other function by
the annotation of its result. Annotations are not evaluated, and decorators are not unwrapped,
because a decorator may turn a generator into a function that returns a list.
"""

from __future__ import annotations

import collections.abc
import inspect
import re
import typing
from types import FunctionType
from typing import Any

_ITERATORS = (
    collections.abc.Iterator,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
)
_SAYS_ITERATOR = re.compile(r"(?:\w+\.)*(?:Async)?(?:Iterator|Generator)(?:\[|$)")


def is_awaited(function: object) -> bool:
    """Say whether a function is a coroutine function or an asynchronous generator."""
    return type(function) is FunctionType and (
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    )


def gives_items(function: object) -> bool:
    """Say whether a function gives its result item by item."""
    if type(function) is not FunctionType:
        return False
    flags = function.__code__.co_flags
    if flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        return not flags & inspect.CO_ITERABLE_COROUTINE  # which is awaited
    return _says_iterator(function.__annotations__.get("return"))


def _says_iterator(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return _SAYS_ITERATOR.match(annotation.strip("'\" ")) is not None
    origin = typing.get_origin(annotation) or annotation
    return any(origin is kind for kind in _ITERATORS)
