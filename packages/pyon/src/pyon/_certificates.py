"""Certificate and key files of a TLS context: loaded, or named in an error if they cannot be used.

The one idea to keep in mind: OpenSSL reports neither which file it could not use, nor why. So the
files are checked before they are passed to OpenSSL.
"""

from __future__ import annotations

import os
import ssl

__all__ = ["load"]

Path = str | os.PathLike[str]

_CERTIFICATE = b"CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"


def load(
    purpose: ssl.Purpose, own_certificate: Path, own_key: Path, peer_certificate: Path
) -> ssl.SSLContext:
    """Return a context with its own identity and the pinned certificate of its peers.

    Raises
    ------
    OSError
        A file cannot be read, or its content is wrong (`ssl.SSLError`).
    """
    _check("peer_certificate", peer_certificate, _CERTIFICATE, "certificate")
    _check("own_certificate", own_certificate, _CERTIFICATE, "certificate")
    key = _check("own_key", own_key, _KEY, "private key")
    if b"ENCRYPTED" in key:  # OpenSSL would ask for the password on the terminal
        raise _error(
            f"own_key: {_name(own_key)} is encrypted; "
            "write it without a password: openssl pkey -in FILE -out FILE"
        )
    try:
        context = ssl.create_default_context(purpose, cafile=peer_certificate)
    except ssl.SSLError as error:
        raise _damaged("peer_certificate", peer_certificate, "certificate", error) from error
    _load_identity(context, own_certificate, own_key)
    return context


def _load_identity(context: ssl.SSLContext, own_certificate: Path, own_key: Path) -> None:
    try:
        context.load_cert_chain(own_certificate, own_key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _error(
                f"own_key: {_name(own_key)} is not the key of own_certificate, "
                f"{_name(own_certificate)}"
            ) from error
        try:  # find out which of the two files is damaged
            ssl.create_default_context(cafile=own_certificate)
        except ssl.SSLError:
            parameter, path, kind = "own_certificate", own_certificate, "certificate"
        else:
            parameter, path, kind = "own_key", own_key, "private key"
        raise _damaged(parameter, path, kind, error) from error


def _check(parameter: str, path: Path, marker: bytes, kind: str) -> bytes:
    """Return the content of a PEM file after checking that it has the marker."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        reason = f"{parameter}: {error.strerror}"
        raise OSError(error.errno, reason, os.fspath(path)) from None
    if marker not in content:
        raise _error(f"{parameter}: expected a PEM {kind} in {_name(path)}, got {_kind(content)}")
    return content


def _kind(content: bytes) -> str:
    if _CERTIFICATE in content:
        return "a certificate"
    if _KEY in content:
        return "a private key"
    if content.startswith(b"0"):  # a sequence of ASN.1
        return "DER: convert it with openssl, -inform DER"
    return "other data" if content else "an empty file"


def _damaged(parameter: str, path: Path, kind: str, error: ssl.SSLError) -> ssl.SSLError:
    reason = (error.reason or str(error)).lower().replace("_", " ")
    return _error(f"{parameter}: the {kind} in {_name(path)} cannot be used: {reason}")


def _name(path: Path) -> str:
    return repr(os.fspath(path))


def _error(text: str) -> ssl.SSLError:
    """Return an error with exactly this text."""
    return ssl.SSLError(ssl.SSL_ERROR_SSL, text)
