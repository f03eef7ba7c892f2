"""Who may use a file: read from the file that is replaced, put on the one that takes its place.

The one idea to keep in mind: *never wider*. What cannot be kept (an owner whom only root can give a
file to, an access control list that the file system refuses) is narrowed, so that nobody has a
right that he did not have before. The new file starts with mode 0600, and gets its rights last.
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
"""Mode in which a file is made whose rights come later."""

ALL_SPECIAL = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX

POSIX_ACL = "system.posix_acl_access"
OTHER_ACL = "system.nfs4_acl"
USER_ATTRIBUTE = "user."
ABSENT = frozenset({errno.ENODATA, errno.ENOTSUP, errno.ENOSYS})
"""What systems answer that have no attribute of this name, or none at all."""

# An access control list as Linux gives it: a version, then a tag, permissions and an id each.
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
        Of this file.

    Raises
    ------
    OSError
        If its attributes cannot be read.
    """

    def __init__(self, path: str, status: os.stat_result) -> None:
        self._uid, self._gid = status.st_uid, status.st_gid
        self._mode = stat.S_IMODE(status.st_mode)
        self._acl = _attribute(path, POSIX_ACL)
        self._attributes = {name: _attribute(path, name) for name in _kept_names(path)}

    def put_on(self, descriptor: int) -> None:
        """Give a file of ours, still private, these rights, or fewer.

        Raises
        ------
        OSError
            If an attribute cannot be kept.
        """
        for name, value in self._attributes.items():
            if value is not None:
                os.setxattr(descriptor, name, value)
        uid, gid = self._hand_over(descriptor)
        rights = Rights.of_mode(self._mode) if self._acl is None else Rights.of_acl(self._acl)
        if gid != self._gid:
            rights.narrow_for_group(gid)
        if uid != self._uid:
            rights.narrow_for_owner(self._uid)
        if self._acl is None:
            _remove_inherited(descriptor)
        elif not _set_acl(descriptor, rights.acl()):
            rights.without_named()
        special = self._mode & (
            ALL_SPECIAL if (uid, gid) == (self._uid, self._gid) else stat.S_ISVTX
        )
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, special | rights.mode())

    def _hand_over(self, descriptor: int) -> tuple[int, int]:
        """Give the file its owner and group, if we may; return those that it has now."""
        if hasattr(os, "fchown"):
            for ids in ((-1, self._gid), (self._uid, -1)):
                with contextlib.suppress(OSError):  # not everybody may give files away
                    os.fchown(descriptor, *ids)
        status = os.fstat(descriptor)
        return status.st_uid, status.st_gid


class Rights:
    """Permissions by tag and id, as an access control list has them; a mode has three of them."""

    def __init__(self, entries: dict[tuple[int, int], int]) -> None:
        self._entries = entries

    @classmethod
    def of_mode(cls, mode: int) -> Rights:
        """Give what the nine bits of a mode say."""
        return cls({(OWNER, 0): mode >> 6 & 7, (GROUP, 0): mode >> 3 & 7, (OTHER, 0): mode & 7})

    @classmethod
    def of_acl(cls, acl: bytes) -> Rights:
        """Give what an access control list of Linux says."""
        entries = _ENTRY.iter_unpack(acl[_HEADER.size :])
        return cls({(tag, 0 if tag not in NAMED else who): rights for tag, rights, who in entries})

    def narrow_for_group(self, gid: int) -> None:
        """Take what somebody would gain because the file belongs to this group now."""
        entries = self._entries
        common = entries[GROUP, 0] & entries.get((MASK, 0), 7) & entries[OTHER, 0]
        # Members of the old group are others now, and those of this one were, or were named.
        entries[OTHER, 0] = common
        entries[GROUP, 0] = common & entries.get((NAMED_GROUP, gid), 7)

    def narrow_for_owner(self, old: int) -> None:
        """Take what the old owner would gain: he is named, of a group, or one of the others now."""
        entries = self._entries
        for tag, who in entries:
            if tag in (GROUP, NAMED_GROUP, OTHER) or (tag, who) == (USER, old):
                entries[tag, who] &= entries[OWNER, 0]

    def without_named(self) -> None:
        """Take out users and groups that are named, and what they would gain by that."""
        mask = self._entries.pop((MASK, 0), 7)
        self._entries[GROUP, 0] &= mask
        for key in [key for key in self._entries if key[0] in NAMED]:
            rights = self._entries.pop(key) & mask
            self._entries[GROUP, 0] &= rights
            self._entries[OTHER, 0] &= rights

    def mode(self) -> int:
        """Give the nine bits of the mode; those of the group are the mask, where there is one."""
        entries = self._entries
        group = entries.get((MASK, 0), entries[GROUP, 0])
        return entries[OWNER, 0] << 6 | group << 3 | entries[OTHER, 0]

    def acl(self) -> bytes:
        """Give the access control list as Linux takes it."""
        packed = [
            _ENTRY.pack(tag, rights, who if tag in NAMED else 0xFFFFFFFF)
            for (tag, who), rights in self._entries.items()
        ]
        return _HEADER.pack(2) + b"".join(packed)


def _kept_names(path: str) -> Iterator[str]:
    """Give the names of the attributes that are to be kept, besides the POSIX list."""
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
    """Remove the list that the folder gives to new files: the old file had none."""
    if hasattr(os, "removexattr"):
        try:
            os.removexattr(descriptor, POSIX_ACL)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
