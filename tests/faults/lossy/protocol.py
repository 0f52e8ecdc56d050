"""The kernel's FUSE messages, spoken straight over /dev/fuse: no library is needed for the few that matter here.

Layouts are those of the kernel's `include/uapi/linux/fuse.h`, version 7.31.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable

from tests.faults.lossy.tree import Inode, LossyTree

MAX_WRITE = 1 << 20
READ_SIZE = MAX_WRITE + (1 << 16)

_HEADER = struct.Struct("<IIQQIIIHH")
_ANSWER = struct.Struct("<IiQ")
_BIG_WRITES, _MAX_PAGES = 1 << 5, 1 << 22
_KEEP_CACHE = 1 << 1
_SET_MODE, _SET_SIZE = 1 << 0, 1 << 3
_RENAME_NOREPLACE = 1
_VALID_SECONDS = 3600  # nobody but the kernel changes the tree, so it may remember everything

_FORGET, _BATCH_FORGET, _INTERRUPT, _DESTROY = 2, 42, 36, 38
_WRITE = 16

#: Operations that change something or make it durable: the instants at which the power may go.
CHANGES = {4, 8, 9, 10, 11, 12, 13, _WRITE, 20, 30, 35, 45}


def _cstring(body: bytes) -> bytes:
    return body[: body.index(0)]


class Protocol:
    """Answers one message at a time from a tree."""

    def __init__(self, tree: LossyTree, *, rename_noreplace: bool = True) -> None:
        self._tree = tree
        self._rename_noreplace = rename_noreplace
        self._handlers: dict[int, Callable[[int, bytes], bytes]] = {
            1: self._lookup,
            3: self._getattr,
            4: self._setattr,
            8: self._mknod,
            9: self._mkdir,
            10: self._unlink,
            11: self._rmdir,
            12: self._rename,
            13: self._link,
            14: self._open,
            15: self._read,
            _WRITE: self._write,
            17: self._statfs,
            18: self._nothing,  # release
            20: self._fsync,
            25: self._nothing,  # flush
            26: self._init,
            27: self._open_folder,
            28: self._readdir,
            29: self._nothing,  # releasedir
            30: self._fsync,
            34: self._nothing,  # access
            35: self._create,
            45: self._rename2,
        }

    @staticmethod
    def operation(message: bytes) -> int:
        return int(_HEADER.unpack_from(message)[1])

    def answer(self, message: bytes) -> bytes | None:
        """The reply to a message; None where there is none to give."""
        _, operation, unique, node, *_ = _HEADER.unpack_from(message)
        body = message[_HEADER.size :]
        if operation == _FORGET:
            self._forget(node, struct.unpack_from("<Q", body)[0])
            return None
        if operation == _BATCH_FORGET:
            for number in range(struct.unpack_from("<I", body)[0]):
                self._forget(*struct.unpack_from("<QQ", body, 8 + 16 * number))
            return None
        if operation in (_INTERRUPT, _DESTROY):
            return None
        try:
            handler = self._handlers.get(operation)
            if handler is None:
                raise OSError(errno.ENOSYS, "not implemented")
            payload, code = handler(node, body), 0
        except OSError as error:
            payload, code = b"", -(error.errno or errno.EIO)
        return _ANSWER.pack(_ANSWER.size + len(payload), code, unique) + payload

    def _forget(self, node: int, count: int) -> None:
        inode = self._tree.inodes.get(node)
        if inode is not None:
            inode.lookups = max(0, inode.lookups - count)

    def _init(self, node: int, body: bytes) -> bytes:
        _, _, readahead, offered = struct.unpack_from("<IIII", body)
        flags = offered & (_BIG_WRITES | _MAX_PAGES)
        return struct.pack("<IIIIHHIIHH32x", 7, 31, readahead, flags, 16, 12, MAX_WRITE, 1, MAX_WRITE // 4096, 0)

    # -- attributes and names

    def _attributes(self, inode: Inode) -> bytes:
        size = 4096 if inode.is_folder else len(inode.data)
        seconds, nanoseconds = divmod(inode.changed, 10**9)
        times = (seconds,) * 3 + (nanoseconds,) * 3
        links = inode.links + inode.is_folder
        return struct.pack(
            "<QQQQQQIIIIIIIIII", inode.number, size, -(-size // 512), *times, inode.mode, links, 0, 0, 0, 4096, 0
        )

    def _entry(self, inode: Inode) -> bytes:
        inode.lookups += 1
        return struct.pack("<QQQQII", inode.number, 0, _VALID_SECONDS, _VALID_SECONDS, 0, 0) + self._attributes(inode)

    def _attribute_answer(self, inode: Inode) -> bytes:
        return struct.pack("<QII", _VALID_SECONDS, 0, 0) + self._attributes(inode)

    def _lookup(self, node: int, body: bytes) -> bytes:
        return self._entry(self._tree.find(node, _cstring(body)))

    def _getattr(self, node: int, body: bytes) -> bytes:
        return self._attribute_answer(self._tree.inode(node))

    def _setattr(self, node: int, body: bytes) -> bytes:
        valid, _, _, size = struct.unpack_from("<IIQQ", body)
        inode = self._tree.inode(node)
        if valid & _SET_SIZE:
            self._tree.resize(node, size)
        if valid & _SET_MODE:
            (mode,) = struct.unpack_from("<I", body, 68)
            inode.mode = stat.S_IFMT(inode.mode) | stat.S_IMODE(mode)
        return self._attribute_answer(inode)

    def _mknod(self, node: int, body: bytes) -> bytes:
        (mode,) = struct.unpack_from("<I", body)
        if not (stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
            raise OSError(errno.EPERM, "only files and sockets")
        return self._entry(self._tree.make(node, _cstring(body[16:]), mode))

    def _mkdir(self, node: int, body: bytes) -> bytes:
        (mode,) = struct.unpack_from("<I", body)
        return self._entry(self._tree.make(node, _cstring(body[8:]), stat.S_IFDIR | stat.S_IMODE(mode)))

    def _unlink(self, node: int, body: bytes) -> bytes:
        self._tree.unlink(node, _cstring(body))
        return b""

    def _rmdir(self, node: int, body: bytes) -> bytes:
        self._tree.rmdir(node, _cstring(body))
        return b""

    def _rename(self, node: int, body: bytes) -> bytes:
        (target,) = struct.unpack_from("<Q", body)
        old, new, _ = body[8:].split(b"\0", 2)
        self._tree.rename(node, old, target, new)
        return b""

    def _rename2(self, node: int, body: bytes) -> bytes:
        target, flags = struct.unpack_from("<QI", body)
        if flags & ~_RENAME_NOREPLACE or (flags and not self._rename_noreplace):
            raise OSError(errno.EINVAL, "flag not supported")
        old, new, _ = body[16:].split(b"\0", 2)
        self._tree.rename(node, old, target, new, replace=not flags)
        return b""

    def _link(self, node: int, body: bytes) -> bytes:
        (source,) = struct.unpack_from("<Q", body)
        return self._entry(self._tree.link(source, node, _cstring(body[8:])))

    # -- files

    def _open(self, node: int, body: bytes) -> bytes:
        self._tree.inode(node)
        return struct.pack("<QII", 0, _KEEP_CACHE, 0)

    def _create(self, node: int, body: bytes) -> bytes:
        _, mode = struct.unpack_from("<II", body)
        inode = self._tree.make(node, _cstring(body[16:]), stat.S_IFREG | stat.S_IMODE(mode))
        return self._entry(inode) + self._open(inode.number, b"")

    def _read(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        return bytes(self._tree.inode(node).data[offset : offset + size])

    def _write(self, node: int, body: bytes) -> bytes:
        _, offset, size, _, _, flags, _ = struct.unpack_from("<QQIIQII", body)
        self._tree.write(node, offset, body[40 : 40 + size], sure=bool(flags & os.O_DSYNC))
        return struct.pack("<II", size, 0)

    def _fsync(self, node: int, body: bytes) -> bytes:
        self._tree.sync(node)
        return b""

    def _statfs(self, node: int, body: bytes) -> bytes:
        blocks = 1 << 24
        return struct.pack("<QQQQQIIII24x", blocks, blocks, blocks, 1 << 20, 1 << 20, 4096, 255, 4096, 0)

    def _open_folder(self, node: int, body: bytes) -> bytes:
        self._tree.inode(node)
        return struct.pack("<QII", 0, 0, 0)

    def _readdir(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        folder = self._tree.inode(node)
        listed = bytearray()
        # An offset is an inode number, so that removals between two calls shift nothing.
        for name, number in sorted(folder.entries.items(), key=lambda item: item[1]):
            if number <= offset:
                continue
            kind = self._tree.inodes[number].mode >> 12
            record = struct.pack("<QQII", number, number, len(name), kind) + name
            record += bytes(-len(record) % 8)
            if len(listed) + len(record) > size:
                break
            listed += record
        return bytes(listed)

    def _nothing(self, node: int, body: bytes) -> bytes:
        return b""
