"""Small v1 texts, which are read in one pass where possible: the results do not differ.

White space that makes a text long is what the two ways are compared with.
"""

import random
import threading

import pyon
import pytest

LONG = " " * 300

READ = [
    ('{"action": "call", "args": (3, 80e6), "kwargs": {"profile": 0}}', (3, 80e6)),
    ('{"args": (1, ), "b": [(), {"c": ("x", null, true)}]}', (1,)),
    ('{"args": ()}', ()),
    ('{"args": ( )}', ()),
    ('{"args": (1,)}', (1,)),
    ('{"args": (1, 2, )}', (1, 2)),
    ('{"args": (1 , 2 ,  )}', (1, 2)),
    ('{"args":\n(1, 2)}', (1, 2)),
    ('{"args":(1,2)}', (1, 2)),
    ('{"args": ("(1, 2)", "NaN")}', ("(1, 2)", "NaN")),
    ('{"a": "(1, 2)", "args": (3, 4)}', (3, 4)),
    ('{"a": "NaN", "args": (3, 4)}', (3, 4)),
    ('{"a (1, 2)": (1, 2), "args": (3, 4), "b": "(5, 6)"}', (3, 4)),
    ('{"args": (1, 2), "args": (3, 4)}', (3, 4)),
    ('{"args": (1, 2), "b": (5, 6), "args": 3}', 3),
    ('{"args": (1+0j)}', 1 + 0j),
    ('{"args": (1, 2),}', (1, 2)),
    ('{"args": (1, 2), 3: (1, )}', (1, 2)),
    ('{"args": (1, (2, 3))}', (1, (2, 3))),
    ('{"args": (nan, (2, 3)), "b": {(1, 2)}}', None),
    ('{"args": Fraction(1, 2), "b": (1, 2)}', pyon.decode("Fraction(1, 2)")),
    ('{"args": (1, "\\u00e9(")}', (1, "\u00e9(")),
    ("{\"args\": (1, '(')}", (1, "(")),
    ('{"args": (1, 2)}  # (3, 4)', (1, 2)),
]
REFUSED = [
    '{"a": (1, 2), "b": NaN}',
    '{"a": NaN, "b": (1, 2)}',
    '{"a": "(1, 2)", "b": NaN, "c": (1, 2)}',
    '{"a": Infinity, "b": (1, 2)}',
    '{"a": -Infinity, "b": (1, 2)}',
    "(1, NaN)",
    "(5)",
    "(, )",
    "(,)",
    "(1,,)",
    "(1, 2",
    "(1, 2))",
    "(1, 2)(3, 4)",
    "(1, 2) (3, 4)",
    "-(1, 2)",
    "- (1, 2)",
    "[1(2, 3)]",
    '["a"(1, 2)]',
    "[(1, 2)3]",
    "[(01, 2)]",
    '{"a": tuple(1, 2)}',
    '{"a": tuple (1, 2)}',
    '{"__jsonclass__": ["tuple", (1, 2)]}',
    '{"\\u005f_jsonclass__": ["tuple", (1, 2)]}',
]
PIECES = ["(", ")", "(1, )", "()", "[", "]", "{", "}", '"', "'", "NaN", "Infinity", "-", ",", ":"]
PIECES += [" ", "\f", "\n", "#", "\\", "b", "5", ".", "e", "null", "j", "'a'", '"__jsonclass__"']


def outcome(text, version=None):
    try:
        return repr(pyon.Codec().decode(text, _version=version))
    except pyon.DecodeError:
        return "refused"


@pytest.mark.parametrize(("text", "args"), READ, ids=range(len(READ)))
def test_a_small_text_is_read(text, args):
    x = pyon.decode(text)
    assert args is None or (x["args"], type(x["args"])) == (args, type(args))
    assert outcome(text) == outcome(text + LONG) == outcome(text, 1)


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_an_invalid_small_text_is_an_error(text):
    with pytest.raises(pyon.DecodeError):
        pyon.decode(text)
    assert outcome(text) == outcome(text + "\n" + LONG)


def test_a_small_text_with_mistakes_is_read_as_a_long_one():
    values = [
        {"action": "call", "args": (1, "a ("), "kwargs": {"b": (None, 1.5), "NaN": ()}},
        {"action": "setitem", "path": (), "key": "(1, 2)", "value": [1j, (3,), {"x": "NaN"}]},
        {"a": {3: (1, (2,))}, "b": {("c", 1)}},
    ]
    rng = random.Random(7)
    for _ in range(3000):
        text = pyon.encode(rng.choice(values))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(["", *PIECES]) + text[at + rng.randrange(3) :]
        assert outcome(text) == outcome(f"{text}\n{LONG}"), text


def test_a_small_text_that_is_json_keeps_its_constants():
    x = pyon.decode('{"a": "(1, 2)", "b": NaN, "c": "()"}')
    assert repr(x) == "{'a': '(1, 2)', 'b': nan, 'c': '()'}"


def test_the_deepest_small_text():
    inside = "[" * 124 + "()" + "]" * 124
    assert repr(pyon.decode(f'{{"":{inside}}}')[""]) == inside
    with pytest.raises(pyon.DecodeError, match="128 levels deep"):
        pyon.decode(f'{{"":[[[{inside}]]]}}')


def test_a_small_text_in_which_buffers_are_not_used_is_an_error():
    with pytest.raises(pyon.DecodeError, match="1 buffers are not used"):
        pyon.decode("(1, 2)", buffers=[b"x"])


def test_threads_read_small_texts_at_the_same_time():
    wrong = []
    start = threading.Barrier(8)

    def read(number):
        start.wait()
        for i in range(500):
            last = "NaN" if i % 7 == 0 else 0
            text = f'{{"a": ({number}, {i}), "b": [({i}, )], "c": "(1, 2)", "d": {last}}}'
            expected = {"a": (number, i), "b": [(i,)], "c": "(1, 2)", "d": 0}
            try:
                if pyon.decode(text) != expected:
                    wrong.append(text)
            except pyon.DecodeError:
                if i % 7:
                    wrong.append(text)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
