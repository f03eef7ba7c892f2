"""Python Object Notation: human-readable text for Python and numpy data, exact in its types."""

__version__ = "1.0.0"
