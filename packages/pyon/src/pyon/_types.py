"""The table of types with a PYON form: their names, and how they are taken apart and built.

Writers and readers of both generations use only this table. So everything that can be written can
be read, and nothing is read that is not in the table. Types with their own syntax (numbers,
strings, lists, ...) are spelled by the generations. Every other type has a `Form`: a name and a
list of arguments, which are PYON values.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from ._on_demand import load_arrays, load_fraction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


MAX_DEPTH = 128
"""Maximum number of nesting levels. Evaluating readers fail at 200 brackets or earlier. One level
may need five JSON brackets, and all of them must fit into the default recursion limit of 1000, with
room for the caller."""


class Form:
    """How values of a type are spelled: a name and arguments.

    Parameters
    ----------
    name : str
    take_apart : callable
        Returns the arguments for a value.
    put_together : callable
        Returns the value for the arguments.
    arity : int, optional
        Number of arguments. None: the registered function checks it.
    raw : bool
        Whether the last argument is bytes, which are written as base64 or as a separate buffer.
    """

    __slots__ = ("arity", "name", "put_together", "raw", "take_apart")

    def __init__(
        self,
        name: str,
        take_apart: Callable[[Any], Iterable[Any]],
        put_together: Callable[..., Any],
        arity: int | None = None,
        raw: bool = False,
    ) -> None:
        self.name = name
        self.take_apart = take_apart
        self.put_together = put_together
        self.arity = arity
        self.raw = raw


SPELLED = frozenset({type(None), bool, int, float, complex, str, bytes, tuple, list, set, dict})
"""The types with their own syntax in at least one generation of the format."""

RESERVED = frozenset(
    {"null", "true", "false", "None", "True", "False", "inf", "nan", "infj", "nanj", "b"}
) | {kind.__name__ for kind in SPELLED}
"""Words that cannot be names of registered types: they have a meaning in one of the generations."""


def is_name(name: object) -> bool:
    """Return whether this is a valid name of a type: ASCII identifiers joined by dots."""
    return isinstance(name, str) and name.isascii() and all(map(str.isidentifier, name.split(".")))


SEQUENCES: frozenset[type] = frozenset({tuple, list})


class Forms:
    """The table: forms by type for writers, by name for readers, built in or registered."""

    def __init__(self) -> None:
        self._by_type: dict[type, Form] = {
            slice: _BUILT_IN["slice"],
            OrderedDict: _BUILT_IN["OrderedDict"],
        }
        self._by_name = dict(_BUILT_IN)

    def of(self, kind: type) -> Form | None:
        """Return the form of exactly this type, or None."""
        form = self._by_type.get(kind)
        if form is None and kind.__module__ in ("numpy", "fractions"):
            # These modules are loaded already, because there is a value of theirs.
            self._by_type.update(
                _numpy_forms() if kind.__module__ == "numpy" else _fraction_forms()
            )
            form = self._by_type.get(kind)
        return form

    def named(self, name: object) -> Form | None:
        """Return the form of this name, or None."""
        return self._by_name.get(name) if type(name) is str else None

    def register(
        self,
        types: type | Iterable[type],
        *,
        name: str,
        encode: Callable[[Any], Iterable[Any]],
        decode: Callable[..., Any],
    ) -> None:
        """Add a form; see `Codec.register`."""
        types = _tuple_of_types(types)
        if not is_name(name):
            raise ValueError(f"the name of a type must be an ASCII identifier, not {name!r}")
        if name in self._by_name or name in RESERVED:
            raise ValueError(f"the name {name!r} is in use")
        for kind in types:
            if kind in SPELLED or self.of(kind) is not None:
                raise ValueError(f"{kind.__qualname__} has a PYON form already")
        form = Form(name, encode, decode)
        self._by_type.update(dict.fromkeys(types, form))
        self._by_name[name] = form

    def deregister(self, types: type | Iterable[type], name: str) -> None:
        """Remove a form; see `Codec.deregister`."""
        types = _tuple_of_types(types)
        form = self._by_name.get(name)
        registered = {kind for kind, its_form in self._by_type.copy().items() if its_form is form}
        if form is None or name in _BUILT_IN or set(types) != registered:
            names = ", ".join(kind.__qualname__ for kind in types)
            raise ValueError(f"not registered as {name!r}: {names}")
        del self._by_name[name]
        for kind in types:
            del self._by_type[kind]


def put_together(form: Form, arguments: list[Any]) -> Any:
    """Build the value of a form.

    Raises
    ------
    ValueError
        If the arguments do not fit. It replaces any other exception of the form.
    ImportError
        If numpy is needed and not installed.
    """
    if form.arity not in (None, len(arguments)):
        raise ValueError(f"{form.name} takes {form.arity} arguments, not {len(arguments)}")
    try:
        return form.put_together(*arguments)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # registered functions are users' code: they may raise anything
        raise ValueError(f"{form.name}: {error}") from error


def _tuple_of_types(types: type | Iterable[type]) -> tuple[type, ...]:
    types = (types,) if isinstance(types, type) else tuple(types)
    if not types or not all(isinstance(kind, type) for kind in types):
        raise TypeError(f"expected one or more types, got {types!r}")
    return types


def _ordered_dict(pairs: Any) -> OrderedDict[Any, Any]:
    return OrderedDict(check_pairs(pairs))


def check_pairs(pairs: Any) -> list[Any]:
    """Return a list of tuples and lists; ValueError for others. `dict` checks their lengths."""
    if type(pairs) is not list or not SEQUENCES.issuperset(map(type, pairs)):
        raise ValueError("expected a list of pairs")
    return pairs


def read_fraction(numerator: Any, denominator: Any) -> Any:
    """Build a Fraction from two integers; ValueError for other arguments."""
    if type(numerator) is not int or type(denominator) is not int:
        raise ValueError("expected two integers")
    return load_fraction()(numerator, denominator)


def _numpy_forms() -> dict[type, Form]:
    module = load_arrays()
    return {
        **dict.fromkeys(module.SCALARS, _BUILT_IN["npscalar"]),
        module.ARRAY: _BUILT_IN["nparray"],
    }


def _fraction_forms() -> dict[type, Form]:
    return {load_fraction(): _BUILT_IN["Fraction"]}


def _slice(start: Any, stop: Any, step: Any) -> slice:
    return slice(start, stop, step)


_BUILT_IN = {
    form.name: form
    for form in (
        Form("slice", lambda x: (x.start, x.stop, x.step), _slice, 3),
        Form("OrderedDict", lambda x: (list(x.items()),), _ordered_dict, 1),
        Form("Fraction", lambda x: (x.numerator, x.denominator), read_fraction, 2),
        Form(
            "nparray",
            lambda x: load_arrays().take_apart(x),
            lambda shape, dtype, data: load_arrays().put_together(shape, dtype, data),
            arity=3,
            raw=True,
        ),
        Form(
            "npscalar",
            lambda x: load_arrays().take_scalar_apart(x),
            lambda dtype, data: load_arrays().put_scalar_together(dtype, data),
            arity=2,
            raw=True,
        ),
    )
}
