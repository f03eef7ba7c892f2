"""Public names, and the modules that an import loads."""

import subprocess
import sys

import fire_and_forget

# The package may load the modules that `import threading, logging, weakref` loads. Not typing
# (which takes as long as all of these together), not asyncio, not inspect.
PROBE = """
import __future__, sys, threading, logging, weakref
before = set(sys.modules)
import fire_and_forget
print(*sorted(set(sys.modules) - before))
"""


def test_public_names_are_exactly_these():
    assert fire_and_forget.__all__ == ["EXIT_TIMEOUT", "AsyncioFFProxy", "FFProxy"]
    assert all(hasattr(fire_and_forget, name) for name in fire_and_forget.__all__)
    assert not hasattr(fire_and_forget, "AsyncioProxy")


def test_importing_the_package_loads_nothing_but_threading_and_logging():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "fire_and_forget",
        "fire_and_forget._backlog",
        "fire_and_forget._call",
        "fire_and_forget._forks",
        "fire_and_forget._proxy",
        "fire_and_forget._threaded",
    ]
