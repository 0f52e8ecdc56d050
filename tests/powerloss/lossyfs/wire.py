"""The kernel's FUSE protocol, version 7.31: only what `server` needs. See linux/fuse.h."""

from __future__ import annotations

import enum
import stat
from struct import Struct

from tests.powerloss.lossyfs.volume import Inode

IN_HEADER = Struct("<IIQQIIII")  # length, opcode, unique, node, uid, gid, pid, padding
OUT_HEADER = Struct("<IiQ")  # length, -errno, unique
INIT_IN = Struct("<IIII")  # major, minor, read-ahead, flags
INIT_OUT = Struct("<IIIIHHIIHHI28x")
ATTRIBUTES = Struct("<QQQQQQIIIIIIIIII")
ENTRY_OUT = Struct("<QQQQII")  # and attributes
ATTRIBUTES_OUT = Struct("<QII")  # and attributes
OPEN_OUT = Struct("<QII")
CREATE_IN = Struct("<IIII")  # flags, mode, umask, open flags
MKNOD_IN = Struct("<IIII")  # mode, device, umask, padding
MKDIR_IN = Struct("<II")  # mode, umask
RENAME_IN = Struct("<Q")
RENAME2_IN = Struct("<QII")  # folder, flags, padding
LINK_IN = Struct("<Q")
SETATTR_IN = Struct("<IIQQQQQQIIIIIIII")
READ_IN = Struct("<QQIIQII")  # handle, offset, size, ...
WRITE_IN = Struct("<QQIIQII")  # handle, offset, size, write flags, owner, open flags, padding
WRITE_OUT = Struct("<II")
STATFS_OUT = Struct("<QQQQQIIII24x")
FORGET_IN = Struct("<Q")
BATCH_FORGET_IN = Struct("<II")
FORGET_ONE = Struct("<QQ")
DIRENT = Struct("<QQII")

MAJOR, MINOR = 7, 31
MAX_WRITE = 1 << 20
BUFFER = MAX_WRITE + 8192
#: Only this program changes the tree, so the kernel may keep what it knows.
FOREVER = 1 << 30

FLAG_ASYNC_READ, FLAG_BIG_WRITES, FLAG_MAX_PAGES = 1 << 0, 1 << 5, 1 << 22
OPEN_KEEP_CACHE = 1 << 1
SET_MODE, SET_UID, SET_GID, SET_SIZE = 1, 2, 4, 8
RENAME_NOREPLACE = 1


class Opcode(enum.IntEnum):
    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    RENAME2 = 45


def attributes(one: Inode) -> bytes:
    size = len(one.data)
    seconds, nanoseconds = divmod(one.changed_ns, 1_000_000_000)
    links = 2 if one.folder else one.links
    return ATTRIBUTES.pack(
        one.number, size, -(-size // 512), seconds, seconds, seconds, nanoseconds, nanoseconds, nanoseconds,
        one.mode, links, one.uid, one.gid, 0, 4096, 0,
    )  # fmt: skip


def entry(one: Inode) -> bytes:
    return ENTRY_OUT.pack(one.number, 0, FOREVER, FOREVER, 0, 0) + attributes(one)


def dirent(number: int, offset: int, name: str, mode: int) -> bytes:
    raw = name.encode()
    head = DIRENT.pack(number, offset, len(raw), stat.S_IFMT(mode) >> 12)
    return head + raw + bytes(-len(raw) % 8)
