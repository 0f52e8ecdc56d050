"""A file system in memory that remembers what was synced, and can lose the rest as a power cut does.

It is stricter than any real disk: the bytes of a file survive only an fsync of that file, a name only an fsync of the
folder that holds it, and neither brings the other. What was not synced may survive all the same, in part and out of
order (`keep`), and a write may be torn at a sector (`torn`); a program must bear every one of these outcomes.
"""

from __future__ import annotations

import errno
import random
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

ROOT = 1
SECTOR = 512


@dataclass(slots=True)
class Write:
    """Bytes that were written, not synced yet; `sure` if the descriptor was opened with O_DSYNC."""

    offset: int
    data: bytes
    sure: bool = False


@dataclass(slots=True)
class Resize:
    size: int


@dataclass(slots=True)
class Name:
    """A change of one folder entry, not synced yet: `inode` 0 removes it.

    A rename is two changes, in two folders perhaps. A cut may keep both names, but never neither: the removal holds
    on to the addition that it `follows`, and is only kept with it.
    """

    folder: int
    name: bytes
    inode: int
    follows: Name | None = None
    kept: bool = False


@dataclass(slots=True)
class Inode:
    number: int
    mode: int
    data: bytearray = field(default_factory=bytearray)
    synced: bytearray = field(default_factory=bytearray)
    pending: list[Write | Resize] = field(default_factory=list)
    entries: dict[bytes, int] = field(default_factory=dict)
    synced_entries: dict[bytes, int] = field(default_factory=dict)
    pending_names: list[Name] = field(default_factory=list)
    links: int = 0
    lookups: int = 0  # references that the kernel holds
    changed: int = field(default_factory=time.time_ns)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


@dataclass(slots=True)
class Loss:
    """What a cut took and what it left by luck: changes that were not synced."""

    lost_writes: int = 0
    lost_names: int = 0
    kept_writes: int = 0
    kept_names: int = 0
    torn_writes: int = 0


