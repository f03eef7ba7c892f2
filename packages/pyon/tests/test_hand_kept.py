"""Files edited by hand: comments, mistakes, other editors, other programs."""

import io
import json
import random
import re
import tokenize
from pathlib import Path

import numpy as np
import pyon
import pytest
from hypothesis import given
from hypothesis import strategies as st

# --- a text with tags that is not JSON is an error at the place of the mistake, not v1

TAGGED = '{"w": {"__jsonclass__": ["tuple", [[10, 250]]]}, "z": 1}'
MISTAKES = [
    (TAGGED[:-1] + ",}", ",}", "comma before"),
    (TAGGED.replace("250]", "250,]"), ",]", "comma before"),
    (TAGGED.replace("1}", "None}"), "None", "null"),
    (TAGGED.replace("1}", "True}"), "True", "true"),
    (TAGGED.replace("1}", "nan}"), "nan", "NaN"),
    (TAGGED.replace("1}", "-inf}"), "-inf", "-Infinity"),
    (TAGGED.replace("1}", "+1}"), "+1", "number"),
    (TAGGED.replace("1}", ".5}"), ".5", "number"),
    (TAGGED.replace("1}", "5.}"), ".}", "number"),
    (TAGGED.replace("1}", "0x1F}"), "x1F", "number"),
    (TAGGED.replace("1}", "1_000}"), "_000", "number"),
    (TAGGED.replace("1}", "'a'}"), "'a'", "quotation"),
    (TAGGED.replace("1}", "(1, )}"), "(1", "parenthesis"),
    (TAGGED.replace("1}", "b'x'}"), "b'x'", "bytes"),
    (TAGGED.replace("1}", "{1: 2}}"), "1: 2", ""),
    (TAGGED.replace("1}", "1 # one\n}"), "# one", "comment"),
    ("# lab 3\n" + TAGGED, "# lab", "comment"),
    (TAGGED + "\n# the end", "# the", ""),
    (TAGGED.replace('"tuple"', "'tuple'"), "'tuple'", "quotation"),
    (TAGGED.replace('{"__jsonclass__":', '{"__jsonclass__" # c\n:'), "# c", "comment"),
    (TAGGED.replace('["tuple"', '("tuple"').replace("]]]", "]])"), '("tuple"', "parenthesis"),
    (TAGGED.replace("__json", "\\u005f_json").replace("1}", "None}"), "None", "null"),
    ('[{"__jsonclass__":["set",[[1]]]},{"__jsonclass__":["set",[[1],]]}]', ",]", "comma"),
    ("[1 2, " + TAGGED + "]", "2, ", ""),
    (TAGGED.replace("1}", r'"C:\data"}'), r"\data", "twice"),
]


