"""Codec: text from values and values from text, with a table of types of its own."""

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
        self._reader = Reader(self._forms)

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
        sort_keys: bool = False,
        buffer_callback: Callable[[memoryview], object] | None = None,
    ) -> str:
        """Give the text of a value.

        Parameters
        ----------
        x
            The value, of types that have a PYON form; exactly these, not subclasses of them.
        pretty
            Whether to break the text into indented lines, with sets, which have no order, sorted.
            Otherwise it is a single line.
        version : {1, 2}
            The generation of the format: 1 is Python syntax, 2 is JSON.
        sort_keys : bool, optional
            Whether to sort what is in dicts, for texts that are compared. By default dicts keep
            their order. Sets are sorted, too; an OrderedDict never is.
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
        """Give the text of a value in pieces, for who writes it to a file or socket.

        Long base64 is a piece of its own, which is never joined to the rest: a megabyte that is
        copied costs more than it took to encode it.

        Parameters
        ----------
        x, pretty, version, sort_keys, buffer_callback
            As for `encode`, which gives the same text.

        Returns
        -------
        list of str and bytes
            ASCII text. Long base64 is bytes, the rest is strings.

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
        """Give the value of a text of either version. Nothing in the text is ever evaluated.

        Parameters
        ----------
        s : str or bytes-like
            The text; bytes are UTF-8. Bytes-like is what has a buffer of bytes: a bytearray, a
            memoryview or an array of bytes.
        buffers : sequence of bytes-like, optional
            What `encode` gave to its `buffer_callback`, in the same order. An array lies in the
            memory of its buffer if that is writable.

        Raises
        ------
        DecodeError
            If the text is not PYON. The error says where.
        TypeError
            If `s` is no text: a path, for example, which is for `load_file`.
        ImportError
            If the text holds numpy data and numpy is not installed.
        """
        given = Buffers([_bytes_of(buffer) for buffer in buffers]) if buffers else NO_BUFFERS
        source = s if type(s) is str or type(s) is bytes else _text_of(s)
        return self._reader.read(source, given, _version)

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

    def store_file(
        self, filename: str | PathLike[str], x: Any, *, version: int = 1, sort_keys: bool = False
    ) -> None:
        """Write a value to a file, pretty, so that the file is whole at every moment.

        Whatever happens, also to the machine, the file holds either all of its old content or all
        of the new. An existing file keeps its permissions, owner and group, and on Linux its access
        control list and extended user attributes. What cannot be kept is narrowed: nobody gets a
        right to the file that he did not have. Other hard links to it keep the old content. What
        is no regular file, such as a pipe or ``/dev/stdout``, is written through.

        Parameters
        ----------
        filename : path-like
        x
            As for `encode`.
        version : {1, 2}
            The generation of the format.
        sort_keys : bool, optional
            As for `encode`: dicts keep their order by default.

        Raises
        ------
        EncodeError
            If a part of the value has no PYON form. The file is as it was.
        OSError
            If the file cannot be written. The file is as it was.
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
            The types whose values are written so. Subclasses are types of their own.
        name : str
            What the form is called in the text: an identifier that is not in use, or several with
            dots between them.
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

    def register_module(self, module: ModuleType, *, prefix: str | None = None) -> list[type]:
        """Give the public dataclasses, enumerations and named tuples of a module their PYON forms.

        Only classes that are defined in the module, and those within them; a class that is
        registered already keeps its form. Dataclasses are spelled by their fields in order, and
        made again by calling the class: a field that is absent must have a default. Members of
        enumerations are spelled by name, flags by value.

        Parameters
        ----------
        module : module
            A module that writer and reader have both imported; reading imports nothing.
        prefix : str, optional
            What stands in front of the names of the classes (``Laser.Mode`` of a class within
            another). By default the name of the module and a dot.

        Returns
        -------
        list of type
            The classes that were registered.

        Raises
        ------
        ValueError
            If a name is in use, or a dataclass has a field that is no argument of it. Nothing is
            registered then.

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
        """Say whether values of exactly this type have a form, built in or registered.

        Types with a syntax of their own, such as `int` and `list`, have none and need none.
        """
        return self._forms.of(kind) is not None

    def deregister(self, types: type | Iterable[type], name: str) -> None:
        """Take back what `register` did with the same types and name.

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
    """Give the pieces of a text as bytes."""
    for piece in pieces:
        if isinstance(piece, str):
            yield piece.encode("ascii")
        else:
            yield from piece


def shared() -> Codec:
    """Give the codec that everybody shares."""
    return _SHARED


def _text_of(s: object) -> str | bytes:
    """Give a text of an exact type, which readers take."""
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
    return view.cast("B") if view.nbytes else memoryview(b"")  # which cannot be cast


_SHARED = Codec()
