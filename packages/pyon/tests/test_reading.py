"""Texts that pyon did not write: of older writers, hostile, damaged."""

import math
import random

import numpy as np
import pyon
import pytest
from hypothesis import given
from hypothesis import strategies as st

READ = [
    ("None", None),
    ("True", True),
    ("'single'", "single"),
    ("' \"\\x41\\u00e9\\U0001f600\\''", " \"A\u00e9\U0001f600'"),
    ('"raw \u00e9\t\u2028"', "raw \u00e9\t\u2028"),
    ('"\\ud83d\\ude00"', "\U0001f600"),
    ("'\\ud83d\\ude00'", "\U0001f600"),
    ("(1,)", (1,)),
    ("(1,2 , 3)", (1, 2, 3)),
    ("[1, 2, ]", [1, 2]),
    ("{'a': 1, }", {"a": 1}),
    ("{1, }", {1}),
    ("set()", set()),
    ("{*()}", set()),
    ("{}", {}),
    ("+5", 5),
    ("-inf", -math.inf),
    ("(1-9j)", 1 - 9j),
    ("1+2j", 1 + 2j),
    ("(inf+0j)", complex(math.inf, 0)),
    (" 5 ", 5),
    ("\r\n[1,\r\n2]\r\n", [1, 2]),
    ("1e999", math.inf),
    ('b"YQ"', b"YQ"),
    ("b'\\x00\\''", b"\0'"),
    (b"[1]", [1]),
    (bytearray(b"[1]"), [1]),
    (memoryview(b"[1]"), [1]),
    ("slice('a', None, 1.5)", slice("a", None, 1.5)),
    ("Fraction(2, 4)", pyon.decode("Fraction(1, 2)")),
    ('{ "__jsonclass__" : [ "tuple" , [ [ 1 ] ] ] }', (1,)),
    ('{"a":{"__jsonclass__":["set",[[]]],"x":1}}', {"a": set()}),
    ("( )", ()),
    ("({ }, [ ] , 1. ,)", ({}, [], 1.0)),
    ('{"a" :\f"b","c": "\\x41" , (1, ):"d"}', {"a": "b", "c": "A", (1,): "d"}),
    ('("(", ")", {"a": ")(", "b": (0, )})', ("(", ")", {"a": ")(", "b": (0,)})),
    ('{"\\u005f_jsonclass__":["tuple",[[1]]]}', (1,)),
    ("[NaN, -Infinity]", [math.nan, -math.inf]),
    ('{"__jsonclass__": 1, "b": (1, )}', {"__jsonclass__": 1, "b": (1,)}),
    ("nparray((2, ), '<i2', b'AQACAA==')", np.array([1, 2], "<i2")),
    ('nparray((1, 2), "<i2", b"AQACAA==")', np.array([[1, 2]], "<i2")),
]

