"""Who may have what of a site: by the name it was asked under, its origin, and a token; pure.

The one idea to keep in mind: a browser does what pages of strangers tell it, also with servers on
this computer. It does not let them choose the headers ``Host`` and ``Origin``, nor read a cookie:
so these are looked at in every request.
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
"""Characters of a token: fewer can be guessed by trying, at some thousands a second."""

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]/@?#\\]+)(?::[0-9]{1,5})?")


class Refused(Exception):  # noqa: N818
    """A request is not answered: why, for the log and for who asked, and the status of HTTP."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Access:
    """Who may enter.

    Attributes
    ----------
    token : str or None
        What has to be known. None: nothing.
    encrypted : bool
        Whether TLS is spoken.
    names : frozenset of str
        Under which the site is known, beside numeric addresses and "localhost".
    cookie : str
        The name of the cookie: browsers do not tell ports apart.
    """

    token: str | None = field(default=None, repr=False)
    encrypted: bool = False
    names: frozenset[str] = frozenset()
    cookie: str = "site"

    def check_place(self, headers: Mapping[str, str], *, needs_origin: bool) -> None:
        """Raise `Refused` if a request is for another site, or comes from another one.

        Parameters
        ----------
        headers : mapping
            Of the request; names in lower case.
        needs_origin : bool
            Whether the request must say where it comes from: if it can have an effect.
        """
        host = headers.get("host", "")
        found = _HOST.fullmatch(host)
        if found is None or not self._is_ours(found[1]):
            raise Refused(
                421, "this site has other names; --host-name gives it another one, if that is meant"
            )
        origin = headers.get("origin")
        if origin is None:
            if needs_origin:
                raise Refused(403, "the request does not say which page it comes from")
            return
        schemes = ("https",) if self.encrypted else ("http", "https")
        if origin.lower() not in {f"{scheme}://{host.lower()}" for scheme in schemes}:
            raise Refused(403, "the request comes from a page of another site")

    def _is_ours(self, name: str) -> bool:
        """Tell whether nobody else can have a name that leads here: the defence from rebinding."""
        name = name.lower().rstrip(".")
        return name == "localhost" or name in self.names or _is_numeric(name.strip("[]"))

    def check_entered(self, cookies: Mapping[str, str]) -> None:
        """Raise `Refused` unless a request shows that its browser has known the token."""
        shown = cookies.get(self.cookie, "").encode("utf-8", "surrogatepass")
        if self.token is not None and not hmac.compare_digest(shown, self.proof.encode()):
            raise Refused(401, "the token is needed")

    def check_token(self, token: object) -> None:
        """Raise `Refused` unless this is the token."""
        given = token.encode("utf-8", "surrogatepass") if isinstance(token, str) else b""
        if self.token is None or not hmac.compare_digest(given, self.token.encode()):
            raise Refused(401, "this is not the token")

    @property
    def proof(self) -> str:
        """What the cookie says: not the token, and the same after a restart."""
        key = (self.token or "").encode()
        return hmac.new(key, self.cookie.encode(), hashlib.sha256).hexdigest()


def _is_numeric(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Say whether only this computer reaches a numeric address; False if it cannot be told."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
