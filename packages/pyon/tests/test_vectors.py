"""The test vectors of FORMAT.md: texts and what they mean, for readers in any language."""

import json
import struct
import sys
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyon
import pytest

FOLDER = Path(__file__).parent / "vectors"


def bits(x):
    return struct.pack(">d", x).hex()


def neutral(x):
    """Spell a value as FORMAT.md says."""
    if x is None or type(x) in (bool, str):
        return {"type": type(x).__name__.removesuffix("Type").lower(), "value": x}
    if type(x) is int:
        return {"type": "int", "value": str(x)}
    if type(x) is float:
        return {"type": "float", "value": bits(x)}
    if type(x) is complex:
        return {"type": "complex", "value": [bits(x.real), bits(x.imag)]}
    if type(x) is bytes:
        return {"type": "bytes", "value": x.hex()}
    if type(x) in (list, tuple):
        return {"type": type(x).__name__, "value": [neutral(y) for y in x]}
    if type(x) is set:
        return {"type": "set", "value": sorted((neutral(y) for y in x), key=json.dumps)}
    if type(x) in (dict, OrderedDict):
        pairs = [[neutral(key), neutral(value)] for key, value in x.items()]
        return {"type": type(x).__name__, "value": pairs}
    if type(x) is slice:
        return {"type": "slice", "value": [neutral(y) for y in (x.start, x.stop, x.step)]}
    if type(x) is Fraction:
        return {"type": "Fraction", "value": [str(x.numerator), str(x.denominator)]}
    spec = x.dtype.str if x.dtype.names is None else json.loads(json.dumps(x.dtype.descr))
    kind = "array" if type(x) is np.ndarray else "scalar"
    data = x.tobytes()[: x.dtype.itemsize] if kind == "scalar" else x.tobytes()
    return {"type": kind, "shape": list(x.shape), "dtype": spec, "value": data.hex()}


def vectors(name):
    return json.loads((FOLDER / name).read_text("ascii"))


@pytest.mark.parametrize("vector", vectors("valid.json"), ids=lambda v: v["text"][:40])
def test_valid(vector):
    value = pyon.decode(vector["text"])
    assert neutral(value) == vector["value"]
    if vector["written"]:
        assert pyon.encode(value, version=vector["version"]) == vector["text"]


@pytest.mark.parametrize("vector", vectors("invalid.json"), ids=lambda v: v["text"][:40])
def test_invalid(vector):
    with pytest.raises(pyon.DecodeError):
        pyon.decode(vector["text"])