HOSTILE = [
    "",
    " ",
    "foo",
    "os",
    "__import__('os').system('true')",
    "().__class__",
    "(1).real",
    "[].append(1)",
    "print(1)",
    "[x for x in (1, 2)]",
    "lambda: 0",
    "f'{1}'",
    'f"{1}"',
    "9**9**9",
    "1+1",
    "2*3",
    "1if 1else 2",
    "not 1",
    "~1",
    "-(1)",
    "[1][0]",
    "a.b",
    "a=1",
    "(yield)",
    "*()",
    "{**{}}",
    "[*()]",
    "{*(1, )}",
    "...",
    "u'a'",
    "rb'a'",
    "b'a' b'b'",
    "'a' 'b'",
    "007",
    "1.e",
    "1e",
    ".",
    "-",
    "+-5",
    "--5",
    "- 5",
    "5 j",
    "(5)",
    "(,)",
    "[,]",
    "{,}",
    "(1,,)",
    "[1 2]",
    "[1",
    "(1",
    "{1",
    "{1:",
    "{1:2",
    "{1: 2, 3}",
    "{1, 2: 3}",
    "{:}",
    "{1:}",
    "1]",
    "1,",
    "'a",
    '"a',
    "b'a",
    "'\\",
    "'\\N{DASH}'",
    "'\\q'",
    "'\\x4'",
    "'\\uD8'",
    "'\\U00110000'",
    "'\\Ud00800e9'",  # found by fuzzing: more than a C int can hold
    "b'\\u0041'",
    "b'\u00e9'",
    "{[]: 1}",
    "{[]}",
    "{{}}",
    "{{1: 2}: 3}",
    "set(1)",
    "set([1])",
    "slice()",
    "slice(1)",
    "slice(1,2,3,4)",
    "slice(a=1)",
    "Fraction(1, 0)",
    "Fraction('1')",
    "Fraction(1.5, 2)",
    "OrderedDict(1)",
    "OrderedDict([1])",
    "OrderedDict([(1, 2, 3)])",
    "OrderedDict({})",
    "OrderedDict([([], 1)])",
    "nparray",
    "nparray()",
    "nparray(1)",
    'nparray((1, ), "<f8", b"")',
    'nparray((1, ), "<f8", b"AAAA")',
    'nparray((-1, ), "<f8", b"AAAAAAAAAAA=")',
    'nparray((1.0, ), "<f8", b"AAAAAAAAAAA=")',
    'nparray((true, ), "|b1", b"AA==")',
    'nparray(1, "<f8", b"AAAAAAAAAAA=")',
    'nparray((1, ), "O", b"AAAAAAAAAAA=")',
    'nparray((1, ), "|O", b"AAAAAAAAAAA=")',
    'nparray((1, ), "<f8", b"AAAAAAAAAA!=")',
    'nparray((1, ), "<f8", b"AAAAAAAAAAA")',
    'nparray((1, ), "<f8", b"AAAA AAAAAAA=")',
    'nparray((3, ), "|u1", b"A!A!A!A!")',  # valid if invalid characters were skipped
    'nparray((3, ), "|u1", b"AAAA\\n\\n\\n\\n")',
    'npscalar("|u1", b"A!A!=!=!")',
    '{"__jsonclass__":["bytes",["A!A!A!A!"]]}',
    '{"__jsonclass__":["nparray",[[3],"|u1","A!A!A!A!"]]}',
    'nparray((1, ), "<f8", 0)',
    'nparray((1, ), "<f8", -1)',
    'nparray((99999999999, ), "<f8", b"")',
    'nparray((0, 99999999999999999999), "<f8", b"")',
    'nparray((0, ), "V999999999", b"")',
    'nparray((0, ), "<U999999999", b"")',
    'nparray((), "V9999999999999", b"")',
    'nparray((1, ), "<f24", b"AAAAAAAAAAAAAAAAAAAAAA==")',
    'nparray((1, ), "<f10", b"AAAAAAAAAAAAAA==")',
    'nparray((1, ), "object", b"AAAAAAAAAAA=")',
    'nparray((1, ), "str", b"")',
    'nparray((1, ), "float", b"AAAAAAAAAAA=")',
    'nparray((1, ), "float_", b"AAAAAAAAAAA=")',
    'nparray((1, ), "double", b"AAAAAAAAAAA=")',
    'nparray((1, ), "Float64", b"AAAAAAAAAAA=")',
    'nparray((1, ), "float64 ", b"AAAAAAAAAAA=")',
    'nparray((1, ), "datetime64[2s]x", b"AAAAAAAAAAA=")',
    'nparray((1, ), "int", b"AAAAAAAAAAA=")',
    'nparray((1, ), "f8,f8", b"")',
    'nparray((1, ), "(2,)f8", b"")',
    'nparray((1, ), "<M8[foo]", b"AAAAAAAAAAA=")',
    'nparray((1, ), "<M8[1e9s]", b"AAAAAAAAAAA=")',
    'nparray((1, ), [("a", "O")], b"AAAAAAAAAAA=")',
    'nparray((1, ), [("a", "<i4"), ("a", "<i4")], b"AAAAAAAAAAA=")',
    'nparray((1, ), [("a", "<i4", -1)], b"AAAAAAAAAAA=")',
    'nparray((1, ), [("a", "<i4", (99999999999, ))], b"")',
    'nparray((1, ), [1], b"AAAAAAAAAAA=")',
    'nparray((1, ), {}, b"AAAAAAAAAAA=")',
    'nparray((1, ), "<f8", "AAAAAAAAAAA!")',
    f'nparray({tuple([1] * 100)}, "|i1", b"AA==")',
    'npscalar("<f8", b"")',
    'npscalar("|O", b"AAAAAAAAAAA=")',
    "npscalar()",
    '{"__jsonclass__":1}',
    '{"__jsonclass__":[]}',
    '{"__jsonclass__":["tuple"]}',
    '{"__jsonclass__":{"__jsonclass__":["tuple",[["tuple",[[1]]]]]}}',
    '{"__jsonclass__":["tuple",{"__jsonclass__":["tuple",[[[1]]]]}]}',
    '{"__jsonclass__":["tuple",[]]}',
    '{"__jsonclass__":["tuple",[1]]}',
    '{"__jsonclass__":["tuple",["ab"]]}',
    '{"__jsonclass__":["os.system",["true"]]}',
    '{"__jsonclass__":[["tuple"],[[1]]]}',
    '{"__jsonclass__":["set",[[[]]]]}',
    '{"__jsonclass__":["dict",[["ab"]]]}',
    '{"__jsonclass__":["dict",[[[[],1]]]]}',
    '{"__jsonclass__":["bytes",["A"]]}',
    '{"__jsonclass__":["bytes",[5]]}',
    '{"__jsonclass__":["bytes",[{"__jsonclass__":["bytes",["UVVKRA=="]]}]]}',
    '{"__jsonclass__":["complex",["1",2]]}',
    '{"__jsonclass__":["complex",[1' + "0" * 400 + ",2]]}",
    '{"__jsonclass__":["Fraction",[1,0]]}',
    '{"__jsonclass__":["nparray",[[0],"<f8",0]]}',
    '{"__jsonclass__":["set",[]]}',
    '{"__jsonclass__":["nparray",[[1],"<f8","AAAAAAAAAAA=",1]]}',
    '{"a":1}}',
    '{"a":01}',
    "[1,]]",
    "[NaN, nan, 1 2]",
    "\ufeff1",
    "\0",
    "\x1b[31m",
    "#",
    "# [1]",
    "0x",
    "0xg",
    "0x_",
    "0b2",
    "0o8",
    "0x1.8p3",
    "1__0",
    "1_",
    "_1",
    "0x" + "f" * 60_000,
    "(1 - 9j",
    "(1 - 9)",
    "(1 # j\n)",
    "1 - 9j",
    "'a' # b\n'c'",
    "[1 # ]",
    "{1: 2 # }",
    "(1 # ,\n)",
    b"\xff",
    b'"\xc3"',
    "1" * 60_000,
    "[" + "1" * 60_000 + ".5e]",
]


