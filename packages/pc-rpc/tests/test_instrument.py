"""An instrument from end to end: an example's driver, VISA, a simulated power supply."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pc_rpc import Client

EXAMPLE = Path(__file__).parent.parent / "examples" / "power_supply"


@pytest.fixture
def controller():
    """The controller of the example: the process and its port."""
    command = [sys.executable, "-m", "pc_rpc", "serve", "power_supply:PowerSupply"]
    with subprocess.Popen(
        [*command, "--bind", "127.0.0.1", "--worker-threads"],
        cwd=EXAMPLE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        first = process.stderr.readline()
        serving = re.search(r"serving PowerSupply on 127.0.0.1 port (\d+)$", first)
        assert serving is not None, first + process.stderr.read()
        yield process, int(serving[1])
        if process.poll() is None:
            process.kill()
        process.stderr.read()


def test_a_power_supply_is_identified_set_swept_and_left_switched_off(controller):
    process, port = controller
    with Client("127.0.0.1", port, "PowerSupply", timeout=30) as supply:
        assert supply.identify() == "Example Instruments,PS-30,4711,1.0"
        supply.set_voltage(3.3)
        supply.switch(True)
        assert (supply.voltage(), supply.is_on()) == (3.3, True)
        with pytest.raises(ValueError, match=r"^expected 0 to 30 V, got 31\.0 V"):
            supply.set_voltage(31.0)
        assert supply.voltage() == 3.3
        rows = supply.sweep(0, 5, 11)
        np.testing.assert_allclose(rows[:, 0], rows[:, 1], atol=5e-5)
        assert rows.shape == (11, 2)
        supply.terminate()
    assert process.wait(timeout=30) == 0


def test_an_error_of_the_instrument_has_the_traceback_of_the_driver(controller):
    _, port = controller
    with Client("127.0.0.1", port, timeout=30) as supply:
        with pytest.raises(TypeError) as caught:
            supply.set_voltage("3 V")
        assert any("power_supply.py" in note for note in caught.value.__notes__)
        assert supply.voltage() == 0.0
