"""The passes over a text, in order, and why each of them is correct.

1. *Bytes are decoded.* UTF-8; other encodings are refused.
2. *Long base64 is cut out*, so that no parser has to scan megabytes of it. If the remaining text
   cannot be read, or does not use all cuts as the data of arrays, the whole text is read instead.
   So a cut changes the time of reading, never the result.
3. *Small v1 texts*, such as requests: a dict that would be JSON but for its tuples is read in one
   pass of the scanner of `json`. If anything else is not JSON, or there is the key of a tag, the
   text is read by the following passes.
4. *The version is detected*, unless the caller knows it from the handshake of a connection. A text
   with ``(``, ``'`` or ``#`` outside of strings is certainly v1, because JSON has none of them. Any
   other text may be JSON.
5. *v2* is read by the scanner of `json`. JSON without tags has the same meaning in v1.
6. *A text that is not JSON is v1*, unless it has a tag. v1 writers never spell the key of a tag as
   JSON does (they write it in single quotes). So it is a v2 text with a mistake, and the error is
   that of JSON. Read as v1, its tuples, sets and arrays would become dicts.
"""

from __future__ import annotations

import contextlib

from ._buffers import CUT_SIZE, NO_BUFFERS, Buffers, cut, has_long_arrays
from ._errors import DecodeError
from ._on_demand import load_diagnosis, load_tokens, load_v1_reader, load_v1_small
from ._types import MAX_DEPTH, Forms
from ._v2_reader import NotJsonError, V2Reader, find_json_error, may_have_tags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SMALL = 2 * MAX_DEPTH
"""Maximum length of a small text, in characters. No such text can exceed the limits of nesting and
of integers."""

BEFORE_TUPLE = frozenset(" ,:[\n")
"""Characters before the bracket of a tuple. The bracket of a form follows its name."""


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
        """Return the value of a text.

        Parameters
        ----------
        source : str or bytes
        buffers : Buffers
            The buffers that the text refers to.
        version : {1, 2}, optional
            The generation, if it is known. None: it is detected.

        Raises
        ------
        DecodeError
            If the text is not PYON, or does not use all buffers.
        """
        if len(source) > CUT_SIZE and has_long_arrays(source):
            rest, cuts = cut(source)
            if cuts:
                # After an error the whole text is read, for the error with the right place.
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
            mistake = error.reason, error.position  # the error itself would keep this frame
        else:
            return value if buffers is NO_BUFFERS else _all_used(buffers, value, text)
        if version == 2:
            raise load_diagnosis().explain_json(text, *mistake)
        return self._read_v1_after_json(text, buffers.again(), *mistake)

    def _read_v1(self, text: str, buffers: Buffers, not_json: bool) -> Any:
        value = load_v1_reader().V1Reader(text, self._forms, buffers, not_json).read()
        return value if buffers is NO_BUFFERS else _all_used(buffers, value, text)

    def _read_v1_after_json(self, text: str, buffers: Buffers, reason: str, position: int) -> Any:
        """Read a text as v1 that is not JSON, for this reason at this position."""
        if may_have_tags(text):
            _refuse_tags(text)
        try:
            return self._read_v1(text, buffers, not_json=True)
        except DecodeError as error:
            # v1 includes nearly all of JSON, so its error is the better one, except for these
            # words.
            json_only = text.startswith(("NaN", "Infinity", "-Infinity"), error.position)
            if not json_only or error.position > position:
                raise
        raise DecodeError(reason, text, position)


def _all_used(buffers: Buffers, value: Any, text: str) -> Any:
    if buffers.unused:
        raise DecodeError(f"{buffers.unused} buffers are not used in the text", text, len(text))
    return value


def is_python_syntax(text: str, at: int = -1) -> bool:
    """Return whether a character that JSON has only in strings is outside of strings.

    If not, the text may still be v1. The first such character decides nearly all texts. `at` is the
    position of the first parenthesis, if it is known.
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
    """Raise DecodeError if a text that is not JSON has a tag."""
    if load_tokens().has_tag(text):
        mistake = find_json_error(text)
        raise load_diagnosis().explain_json(
            text, mistake.reason, mistake.position, "a text with tags must be JSON: "
        )


def _to_str(source: str | bytes) -> str:
    if isinstance(source, str):
        return source
    try:
        return source.decode()
    except UnicodeDecodeError as error:
        raise load_diagnosis().explain_bytes(source, error) from None
