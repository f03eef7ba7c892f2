"""Run your code next to the driver."""

__version__ = "1.0.0"