@pytest.mark.parametrize(("text", "mistake", "reason"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_in_a_v2_text_with_tags_is_an_error_at_its_place(text, mistake, reason, tmp_path):
    for source in (text, text.encode()):
        with pytest.raises(pyon.DecodeError) as caught:
            pyon.decode(source)
        assert caught.value.position == text.index(mistake)
        assert reason in caught.value.reason
    (tmp_path / "f.pyon").write_text(text)
    with pytest.raises(pyon.DecodeError, match=r"f\.pyon"):
        pyon.load_file(tmp_path / "f.pyon")


@pytest.mark.parametrize(
    ("text", "x"),
    [
        ("{'__jsonclass__': ['set', [[1]]], 1: 2}", {"__jsonclass__": ["set", [[1]]], 1: 2}),
        ('{"__jsonclass__": 1, "b": (1, )}', {"__jsonclass__": 1, "b": (1,)}),
        ('("a", "{\\"__jsonclass__\\": [1]}")', ("a", '{"__jsonclass__": [1]}')),
        ("('\"__jsonclass__\": [', 1)", ('"__jsonclass__": [', 1)),
        ('# {"__jsonclass__": ["set", [[]]]}\n(1, )', (1,)),
        ("(b'\"__jsonclass__\": [', 1)", (b'"__jsonclass__": [', 1)),
        ('(["__jsonclass__", ["set"]], )', (["__jsonclass__", ["set"]],)),
    ],
)  # fmt: skip
def test_a_text_that_only_looks_tagged_stays_v1(text, x, same):
    assert same(pyon.decode(text), x)


def test_a_dict_with_the_key_of_tags_comes_back_beside_any_value(version, same):
    for other in ((1,), None, True, 0.5, float("nan"), b"x", {1}, {2: 3}, -1):
        x = [{"__jsonclass__": ["tuple", [[10, 250]]], "a": other}, other]
        assert same(pyon.decode(pyon.encode(x, version=version)), x)
        assert same(pyon.decode(pyon.encode(x, pretty=True, version=version)), x)


def some_value(rng, depth=3, tags=True):
    """Return a random value; without tags, plain JSON."""
    kind = rng.randrange(14 if depth and tags else 10 if depth else 6)
    if kind < 6:
        return rng.choice(
            [None, True, False, rng.randrange(-99, 99), rng.gauss(0, 1), "a # 'b'", "(x)", '"\\']
            + [1 - 9j, b"'#", float("nan"), "\u00e9\n", complex(0, -2.5)] * tags
        )
    several = [some_value(rng, depth - 1, tags) for _ in range(rng.randrange(4))]
    if kind in (6, 7):
        return several
    if kind in (8, 9):
        return {f"k{i}": x for i, x in enumerate(several)}
    if kind == 10:
        return tuple(several)
    if kind == 11:
        return {rng.randrange(9) for _ in range(rng.randrange(3))}
    if kind == 12:
        return dict(enumerate(several))
    return np.arange(rng.randrange(3))


def with_mistake(rng, text):
    """Make one mistake as people do."""
    mistakes = [
        (r"[\]}]", ","), (r"[\]}:,]", " # c\n"), (r"\b(true)\b", "True"), (r"\bnull\b", "None"),
        (r"\bNaN\b", "nan"), (r"(?<=[\[:,])(?=[0-9])", "+"), (r"\[", "("), (r"\]", ")"),
        (r'"[^"\\]*"', "'"), (r"(?<=[\[:,])(?=[0-9])", "0"), (r",", ""), (r":", "="),
        (r"[\[{]", ""),
    ]  # fmt: skip
    while True:
        pattern, new = rng.choice(mistakes)
        places = list(re.finditer(pattern, text))
        if not places:
            continue
        place = rng.choice(places)
        old = place[0]
        if new == "'":
            new = f"'{old[1:-1]}'"
        elif new in (",", " # c\n"):
            new += old
        return text[: place.start()] + new + text[place.end() :]


def test_random_mistakes_in_texts_with_tags_never_give_another_value(same):
    rng = random.Random(13)
    wrong = []
    for n in range(10_000):
        x = [some_value(rng), (n, {"w": (1, 2)})]  # more than one tag, so that one can be hit
        text = with_mistake(rng, pyon.encode(x, version=2))
        try:
            value = pyon.decode(text)
        except pyon.DecodeError:
            continue
        if not same(value, x):
            wrong.append(text)
    # Without a comma or bracket the text may still be JSON, which cannot be detected.
    assert [text for text in wrong if not is_json(text)] == []


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


# --- comments


@pytest.mark.parametrize(
    ("text", "x"),
    [
        ("# lab 3\n[1]", [1]),
        ("[1] # lab 3", [1]),
        ("[1]\n# the end, without a line end", [1]),
        ("[1]#\r\n#\r\n", [1]),
        ("[1, # one\n 2] ", [1, 2]),
        ("[1 # one\n, 2]", [1, 2]),
        ("[ # nothing\n]", []),
        ("( # nothing\n)", ()),
        ("{ # nothing\n}", {}),
        ("(1, # one\n)", (1,)),
        ("(1 # one\n,)", (1,)),
        ("{1, # one\n 2 # two\n}", {1, 2}),
        ("{ # first\n1}", {1}),
        ("{ # first\n'a' # key\n: # colon\n1 # value\n, # comma\n}", {"a": 1}),
        ('{"a": # later\n(1, ), "b": # later\n"c"}', {"a": (1,), "b": "c"}),
        ("{'#': '# no comment'} # comment", {"#": "# no comment"}),
        ("b'#' # bytes", b"#"),
        ('{"a": 1 # [ ( { \' "\n}', {"a": 1}),
        ("{ # empty\n*( # set\n) # of\n, # sorts\n}", set()),
        ("slice # name\n( # open\n1, # one\nNone, 2 # two\n)", slice(1, None, 2)),
        ("(1 # real\n - # sign\n 9j # imaginary\n)", 1 - 9j),
        ("1 # old Mac\r", 1),
        ("[1 # old Mac\r, 2]", [1, 2]),
        ('nparray( # old\n(1, ), "|i1", # type\nb"AA==")', np.array([0], "i1")),
        ("# only\n# comments\n5", 5),
    ],
)
def test_a_comment_is_white_space_in_v1(text, x, same):
    assert same(pyon.decode(text), x)
    assert same(pyon.decode(text.encode()), x)


def test_comments_are_read_in_large_files_in_linear_time():
    text = "{\n" + "".join(f'  "k{i}": [{i}, "x"], # no. {i}\n' for i in range(20_000)) + "}\n"
    assert len(pyon.decode(text)) == 20_000


def gaps_inserted(rng, text):
    """Insert white space, comments and trailing commas where Python allows them."""
    tokens = [
        token.string
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.string.strip()
    ]
    gap = lambda: rng.choice(["", "", "", " ", "\n", "\t\r\n", " # c\n", "#'\"([{\n", "\f"])  # noqa: E731
    pieces = [gap()]
    for i, token in enumerate(tokens):
        before = tokens[i - 1] if i else ""
        real = i > 2 and before[-1:] in "jJ" and tokens[i - 2] in "+-"  # (1-9j) is no tuple
        if token in "]})" and before not in ("[", "{", "(", ",", "*") and not real:
            if tokens[i - 3 : i] != ["*", "(", ")"][-3:] or token != "}":
                pieces.append(rng.choice(["", ","]))
            pieces.append(gap())
        pieces.append(token)
        unary = token in "+-" and (before in ("", "(", "[", "{", ",", ":") or before == "")
        pieces.append("" if unary else gap())
    return "".join(pieces)


def test_white_space_comments_and_trailing_commas_change_no_value(same):
    rng = random.Random(2)
    for _ in range(10_000):
        x = some_value(rng)
        text = gaps_inserted(rng, pyon.encode(x, pretty=rng.random() < 0.3))
        assert same(pyon.decode(text), x), text


# --- v1 that readers accept and writers do not write


@pytest.mark.parametrize(
    ("text", "x"),
    [
        ("0x1F", 31),
        ("-0X1f", -31),
        ("0b101", 5),
        ("+0o17", 15),
        ("0xdead_beef", 0xDEADBEEF),
        ("0x" + "f" * 1000, 16**1000 - 1),
        ("1_000_000", 1_000_000),
        ("1_000.000_5", 1000.0005),
        ("1e1_0", 1e10),
        ("1_0j", 10j),
        ("2J", 2j),
        ("1_" + "0" * 5000, 10**5000),
        ("( 1 - 9j )", 1 - 9j),
        ("(-1.5\n+ infj)", complex(-1.5, float("inf"))),
        ("[0x10, {0x10: 0b1}, (0o7,)]", [16, {16: 1}, (7,)]),
        ("5.", 5.0),
        (".5e1", 5.0),
    ],
    ids=lambda text: text[:20] if isinstance(text, str) else "",
)
def test_numbers_as_people_write_them(text, x, same):
    assert same(pyon.decode(text), x)


# --- strings with a literal backslash


@pytest.mark.parametrize(
    ("text", "escape"),
    [
        (r'{"command": "C:\data"}', r"\d"),
        (r"{'command': 'C:\data'}", r"\d"),
        (r'("a", "C:\\temp\Users")', r"\U"),
        (r"{1: b'C:\data'}", r"\d"),
        (r'{"x": "\u12"}', r"\u"),
        (r'{"x": "\x4"}', r"\x"),
        (r'{"command": "C:\data", "t": {"__jsonclass__":["set",[[]]]}}', r"\d"),
        (r'{"x": "\u12", "t": {"__jsonclass__":["set",[[]]]}}', r"\u"),
    ],
)
def test_an_invalid_escape_is_an_error_at_its_column_with_a_hint_to_double_it(text, escape):
    with pytest.raises(pyon.DecodeError, match="written twice") as caught:
        pyon.decode(text)
    assert caught.value.position == text.index(escape)
    assert repr(escape) in caught.value.reason


def test_a_backslash_before_the_closing_quotation_mark_is_reported():
    with pytest.raises(pyon.DecodeError, match=r"closing quotation mark; .*twice") as caught:
        pyon.decode(r"('C:\\data\')")
    assert caught.value.position == 1


# --- bytes that are not PYON


@pytest.mark.parametrize("text", ["5", '{"a": 1}', "(1, )", '{"__jsonclass__":["tuple",[[1]]]}'])
@pytest.mark.parametrize("known", [None, 1, 2])
def test_a_byte_order_mark_in_a_text_is_named(text, known):
    for marked in ("\ufeff" + text, b"\xef\xbb\xbf" + text.encode()):
        with pytest.raises(pyon.DecodeError, match=r"column 1: .*byte order mark"):
            pyon.decode(marked, _version=known)


@pytest.mark.parametrize(
    ("data", "looks"),
    [
        ('{"a": 1}'.encode("utf-16"), "UTF-16, as PowerShell"),
        (b"\xfe\xff" + '{"a": 1}'.encode("utf-16-be"), "UTF-16, as PowerShell"),
        ('{"a": (1, )}\r\n'.encode("utf-16-le"), "UTF-16 without"),
        ('{"a": (1, )}\r\n'.encode("utf-16-be"), "UTF-16 without"),
        ('{"a": 1}'.encode("utf-32"), "UTF-32"),
        ('"d\u00e9tuning"'.encode("latin-1"), "Latin-1"),
        (b"", "the text is empty"),
        (b" \r\n\t", "only white space"),
        (b"# soon\n", "only comments"),
        (b"\xef\xbb\xbf", "the text is empty"),
        (bytes(4096), "only 4096 NUL"),
        (bytes(3) + b'{"a": (1, )}', "begins with 3 NUL"),
        (b"BZh91AY&SY\x00", "bzip2"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"\x28\xb5\x2f\xfd\x04", "zstd"),
        (b"\x1f\x8b\x08\x00abc\xff", "gzip"),
        (b"PK\x03\x04abc", "ZIP"),
        (b"\x80\x04\x95", "pickle"),
        (b"\x93NUMPY\x01\x00", "numpy"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
    ],
)
def test_the_error_of_a_file_that_is_not_text_says_what_it_looks_like(tmp_path, data, looks):
    (tmp_path / "f.pyon").write_bytes(data)
    with pytest.raises(pyon.DecodeError, match=looks) as caught:
        pyon.load_file(tmp_path / "f.pyon")
    assert str(tmp_path / "f.pyon") in str(caught.value)
    if looks != "the text is empty" or not data:
        with pytest.raises(pyon.DecodeError, match=looks):
            pyon.decode(data)


# --- objects that are not texts


@pytest.mark.parametrize(
    "x",
    [5, 0, 10**12, True, None, [91, 93], (49,), {49}, 1.5, Path("x.pyon"), object(),
     np.arange(3.0), memoryview(b"12345678").cast("d"), np.array(["1"]), io.BytesIO(b"1")],
)  # fmt: skip
def test_an_object_that_is_not_a_text_is_a_type_error_that_names_the_type(x):
    with pytest.raises(TypeError, match=type(x).__name__) as caught:
        pyon.decode(x)
    assert ("load_file" in str(caught.value)) == isinstance(x, Path | io.BytesIO)


@pytest.mark.parametrize(
    "x",
    [b"[1]", bytearray(b"[1]"), memoryview(b"[1]"), memoryview(b"[1]  ")[:3],
     memoryview(b"]1[")[::-1], memoryview(b"[1]").cast("c"),
     np.frombuffer(b"[1]", np.uint8), np.str_("[1]"), np.bytes_(b"[1]")],
)  # fmt: skip
def test_any_buffer_of_bytes_is_a_text(x, same):
    assert same(pyon.decode(x), [1])


@pytest.mark.parametrize("x", [0, 5, True, None, 1.5])
def test_a_number_is_not_a_file_name(x):
    for function in (pyon.load_file, lambda name: pyon.store_file(name, 1)):
        with pytest.raises(TypeError):
            function(x)


@given(st.text(st.sampled_from("#\n\r'\"()[]{},:1a\\ b*"), max_size=30))
def test_quotes_brackets_and_comments_in_any_order(text):
    try:
        x = pyon.decode(text)
    except pyon.DecodeError:
        return
    assert pyon.encode(pyon.decode(pyon.encode(x))) == pyon.encode(x)
