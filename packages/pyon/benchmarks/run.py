"""The speed of pyon, compared with other formats and with its own limits.

Every figure is a ratio of medians that were measured alternately in one process, so that it is
valid on a busy machine. The extra `pyon[fast]` is switched on and off within the process.
``python packages/pyon/benchmarks/run.py`` prints a table of times for each workload and then one
line for each limit.
"""

import argparse
import ast
import base64
import binascii
import contextlib
import json
import os
import pickle
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import OrderedDict
from fractions import Fraction
from json.encoder import encode_basestring_ascii
from pathlib import Path

import msgpack
import msgpack_numpy
import msgspec
import numpy as np
import orjson
import pybase64
import pyon
import serpent
from pyon import _base64, _fast, wire
from pyon.framing import frame

# --- workloads


def rpc_request():
    return {"action": "call", "name": "set_frequency", "args": (3, 80e6), "kwargs": {"profile": 0}}


def device_database():
    return {
        f"ttl{i}": {
            "type": "local",
            "module": "artiq.coredevice.ttl",
            "class": "TTLOut" if i % 3 else "TTLInOut",
            "arguments": {"channel": i, "gain": i * 0.25, "inverted": i % 5 == 0},
            "comment": None,
        }
        for i in range(286)
    }


def rich():
    return [
        {
            "point": (i, i * 0.5, "axis"),
            "channels": {i % 7, i % 11, 100},
            "raw": bytes([i % 256, 0, 10, 39]) * 4,
            "amplitude": complex(i, -0.5),
            "ratio": Fraction(i + 1, 7),
            (i, "key"): [i, None, True],
            i: (1,),
        }
        for i in range(2000)
    ]


def archive():
    rng = np.random.default_rng(1)
    return {f"dataset.{i}": (i % 2 == 0, rng.random(100)) for i in range(500)}


def floats():
    rng = random.Random(1)
    return [rng.gauss(0, 1) for _ in range(100_000)]


def strings():
    rng = random.Random(2)
    words = [
        "laser",
        "cooling",
        "d\u00e9tuning",
        "\u03bcwave",
        "ion trap",
        "calibration 'x'",
        "line\n",
    ]
    return [" ".join(rng.choices(words, k=8)) for _ in range(8000)]


def ascii_strings():
    rng = random.Random(4)
    words = ["laser", "cooling", "ion trap", "calibration 'x'", "line\n"]
    return [" ".join(rng.choices(words, k=8)) for _ in range(8000)]


WORKLOADS = {
    "rpc": rpc_request(),
    "db": device_database(),
    "rich": rich(),
    "archive": archive(),
    "array": np.random.default_rng(3).random(1 << 20),
    "floats": floats(),
    "ints": [i % 1000 for i in range(100_000)],
    "strings": strings(),
    "ascii": ascii_strings(),
    "astral": [text + "\U0001f600" for text in strings()],
}
JSON_ABLE = ("db", "floats", "ints", "strings", "ascii", "astral")


# --- contestants: name -> (encode, decode, faithful)


def with_fast(on, function):
    """Call `function` with the accelerators on or off."""

    def call(x):
        _fast.msgspec, _base64.pybase64 = (msgspec, pybase64) if on else (None, None)
        return function(x)

    return call


def reference_eval(text):
    """Compile and evaluate v1, as the established readers do. A reference for speed only."""
    return eval(text, EVAL_NAMES)


def _nparray(shape, dtype, data):
    return np.frombuffer(base64.b64decode(data), dtype=dtype).reshape(shape).copy()


EVAL_NAMES = {
    "null": None, "false": False, "true": True, "inf": np.inf, "nan": np.nan, "slice": slice,
    "Fraction": Fraction, "OrderedDict": OrderedDict, "nparray": _nparray, "__builtins__": {},
}  # fmt: skip

