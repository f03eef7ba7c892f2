"""What programs written for the established stack pass, and what to write instead.

The one idea to keep in mind: such a program fails at its first line of ours that differs, so the
error of that line is the guide. Nothing is translated silently.
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
    """Have a function that takes ``ssl=`` say so to those who pass ``ssl_config=``. A decorator.

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
    """Say whether something was given as a context that is none."""
    import ssl

    return not isinstance(context, ssl.SSLContext)
