"""Slow, non-critical calls in the background."""

__version__ = "1.0.0"