CONTESTANTS = {
    "pyon v1": (with_fast(False, pyon.encode), with_fast(False, pyon.decode), True),
    "pyon v2": (
        with_fast(False, lambda x: pyon.encode(x, version=2)),
        with_fast(False, pyon.decode),
        True,
    ),
    "pyon[fast] v1": (with_fast(True, pyon.encode), with_fast(True, pyon.decode), True),
    "pyon[fast] v2": (
        with_fast(True, lambda x: pyon.encode(x, version=2)),
        with_fast(True, pyon.decode),
        True,
    ),
    "v1 evaluated": (with_fast(False, pyon.encode), reference_eval, True),
    "pickle 5": (lambda x: pickle.dumps(x, 5), pickle.loads, True),
    "json": (json.dumps, json.loads, False),
    "json compact": (lambda x: json.dumps(x, separators=(",", ":")), json.loads, False),
    "orjson": (lambda x: orjson.dumps(x), orjson.loads, False),
    "msgspec": (msgspec.json.encode, msgspec.json.decode, False),
    "msgpack": (
        lambda x: msgpack.packb(x, default=msgpack_numpy.encode),
        lambda b: msgpack.unpackb(b, object_hook=msgpack_numpy.decode, strict_map_key=False),
        False,
    ),
    "repr, literal_eval": (repr, ast.literal_eval, False),
    "SIMD base64": (
        lambda x: pybase64.b64encode(x.data),
        lambda text: pybase64.b64decode(text, validate=True),
        False,
    ),
    "serpent": (serpent.dumps, serpent.loads, False),
}


def measure(functions, seconds):
    """Run the functions alternately for about `seconds`; return the median time of each."""
    times = {name: [] for name in functions}
    repeats = {}
    for name, function in functions.items():
        function()  # the first call may load modules
        start = time.perf_counter()
        function()
        repeats[name] = max(1, min(2000, int(0.002 / max(time.perf_counter() - start, 1e-7))))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < 7:
        for name, function in functions.items():
            if repeats[name] == 1:
                function()  # otherwise it would be charged for memory freed by the previous one
            start = time.perf_counter()
            for _ in range(repeats[name]):
                function()
            times[name].append((time.perf_counter() - start) / repeats[name])
    return {name: statistics.median(t) for name, t in times.items()}


def usable(name, workload, x):
    """Return the encoded workload, or None if the contestant does not support it."""
    encode, decode, _ = CONTESTANTS[name]
    if (name == "SIMD base64") > (workload == "array"):
        return None
    try:
        text = encode(x)
        decode(text)
    except Exception:
        return None
    if workload not in JSON_ABLE and name in (
        "json",
        "json compact",
        "orjson",
        "msgspec",
        "serpent",
    ):
        return None  # it writes a text from which the value is not restored
    # Texts from a wire or a file are bytes. For long texts that makes a difference.
    return text.encode() if workload == "array" and name.startswith("pyon") else text


def measure_workload(workload, seconds):
    x = WORKLOADS[workload]
    texts = {name: text for name in CONTESTANTS if (text := usable(name, workload, x)) is not None}
    encode = measure({n: lambda n=n: CONTESTANTS[n][0](x) for n in texts}, seconds)
    decode = measure({n: lambda n=n: CONTESTANTS[n][1](texts[n]) for n in texts}, seconds)
    print(f"\n{workload:22}{'encode ms':>12}{'decode ms':>12}{'size kB':>10}  faithful")
    for name, text in texts.items():
        faithful = "yes" if CONTESTANTS[name][2] else "no"
        times = f"{encode[name] * 1e3:12.4f}{decode[name] * 1e3:12.4f}"
        print(f"  {name:20}{times}{len(text) / 1e3:10.1f}  {faithful}")
    return {"encode": encode, "decode": decode}


def limits():
    """Return the times of unavoidable work, each with the time of its reference.

    Where a limit is not met, they show how close to it any Python code could get.
    """
    words, rows = WORKLOADS["strings"], list(WORKLOADS["archive"].items())
    array = WORKLOADS["array"]
    base64_of_array, array_text = base64.b64encode(array.data), pyon.encode(array)
    text = pyon.encode(WORKLOADS["archive"])
    base64s = re.findall('b"([^"]*)"', text)
    header = re.compile(r'"([^"\\]+)": \((true|false), nparray\(\(100, \), "<f8", b"([^"]*)"\)\)')

    def only_this_shape(decode):
        return {m[1]: (m[2] == "true", _floats(decode(m[3]))) for m in header.finditer(text)}

    assert len(base64s) == len(rows) == len(only_this_shape(base64.b64decode))
    tasks = {
        "strings: escaping in C / json.dumps": (
            lambda: ",".join(map(encode_basestring_ascii, words)),
            lambda: json.dumps(words),
        ),
        "archive: evaluated / base64 to arrays, no text read": (
            lambda: reference_eval(text),
            lambda: [_floats(binascii.a2b_base64(b, strict_mode=True)) for b in base64s],
        ),
        "archive: evaluated / one regular expression for exactly this, SIMD base64": (
            lambda: reference_eval(text),
            lambda: only_this_shape(lambda b: pybase64.b64decode(b, validate=True)),
        ),
        "array: evaluated / base64 to an array, no text read": (
            lambda: reference_eval(array_text),
            lambda: np.frombuffer(
                bytearray(binascii.a2b_base64(base64_of_array, strict_mode=True))
            ),
        ),
    }
    return {name: measure(dict(zip("ab", pair, strict=True)), 0.5) for name, pair in tasks.items()}