@pytest.mark.parametrize(("text", "x"), READ, ids=range(len(READ)))
def test_texts_of_other_writers_are_read(text, x, same):
    assert same(pyon.decode(text), x)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_an_invalid_text_is_a_decode_error_and_no_other(text):
    with pytest.raises(pyon.DecodeError) as caught:
        pyon.decode(text)
    assert isinstance(caught.value, ValueError)
    assert caught.value.lineno >= 1
    assert caught.value.colno >= 1
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", [x for x in HOSTILE if type(x) is str and x.strip()])
def test_an_invalid_text_inside_a_container_is_an_error(text):
    arounds = ["[%s]", '{"a": %s}']
    if "__jsonclass__" not in text:  # in v1 it is an ordinary key
        arounds += ["(1, %s, )", '[{"x": 1}, (0, %s)]', "slice(%s, 1, 2)"]
    for around in arounds:
        if text not in INSIDE:
            with pytest.raises(pyon.DecodeError):
                pyon.decode(around.replace("%s", text))


INSIDE = ("1,",)
"""Means nothing alone, but something in brackets."""

DEEP = [
    "[",
    "(",
    "{",
    '{"a":',
    "{1:",
    "slice(",
    "((1,),",
    '{"__jsonclass__":["tuple",[[',
    "[(",
    "OrderedDict([(",
]


