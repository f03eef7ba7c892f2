"""The passes that a text goes through, in their order, and why none of them can be wrong.

1. *Bytes become text.* UTF-8; other encodings are refused.
2. *Long base64 is cut out*, so that no parser looks at megabytes of it. If what remains cannot be
   read, or asks for a cut in a place where none belongs, the text is read whole: a cut changes how
   long reading takes, never what is read.
3. *Small v1*, such as a request: a dict in which tuples alone are no JSON is read in one pass of
   the scanner of `json`. Where anything is not as expected, or there is the key of a tag, the text
   is read as if this had not been tried.
4. *The version is told.* Where the caller knows it, from the handshake of a connection, nothing is
   tried. Otherwise ``(``, ``'`` or ``#`` outside of strings is v1 for certain: JSON has none.
   Everything else may be JSON.
5. *v2* is read by the scanner of `json`. What is JSON and has no tag means the same in v1.
6. *What is no JSON is v1*, unless it has a tag. v1 writers never spell the key of a tag as JSON
   does (it is in single quotes), so that is a v2 text with a slip, and the error is JSON's. To read
   it as v1 would turn its tuples, sets and arrays into dicts.
"""

from __future__ import annotations

import contextlib

from ._buffers import CUT_SIZE, NO_BUFFERS, Buffers, cut, has_long_arrays
from ._errors import DecodeError
from ._on_demand import load_diagnosis, load_tokens, load_v1_reader, load_v1_small
from ._types import MAX_DEPTH, Forms
from ._v2_reader import NotJsonError, V2Reader, find_slip, may_have_tags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SMALL = 2 * MAX_DEPTH
"""Characters of a small text: nothing in it can be nested too deeply, and no integer can be too
long for any limit."""

BEFORE_TUPLE = frozenset(" ,:[\n")
"""What is before the bracket of a tuple. Before that of a form, its name is."""


class Reader:
    """Reads texts of either version. One object serves many texts and threads.

    Parameters
    ----------
    forms : Forms
        The types that may be named.
    """

    def __init__(self, forms: Forms) -> None:
        self._forms = forms
        self._v2 = V2Reader(forms)

    def read(self, source: str | bytes, buffers: Buffers, version: int | None) -> Any:
        """Give the value of a text.

        Parameters
        ----------
        source : str or bytes
        buffers : Buffers
            What the numbers in a v2 text stand for.
        version : {1, 2}, optional
            The generation, where it is known. None: it is told from the text.

        Raises
        ------
        DecodeError
            If the text is not PYON, or does not use all buffers.
        """
        if len(source) > CUT_SIZE and has_long_arrays(source):
            rest, cuts = cut(source)
            if cuts:
                # If anything is wrong, the whole text says better what.
                with contextlib.suppress(DecodeError):
                    return self._read(_to_str(rest), buffers.with_cuts(cuts), version)
        return self._read(source if type(source) is str else _to_str(source), buffers, version)

    def _read(self, text: str, buffers: Buffers, version: int | None) -> Any:
        if "(" in text:
            at = text.index("(")
            if (
                text[at - 1] in BEFORE_TUPLE
                and text[:2] == '{"'
                and len(text) <= SMALL
                and version != 2
                and buffers is NO_BUFFERS
                and (value := load_v1_small()(text)) is not None
            ):
                return value
            not_json = is_python_syntax(text, at)
        else:
            not_json = ("'" in text or "#" in text) and is_python_syntax(text)
        if version == 1 or (not_json and version is None):
            if version is None and may_have_tags(text):
                _refuse_tags(text)
            return self._read_v1(text, buffers, not_json)
        try:
            value = self._v2.read(text, buffers)
        except NotJsonError as error:
            slip = error.reason, error.position  # the error itself keeps this frame
        else:
            return value if buffers is NO_BUFFERS else _all_used(buffers, value, text)
        if version == 2:
            raise load_diagnosis().explain_json(text, *slip)
        return self._read_after_all(text, buffers.again(), *slip)

    def _read_v1(self, text: str, buffers: Buffers, not_json: bool) -> Any:
        value = load_v1_reader().V1Reader(text, self._forms, buffers, not_json).read()
        return value if buffers is NO_BUFFERS else _all_used(buffers, value, text)

    def _read_after_all(self, text: str, buffers: Buffers, reason: str, position: int) -> Any:
        """Read as v1 what turned out not to be JSON, which said why and where."""
        if may_have_tags(text):
            _refuse_tags(text)
        try:
            return self._read_v1(text, buffers, not_json=True)
        except DecodeError as error:
            # v1 has nearly all that JSON has, so it tells what is wrong, but for these words.
            json_only = text.startswith(("NaN", "Infinity", "-Infinity"), error.position)
            if not json_only or error.position > position:
                raise
        raise DecodeError(reason, text, position)


def _all_used(buffers: Buffers, value: Any, text: str) -> Any:
    if buffers.unused:
        raise DecodeError(f"{buffers.unused} buffers are not used in the text", text, len(text))
    return value


def is_python_syntax(text: str, at: int = -1) -> bool:
    """Say whether a character that JSON has in strings only stands outside of them.

    False means that the text may still be v1. The first such character decides in nearly all texts;
    `at` is where the first bracket is.
    """
    if at < 0:
        at = text.find("'")
    if at < 0:
        at = text.find("#")
    before = text[:at]
    if "\\" not in before and "'" not in before and not before.count('"') % 2:
        return at >= 0
    return load_tokens().is_certainly_v1(text)  # type: ignore[no-any-return]


def _refuse_tags(text: str) -> None:
    """Raise DecodeError for a text that is no JSON and has a tag."""
    if load_tokens().has_tag(text):
        slip = find_slip(text)
        raise load_diagnosis().explain_json(
            text, slip.reason, slip.position, "a text with tags must be JSON: "
        )


def _to_str(source: str | bytes) -> str:
    if isinstance(source, str):
        return source
    try:
        return source.decode()
    except UnicodeDecodeError as error:
        raise load_diagnosis().explain_bytes(source, error) from None
