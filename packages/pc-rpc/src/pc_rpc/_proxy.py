"""The base of the clients: attributes that are remote methods.

The one idea to keep in mind: a client and its remote methods refer to a `Target`, the connection,
which does not refer to them. So the connection is closed when neither is referred to any more.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any, Generic, cast

from pc_rpc._methods import RemoteMethod, RemoteMethods, RemotePart, find_method, first_names
from pc_rpc._suggestions import cannot_change

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from pc_rpc._methods import Target

    Driver = TypeVar("Driver", default=Any)
    Method = TypeVar("Method")
else:
    from typing import TypeVar

    Driver = TypeVar("Driver")


def warn_unclosed(target: Target) -> None:
    """Warn that a client was garbage-collected while open; not when the interpreter exits."""
    if not sys.is_finalizing():
        warnings.warn(
            f"the client of {target.label} was not closed: see close_rpc()",
            ResourceWarning,
            stacklevel=3,
            source=target,
        )


class _ClassOnly:
    """A class method that instances do not have: there, the name is a remote method."""

    def __init__(self, method: Any) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is not None:
            raise AttributeError(self._method.__name__)  # so that `__getattr__` is called
        return self._method.__get__(None, owner)


def class_only(method: Method) -> Method:
    """Hide a class method from instances of the class. A decorator."""
    return cast("Method", _ClassOnly(method))


class Proxy(Generic[Driver]):
    """The base of the clients: looks attributes up as methods of the target.

    The established names and those that end in ``_rpc`` are the client's own; every other attribute
    is a method of the target.
    """

    _target: Target

    def with_rpc_timeout(self, timeout: float | None) -> Driver:
        """Return the methods of the target, with another time-out.

        Parameters
        ----------
        timeout : float or None
            Seconds that a call may take. None: no limit.

        Examples
        --------
        ::

            client.with_rpc_timeout(60).calibrate()
        """
        return cast("Driver", RemoteMethods(self._target, timeout))

    @property
    def __rpc__(self) -> Driver:
        """The methods of the target only, including those with a name of the client's own."""
        return cast("Driver", RemoteMethods(self._target, self._target.timeout))

    def __getattr__(self, name: str) -> Any:
        if "_target" not in self.__dict__:  # not initialised: it is being copied
            raise AttributeError(name)
        target = self._target
        method = find_method(target, name, target.timeout)
        if target.names is not None:  # it is final: the next look-up finds it in `__dict__`
            self.__dict__[name] = method
        return method

    def __setattr__(self, name: str, value: object) -> None:
        if not self._is_own(name):
            raise cannot_change(self._target, "set", name, self, value)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if not self._is_own(name):
            raise cannot_change(self._target, "delete", name, self)
        object.__delattr__(self, name)

    def _is_own(self, name: str) -> bool:
        """Return whether an attribute is private, or a descriptor of a derived class.

        Names of remote methods do not begin with an underscore.
        """
        return name.startswith("_") or hasattr(getattr(type(self), name, None), "__set__")

    def _forget_methods(self) -> None:
        """Drop the remembered methods: another server may have other ones."""
        for name, value in list(self.__dict__.items()):
            if isinstance(value, (RemoteMethod, RemotePart)):
                self.__dict__.pop(name, None)

    def __dir__(self) -> list[str]:
        bases = type(self).__mro__
        not_own = {n for base in bases for n, m in vars(base).items() if type(m) is _ClassOnly}
        own = set(object.__dir__(self)) - not_own
        return sorted(own.union(first_names(self._target.names or ())))

    def __reduce__(self) -> Any:
        raise TypeError("a connection cannot be copied or pickled; make a new client instead")
