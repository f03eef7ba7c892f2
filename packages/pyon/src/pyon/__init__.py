"""Python Object Notation: human-readable text for Python and numpy data, exact in its types.

`encode` and `decode` turn values into text and back; `store_file` and `load_file` do so with files.
What is written is read back as it was, exact in its types, or refused. Nothing that is read is ever
evaluated.

The functions are the methods of one `Codec` that all share; make one of your own for registrations
that nobody else is to see.
"""

# None of these loads `typing`, which takes a quarter of the time that all of pyon does: they set
# TYPE_CHECKING, which type checkers take for true, themselves.
from ._codec import Codec, shared
from ._errors import DecodeError, EncodeError, PyonError
from ._integers import MAX_INT_DIGITS
from ._types import MAX_DEPTH
from ._writer import RAW_BUFFER_SIZE

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
    "store_file",
]

for _error in (PyonError, EncodeError, DecodeError):
    _error.__module__ = "pyon"  # where people find them

_shared = shared()
encode = _shared.encode
decode = _shared.decode
load_file = _shared.load_file
store_file = _shared.store_file
register = _shared.register
deregister = _shared.deregister