@pytest.mark.parametrize("opening", DEEP)
def test_100_000_brackets_are_an_error(opening):
    for text in (
        opening * 100_000,
        opening * 100_000 + "1" + "]" * 100_000,
        '{"x": (1, ), "y": ' + opening * 100_000,
    ):
        with pytest.raises(pyon.DecodeError):
            pyon.decode(text)


@pytest.mark.parametrize("digits", [600, 5000])
def test_a_tag_that_is_called_by_a_number_is_an_error_and_a_short_one(digits):
    text = f'{{"__jsonclass__":[{"1" * digits},[]]}}'
    with pytest.raises(pyon.DecodeError) as caught:
        pyon.decode(text)
    assert len(str(caught.value)) < 200


def test_100_000_proper_lists_in_each_other():
    for text in ("[" * 100_000 + "]" * 100_000, "(" * 100_000 + ")" * 100_000):
        with pytest.raises(pyon.DecodeError, match="nested"):
            pyon.decode(text)


@pytest.mark.parametrize(
    ("text", "line", "column", "word"),
    [
        ("[1,\n 2 3]", 2, 4, "','"),
        ('{"a": (1, ),\n "b": foo}', 2, 7, "'foo}'"),
        ('[\n{"x":{"__jsonclass__":["tuple",[5]]}}]', 2, 6, "tuple: expected a list"),
        ('["}", {"a": {}}, {"__jsonclass__":["nope",[]]}]', 1, 18, "'nope'"),
        ("[1, 2", 1, 6, "unexpected end"),
        ("[NaN, 1 2]", 1, 9, "delimiter"),
    ],
)
def test_the_place_of_an_error(text, line, column, word):
    with pytest.raises(pyon.DecodeError) as caught:
        pyon.decode(text)
    assert (caught.value.lineno, caught.value.colno) == (line, column)
    assert word in str(caught.value)


SOUP = st.lists(
    st.sampled_from(
        [
            *"()[]{}:,*'\"\\-+.j1e ",
            "(1, )",
            "null",
            "nan",
            "nparray(",
            "slice(",
            "set",
            "Fraction(",
            '"<f8"',
            'b"',
            "AAAA",
            "{*()}",
            '"__jsonclass__"',
            '["tuple",[[',
            "1.5",
            "\n",
            "\\u00",
            "\ud83d",
            "b'",
            "\\x0",
            "OrderedDict([",
            ", ",
            ": ",
        ]
    ),
    max_size=40,
).map("".join)


@given(st.text(st.characters(codec=None)) | SOUP)
def test_any_text_is_a_value_or_an_error(text):
    try:
        x = pyon.decode(text)
    except pyon.DecodeError:
        return
    try:
        again = pyon.encode(x)
    except pyon.EncodeError:  # a number or nesting that JSON allows and PYON does not
        return
    assert pyon.encode(pyon.decode(again)) == again


@given(st.binary())
def test_any_bytes_are_a_value_or_an_error(data):
    error = None
    try:
        pyon.decode(data)
    except pyon.DecodeError as raised:
        error = raised
    assert error is None or error.lineno >= 1


def cut_somewhere(texts):
    rng = random.Random(4)
    for text in texts:
        for _ in range(40):
            yield text[: rng.randrange(len(text))]


def test_truncated_text_is_an_error(version):
    x = [
        {
            "a": (1, 2.5, "text\n"),
            "b": {1j, b"x'\0"},
            3: slice(1),
            "c": np.arange(3000.0),
            "d": np.int8(1),
        }
    ]
    text = pyon.encode(x, version=version)
    for part in cut_somewhere([text]):
        with pytest.raises(pyon.DecodeError):
            pyon.decode(part)
