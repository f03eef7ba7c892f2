"""Access to a site: checks of host name, origin and token in a request; pure.

The one idea to keep in mind: a page of any other site can make the browser send requests to this
computer. But it cannot choose the headers ``Host`` and ``Origin``, and it cannot read our cookie.
So these three are checked in every request.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["SHORTEST_TOKEN", "Access", "Refused", "is_loopback"]

SHORTEST_TOKEN = 16
"""Minimum length of a token, in characters: a shorter one can be guessed at some thousands of
attempts a second."""

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]/@?#\\]+)(?::[0-9]{1,5})?")


class Refused(Exception):  # noqa: N818
    """A request is refused. The message is for the log and the client; `status` is that of HTTP."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Access:
    """The conditions for access to a site.

    Attributes
    ----------
    token : str or None
        The token that a browser must have sent. None: no token is required.
    encrypted : bool
        Whether the site is served with TLS.
    names : frozenset of str
        The host names of the site, besides numeric addresses and "localhost".
    cookie : str
        The name of the cookie. It should include the port: browsers share cookies between ports.
    """

    token: str | None = field(default=None, repr=False)
    encrypted: bool = False
    names: frozenset[str] = frozenset()
    cookie: str = "site"

    def check_place(self, headers: Mapping[str, str], *, needs_origin: bool) -> None:
        """Raise `Refused` if a request has the host name, or the origin, of another site.

        Parameters
        ----------
        headers : mapping
            The headers of the request; names in lower case.
        needs_origin : bool
            Whether the request must have an origin: true for requests that can have an effect.
        """
        host = headers.get("host", "")
        found = _HOST.fullmatch(host)
        if found is None or not self._is_ours(found[1]):
            raise Refused(421, "this site has other names; the option --host-name adds one")
        origin = headers.get("origin")
        if origin is None:
            if needs_origin:
                raise Refused(403, "the request has no Origin header")
            return
        schemes = ("https",) if self.encrypted else ("http", "https")
        if origin.lower() not in {f"{scheme}://{host.lower()}" for scheme in schemes}:
            raise Refused(403, "the request comes from a page of another site")

    def _is_ours(self, name: str) -> bool:
        """Return whether only this site can have a host name: protects against DNS rebinding."""
        name = name.lower().rstrip(".")
        return name == "localhost" or name in self.names or _is_numeric(name.strip("[]"))

    def check_entered(self, cookies: Mapping[str, str]) -> None:
        """Raise `Refused` unless a request has the cookie that proves knowledge of the token."""
        given = cookies.get(self.cookie, "").encode("utf-8", "surrogatepass")
        if self.token is not None and not hmac.compare_digest(given, self.proof.encode()):
            raise Refused(401, "a token is required")

    def check_token(self, token: object) -> None:
        """Raise `Refused` if this is not the token."""
        given = token.encode("utf-8", "surrogatepass") if isinstance(token, str) else b""
        if self.token is None or not hmac.compare_digest(given, self.token.encode()):
            raise Refused(401, "wrong token")

    @property
    def proof(self) -> str:
        """The value of the cookie: it does not reveal the token and survives a restart."""
        key = (self.token or "").encode()
        return hmac.new(key, self.cookie.encode(), hashlib.sha256).hexdigest()


def _is_numeric(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a numeric address is a loopback address; False if it cannot be parsed."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
