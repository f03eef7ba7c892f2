"""Codec: values to text and text to values, with its own table of types."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike

from ._buffers import NO_BUFFERS, Buffers
from ._errors import DecodeError
from ._on_demand import load_lines
from ._reading import Reader
from ._spelling import Spelling
from ._types import Forms
from ._v1_spelling import V1
from ._v2_spelling import V2, V2_PRETTY
from ._writer import Convert, Writer, base64_bytes, base64_chunks, base64_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


Readable = bytes | bytearray | memoryview
BYTE_FORMATS = frozenset({"B", "b", "c"})
"""Formats of buffers whose items are bytes."""


class Codec:
    """An encoder and decoder with its own registrations.

    The functions of the module are the methods of one shared codec. A library that registers types
    should create its own codec, so that it does not change what other code reads. A codec may be
    used from any thread.

    Examples
    --------
    >>> import pyon
    >>> codec = pyon.Codec()
    >>> codec.register(range, name="range", encode=lambda r: (r.start, r.stop), decode=range)
    >>> codec.encode([range(3)])
    '[range(0, 3)]'
    """

    def __init__(self) -> None:
        self._forms = Forms()
        self._reader = Reader(self._forms)

    def __reduce__(self) -> Any:
        """Support pickling the functions of the module, which are methods of the shared codec."""
        if self is not shared():
            raise TypeError("a codec cannot be copied or pickled: create a new one")
        return shared, ()

    def encode(
        self,
        x: Any,
        pretty: bool = False,
        *,
        version: int = 1,
        sort_keys: bool = False,
        buffer_callback: Callable[[memoryview], object] | None = None,
    ) -> str:
        """Return the text of a value.

        Parameters
        ----------
        x
            The value. All its parts must be of exactly the types that have a PYON form;
            subclasses are refused.
        pretty
            Whether to break the text into indented lines and sort sets. By default the text is a
            single line.
        version : {1, 2}
            The generation of the format: 1 is Python syntax, 2 is JSON.
        sort_keys : bool, optional
            Whether to sort dicts and sets, for texts that are compared. By default dicts keep
            their order. An OrderedDict always does.
        buffer_callback : callable, optional
            Called with the data of each large array or bytes object, as a memoryview of
            C-contiguous bytes. The text then has the number of the buffer instead of the data.
            Version 2 only.

        Returns
        -------
        str
            ASCII text.

        Raises
        ------
        EncodeError
            If a part of the value has no PYON form. The error gives the path to it.
        """
        if pretty or sort_keys or buffer_callback is not None:
            return self._writer(pretty, version, sort_keys, buffer_callback, base64_text).text(x)
        spelling = V1 if version == 1 else _spelling(version)
        text = spelling.small_text(x)
        return Writer(spelling, self._forms).text(x) if text is None else text

    def encode_pieces(
        self,
        x: Any,
        pretty: bool = False,
        *,
        version: int = 1,
        sort_keys: bool = False,
        buffer_callback: Callable[[memoryview], object] | None = None,
    ) -> list[str | bytes]:
        """Return the text of a value in pieces, for callers that write it to a file or socket.

        Long base64 is a separate piece and is never joined to the rest: to copy a megabyte costs
        more than to encode it.

        Parameters
        ----------
        x, pretty, version, sort_keys, buffer_callback
            As for `encode`, which gives the same text.

        Returns
        -------
        list of str and bytes
            ASCII text. Long base64 is bytes, everything else is strings.

        Raises
        ------
        EncodeError
            As `encode`.
        """
        if not (pretty or sort_keys):
            text = _spelling(version, pretty, buffer_callback).small_text(x)
            if text is not None:
                return [text]
        writer = self._writer(pretty, version, sort_keys, buffer_callback, base64_bytes)
        return writer.pieces(x)

    def _writer(
        self,
        pretty: bool,
        version: int,
        sort_keys: bool,
        buffer_callback: Callable[[memoryview], object] | None,
        convert: Convert,
    ) -> Writer:
        spelling = _spelling(version, pretty, buffer_callback)
        if pretty or sort_keys:
            lines: Writer = load_lines().LinesWriter(
                spelling, self._forms, buffer_callback, convert, pretty, sort_keys
            )
            return lines
        return Writer(spelling, self._forms, buffer_callback, convert)

    def decode(
        self,
        s: str | Readable,
        *,
        buffers: Sequence[Readable] | None = None,
        _version: int | None = None,
    ) -> Any:
        """Return the value of a text of either version. Nothing in the text is ever evaluated.

        Parameters
        ----------
        s : str or bytes-like
            The text; bytes are UTF-8. A bytes-like object is any object with a buffer of bytes: a
            bytearray, a memoryview or an array of bytes.
        buffers : sequence of bytes-like, optional
            The buffers that `encode` passed to its `buffer_callback`, in the same order. An array
            uses the memory of its buffer if that is writable, and a copy otherwise.

        Raises
        ------
        DecodeError
            If the text is not PYON. The error gives line and column.
        TypeError
            If `s` is not a text: a path, for example, for which there is `load_file`.
        ImportError
            If the text has numpy data and numpy is not installed.
        """
        given = Buffers([_bytes_of(buffer) for buffer in buffers]) if buffers else NO_BUFFERS
        source = s if type(s) is str or type(s) is bytes else _text_of(s)
        return self._reader.read(source, given, _version)

    def load_file(self, filename: str | PathLike[str]) -> Any:
        """Return the value of a file, which is UTF-8 text in either version of the format.

        Parameters
        ----------
        filename : path-like

        Raises
        ------
        DecodeError
            If the file is not PYON. The error gives file name, line and column, and shows the line.
        OSError
            If the file cannot be read.
        """
        from . import _files

        data = _files.read(filename)
        try:
            return self.decode(data.removeprefix(BOM_UTF8))
        except DecodeError as error:
            error.filename = str(filename)
            raise

    def store_file(
        self, filename: str | PathLike[str], x: Any, *, version: int = 1, sort_keys: bool = False
    ) -> None:
        """Write a value to a file as pretty text, atomically and durably.

        At every moment, even after a crash of the machine, the file holds either all of its old
        content or all of the new. An existing file keeps its permissions, owner and group, and on
        Linux its access control list and extended user attributes. Where one of these cannot be
        kept, access is restricted further: nobody gains a right to the file. Other hard links to
        the file keep the old content. A file that is not regular, such as a pipe or
        ``/dev/stdout``, is written directly.

        Parameters
        ----------
        filename : path-like
        x
            As for `encode`.
        version : {1, 2}
            The generation of the format.
        sort_keys : bool, optional
            Whether to sort dicts. By default they keep their order.

        Raises
        ------
        EncodeError
            If a part of the value has no PYON form. The file is unchanged.
        OSError
            If the file cannot be written. The file is unchanged.
        """
        from . import _files

        pieces = self._writer(True, version, sort_keys, None, base64_chunks).pieces(x)
        if version == 1:
            pieces.append("\n")
        _files.replace(filename, _chunks(pieces))

    def register(
        self,
        types: type | Iterable[type],
        *,
        name: str,
        encode: Callable[[Any], Iterable[Any]],
        decode: Callable[..., Any],
    ) -> None:
        """Give one or more types a PYON form.

        Parameters
        ----------
        types : type or iterable of types
            The types that are written with this name. Subclasses are not included.
        name : str
            The name in the text: an identifier that is not in use, or several identifiers joined
            by dots.
        encode : callable
            Takes a value and returns its arguments as a tuple or list. The arguments may be any
            values that have a PYON form, including those of registered types.
        decode : callable
            Takes these arguments and returns the value. Its exceptions become a `DecodeError`,
            except `ImportError` and `MemoryError`.

        Raises
        ------
        ValueError
            If the name or one of the types is in use, or the name is not an identifier.
        """
        self._forms.register(types, name=name, encode=encode, decode=decode)

    def register_module(self, module: ModuleType, *, prefix: str | None = None) -> list[type]:
        """Register the public dataclasses, enumerations and named tuples of a module.

        Only classes defined in the module are registered, including nested classes. A class that
        is registered already keeps its form. A dataclass is written as its fields in order, and
        read by calling the class: a field that is absent must have a default. Members of
        enumerations are written by name, flags by value.

        Parameters
        ----------
        module : module
            A module that both the writing and the reading program have imported; reading imports
            nothing.
        prefix : str, optional
            Prefix of the qualified names of the classes (``Laser.Mode`` for a nested class). By
            default the name of the module and a dot.

        Returns
        -------
        list of type
            The classes that were registered.

        Raises
        ------
        ValueError
            If a name is in use, or a dataclass has a field that is not an argument of its
            ``__init__``. No class is registered then.

        Examples
        --------
        >>> import uuid, pyon
        >>> codec = pyon.Codec()
        >>> codec.register_module(uuid)
        [<enum 'SafeUUID'>]
        >>> codec.encode(uuid.SafeUUID.safe)
        'uuid.SafeUUID("safe")'
        """
        from ._modules import register_module

        return register_module(self, module, prefix)

    def is_registered(self, kind: type) -> bool:
        """Return whether exactly this type has a form, built in or registered.

        Types with their own syntax, such as `int` and `list`, have no form.
        """
        return self._forms.of(kind) is not None

    def deregister(self, types: type | Iterable[type], name: str) -> None:
        """Undo `register` with the same types and name.

        Raises
        ------
        ValueError
            If these types are not registered under this name.
        """
        self._forms.deregister(types, name)


def _spelling(version: int, pretty: bool = False, buffer_callback: object = None) -> Spelling:
    if version == 1 and buffer_callback is None:
        return V1
    if version == 2:
        return V2_PRETTY if pretty else V2
    if version != 1:
        raise ValueError(f"the versions of PYON are 1 and 2, not {version!r}")
    raise ValueError("only version 2 of PYON can refer to buffers")


def _chunks(pieces: list[Any]) -> Iterator[bytes]:
    """Yield the pieces of a text as bytes."""
    for piece in pieces:
        if isinstance(piece, str):
            yield piece.encode("ascii")
        else:
            yield from piece


def shared() -> Codec:
    """Return the shared codec, whose methods are the functions of the module."""
    return _SHARED


def _text_of(s: object) -> str | bytes:
    """Return a text as exactly `str` or `bytes`, the types that readers accept."""
    if isinstance(s, str):
        return str.__str__(s)
    try:
        view = memoryview(s)  # type: ignore[arg-type]
    except TypeError:
        view = None
    if view is None or view.format not in BYTE_FORMATS:
        hint = (
            "; for a file, use load_file" if isinstance(s, PathLike) or hasattr(s, "read") else ""
        )
        raise TypeError(f"a PYON text is str or bytes, not {type(s).__qualname__}{hint}")
    return view.tobytes()


def _bytes_of(buffer: Readable) -> memoryview:
    view = memoryview(buffer)
    return view.cast("B") if view.nbytes else memoryview(b"")  # an empty view cannot be cast


_SHARED = Codec()
