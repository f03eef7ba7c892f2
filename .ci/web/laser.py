"""The driver behind the control panel: for the tests in a browser, and for the pictures."""

from typing import Annotated, Literal


class Laser:
    """A tunable laser, on a serial line.

    Attributes
    ----------
    called : list of tuple
        The arguments of each call of `set_power`.
    """

    def __init__(self):
        self.called = []

    def set_power(
        self,
        power: Annotated[float, "W"],
        ramp: bool = False,
        mode: Literal["slow", "fast"] = "slow",
    ) -> float:
        """Set the power.

        Parameters
        ----------
        power : float
            At most 1.
        """
        self.called.append((power, ramp, mode))
        if power > 1:
            raise ValueError("too much for the crystal")
        return power