def _floats(data):
    return np.ndarray((100,), "<f8", data).copy()


def growth(piece):
    """Return the factor by which the time grows for a text of four times the length."""

    def decode(size):
        text = "[" + ",".join([piece] * (size // len(piece)))

        def task():
            for whole in (text, text + "]"):
                with contextlib.suppress(pyon.DecodeError):
                    pyon.decode(whole)

        return task

    times = measure({"n": decode(50_000), "4 n": decode(200_000)}, 0.2)
    return times["4 n"] / times["n"]


def start_up():
    """Return the median start-up time of Python, without and with `import pyon`, in seconds."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    commands = {"empty": "pass", "pyon": "import pyon"}
    times = {name: [] for name in commands}
    for _ in range(21):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", command], check=True, env=environment)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


SMALL = {
    "request": {"action": "call", "name": "echo", "args": [1], "kwargs": {}},
    "mod": {"action": "setitem", "path": [], "key": "x", "value": 1.5},
}


def small_messages():
    """Print the times of messages that programs exchange thousands of times a second."""
    print(
        f"\n{'small messages, us':22}{'encode v1':>12}{'encode v2':>12}{'json.dumps':>12}", end=""
    )
    print(f"{'decode v2':>12}{'json.loads':>12}{'v1 tuple':>12}{'evaluated':>12}")
    for name, x in SMALL.items():
        text = json.dumps(x)
        v1 = text.replace("[1]", "(1, )").replace("[]", "()")
        functions = {
            "encode v1": lambda x=x: pyon.encode(x),
            "encode v2": lambda x=x: pyon.encode(x, version=2),
            "json.dumps": lambda x=x: json.dumps(x),
            "decode v2": lambda text=text: pyon.decode(text),
            "json.loads": lambda text=text: json.loads(text),
            "v1 tuple": lambda v1=v1: pyon.decode(v1),
            "evaluated": lambda v1=v1: reference_eval(v1),
        }
        times = measure(functions, 0.5).values()
        print(f"  {name:20}" + "".join(f"{t * 1e6:12.2f}" for t in times))


def large_array(promises):
    """Print the cost of an array of 8 MiB in a v1 reply, and in a file."""
    _fast.msgspec, _base64.pybase64 = msgspec, pybase64
    x = np.random.default_rng(5).random(1 << 20)

    def reply():
        return frame(wire.around('{"status": "ok", "ret": ', wire.encode_pieces(x, version=1), "}"))

    times = measure({"ours": reply, "base64": lambda: pybase64.b64encode(x.data)}, 1.5)
    promises.ratio("8 MiB array: v1 reply / SIMD base64", times["ours"], times["base64"], 3)
    tracemalloc.start()
    chunks = reply()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    promises.ratio("8 MiB array: memory of the reply / its text", peak, sum(map(len, chunks)), 1.4)
    with tempfile.TemporaryDirectory() as folder:
        path, data = Path(folder) / "f", b"".join(chunks)

        def plain():
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

        times = measure({"ours": lambda: pyon.store_file(path, x), "plain": plain}, 3)
    promises.ratio("8 MiB array: store_file / write, fsync", times["ours"], times["plain"], 1.5)


def request(promises):
    """Print the time of a v1 request compared with `json` on the same data."""
    x = rpc_request()
    text, plain = pyon.encode(x), json.dumps(x)
    times = measure(
        {
            "encode": lambda: pyon.encode(x),
            "json.dumps": lambda: json.dumps(x),
            "decode": lambda: pyon.decode(text),
            "json.loads": lambda: json.loads(plain),
        },
        1.5,
    )
    promises.ratio("request: v1 encode / json.dumps", times["encode"], times["json.dumps"], 1.3)
    promises.ratio("request: v1 decode / json.loads", times["decode"], times["json.loads"], 3.4)


class Promises:
    def __init__(self):
        self.kept = True

    def ratio(self, text, ours, reference, bound):
        self.line(f"{text}: at most {bound} x", ours / reference, bound, "x")

    def speedup(self, text, ours, reference, bound):
        figure = reference / ours
        met = figure >= bound
        self.kept &= met
        print(
            f"{'met    ' if met else 'NOT MET'}  {figure:8.2f} x  {text}: at least {bound} x faster"
        )

    def line(self, text, figure, bound, unit):
        met = figure <= bound
        self.kept &= met
        print(f"{'met    ' if met else 'NOT MET'}  {figure:8.2f} {unit}  {text}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.5, help="time per table column")
    seconds = parser.parse_args().seconds
    results = {workload: measure_workload(workload, seconds) for workload in WORKLOADS}
    print()
    small_messages()
    print()
    promises = Promises()
    for w in JSON_ABLE:
        encode, decode = results[w]["encode"], results[w]["decode"]
        promises.ratio(
            f"{w}: v2 decode / json.loads", decode["pyon v2"], decode["json compact"], 1.2
        )
        promises.ratio(
            f"{w}: v2 decode [fast] / orjson.loads", decode["pyon[fast] v2"], decode["orjson"], 2.5
        )
        promises.ratio(f"{w}: v2 encode / json.dumps", encode["pyon v2"], encode["json"], 1.5)
        promises.ratio(
            f"{w}: v2 encode [fast] / json.dumps", encode["pyon[fast] v2"], encode["json"], 1.0
        )
        promises.ratio(f"{w}: v1 encode / json.dumps", encode["pyon v1"], encode["json"], 1.7)
        promises.speedup(
            f"{w}: v1 decode / evaluated", decode["pyon v1"], decode["v1 evaluated"], 15
        )
    for w, reference, bound in (
        ("floats", "orjson", 5), ("ints", "orjson", 10),
        ("ascii", "json", 1.1), ("strings", "json", 1.3), ("astral", "json", 1.3),
    ):  # fmt: skip
        encode = results[w]["encode"]
        promises.ratio(
            f"{w}: v1 encode [fast] / {reference}.dumps",
            encode["pyon[fast] v1"],
            encode[reference],
            bound,
        )
    large_array(promises)
    request(promises)
    encode = results["floats"]["encode"]
    promises.ratio(
        "floats: v2 encode [fast] / orjson.dumps", encode["pyon[fast] v2"], encode["orjson"], 4
    )
    for w, name, bound in (
        ("rich", "pyon v1", 4), ("archive", "pyon v1", 4), ("archive", "pyon[fast] v1", 8),
        ("array", "pyon v1", 5), ("array", "pyon[fast] v1", 15), ("rpc", "pyon v1", 1),
    ):  # fmt: skip
        decode = results[w]["decode"]
        promises.speedup(
            f"{w}: {name} decode / evaluated", decode[name], decode["v1 evaluated"], bound
        )
    array = results["array"]
    for name in ("pyon[fast] v1", "pyon[fast] v2"):
        promises.ratio(
            f"array: {name} encode / SIMD base64",
            array["encode"][name],
            array["encode"]["SIMD base64"],
            3,
        )
    promises.ratio(
        "array: v1 decode [fast] / SIMD base64",
        array["decode"]["pyon[fast] v1"],
        array["decode"]["SIMD base64"],
        2,
    )
    promises.ratio(
        "array: v2 decode [fast] / SIMD base64",
        array["decode"]["pyon[fast] v2"],
        array["decode"]["SIMD base64"],
        3.5,
    )
    encode, decode = results["rich"]["encode"], results["rich"]["decode"]
    promises.ratio("rich: v2 decode / pickle.loads", decode["pyon v2"], decode["pickle 5"], 4)
    promises.ratio("rich: v1 decode / pickle.loads", decode["pyon v1"], decode["pickle 5"], 8.5)
    promises.ratio("rich: v1 encode / pickle.dumps", encode["pyon v1"], encode["pickle 5"], 4.5)
    promises.ratio("rich: v2 encode / pickle.dumps", encode["pyon v2"], encode["pickle 5"], 10)
    shapes = Path(__file__).parents[1] / "tests" / "data" / "growing.json"
    slopes = {name: growth(piece) for name, piece in json.loads(shapes.read_text()).items()}
    worst = max(slopes, key=slopes.get)
    promises.line(f"time is linear: 4 x the text of {worst!r} at most 8 x", slopes[worst], 8, "x")
    start = start_up()
    promises.line("import pyon: at most 15 ms", (start["pyon"] - start["empty"]) * 1e3, 15, "ms")
    print("\nlimits of what was not met:")
    for w in ("floats", "strings"):
        decode = results[w]["decode"]
        for name in ("json", "orjson"):
            print(
                f"  {decode['v1 evaluated'] / decode[name]:8.2f} x  {w}: evaluated / {name}.loads"
            )
    for name, times in limits().items():
        print(f"  {times['a'] / times['b']:8.2f} x  {name}")
    return 0 if promises.kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
