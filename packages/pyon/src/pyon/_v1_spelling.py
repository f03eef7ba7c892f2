"""The spelling of v1: Python syntax that the evaluating readers of the established stack accept."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii

from ._json import json_encoder, write_int, write_str
from ._plain import QUOTED_KEY, Found
from ._spelling import Spelling
from ._v2_spelling import write_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_write_json = json_encoder(", ", ": ")


def _str(x: str) -> str:
    """Write a string; the key of tags in single quotes, so that no dict becomes a tag."""
    text: str = encode_basestring_ascii(x)
    if "\\ud" in text:
        return write_str(x)
    return text if text != QUOTED_KEY else f"'{QUOTED_KEY[1:-1]}'"


def _json(x: Any, found: Found) -> str:
    return write_plain(x, found, _write_floats if found.floating else _write_json, True)


def _write_floats(x: Any) -> str:
    text = _write_json(x)
    if "NaN" in text or "Infinity" in text:
        if '"' in text:
            raise ValueError("NaN in a string cannot be told from a float")
        return text.replace("NaN", "nan").replace("Infinity", "inf")
    return text


def _form(name: str, arguments: list[str]) -> str:
    if name == "slice":
        arguments = ["None" if text == "null" else text for text in arguments]
    return f"{name}({', '.join(arguments)})"


V1 = Spelling(
    leaves={
        type(None): {None: "null"}.__getitem__,
        bool: {True: "true", False: "false"}.__getitem__,
        int: write_int,
        float: repr,
        complex: repr,
        str: _str,
        bytes: repr,
    },
    comma=", ",
    colon=": ",
    around_tuple=("(", ")", ", )"),
    around_set=("{", "}", "{*()}"),  # evaluating readers do not know the name `set`
    form=_form,
    quotes='b" "',
    json=_json,
    tagged=False,
)
