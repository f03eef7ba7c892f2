"""Types of the standard library, registered by one line, and the recipes of the README."""

import datetime
import pathlib
import re
import uuid
import zoneinfo
from collections import deque
from decimal import Decimal
from pathlib import Path

import pyon
import pyon.standard_types
import pytest
from pyon import _refusing, standard_types

UTC = datetime.UTC
EAST = datetime.timezone(datetime.timedelta(hours=5, minutes=30), "IST")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
VALUES = [
    datetime.datetime(2026, 1, 31, 12, 0, 0, 5),
    datetime.datetime(2026, 1, 31, tzinfo=UTC),
    datetime.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
    datetime.datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=EAST),
    datetime.datetime.max,
    datetime.date(2026, 1, 31),
    datetime.time(23, 59, 59, 999_999),
    datetime.time(2, tzinfo=UTC, fold=1),
    datetime.timedelta(-1, 5, 7),
    datetime.timedelta.min,
    UTC,
    EAST,
    BERLIN,
    Decimal("1.50"),
    Decimal("-0"),
    Decimal("sNaN123"),
    uuid.UUID(int=5),
    Path("data") / "x.h5",
    pathlib.PurePosixPath("/a/b"),
    pathlib.PureWindowsPath(r"C:\data\x"),
    range(1, 10, 3),
    frozenset({1, (2, frozenset())}),
    bytearray(b"x\0"),
    deque([1, [2]], maxlen=5),
    deque(),
]


@pytest.fixture
def codec():
    codec = pyon.Codec()
    standard_types.register(codec)
    return codec


@pytest.mark.parametrize("x", VALUES, ids=repr)
def test_values_of_the_standard_library_come_back(codec, version, x):
    for pretty in (False, True):
        back = codec.decode(codec.encode([x], pretty, version=version))[0]
        assert type(back) is type(x)
        assert repr(back) == repr(x)
        assert getattr(back, "fold", 0) == getattr(x, "fold", 0)
        assert type(getattr(back, "tzinfo", None)) is type(getattr(x, "tzinfo", None))


@pytest.mark.parametrize("x", [VALUES[0], VALUES[5], Path("a"), range(3), Decimal(1), frozenset()])
def test_the_error_says_which_line_registers_them(version, x):
    with pytest.raises(pyon.EncodeError, match=r"pyon\.standard_types\.register\(\)"):
        pyon.encode({"a": x}, version=version)


def test_every_type_of_the_set_is_named_by_the_error():
    assert {form.type.__name__ for form in standard_types._FORMS} <= _refusing.STANDARD


def test_registering_twice_and_beside_own_names_does_no_harm():
    codec = pyon.Codec()
    codec.register(datetime.date, name="day", encode=lambda x: (str(x),), decode=str)
    standard_types.register(codec)
    standard_types.register(codec)
    assert codec.encode(VALUES[5]) == 'day("2026-01-31")'
    assert codec.is_registered(range)
    assert not pyon.Codec().is_registered(range)


@pytest.mark.parametrize(
    "text",
    ["datetime(1)", 'date("x")', "timezone(1)", 'ZoneInfo("../x")', "range(1.5)", "deque(1)"],
)
def test_arguments_that_do_not_fit_are_decode_errors(codec, text):
    with pytest.raises(pyon.DecodeError):
        codec.decode(text)


def recipe(word):
    """Return the block of Python code in the README that contains this word."""
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    return next(b for b in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if word in b)


def run(word, codec):
    exec(recipe(word).replace("pyon.register", "codec.register"), {"codec": codec})


@pytest.mark.parametrize("name", ["datetime", "mylab.Shape"])
def test_a_text_with_a_type_that_is_not_registered_says_how_to_register_it(name):
    how = "pyon.standard_types.register()" if name == "datetime" else "register it"
    for text in (f'[{name}("2026-01-31")]', f'[{{"__jsonclass__":["{name}",["2026-01-31"]]}}]'):
        with pytest.raises(pyon.DecodeError) as caught:
            pyon.Codec().decode(text)
        assert f"no type is called '{name}': {how}" in str(caught.value)


def test_the_recipe_for_tables_of_pandas(version):
    import pandas as pd

    codec = pyon.Codec()
    run("pandas.DataFrame", codec)
    table = pd.DataFrame({"f": [1.5, 2.5], "n": [1, 2], "name": ["a", "b"]}, index=[10, 20])
    back = codec.decode(codec.encode({"t": table}, version=version))["t"]
    pd.testing.assert_frame_equal(back, table)


def test_the_recipe_for_datasets_of_xarray(version):
    import numpy as np
    import xarray as xr

    codec = pyon.Codec()
    run("xarray.Dataset", codec)
    data = xr.Dataset(
        {"power": (("t", "x"), np.arange(6.0).reshape(2, 3), {"unit": "W"})},
        coords={"t": [1, 2]},
        attrs={"run": 7},
    )
    back = codec.decode(codec.encode([data], version=version))[0]
    xr.testing.assert_identical(back, data)