class LossyTree:
    """Operations as a kernel asks for them, by inode number. Errors are OSError with the errno to answer."""

    def __init__(self) -> None:
        self.inodes: dict[int, Inode] = {ROOT: Inode(ROOT, stat.S_IFDIR | 0o755)}
        self._last = ROOT
        self._removals = 0

    def inode(self, number: int) -> Inode:
        try:
            return self.inodes[number]
        except KeyError:
            raise OSError(errno.ESTALE, "no such inode") from None

    def find(self, folder: int, name: bytes) -> Inode:
        number = self._folder(folder).entries.get(name)
        if number is None:
            raise OSError(errno.ENOENT, "no such name")
        return self.inodes[number]

    # -- names

    def make(self, folder: int, name: bytes, mode: int) -> Inode:
        if name in self._folder(folder).entries:
            raise OSError(errno.EEXIST, "name is taken")
        self._last += 1
        inode = self.inodes[self._last] = Inode(self._last, mode)
        self._add(folder, name, inode)
        return inode

    def link(self, number: int, folder: int, name: bytes) -> Inode:
        if name in self._folder(folder).entries:
            raise OSError(errno.EEXIST, "name is taken")
        inode = self.inode(number)
        self._add(folder, name, inode)
        return inode

    def unlink(self, folder: int, name: bytes) -> None:
        inode = self.find(folder, name)
        if inode.is_folder:
            raise OSError(errno.EISDIR, "is a folder")
        self._remove(folder, name)

    def rmdir(self, folder: int, name: bytes) -> None:
        inode = self.find(folder, name)
        if not inode.is_folder:
            raise OSError(errno.ENOTDIR, "not a folder")
        if inode.entries:
            raise OSError(errno.ENOTEMPTY, "not empty")
        self._remove(folder, name)

    def rename(self, folder: int, name: bytes, target: int, new: bytes, *, replace: bool = True) -> None:
        inode = self.find(folder, name)
        old = self._folder(target).entries.get(new)
        if old == inode.number:
            return
        if old is not None:
            if not replace:
                raise OSError(errno.EEXIST, "name is taken")
            if self.inodes[old].entries:
                raise OSError(errno.ENOTEMPTY, "not empty")
            self.inodes[old].links -= 1
        added = self._add(target, new, inode)
        self._remove(folder, name, follows=added)

    def _folder(self, number: int) -> Inode:
        inode = self.inode(number)
        if not inode.is_folder:
            raise OSError(errno.ENOTDIR, "not a folder")
        return inode

    def _add(self, number: int, name: bytes, inode: Inode) -> Name:
        folder = self._folder(number)
        folder.entries[name] = inode.number
        change = Name(number, name, inode.number)
        folder.pending_names.append(change)
        folder.changed = time.time_ns()
        inode.links += 1
        return change

    def _remove(self, number: int, name: bytes, follows: Name | None = None) -> None:
        folder = self._folder(number)
        self.inodes[folder.entries.pop(name)].links -= 1
        folder.pending_names.append(Name(number, name, 0, follows))
        folder.changed = time.time_ns()
        self._removals += 1
        if self._removals % 4096 == 0:
            self._sweep()

    # -- bytes

    def write(self, number: int, offset: int, data: bytes, *, sure: bool = False) -> None:
        inode = self.inode(number)
        change = Write(offset, data, sure)
        _apply(inode.data, change)
        inode.pending.append(change)
        inode.changed = time.time_ns()

    def resize(self, number: int, size: int) -> None:
        inode = self.inode(number)
        change = Resize(size)
        _apply(inode.data, change)
        inode.pending.append(change)
        inode.changed = time.time_ns()

    # -- durability

    def sync(self, number: int) -> None:
        """fsync of a file or of a folder: of its own bytes or names, and of nothing else.

        But for this: where a file was moved out of the folder, the folder it went to is synced too.
        """
        inode = self.inode(number)
        for change in inode.pending:
            _apply(inode.synced, change)
        inode.pending.clear()
        names, inode.pending_names = inode.pending_names, []
        for name in names:
            name.kept = True
        for name in names:
            if name.follows is not None and not name.follows.kept:
                self.sync(name.follows.folder)
            _rename(inode.synced_entries, name)

    def sync_all(self) -> None:
        for number in self.inodes:
            self.sync(number)

    def cut(self, *, keep: float = 0.0, torn: bool = False, seed: int = 0) -> Loss:
        """The power goes: each change that wasn't synced is lost, or kept with the probability `keep`."""
        rng = random.Random(seed)
        loss = Loss()
        for inode in self.inodes.values():
            for change in inode.pending:
                self._cut_bytes(inode, change, rng, loss, keep=keep, torn=torn)
            for name in inode.pending_names:
                name.kept = rng.random() < keep
        for inode in self.inodes.values():
            for name in inode.pending_names:
                if name.kept and (name.follows is None or name.follows.kept):
                    loss.kept_names += 1
                    _rename(inode.synced_entries, name)
                else:
                    loss.lost_names += 1
            inode.pending.clear()
            inode.pending_names.clear()
            inode.data = bytearray(inode.synced)
            inode.entries = dict(inode.synced_entries)
            inode.lookups = inode.links = 0
        self._sweep()
        for inode in self.inodes.values():
            for number in inode.entries.values():
                self.inodes[number].links += 1
        return loss

    def _cut_bytes(
        self, inode: Inode, change: Write | Resize, rng: random.Random, loss: Loss, *, keep: float, torn: bool
    ) -> None:
        if rng.random() >= keep and not (isinstance(change, Write) and change.sure):
            loss.lost_writes += 1
            return
        if torn and isinstance(change, Write) and not change.sure and rng.random() < 0.5:
            end = change.offset + rng.randrange(len(change.data) + 1)
            end -= end % SECTOR
            change = Write(change.offset, change.data[: max(0, end - change.offset)])
            loss.torn_writes += 1
        loss.kept_writes += 1
        _apply(inode.synced, change)

    def _sweep(self) -> None:
        """Drop inodes that no name, no pending change and no open file leads to."""
        used = {ROOT}
        for inode in self.inodes.values():
            if inode.lookups:
                used.add(inode.number)
            used.update(inode.entries.values(), inode.synced_entries.values())
            used.update(name.inode for name in inode.pending_names)
        for number in [number for number in self.inodes if number not in used]:
            del self.inodes[number]

    def paths(self) -> Iterator[str]:
        """Every path, for tests of the tree itself."""
        stack = [(ROOT, "")]
        while stack:
            number, path = stack.pop()
            for name, child in self.inodes[number].entries.items():
                yield f"{path}{name.decode()}"
                stack.append((child, f"{path}{name.decode()}/"))


def _apply(content: bytearray, change: Write | Resize) -> None:
    if isinstance(change, Resize):
        if change.size < len(content):
            del content[change.size :]
        else:
            content.extend(bytes(change.size - len(content)))
    elif change.data:
        if change.offset > len(content):
            content.extend(bytes(change.offset - len(content)))
        content[change.offset : change.offset + len(change.data)] = change.data


def _rename(entries: dict[bytes, int], change: Name) -> None:
    if change.inode:
        entries[change.name] = change.inode
    else:
        entries.pop(change.name, None)
