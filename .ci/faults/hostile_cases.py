"""The messages of hostile servers, as data: to RPC clients, and to subscribers."""

from __future__ import annotations

import json
from typing import Any

DEEP = 100_000
LONG_TEXT = "x" * 300_000


def as_line(value: Any) -> bytes:
    """Return a value as a line of JSON."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _tag(name: str, *arguments: Any) -> Any:
    return {"__jsonclass__": [name, list(arguments)]}


OUR_FEATURES = ["pyon_v2", "raw_buffers", "request_ids", "exception_details", "stop_notices"]
GREETING = as_line({"targets": ["main"], "description": None, "features": OUR_FEATURES})
METHODS = as_line(_tag("set", ["echo", "other"]))

GREETINGS: dict[str, bytes] = {
    "nothing": b"",
    "an empty line": b"\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
    "bytes that are no UTF-8": b"\xff\xfe\xfd\n",
    "NULs": bytes(5000),
    "a line without an end": b"x" * 3_000_000,
    "deep brackets": b"[" * DEEP + b"\n",
    "deep braces": b'{"a":' * DEEP + b"\n",
    "a number": b"5\n",
    "a number of many digits": b"9" * 200_000 + b"\n",
    "a list": b"[]\n",
    "no targets": as_line({"targets": [], "description": None, "features": OUR_FEATURES}),
    "targets that are no names": as_line({"targets": [5, None, [1]], "description": None}),
    "a target that is a dict": as_line({"targets": {"main": 1}, "description": None}),
    "targets without end": as_line({"targets": ["t"] * 100_000, "description": None}),
    "a description of another type": as_line({"targets": ["main"], "description": {"a": [1]}}),
    "features that are no words": as_line({"targets": ["main"], "features": [5, {}, None]}),
    "features that are a text": as_line({"targets": ["main"], "features": "pyon_v2"}),
    "a name with a line end": as_line({"targets": ["ma\nin"], "description": None}),
    "control characters": as_line({"targets": ["\x1b[2J"], "description": "\x1b]0;owned\x07"}),
    "a tag of no type": b'{"targets":{"__jsonclass__":["os.system",["true"]]}}\n',
    "buffers": b'{"buffers":[99999999999],"targets":["main"]}\n',
}

METHOD_LISTS: dict[str, bytes] = {
    "nothing": b"",
    "a number": b"5\n",
    "a list": b'["echo"]\n',
    "names that are no texts": as_line(_tag("set", [1, None, 2.5])),
    "names of the client's own": as_line(
        _tag("set", ["echo", "close_rpc", "__class__", "__del__", "__init__", "_target"])
    ),
    "unhashable names": b'{"__jsonclass__":["set",[[[1],[2]]]]}\n',
    "many names": as_line(_tag("set", [f"m{n}" for n in range(50_000)])),
    "a long name": as_line(_tag("set", [LONG_TEXT])),
    "a failure": as_line(
        {"status": "failed", "exception": {"class": "SystemExit", "message": "3"}}
    ),
    "a failure of nothing": as_line({"status": "failed"}),
    "deep": b"[" * DEEP + b"]" * DEEP + b"\n",
    "an array": b'{"__jsonclass__":["nparray",[[4],"|i1","AAAAAA=="]]}\n',
    "an array that lies": b'{"__jsonclass__":["nparray",[[1000000000000],"<f8","AA=="]]}\n',
    "a line without an end": b"[" + b" " * 3_000_000,
}


def _group(depth: int, width: int = 1) -> Any:
    pack: Any = {"class": "ValueError", "message": "m", "args": ["m"]}
    for _ in range(depth):
        pack = {
            "class": "GenericRemoteException",
            "type": "ExceptionGroup",
            "message": "g",
            "args": ["g"],
            "exceptions": [pack] * width,
        }
    return pack


def _chain(depth: int, link: str) -> Any:
    pack: Any = {"class": "ValueError", "message": "m"}
    for _ in range(depth):
        pack = {"class": "ValueError", "message": "m", link: pack}
    return pack


PACKS: dict[str, Any] = {
    "a number": 5,
    "nothing": None,
    "a list": [1, 2],
    "an empty dict": {},
    "a way out": {"class": "SystemExit", "message": "3"},
    "an interrupt": {"class": "KeyboardInterrupt", "message": ""},
    "a stop": {"class": "StopIteration", "message": "3"},
    "an asynchronous stop": {"class": "StopAsyncIteration", "message": "3"},
    "a generator's end": {"class": "GeneratorExit", "message": ""},
    "the root": {"class": "BaseException", "message": ""},
    "a cancellation": {"class": "CancelledError", "type": "asyncio.CancelledError", "message": ""},
    "a function": {"class": "eval", "message": "1/0"},
    "a class of a module": {"class": "os.system", "type": "os.system", "message": "true"},
    "a dunder": {"class": "__import__", "type": "__build_class__", "message": "os"},
    "a lost connection": {"class": "ConnectionLost", "type": "pc_rpc.ConnectionLost"},
    "a time-out": {"class": "TimeoutError", "message": "no"},
    "texts that are no texts": {"class": [1], "message": {"a": 1}, "traceback": 5},
    "arguments of no sense": {"class": "OSError", "type": "OSError", "args": [[{}], 5, None, 7, 8]},
    "arguments that are a dict": {"class": "KeyError", "message": "'a", "args": {"a": 1}},
    "a key with odd quotes": {"class": "KeyError", "message": "'\\x"},
    "a decode error": {"class": "UnicodeDecodeError", "args": ["utf-8", [1], 0, 1, "x"]},
    "a long traceback": {"class": "ValueError", "message": "m", "traceback": ["  File"] * 50_000},
    "frames that are no texts": {"class": "ValueError", "message": "m", "traceback": [1, None]},
    "notes that are no texts": {"class": "ValueError", "message": "m", "notes": [1, {}, None]},
    "a long message": {"class": "ValueError", "message": LONG_TEXT},
    "control characters": {"class": "ValueError", "message": "\x1b[2J\x07"},
    "a deep group": _group(400),
    "a wide group": _group(5, 8),
    "a group of nothing": {"type": "ExceptionGroup", "args": ["g"], "exceptions": []},
    "a group of numbers": {"type": "ExceptionGroup", "args": ["g"], "exceptions": [1, None]},
    "long causes": _chain(400, "cause"),
    "long contexts": _chain(400, "context"),
    "a cause that is a number": {"class": "ValueError", "message": "m", "cause": 5},
    "a huge number": {"class": "OSError", "type": "OSError", "args": [10**4000]},
}

ID = b"%ID%"
"""Stands for the id of the request."""

REPLIES: dict[str, bytes] = {
    "nothing": b"",
    "an empty line": b"\n",
    "no dict": b"5\n",
    "no id": b'{"status":"ok","ret":1}\n',
    "the id elsewhere": b'{"status":"ok","ret":1,"id":%ID%}\n',
    "another id": b'{"id":999999,"status":"ok","ret":"wrong"}\n',
    "a negative id": b'{"id":-1,"status":"ok","ret":"wrong"}\n',
    "an id of a text": b'{"id":"%ID%","status":"ok","ret":"wrong"}\n',
    "an id of many digits": b'{"id":' + b"9" * 5000 + b',"status":"ok","ret":"wrong"}\n',
    "an id with a fraction": b'{"id":%ID%.0,"status":"ok","ret":"wrong"}\n',
    "an id of true": b'{"id":true,"status":"ok","ret":"wrong"}\n',
    "an id twice": b'{"id":999999,"id":999998,"status":"ok","ret":"wrong"}\n',
    "no status": b'{"id":%ID%}\n',
    "a status of its own": b'{"id":%ID%,"status":"perhaps","ret":1}\n',
    "a status of a list": b'{"id":%ID%,"status":["ok"],"ret":1}\n',
    "no result": b'{"id":%ID%,"status":"ok"}\n',
    "no exception": b'{"id":%ID%,"status":"failed"}\n',
    "stopped": b'{"id":%ID%,"status":"stopped"}\n',
    "stopped, perhaps begun": b'{"id":%ID%,"status":"stopped","begun":"maybe"}\n',
    "two replies": b'{"id":%ID%,"status":"ok","ret":1}\n{"id":%ID%,"status":"ok","ret":1}\n',
    "replies to nobody": b'{"id":999999,"status":"ok","ret":1}\n' * 20_000,
    "bytes that are no UTF-8": b'{"id":%ID%,"status":"ok","ret":"\xff\xfe"}\n',
    "a tag of no type": b'{"id":%ID%,"status":"ok","ret":{"__jsonclass__":["eval",["1"]]}}\n',
    "a tag of no arguments": b'{"id":%ID%,"status":"ok","ret":{"__jsonclass__":["nparray",[]]}}\n',
    "an array of a size that is a lie": (
        b'{"id":%ID%,"status":"ok","ret":{"__jsonclass__":["nparray",[[99999999999],"<f8","AAAA"]]}}\n'
    ),
    "an array of objects": (
        b'{"id":%ID%,"status":"ok","ret":{"__jsonclass__":["nparray",[[1],"|O","AAAAAAAAAAA="]]}}\n'
    ),
    "a fraction by zero": b'{"id":%ID%,"status":"ok","ret":{"__jsonclass__":["Fraction",[1,0]]}}\n',
    "a dict as a key": (
        b'{"id":%ID%,"status":"ok","ret":{"__jsonclass__":["dict",[[[{"a":1},2]]]]}}\n'
    ),
    "deep brackets": b'{"id":%ID%,"status":"ok","ret":' + b"[" * DEEP + b"]" * DEEP + b"}\n",
    "deep braces": b'{"id":%ID%,"status":"ok","ret":'
    + b'{"a":' * DEEP
    + b"1"
    + b"}" * DEEP
    + b"}\n",
    "many digits": b'{"id":%ID%,"status":"ok","ret":' + b"9" * 300_000 + b"}\n",
    "an exponent": b'{"id":%ID%,"status":"ok","ret":1e999999999}\n',
    "buffers beyond the limit": b'{"buffers":[99999999999],"id":%ID%,"status":"ok","ret":1}\n',
    "buffers of no size": b'{"buffers":[0,0,0],"id":%ID%,"status":"ok","ret":1}\n',
    "a negative buffer": b'{"buffers":[-5],"id":%ID%,"status":"ok","ret":1}\n',
    "buffers of a text": b'{"buffers":["5"],"id":%ID%,"status":"ok","ret":1}\n',
    "65,536 buffers that never come": (
        b'{"buffers":[' + b",".join([b"1"] * 65_536) + b'],"id":%ID%,"status":"ok","ret":1}\n'
    ),
    "more buffers than there may be": (
        b'{"buffers":[' + b",".join([b"1"] * 65_537) + b'],"id":%ID%,"status":"ok","ret":1}\n'
    ),
    "a buffer that is used twice": (
        b'{"buffers":[4],"id":%ID%,"status":"ok","ret":'
        b'[{"__jsonclass__":["bytes",[0]]},{"__jsonclass__":["bytes",[0]]}]}\nabcd'
    ),
    "a buffer that is not there": (
        b'{"buffers":[4],"id":%ID%,"status":"ok","ret":{"__jsonclass__":["bytes",[7]]}}\nabcd'
    ),
    "a line beyond the limit": b'{"id":%ID%,"status":"ok","ret":"' + b"x" * 3_000_000 + b'"}\n',
    "a line without an end": b'{"id":%ID%,"status":"ok","ret":"' + b"x" * 3_000_000,
    "v1": b'{"status": "ok", "ret": nparray((3, ), "<f8", b"AAAA")}\n',
    **{
        f"an exception that is {name}": b'{"id":%ID%,"status":"failed","exception":'
        + as_line(pack).rstrip()
        + b"}\n"
        for name, pack in PACKS.items()
    },
}

BELONG_TO_OTHERS = ("wrong",)
"""Results that no caller may get: they have the id of another request."""

DESCRIPTIONS: dict[str, Any] = {
    "a number": 5,
    "no methods": {"docstring": 5, "methods": None},
    "methods of no sense": {"docstring": None, "methods": {"echo": 5, "other": [1]}},
    "arguments of no sense": {
        "docstring": "d",
        "methods": {
            "echo": [
                {
                    "args": ["self", "a b", "1", "def", None],
                    "varargs": 5,
                    "varkw": ["x"],
                    "defaults": 7,
                    "kwonlyargs": {"a": 1},
                    "kwonlydefaults": [1],
                    "annotations": [1],
                },
                ["doc"],
            ]
        },
    },
    "duplicate arguments": {
        "docstring": None,
        "methods": {
            "echo": [
                {
                    "args": ["self", "x", "x"],
                    "varargs": "x",
                    "varkw": "x",
                    "defaults": [1, 2, 3, 4],
                    "kwonlyargs": ["x"],
                    "kwonlydefaults": {"y": 1},
                    "annotations": {"x": "(" * 10_000, "return": "\x1b"},
                },
                None,
            ]
        },
    },
}

HELLO = as_line({"action": "hello", "stream": "s", "number": 0, "resumed": False, "features": []})
INIT = as_line({"action": "init", "struct": {"a": [1], "b": {"c": 1}}, "number": 0})


def _mod(**fields: Any) -> bytes:
    return HELLO + INIT + as_line(fields)


PUBLISHERS: dict[str, bytes] = {
    "nothing": b"",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "NULs": bytes(5000),
    "bytes that are no UTF-8": b"\xff\xfe\n",
    "no hello": INIT,
    "a number": b"5\n",
    "a list": b"[]\n",
    "no action": b"{}\n",
    "an action of its own": HELLO + INIT + b'{"action":"dance"}\n',
    "an action of a list": HELLO + INIT + b'{"action":[1]}\n',
    "two hellos": HELLO + HELLO + INIT,
    "a hello of no sense": as_line(
        {"action": "hello", "stream": [1], "number": "x", "resumed": 5, "features": 7}
    ),
    "a resumption that nobody asked for": (
        b'{"action":"hello","stream":"s","number":5,"resumed":true,"features":[]}\n'
        b'{"action":"append","path":["a"],"x":1,"number":6}\n'
    ),
    "a structure that is deep": HELLO + b'{"action":"init","struct":' + b"[" * DEEP + b"\n",
    "a structure of nothing": HELLO + b'{"action":"init"}\n',
    "a number that goes back": _mod(action="append", path=["a"], x=1, number=-5),
    "a number of a text": _mod(action="append", path=["a"], x=1, number="x"),
    "a number of many digits": HELLO + INIT + b'{"action":"live","number":' + b"9" * 9000 + b"}\n",
    "a path to nowhere": _mod(action="append", path=["zz", 5], x=1, number=1),
    "a path of no list": _mod(action="append", path=5, x=1, number=1),
    "a path into a number": _mod(action="append", path=["a", 0, 0], x=1, number=1),
    "a path by attributes": _mod(action="append", path=["__class__"], x=1, number=1),
    "a key that cannot be one": _mod(action="setitem", path=[], key=[1], value=1, number=1),
    "a slice of no sense": _mod(
        action="setitem", path=["a"], key=_tag("slice", "x", None, 0), value=[1], number=1
    ),
    "a slice without end": _mod(
        action="setitem", path=["a"], key=_tag("slice", 0, 10**18, 10**17), value=[1], number=1
    ),
    "a pop of nothing": _mod(action="pop", path=["a"], i=99, number=1),
    "a pop of a text": _mod(action="pop", path=["a"], i="x", number=1),
    "an insertion far behind": _mod(action="insert", path=["a"], i=10**18, x=1, number=1),
    "a removal of what is not there": _mod(action="delitem", path=[], key="zz", number=1),
    "mods of no list": _mod(action="mods", mods=5, number=1),
    "mods within mods": _mod(
        action="mods", mods=[{"action": "mods", "mods": [{"action": "mods"}]}], number=1
    ),
    "mods without a number, for ever": HELLO
    + INIT
    + b'{"action":"setitem","path":["b"],"key":"c","value":1}\n' * 300_000,
    "fits of bad mods": HELLO + (INIT + as_line({"action": "pop", "path": ["zz"], "i": 0})) * 500,
    "an error of no sense": HELLO + b'{"action":"error","error":[1],"message":5,"names":7}\n',
    "an error of a name": HELLO + b'{"action":"error","error":"SystemExit","message":"3"}\n',
    "answers to no ping": HELLO + INIT + b'{"action":"pong"}\n' * 20_000,
    "an absent part that nobody asked for": HELLO + b'{"action":"absent","number":5}\n',
    "a gap that nobody asked for": HELLO + INIT + b'{"action":"gap","number":5}\n',
    "an array of a size that is a lie": HELLO
    + b'{"action":"init","struct":{"__jsonclass__":["nparray",[[99999999999],"<f8","AAAA"]]}}\n',
    "rows of another shape": HELLO
    + b'{"action":"init","struct":{"__jsonclass__":["nparray",[[1],"|i1","AA=="]]},"number":0}\n'
    + b'{"action":"append","path":[],"x":{"__jsonclass__":["nparray",[[1,1,1],"|i1","AA=="]]},'
    b'"number":1}\n',
    "buffers beyond the limit": b'{"buffers":[99999999999],"action":"hello"}\n',
    "buffers that never come": b'{"buffers":[' + b",".join([b"1"] * 65_536) + b"]}\n",
    "a line without an end": HELLO + b'{"action":"init","struct":"' + b"x" * 3_000_000,
    "the established one, garbled": b'{"action":"init","struct":{}}\n{"action":"append"}\n',
}