VALUES = [
    None,
    True,
    False,
    0,
    -5,
    10**30,
    0.1,
    -0.0,
    1e16,
    1e-7,
    float("inf"),
    float("nan"),
    1j,
    1 - 9j,
    "",
    'a\n"\\\u00e9\U0001f600',
    "\ud83d",
    b"",
    b"a\x00'\"\\\n",
    [],
    [1, [2]],
    (),
    (1,),
    (1, 2),
    set(),
    {1},
    {},
    {"a": 1},
    {1: 2, None: (3,)},
    {"__jsonclass__": 1},
    slice(None, 3),
    slice("a", 1.5),
    Fraction(-1, 7),
    OrderedDict([(2, "a"), (1, "b")]),
    np.array(5, "<i4"),
    np.zeros((0, 3), "<f8"),
    np.array([[1.5, 2]], ">f8"),
    np.array([True]),
    np.array([b"ab"], "S3"),
    np.array(["ab"], "<U3"),
    np.array(["2020-01-01"], "<M8[D]"),
    np.array([(1, 2.5)], [("a", "<i4"), ("b", "<f8")]),
    np.zeros(1, [("a", "|i1"), ("b", "<f8", (2,))]),
    np.float64(1.5),
    np.int8(-1),
    np.bool_(True),
    np.str_("ab"),
]
OTHERS = [
    (1, "None"),
    (1, "[True, False]"),
    (1, "'a\"b'"),
    (1, "(1,)"),
    (1, "[1, 2, ]"),
    (1, "set()"),
    (1, "+1"),
    (1, '"\\ud83d\\ude00"'),
    (1, 'b"YQ=="'),
    (1, "'\\x41'"),
    (1, "(inf+0j)"),
    (1, "nparray((1, ), '<i2', b'AQA=')"),
    (1, '"raw \u00e9\t"'),
    (1, "# lab 3\n{'a': 1, # one\r\n 'b': '#'} # the end"),
    (1, "(1, # one\n)"),
    (1, "0x1F"),
    (1, "-0b101"),
    (1, "0o17"),
    (1, "1_000_000"),
    (1, "1_0.5e1_0"),
    (1, "5."),
    (1, ".5"),
    (1, "( 1 - 9J )"),
    (1, "{1: 2, }"),
    (1, "{'__jsonclass__': ['tuple', [[1]]], 2: ()}"),
    (2, '{ "__jsonclass__" : [ "set" , [ [ 1 ] ] ] , "more": 0 }'),
    (2, '"\u00e9"'),
    (2, "[-Infinity]"),
    (2, '{"\\u005f_jsonclass__":["tuple",[[]]]}'),
    (1, '{"__jsonclass__": 1, "b": ()}'),
]
INVALID = [
    (1, "foo"),
    (1, "(1)"),
    (1, "1+1"),
    (1, "[1"),
    (1, "{1: 2, 3}"),
    (1, "{[]: 1}"),
    (1, "'\\q'"),
    (1, "'\\Ud00800e9'"),
    (1, "1 # + 1\n + 1"),
    (1, "2*3"),
    (1, "9**9**9"),
    (1, "-(1)"),
    (1, "'a' 'b'"),
    (1, "'a' # c\n'b'"),
    (1, "u'a'"),
    (1, "r'a'"),
    (1, "b'a' b'b'"),
    (1, "'''a'''"),
    (1, "'\\N{DASH}'"),
    (1, "float('nan')"),
    (1, "dict(a=1)"),
    (1, "set([1])"),
    (1, "[1][0]"),
    (1, "[*(1, 2)]"),
    (1, "{**{}}"),
    (1, "1 if 1 else 2"),
    (1, "007"),
    (1, "1__0"),
    (1, "0x"),
    (1, "- 5"),
    (1, "1 + 2j"),
    (1, "# only a comment"),
    (1, " "),
    (1, '{"a": "C:\\data"}'),
    (1, "slice(1)"),
    (1, 'nparray((1, ), "<f8", b"AAAA")'),
    (1, 'nparray((-1, ), "<f8", b"")'),
    (1, "os.getcwd()"),
    (1, 'nparray((1, ), "|O", b"AAAAAAAAAAA=")'),
    (1, 'nparray((3, ), "|u1", b"AA!=")'),
    (1, "[" * 129 + "1j" + "]" * 129),
    (2, '{"__jsonclass__":["nope",[]]}'),
    (2, '{"__jsonclass__":["tuple",[1]]}'),
    (2, '{"__jsonclass__":1}'),
    (2, '{"__jsonclass__":["bytes",["A"]]}'),
    (2, "[1,]]"),
    (2, '{"w": {"__jsonclass__": ["tuple", [[10, 250]]]}, "z": 1,}'),
    (2, '{"w": {"__jsonclass__": ["tuple", [[10, 250]]]}, "z": None}'),
    (2, '{"w": {"__jsonclass__": ["tuple", [[10, 250]]]}, "z": nan}'),
    (2, '{"w": {"__jsonclass__": ["tuple", [[10, 250]]]}, "z": +1}'),
    (2, '{"w": {"__jsonclass__": ["tuple", [[10, 250]]]}} # c'),
    (2, '{"w": {"\\u005f_jsonclass__" : ["tuple", [[10, 250]]]}, "z": (1, )}'),
    (1, ""),
    (1, "1" * 50_001),
]


def write():
    """Write the vectors again; check the difference before you commit it."""
    valid = [
        {"version": v, "text": pyon.encode(x, version=v), "value": neutral(x), "written": True}
        for x in VALUES
        for v in (1, 2)
    ]
    valid += [
        {"version": v, "text": t, "value": neutral(pyon.decode(t)), "written": False}
        for v, t in OTHERS
    ]
    invalid = [{"version": v, "text": t} for v, t in INVALID]
    for name, data in (("valid.json", valid), ("invalid.json", invalid)):
        lines = ",\n".join(map(json.dumps, data))
        (FOLDER / name).write_text(f"[\n{lines}\n]\n", "ascii")


if __name__ == "__main__":
    sys.exit(write())
