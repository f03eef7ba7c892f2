import logging

from pc_rpc import simple_server_loop
from sync_struct import Notifier, publish

logging.basicConfig(level=logging.INFO)
lab = Notifier({"setpoint": 293.0, "shutter": "closed"})


class Settings:
    """The changes that readers may request."""

    def set_setpoint(self, kelvin: float) -> None:
        """Set the temperature, in kelvins."""
        if not 4 < kelvin < 400:
            raise ValueError(f"expected 4 to 400 K, got {kelvin} K")
        lab["setpoint"] = kelvin

    def open_shutter(self) -> None:
        """Open the shutter; only when it is cold enough."""
        if lab["setpoint"] > 300:
            raise RuntimeError("too hot for the sample")
        lab["shutter"] = "open"


if __name__ == "__main__":
    with publish("127.0.0.1", 3250, {"lab": lab}):
        simple_server_loop({"settings": Settings()}, "127.0.0.1", 3251)
