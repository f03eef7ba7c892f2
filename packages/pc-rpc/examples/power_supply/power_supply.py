"""The driver of a bench power supply that speaks SCPI, and of the simulated one beside this file.

    pip install pyvisa pyvisa-sim
    pc-rpc serve power_supply:PowerSupply --port 3252 --worker-threads

For a real one, give its address and a VISA library (`pip install pyvisa-py`):

    pc-rpc serve power_supply:PowerSupply '"TCPIP::192.0.2.30::INSTR"' '"@py"' --worker-threads
"""

from pathlib import Path

import numpy as np
import pyvisa

SIMULATED = f"{Path(__file__).with_suffix('.yaml')}@sim"


class PowerSupply:
    """One output, 0 to 30 V."""

    def __init__(self, address="TCPIP::power-supply::INSTR", library=SIMULATED):
        self._manager = pyvisa.ResourceManager(library)
        self._supply = self._manager.open_resource(
            address, read_termination="\n", write_termination="\n"
        )

    def identify(self) -> str:
        """Return maker, model, serial number and version."""
        return self._supply.query("*IDN?")

    def set_voltage(self, voltage: float) -> None:
        """Set the output, in volts.

        Raises ValueError outside of 0 to 30 V.
        """
        if not 0 <= voltage <= 30:
            raise ValueError(f"expected 0 to 30 V, got {voltage} V")
        self._supply.write(f"VOLT {voltage:.4f}")

    def voltage(self) -> float:
        """Return the voltage that is set, in volts."""
        return float(self._supply.query("VOLT?"))

    def switch(self, on: bool) -> None:
        """Switch the output on or off."""
        self._supply.write(f"OUTP {on:d}")

    def is_on(self) -> bool:
        """Return whether the output is on."""
        return self._supply.query("OUTP?") == "1"

    def sweep(self, start: float, stop: float, points: int) -> np.ndarray:
        """Step through voltages; return a row per point: the voltage requested, the one set."""
        rows = []
        for voltage in np.linspace(start, stop, points):
            self.set_voltage(float(voltage))
            rows.append((voltage, self.voltage()))
        return np.array(rows)

    def ping(self) -> bool:
        """Return whether the instrument answers."""
        return bool(self.identify())

    def close(self) -> None:
        """Switch the output off and close the resource."""
        self.switch(False)
        self._supply.close()
        self._manager.close()
