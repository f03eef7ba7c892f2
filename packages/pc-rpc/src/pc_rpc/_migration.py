"""Errors that tell programs of the established stack what to write instead.

The one idea to keep in mind: such a program fails at its first call that differs here, and the
error of that call says what to write. Nothing is translated silently.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def takes_context(
    maker: str,
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Make a function with ``ssl=`` raise an error for ``ssl_config=`` that says so. A decorator.

    Parameters
    ----------
    maker : str
        The function of `pyon.tcp` that makes the context.
    """

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @functools.wraps(function)
        def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            config = "ssl_config" in kwargs
            for argument in args:
                config = config or type(argument).__name__ == "SimpleSSLConfig"
            if config or ((context := kwargs.get("ssl")) is not None and _is_other(context)):
                raise TypeError(
                    f"{function.__qualname__}() takes an ssl.SSLContext: write"
                    f" ssl=pyon.tcp.{maker}(certificate, key, peer_certificate)"
                )
            return function(*args, **kwargs)

        return call

    return decorate


def _is_other(context: Any) -> bool:
    """Return whether an object is not an `ssl.SSLContext`."""
    import ssl

    return not isinstance(context, ssl.SSLContext)
