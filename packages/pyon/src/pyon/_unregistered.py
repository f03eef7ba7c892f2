"""Values of unregistered types, for commands that read files of other programs.

Such a value is kept as a name and arguments. Nothing is looked up by the name or called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ._codec import Codec
from ._reading import Reader
from ._types import RESERVED, Form, Forms, is_name

MAX_NAMES = 1000
"""Maximum number of unregistered names in one file: each costs a class."""


class Unregistered:
    """A value of an unregistered type. There is a subclass for each name."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.arguments == self.arguments

    def __hash__(self) -> int:
        return hash((type(self), self.arguments))


class OpenForms(Forms):
    """A table of types in which every name has a form.

    Attributes
    ----------
    names : list of str
        The unregistered names found so far, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def named(self, name: object) -> Form | None:
        """Return the form of this name; it is created if necessary."""
        form = super().named(name)
        if form is not None or not _is_name(name) or len(self.names) == MAX_NAMES:
            return form
        kind = type(str(name), (Unregistered,), {})
        self.register(kind, name=str(name), encode=lambda x: x.arguments, decode=kind)
        self.names.append(str(name))
        return super().named(name)

    def spell(self, kind: type, name: str, encode: Callable[[Any], Iterable[Any]]) -> None:
        """Write values of `kind` with this name and these arguments. They cannot be read back."""
        self._by_type[kind] = Form(name, encode, lambda *_: None)


class OpenCodec(Codec):
    """A codec that reads and writes types that are not registered.

    Attributes
    ----------
    forms : OpenForms
    """

    def __init__(self) -> None:
        self.forms = self._forms = OpenForms()
        self._reader = Reader(self._forms)


def _is_name(name: object) -> bool:
    return is_name(name) and name not in RESERVED
