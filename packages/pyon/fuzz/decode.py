"""Fuzz `decode`: it must return a value or raise `DecodeError`, in bounded memory.

``python packages/pyon/fuzz/decode.py -runs=N [-seed=N] [folder for the corpus]``; the other options
are those of libFuzzer. It starts from texts that pyon writes. Its findings become test data.
"""

import sys
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["pyon"]):
    import pyon
    import pyon._arrays
    import pyon._v1_reader
    import pyon._v1_small
    import pyon._v1_tokens

SEEDS = [
    None,
    [True, False, 0, -1, 10**700, 0.1, 1e-7, float("nan"), float("-inf")],
    {"a": (1,), "b": [{}], 3: {1, "x"}, None: set()},
    [1j, complex(-0.0, float("nan"))],
    ["text\n\u00e9\U0001f600\ud83d", b"a\x00'\"\\"],
    slice(1, "a", None),
    Fraction(1, 3),
    OrderedDict([(1, "a")]),
    {"__jsonclass__": ["tuple", [[1]]]},
    np.arange(3.0),
    np.zeros((0, 2), "<U3"),
    np.zeros(2, [("a", "<i4"), ("b", "S2", (2,))]),
    np.float64(1),
    np.datetime64("2020", "Y"),
    np.array(["2020"], "M8[25s]"),
]
TOKENS = [
    "null",
    "None",
    "nan",
    "inf",
    "slice(",
    "Fraction(",
    "OrderedDict([",
    'nparray((1, ), "<f8", b"',
    "npscalar(",
    "{*()}",
    "set()",
    '{"__jsonclass__":["',
    '"tuple",[[',
    '"dict",[[[',
    '"Fraction",[1,0]',
    '"complex",[1,2]',
    '"bytes",["',
    '"nparray",[[1],"|b1","',
    "\\\\ud83d",
]


def check(data: bytes) -> None:
    """Decode as bytes and as text; the value must survive a round trip, or be refused."""
    for text in (data, data.decode("utf-8", "surrogateescape")):
        try:
            x = pyon.decode(text)
        except pyon.DecodeError:
            continue
        try:
            again = pyon.encode(x, pretty=True, version=2)
        except pyon.EncodeError:
            continue
        if "NaN" in again and '"set"' in again:
            continue  # the number of nans in a set depends on their identity
        if pyon.encode(pyon.decode(again), pretty=True, version=2) != again:
            raise AssertionError(f"not the same value: {again!r}")


def write_seeds(folder: Path) -> None:
    """Write the initial corpus: texts that pyon writes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, x in enumerate(SEEDS):
        for version in (1, 2):
            (folder / f"seed-{number}-v{version}").write_text(pyon.encode([x], version=version))
    quoted = ['"' + token.replace('"', '\\"') + '"' for token in TOKENS]
    (folder.parent / "tokens.dict").write_text("\n".join(quoted))


def main() -> None:
    """Run libFuzzer."""
    arguments = sys.argv[1:]
    folders = [a for a in arguments if not a.startswith("-")]
    folder = Path(folders[0]) if folders else Path(__file__).parent / "corpus"
    write_seeds(folder)
    options = [a for a in arguments if a.startswith("-")]
    defaults = ["-max_len=2048", "-rss_limit_mb=1024", "-timeout=10"]
    defaults.append(f"-dict={folder.parent / 'tokens.dict'}")
    atheris.Setup([sys.argv[0], *defaults, *options, str(folder)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
