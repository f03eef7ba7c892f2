"""The modules that `import pyon` loads: no more than reading data files needs."""

import subprocess
import sys

import pyon

HEAVY = (
    "asyncio",
    "socket",
    "numpy",
    "pathlib",
    "inspect",
    "msgspec",
    "pybase64",
    "decimal",
    "typing",
    "pyon.asyncio_tasks",
    "pyon.backoff",
    "pyon.forks",
    "pyon.framing",
    "pyon.growth",
    "pyon.tcp",
    "pyon.tcp_options",
    "pyon.terminal",
)


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


def test_import_loads_little():
    code = f"""
import sys
heavy = set({HEAVY}) - set(sys.modules)  # some environments have loaded this or that
import pyon
print(*heavy & set(sys.modules))
"""
    assert run(code) == []


def test_the_modules_for_tcp_do_not_load_the_codec():
    code = """
import sys
import pyon
from pyon import asyncio_connection, asyncio_server, asyncio_tasks, backoff, forks, framing
from pyon import tcp, tcp_options, terminal
parts = ("codec", "reading", "types", "writer", "v1_reader", "v2_reader", "v1_spelling")
print(*[part for part in parts if f"pyon._{part}" in sys.modules])
"""
    assert run(code) == []


def test_names_of_the_codec_are_there_at_first_use():
    code = """
import sys, threading
import pyon
assert set(pyon.__all__) <= set(dir(pyon))
assert not hasattr(pyon, "no_such_name")
barrier, seen = threading.Barrier(8), []
def first_use():
    barrier.wait()
    seen.append(pyon.register)
threads = [threading.Thread(target=first_use) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(set(seen)) == 1, "registrations of one would be unknown to others"
from pyon import *
assert decode(encode((1, {2}))) == (1, {2}) and encode is pyon.encode
print(encode([1], version=2), Codec.__name__)
"""
    assert run(code) == ["[1]", "Codec"]


def test_encoding_and_decoding_without_arrays_loads_no_numpy():
    code = """
import sys, pyon, fractions, collections
x = [1, (2.5, None), {3: b"x"}, {1, 2}, 1j, slice(1), fractions.Fraction(1, 2)]
x.append({"a": list(range(100))})
for version in (1, 2):
    assert pyon.decode(pyon.encode(x, version=version)) == x
try:
    pyon.encode(object())
except pyon.EncodeError:
    pass
print(*[m for m in ("asyncio", "socket", "numpy") if m in sys.modules])
"""
    assert run(code) == []


def test_without_numpy_arrays_ask_for_it():
    code = """
import sys
sys.modules["numpy"] = None
import pyon
for text in ('nparray((1, ), "|i1", b"AA==")', '{"__jsonclass__":["npscalar",["|i1","AA=="]]}'):
    try:
        pyon.decode(text)
    except ImportError as error:
        print("install" in str(error) and "numpy" in str(error))
"""
    assert run(code) == ["True", "True"]


def test_public_names():
    assert set(pyon.__all__) == {
        "encode",
        "decode",
        "load_file",
        "store_file",
        "register",
        "register_module",
        "deregister",
        "Codec",
        "PyonError",
        "EncodeError",
        "DecodeError",
        "MAX_DEPTH",
        "MAX_INT_DIGITS",
        "RAW_BUFFER_SIZE",
    }
    assert all(hasattr(pyon, name) for name in pyon.__all__)
    assert issubclass(pyon.EncodeError, (pyon.PyonError))
    assert issubclass(pyon.EncodeError, TypeError)
    assert issubclass(pyon.DecodeError, pyon.PyonError)
    assert issubclass(pyon.DecodeError, ValueError)
