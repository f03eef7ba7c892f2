"""Python Object Notation: human-readable text for Python and numpy data, exact in its types.

`encode` and `decode` turn values into text and back; `store_file` and `load_file` do so with files.
What is written is read back as it was, exact in its types, or refused. Nothing that is read is ever
evaluated.

The functions are the methods of one `Codec` that all share; make one of your own for registrations
that nobody else is to see.
"""

from __future__ import annotations

from ._errors import DecodeError, EncodeError, PyonError

# `typing` takes a quarter of the time that all of pyon does: our modules set TYPE_CHECKING, which
# type checkers take for true, themselves.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._codec import Codec, shared
    from ._integers import MAX_INT_DIGITS
    from ._types import MAX_DEPTH
    from ._writer import RAW_BUFFER_SIZE

    encode = shared().encode
    decode = shared().decode
    load_file = shared().load_file
    store_file = shared().store_file
    register = shared().register
    register_module = shared().register_module
    deregister = shared().deregister

__version__ = "1.0.0"

__all__ = [
    "MAX_DEPTH",
    "MAX_INT_DIGITS",
    "RAW_BUFFER_SIZE",
    "Codec",
    "DecodeError",
    "EncodeError",
    "PyonError",
    "decode",
    "deregister",
    "encode",
    "load_file",
    "register",
    "register_module",
    "store_file",
]

for _error in (PyonError, EncodeError, DecodeError):
    _error.__module__ = "pyon"  # where people find them


def __getattr__(name: str) -> Any:
    """Load the codec when a name of it is first used: the modules for TCP do without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import _codec, _integers, _types, _writer

    for module in (_codec, _integers, _types, _writer, _codec.shared()):
        names = [public for public in __all__ if hasattr(module, public)]
        globals().update({public: getattr(module, public) for public in names})
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
