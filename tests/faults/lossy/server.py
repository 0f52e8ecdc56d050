"""The process behind a `LossyFolder`: `python -m tests.faults.lossy.server <folder>`.

It must be another process than the one that uses the folder: a page fault of a mapped file there holds the
interpreter's lock while it waits for us. Commands are JSON lines on stdin, answers JSON lines on stdout; it unmounts
and ends when stdin closes.
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import json
import os
import selectors
import sys

from tests.faults.lossy.protocol import CHANGES, READ_SIZE, Protocol
from tests.faults.lossy.tree import LossyTree

_libc = ctypes.CDLL(None, use_errno=True)
_MS_NOSUID_NODEV = 2 | 4
_MNT_DETACH = 2


class Server:
    """Serves one folder; the tree outlives its mounts."""

    def __init__(self, path: str, *, rename_noreplace: bool) -> None:
        self._path = path
        self._tree = LossyTree()
        self._protocol = Protocol(self._tree, rename_noreplace=rename_noreplace)
        self._selector = selectors.DefaultSelector()
        self._device = -1
        self._countdown = -1  # changes until the power goes by itself; -1: never
        self._changes = 0

    def run(self) -> None:
        self._selector.register(0, selectors.EVENT_READ)
        commands = b""
        while True:
            for key, _ in self._selector.select():
                if key.fd == self._device:
                    self._serve()
                elif key.fd == 0:
                    data = os.read(0, 65536)
                    if not data:
                        self._detach()
                        return
                    *lines, commands = (commands + data).split(b"\n")
                    for line in lines:
                        os.write(1, json.dumps(self._command(json.loads(line))).encode() + b"\n")

    def _command(self, command: dict[str, object]) -> dict[str, object]:
        kind = command.pop("do")
        if kind == "mount":
            self._countdown = int(str(command["cut_after"]))
            self._changes = 0
            self._mount()
        elif kind == "cut":
            self._detach()
            options = {"keep": float(str(command["keep"])), "seed": int(str(command["seed"]))}
            loss = self._tree.cut(keep=options["keep"], seed=int(options["seed"]), torn=bool(command["torn"]))
            return {**dataclasses.asdict(loss), "changes": self._changes}
        elif kind == "unmount":
            self._tree.sync_all()
            self._detach()
        return {"changes": self._changes}

    def _mount(self) -> None:
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        options = f"fd={self._device},rootmode=40755,user_id=0,group_id=0,default_permissions,allow_other"
        path = os.fsencode(self._path)
        if _libc.mount(b"lossy", path, b"fuse.lossy", _MS_NOSUID_NODEV, options.encode()) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), self._path)
        self._selector.register(self._device, selectors.EVENT_READ)

    def _detach(self) -> None:
        """Closing the device fails whatever is under way and every call on the old mount from now on."""
        if self._device >= 0:
            self._power_off()
        _libc.umount2(os.fsencode(self._path), _MNT_DETACH)

    def _power_off(self) -> None:
        self._selector.unregister(self._device)
        os.close(self._device)
        self._device = -1

    def _serve(self) -> None:
        try:
            message = os.read(self._device, READ_SIZE)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR, errno.ENOENT):
                return
            self._power_off()  # unmounted by somebody else
            return
        if Protocol.operation(message) in CHANGES:
            if self._changes == self._countdown:
                self._power_off()
                return
            self._changes += 1
        answer = self._protocol.answer(message)
        if answer is not None:
            try:
                os.write(self._device, answer)
            except OSError as error:
                if error.errno != errno.ENOENT:  # the caller was interrupted and no longer waits
                    raise


def main() -> None:
    Server(sys.argv[1], rename_noreplace=sys.argv[2] == "noreplace").run()


if __name__ == "__main__":
    main()
