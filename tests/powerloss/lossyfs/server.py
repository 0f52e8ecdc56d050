"""Answers the kernel's requests from a `Volume`."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import ClassVar

from tests.powerloss.lossyfs import wire
from tests.powerloss.lossyfs.volume import Inode, Volume
from tests.powerloss.lossyfs.wire import Opcode

Answer = bytes | memoryview


class Server:
    """One mount: `serve` runs until it is unmounted."""

    def __init__(self, volume: Volume, descriptor: int) -> None:
        self._volume, self._descriptor = volume, descriptor
        self._listings: dict[int, list[bytes]] = {}  # open folders, as they were when opened
        self._next_listing = 1

    def serve(self) -> None:
        buffer = bytearray(wire.BUFFER)
        view = memoryview(buffer)
        while True:
            try:
                length = os.readv(self._descriptor, [buffer])
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):  # ENOENT: the request was interrupted
                    continue
                return  # ENODEV: unmounted; EBADF: closed
            _, opcode, unique, node, uid, gid, _, _ = wire.IN_HEADER.unpack_from(buffer)
            body = view[wire.IN_HEADER.size : length]
            handler = self._HANDLERS.get(opcode)
            if opcode in (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT):
                if handler is not None:
                    handler(self, node, body, uid, gid)
                continue
            try:
                if handler is None:
                    raise OSError(errno.ENOSYS, "not implemented")
                answer = handler(self, node, body, uid, gid)
            except OSError as error:
                self._reply(unique, -(error.errno or errno.EIO), b"")
            else:
                self._reply(unique, 0, answer)

    def _reply(self, unique: int, code: int, answer: Answer) -> None:
        head = wire.OUT_HEADER.pack(wire.OUT_HEADER.size + len(answer), code, unique)
        try:
            os.writev(self._descriptor, [head, answer])
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EBADF):  # who asked is gone
                raise

    def _init(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        _, _, read_ahead, flags = wire.INIT_IN.unpack_from(body)
        flags &= wire.FLAG_ASYNC_READ | wire.FLAG_BIG_WRITES | wire.FLAG_MAX_PAGES
        pages = wire.MAX_WRITE // 4096
        return wire.INIT_OUT.pack(
            wire.MAJOR, wire.MINOR, read_ahead, flags, 64, 48, wire.MAX_WRITE, 1, pages, 0, 0
        )  # fmt: skip

    def _entered(self, one: Inode) -> bytes:
        one.lookups += 1
        return wire.entry(one)

    def _lookup(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        return self._entered(self._volume.lookup(node, _name(body)))

    def _forget(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        self._volume.forget(node, wire.FORGET_IN.unpack_from(body)[0])
        return b""

    def _forget_many(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        count, _ = wire.BATCH_FORGET_IN.unpack_from(body)
        for number, times in wire.FORGET_ONE.iter_unpack(body[8 : 8 + count * wire.FORGET_ONE.size]):
            self._volume.forget(number, times)
        return b""

    def _getattr(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        return wire.ATTRIBUTES_OUT.pack(wire.FOREVER, 0, 0) + wire.attributes(self._volume.inode(node))

    def _setattr(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        valid, _, _, size, _, _, _, _, _, _, _, mode, _, owner, group, _ = wire.SETATTR_IN.unpack_from(body)
        one = self._volume.inode(node)
        if valid & wire.SET_MODE:
            one.mode = stat.S_IFMT(one.mode) | stat.S_IMODE(mode)
        if valid & wire.SET_UID:
            one.uid = owner
        if valid & wire.SET_GID:
            one.gid = group
        if valid & wire.SET_SIZE:
            self._volume.truncate(node, size)
        return self._getattr(node, body, uid, gid)

    def _mknod(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        mode, *_ = wire.MKNOD_IN.unpack_from(body)
        return self._entered(self._volume.create(node, _name(body[wire.MKNOD_IN.size :]), mode, uid, gid))

    def _mkdir(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        mode, _ = wire.MKDIR_IN.unpack_from(body)
        name = _name(body[wire.MKDIR_IN.size :])
        return self._entered(self._volume.create(node, name, stat.S_IFDIR | mode, uid, gid))

    def _unlink(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        self._volume.remove(node, _name(body), directory=False)
        return b""

    def _rmdir(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        self._volume.remove(node, _name(body), directory=True)
        return b""

    def _rename(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        (target,) = wire.RENAME_IN.unpack_from(body)
        old, new = _names(body[wire.RENAME_IN.size :])
        self._volume.rename(node, old, target, new, replace=True)
        return b""

    def _rename2(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        target, flags, _ = wire.RENAME2_IN.unpack_from(body)
        if flags & ~wire.RENAME_NOREPLACE:
            raise OSError(errno.EINVAL, "such a rename is not known")
        old, new = _names(body[wire.RENAME2_IN.size :])
        self._volume.rename(node, old, target, new, replace=not flags)
        return b""

    def _link(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        (number,) = wire.LINK_IN.unpack_from(body)
        return self._entered(self._volume.link(number, node, _name(body[wire.LINK_IN.size :])))

    def _open(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        self._volume.inode(node)
        return wire.OPEN_OUT.pack(0, wire.OPEN_KEEP_CACHE, 0)

    def _create(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        _, mode, *_ = wire.CREATE_IN.unpack_from(body)
        made = self._volume.create(node, _name(body[wire.CREATE_IN.size :]), mode, uid, gid)
        return self._entered(made) + wire.OPEN_OUT.pack(0, wire.OPEN_KEEP_CACHE, 0)

    def _read(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        _, offset, size, *_ = wire.READ_IN.unpack_from(body)
        # A copy: the file may change its size while the kernel takes the answer.
        return bytes(memoryview(self._volume.inode(node).data)[offset : offset + size])

    def _write(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        _, offset, size, _, _, flags, _ = wire.WRITE_IN.unpack_from(body)
        data = bytes(body[wire.WRITE_IN.size : wire.WRITE_IN.size + size])
        self._volume.write(node, offset, data, synced=bool(flags & os.O_DSYNC))
        return wire.WRITE_OUT.pack(size, 0)

    def _statfs(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        blocks = (64 << 30) // 4096
        return wire.STATFS_OUT.pack(blocks, blocks, blocks, 1 << 20, 1 << 20, 4096, 255, 4096, 0)

    def _nothing(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        return b""

    def _fsync(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        self._volume.sync(node)
        return b""

    def _fsync_folder(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        self._volume.sync_folder(node)
        return b""

    def _open_folder(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        names = [(".", node), ("..", node), *self._volume.inode(node).entries.items()]
        self._listings[self._next_listing] = [
            wire.dirent(number, place, name, self._volume.inode(number).mode)
            for place, (name, number) in enumerate(names, 1)
        ]
        self._next_listing += 1
        return wire.OPEN_OUT.pack(self._next_listing - 1, 0, 0)

    def _read_folder(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        handle, offset, size, *_ = wire.READ_IN.unpack_from(body)
        answer = b""
        for one in self._listings[handle][offset:]:
            if len(answer) + len(one) > size:
                break
            answer += one
        return answer

    def _close_folder(self, node: int, body: memoryview, uid: int, gid: int) -> Answer:
        self._listings.pop(wire.READ_IN.unpack_from(bytes(body).ljust(wire.READ_IN.size, b"\0"))[0], None)
        return b""

    _HANDLERS: ClassVar[dict[int, Callable[[Server, int, memoryview, int, int], Answer]]] = {
        Opcode.LOOKUP: _lookup,
        Opcode.FORGET: _forget,
        Opcode.GETATTR: _getattr,
        Opcode.SETATTR: _setattr,
        Opcode.MKNOD: _mknod,
        Opcode.MKDIR: _mkdir,
        Opcode.UNLINK: _unlink,
        Opcode.RMDIR: _rmdir,
        Opcode.RENAME: _rename,
        Opcode.LINK: _link,
        Opcode.OPEN: _open,
        Opcode.READ: _read,
        Opcode.WRITE: _write,
        Opcode.STATFS: _statfs,
        Opcode.RELEASE: _nothing,
        Opcode.FSYNC: _fsync,
        Opcode.FLUSH: _nothing,
        Opcode.INIT: _init,
        Opcode.OPENDIR: _open_folder,
        Opcode.READDIR: _read_folder,
        Opcode.RELEASEDIR: _close_folder,
        Opcode.FSYNCDIR: _fsync_folder,
        Opcode.ACCESS: _nothing,
        Opcode.CREATE: _create,
        Opcode.DESTROY: _nothing,
        Opcode.BATCH_FORGET: _forget_many,
        Opcode.RENAME2: _rename2,
    }


def _name(body: memoryview) -> str:
    return bytes(body).split(b"\0", 1)[0].decode()


def _names(body: memoryview) -> tuple[str, str]:
    old, new, *_ = bytes(body).split(b"\0")
    return old.decode(), new.decode()
