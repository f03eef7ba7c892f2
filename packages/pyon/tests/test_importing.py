"""What loading pyon costs: people who only read data files pay for nothing else."""

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
