import logging

import numpy as np
from pc_rpc import simple_server_loop
from sync_struct import Notifier, publish

logging.basicConfig(level=logging.INFO)
lab = Notifier({"spectrum": np.zeros(100), "scans": 0})


class Spectrometer:
    """A spectrometer, simulated."""

    def scan(self, centre: float) -> int:
        """Measure a spectrum around a centre, in nanometres; return its number."""
        wavelength = np.linspace(500, 600, 100)
        lab["spectrum"] = 1 / (1 + (wavelength - centre) ** 2)
        lab["scans"] += 1
        return lab["scans"]


if __name__ == "__main__":
    with publish("127.0.0.1", 3250, {"lab": lab}):
        simple_server_loop({"spectrometer": Spectrometer()}, "127.0.0.1", 3251)
