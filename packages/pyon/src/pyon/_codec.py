"""Codec: text from values and values from text, with a table of types of its own."""

from __future__ import annotations

import contextlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from os import PathLike

from ._buffers import CUT_SIZE, NO_BUFFERS, Buffers, cut, has_long_arrays
from ._errors import DecodeError
from ._types import Forms
from ._v1 import V1Writer
from ._v2 import NotJsonError, V2Reader, V2Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


Readable = bytes | bytearray | memoryview


class Codec:
    """Encodes and decodes, with registrations of its own.

    The functions of the module are those of one codec that everybody shares. A library that
    registers types and must not change what others read makes a codec for itself. It may be used
    from any thread.

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
        self._v2_reader = V2Reader(self._forms)

    def __reduce__(self) -> Any:
        """Let the functions of the module be pickled; they are methods of the shared codec."""
        if self is not shared():
            raise TypeError("a codec cannot be copied or pickled: make it anew")
        return shared, ()

    def encode(
        self,
        x: Any,
        pretty: bool = False,
        *,
        version: int = 1,
        buffer_callback: Callable[[memoryview], object] | None = None,
    ) -> str:
        """Give the text of a value.

        Parameters
        ----------
        x
            The value, of types that have a PYON form; exactly these, not subclasses of them.
        pretty
            Whether to break the text into indented lines and to sort what has no order of its own,
            so that equal values give equal text. Otherwise it is a single line.
        version : {1, 2}
            The generation of the format: 1 is Python syntax, 2 is JSON.
        buffer_callback : callable, optional
            Takes the data of large arrays and bytes objects, each as a memoryview of C-contiguous
            bytes, instead of it being spelled in the text, which then refers to it by its number.
            Version 2 only.

        Returns
        -------
        str
            ASCII text.

        Raises
        ------
        EncodeError
            If a part of the value has no PYON form. The error says where it is.
        """
        if version not in (1, 2):
            raise ValueError(f"the versions of PYON are 1 and 2, not {version!r}")
        if version == 1 and buffer_callback is not None:
            raise ValueError("only version 2 of PYON can refer to buffers")
        if not pretty:
            text = (V1Writer if version == 1 else V2Writer).plain(x)
            if text is not None:
                return text
        if version == 1:
            return V1Writer(self._forms, pretty).text(x)
        return V2Writer(self._forms, pretty, buffer_callback).text(x)

    def decode(self, s: str | Readable, *, buffers: Sequence[Readable] | None = None) -> Any:
        """Give the value of a text of either version. Nothing in the text is ever evaluated.

        Parameters
        ----------
        s : str or bytes-like
            The text; bytes are UTF-8.
        buffers : sequence of bytes-like, optional
            What `encode` gave to its `buffer_callback`, in the same order. An array lies in the
            memory of its buffer if that is writable.

        Raises
        ------
        DecodeError
            If the text is not PYON. The error says where.
        ImportError
            If the text holds numpy data and numpy is not installed.
        """
        source: Any = s if isinstance(s, (str, bytes)) else bytes(s)
        given = (
            Buffers([_bytes_of(memoryview(buffer)) for buffer in buffers])
            if buffers
            else NO_BUFFERS
        )
        if len(source) > CUT_SIZE and has_long_arrays(source):
            rest, cuts = cut(source)
            if cuts:
                # If anything is wrong, the whole text says better what.
                with contextlib.suppress(DecodeError):
                    return self._read(rest, given.again(cuts))
        return self._read(source, given)

    def _read(self, source: str | bytes, buffers: Buffers) -> Any:
        """Read a text of either version that uses up the buffers."""
        text = source if isinstance(source, str) else _to_str(source)
        try:
            value = self._v2_reader.read(text, buffers)
        except NotJsonError as error:
            reason, position = error.args  # the error itself keeps this frame
        else:
            position = -1
        if position >= 0:
            buffers = buffers.again()
            value = self._read_v1(text, buffers, reason, position)
        if buffers.unused:
            raise DecodeError(f"{buffers.unused} buffers are not used in the text", text, len(text))
        return value

    def _read_v1(self, text: str, buffers: Buffers, reason: str, position: int) -> Any:
        """Read what is not v2, which said why and where.

        If it is not v1 either, v1, which has nearly all JSON, tells why.
        """
        try:
            return _v1_reader().V1Reader(text, self._forms, buffers).read()
        except DecodeError as error:
            json_only = text.startswith(("NaN", "Infinity", "-Infinity"), error.position)
            if not json_only or error.position > position:
                raise
        raise DecodeError(reason, text, position)

    def load_file(self, filename: str | PathLike[str]) -> Any:
        """Give the value that a file holds, in either version of the format, as UTF-8.

        Parameters
        ----------
        filename : path-like

        Raises
        ------
        DecodeError
            If it is not PYON. The error says which file and where in it, and shows the line.
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

    def store_file(self, filename: str | PathLike[str], x: Any, *, version: int = 1) -> None:
        """Write a value to a file, pretty, so that the file is whole at every moment.

        Whatever happens, also to the machine, the file holds either all of its old content or all
        of the new. An existing file keeps its permissions.

        Parameters
        ----------
        filename : path-like
        x
            As for `encode`.
        version : {1, 2}
            The generation of the format.

        Raises
        ------
        EncodeError
            If a part of the value has no PYON form. The file is as it was.
        OSError
            If the file cannot be written. The file is as it was.
        """
        from . import _files

        text = self.encode(x, pretty=True, version=version)
        _files.replace(filename, (text + "\n" if version == 1 else text).encode("ascii"))

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
            The types whose values are written so. Subclasses are types of their own.
        name : str
            What the form is called in the text: an identifier that is not in use.
        encode : callable
            Takes a value and returns its arguments as a tuple or list. They may be anything that
            has a PYON form, values of registered types included.
        decode : callable
            Takes these arguments and returns the value. Whatever it raises becomes a `DecodeError`.

        Raises
        ------
        ValueError
            If the name or one of the types is in use, or the name is no identifier.
        """
        self._forms.register(types, name=name, encode=encode, decode=decode)

    def deregister(self, types: type | Iterable[type], name: str) -> None:
        """Take back what `register` did with the same types and name.

        Raises
        ------
        ValueError
            If these types are not registered under this name.
        """
        self._forms.deregister(types, name)


@cache
def shared() -> Codec:
    """Give the codec that everybody shares."""
    return Codec()


def _bytes_of(view: memoryview) -> memoryview:
    return view.cast("B") if view.nbytes else memoryview(b"")  # which cannot be cast


def _to_str(source: bytes) -> str:
    try:
        return source.decode()
    except UnicodeDecodeError as error:
        before = source[: error.start].decode(errors="replace")
        raise DecodeError(f"not UTF-8: {error.reason}", before, len(before)) from None


@cache
def _v1_reader() -> ModuleType:
    """Load the reader of v1 when it is needed: v2 and writers do without."""
    from . import _v1_reader

    return _v1_reader
