"""Access rights of a file: read from the replaced file, and applied to the new file.

The one idea to keep in mind: *never wider*. Where something cannot be kept (an owner that only root
can set, an access control list that the file system refuses), the rights are reduced, so that
nobody gains a right. The new file starts with mode 0600, and gets its rights last.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PRIVATE = 0o600
"""Mode of a new file until its rights are applied."""

ALL_SPECIAL = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX

POSIX_ACL = "system.posix_acl_access"
OTHER_ACL = "system.nfs4_acl"
USER_ATTRIBUTE = "user."
ABSENT = frozenset({errno.ENODATA, errno.ENOTSUP, errno.ENOSYS})
"""Error numbers for a missing attribute, and for systems without extended attributes."""

# An access control list in the format of Linux: a version, then entries of tag, permissions and id.
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
OWNER, USER, GROUP, NAMED_GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NAMED = frozenset({USER, NAMED_GROUP})


class Access:
    """The rights to one file.

    Parameters
    ----------
    path : str
    status : os.stat_result
        The status of this file.

    Raises
    ------
    OSError
        If the attributes of the file cannot be read.
    """

    def __init__(self, path: str, status: os.stat_result) -> None:
        self._uid, self._gid = status.st_uid, status.st_gid
        self._mode = stat.S_IMODE(status.st_mode)
        self._acl = _attribute(path, POSIX_ACL)
        self._attributes = {name: _attribute(path, name) for name in _kept_names(path)}

    def apply_to(self, descriptor: int) -> None:
        """Apply these rights, or fewer, to a new file, which is private until then.

        Raises
        ------
        OSError
            If an attribute cannot be kept.
        """
        for name, value in self._attributes.items():
            if value is not None:
                os.setxattr(descriptor, name, value)
        uid, gid = self._change_owner(descriptor)
        rights = Rights.of_mode(self._mode) if self._acl is None else Rights.of_acl(self._acl)
        if gid != self._gid:
            rights.narrow_for_group(gid)
        if uid != self._uid:
            rights.narrow_for_owner(self._uid)
        if self._acl is None:
            _remove_inherited(descriptor)
        elif not _set_acl(descriptor, rights.acl()):
            rights.drop_named()
        special = self._mode & (
            ALL_SPECIAL if (uid, gid) == (self._uid, self._gid) else stat.S_ISVTX
        )
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, special | rights.mode())

    def _change_owner(self, descriptor: int) -> tuple[int, int]:
        """Set owner and group as far as permitted; return the ids that the file has then."""
        if hasattr(os, "fchown"):
            for ids in ((-1, self._gid), (self._uid, -1)):
                with contextlib.suppress(OSError):  # only root may change the owner
                    os.fchown(descriptor, *ids)
        status = os.fstat(descriptor)
        return status.st_uid, status.st_gid


class Rights:
    """Permissions by tag and id, as in an access control list; a mode has three of them."""

    def __init__(self, entries: dict[tuple[int, int], int]) -> None:
        self._entries = entries

    @classmethod
    def of_mode(cls, mode: int) -> Rights:
        """Return the rights of the nine bits of a mode."""
        return cls({(OWNER, 0): mode >> 6 & 7, (GROUP, 0): mode >> 3 & 7, (OTHER, 0): mode & 7})

    @classmethod
    def of_acl(cls, acl: bytes) -> Rights:
        """Return the rights of an access control list in the format of Linux."""
        entries = _ENTRY.iter_unpack(acl[_HEADER.size :])
        return cls({(tag, 0 if tag not in NAMED else who): rights for tag, rights, who in entries})

    def narrow_for_group(self, gid: int) -> None:
        """Remove rights that users would gain because the file now belongs to this group."""
        entries = self._entries
        common = entries[GROUP, 0] & entries.get((MASK, 0), 7) & entries[OTHER, 0]
        # Members of the old group are now others. Members of the new group were others, or named.
        entries[OTHER, 0] = common
        entries[GROUP, 0] = common & entries.get((NAMED_GROUP, gid), 7)

    def narrow_for_owner(self, old: int) -> None:
        """Remove rights that the old owner would gain as a named user, member or other user."""
        entries = self._entries
        for tag, who in entries:
            if tag in (GROUP, NAMED_GROUP, OTHER) or (tag, who) == (USER, old):
                entries[tag, who] &= entries[OWNER, 0]

    def drop_named(self) -> None:
        """Remove the named users and groups, and the rights that they would gain by that."""
        mask = self._entries.pop((MASK, 0), 7)
        self._entries[GROUP, 0] &= mask
        for key in [key for key in self._entries if key[0] in NAMED]:
            rights = self._entries.pop(key) & mask
            self._entries[GROUP, 0] &= rights
            self._entries[OTHER, 0] &= rights

    def mode(self) -> int:
        """Return the nine bits of the mode. If there is a mask, it takes the place of the group."""
        entries = self._entries
        group = entries.get((MASK, 0), entries[GROUP, 0])
        return entries[OWNER, 0] << 6 | group << 3 | entries[OTHER, 0]

    def acl(self) -> bytes:
        """Return the access control list in the format of Linux."""
        packed = [
            _ENTRY.pack(tag, rights, who if tag in NAMED else 0xFFFFFFFF)
            for (tag, who), rights in self._entries.items()
        ]
        return _HEADER.pack(2) + b"".join(packed)


def _kept_names(path: str) -> Iterator[str]:
    """Yield the names of the attributes to keep, besides the POSIX access control list."""
    if not hasattr(os, "listxattr"):
        return
    try:
        names = os.listxattr(path)
    except OSError as error:
        if error.errno in ABSENT:
            return
        raise
    for name in names:
        if name.startswith(USER_ATTRIBUTE) or name == OTHER_ACL:
            yield name


def _attribute(path: str, name: str) -> bytes | None:
    getxattr: Any = getattr(os, "getxattr", None)
    if getxattr is None:
        return None
    try:
        value: bytes = getxattr(path, name)
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise
    return value


def _set_acl(descriptor: int, acl: bytes) -> bool:
    try:
        os.setxattr(descriptor, POSIX_ACL, acl)
    except OSError:
        return False
    return True


def _remove_inherited(descriptor: int) -> None:
    """Remove the access control list that the folder gives to new files: the old file had none."""
    if hasattr(os, "removexattr"):
        try:
            os.removexattr(descriptor, POSIX_ACL)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
