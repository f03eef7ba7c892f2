r"""The tokens of PYON v1 as regular expressions, each below the lines of FORMAT.md that it matches.

Possessive quantifiers (``*+``) make each of them linear: no input causes backtracking.
"""

from __future__ import annotations

import re

from ._json import WHITESPACE

# gap = {space | tab | LF | CR | FF | "#" {character but LF and CR}}
BLANKS = WHITESPACE + "#"
"""Characters with which a gap between tokens begins."""
_WHITE = r"[ \t\n\r\f]"
_GAP = rf"(?:{_WHITE}*+(?:\#[^\n\r]*+{_WHITE}*+)*+)"
GAP = re.compile(_GAP)

# digits  = digit {["_"] digit}
# integer = "0" | nonzero {["_"] digit} | "0x" ... | "0o" ... | "0b" ...
# real    = decimal ["." [digits]] [exponent] | "." digits [exponent] | "inf" | "nan"
_DIGITS = "[0-9](?:_?[0-9])*+"
_DECIMAL = "(?:0|[1-9](?:_?[0-9])*+)"
_EXPONENT = rf"(?:[eE][+-]?{_DIGITS})"
_REAL = rf"(?:{_DECIMAL}(?:\.(?:{_DIGITS})?)?{_EXPONENT}?|\.{_DIGITS}{_EXPONENT}?|inf|nan)"
INT = re.compile(rf"[+-]?{_DECIMAL}(?![\w.+-])")
RADIX_INT = re.compile(
    r"[+-]?0(?:[xX](?:_?[0-9a-fA-F])++|[oO](?:_?[0-7])++|[bB](?:_?[01])++)(?![\w.])"
)

# number = [sign] real | [sign] [real sign] real "j" | "(" [sign] real sign real "j" ")"
NUMBER = re.compile(rf"([+-]?{_REAL})(?:(?:[+-]{_REAL})?([jJ]))?(?![\w.])")
COMPLEX = re.compile(rf"\({_GAP}([+-]?{_REAL}){_GAP}([+-]){_GAP}({_REAL}[jJ]){_GAP}\)")
"""Groups: real part, sign, imaginary part. Only here gaps are allowed around the sign."""
BEHIND_NUMBER = BLANKS + ",:)]}"

# name = identifier {"." identifier}
_IDENTIFIER = "[A-Za-z_][A-Za-z_0-9]*+"
NAME = re.compile(rf"{_IDENTIFIER}(?:\.{_IDENTIFIER})*+")

# string = '"' {character} '"' | "'" {character} "'"
LITERALS = {
    quote: re.compile(rf"{quote}[^{quote}\\]*+(?:\\.[^{quote}\\]*+)*+{quote}", re.DOTALL)
    for quote in "\"'"
}

# set = ... | "{*()}"
EMPTY_SET = re.compile(rf"\{{{_GAP}\*{_GAP}\({_GAP}\){_GAP},?{_GAP}\}}")

# Brackets around JSON without brackets; group: the text between the brackets.
_FLAT = r"((?:[-+.0-9eE, nultrfas]++|\"[^\"\\]*+\")*+)"
FLAT_TUPLE = re.compile(rf"\({_FLAT}\)")
FLAT_SET = re.compile(rf"\{{{_FLAT}\}}")
FLAT_START = frozenset('+-.0123456789"in')

ENTRY = re.compile(r'"([^"\\]*+)":[ \t\n\r\f]*+(?:"([^"\\]*+)"|.)', re.DOTALL)
"""The key of a dict, and its value if that is a string without escapes, otherwise its beginning."""

# The text that a writer puts before the base64 of an array, up to the dtype.
_SIZE = "(?:0|[1-9][0-9]{0,17})"
ARRAY_HEADER = re.compile(rf'nparray\(\(((?:{_SIZE}, )*(?:(?<= ){_SIZE})?)\), "([^"\\]*)')

# The text that a writer writes for a Fraction of short integers.
FRACTION = re.compile(r"Fraction\((-?[0-9]{1,18}), ([1-9][0-9]{0,17})\)")

_QUOTED = r"\"[^\"\\]*+(?:\\.[^\"\\]*+)*+\""
NOT_JSON = re.compile(rf"(?:[^\"'(\#]++|{_QUOTED})*+['(\#]", re.DOTALL)
"""A text up to a character that JSON has only in strings."""

TOKEN = re.compile(
    rf"(?P<comment>\#[^\n\r]*+)|(?:(?<!\w)b)?(?P<string>{_QUOTED}|'[^'\\]*+(?:\\.[^'\\]*+)*+')",
    re.DOTALL,
)
"""Comments and strings, in which brackets and commas have no meaning."""
PART = re.compile(r"[\[\](){}:,]")
TAG_FOLLOWS = re.compile(rf"{_GAP}:{_GAP}[\[(\{{]")
