"""A nested list or dict owned by one process and mirrored live in others."""

__version__ = "1.0.0"
