"""Remote procedure calls to a driver's methods."""

__version__ = "1.0.0"
