"""What the package promises as a whole: its names, and what importing it costs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pc_rpc
import pytest


def test_the_public_names_are_those_that_are_listed_and_there():
    assert sorted(pc_rpc.__all__) == pc_rpc.__all__
    for name in pc_rpc.__all__:
        assert getattr(pc_rpc, name).__doc__
    assert set(pc_rpc.__all__) <= set(dir(pc_rpc))
    assert set(pc_rpc._HOMES) <= set(pc_rpc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        pc_rpc.Clinet


def test_every_public_error_is_public():
    from pc_rpc import _errors

    assert set(_errors.__all__) <= set(pc_rpc.__all__)


def loaded_by(code):
    """Return the modules that a fresh interpreter has loaded after some code."""
    code += "\nimport sys; print(*sorted(sys.modules))"
    return set(subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split())  # fmt: skip


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import pc_rpc", {"asyncio", "numpy", "socket", "ssl"}),
        ("from pc_rpc import Client, AutoTarget", {"asyncio", "numpy", "ssl", "inspect"}),
        ("from pc_rpc import Server, AsyncioClient, simple_server_loop", {"numpy"}),
    ],
)
def test_what_is_not_needed_is_not_imported(code, absent):
    assert not absent & loaded_by(code)


def test_all_loggers_have_public_names():
    modules = Path(pc_rpc.__file__).parent.rglob("*.py")
    calls = [re.findall(r"getLogger\((.*?)\)", path.read_text("utf-8")) for path in modules]
    assert {name for names in calls for name in names} == {'"pc_rpc"', '"pc_rpc.web"'}
