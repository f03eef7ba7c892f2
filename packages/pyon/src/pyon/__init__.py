"""Python Object Notation: human-readable text for Python and numpy data, exact in its types.

`encode` and `decode` convert values to text and back; `store_file` and `load_file` use files. A
value is read back exactly, including its types, or it is refused when it is written. Reading never
evaluates anything.

The functions are the methods of one shared `Codec`. Create a `Codec` of your own for registrations
that other code must not see.
"""

from __future__ import annotations

from ._errors import DecodeError, EncodeError, PyonError

# To import `typing` takes a quarter of the time that all of pyon does. So our modules define
# TYPE_CHECKING themselves; type checkers treat this name as true.
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
    _error.__module__ = "pyon"  # the public name of the module


def __getattr__(name: str) -> Any:
    """Load the codec when one of its names is first used: the modules for TCP do not need it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import _codec, _integers, _types, _writer

    for module in (_codec, _integers, _types, _writer, _codec.shared()):
        names = [public for public in __all__ if hasattr(module, public)]
        globals().update({public: getattr(module, public) for public in names})
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
