"""Files and folders twice: as programs see them now, and as they would be after a power cut.

The rules are POSIX's, taken at its word, which is stricter than any one file system:

- A write is durable once its file was synced, or at once if its descriptor is O_SYNC or O_DSYNC.
- A name is durable once its folder was synced; syncing the file does not make its name durable.
- A rename is one step; it is durable once the folder that it moves into was synced, and takes with it what it depends
  on (the creation of what is renamed), nothing else.

At a cut each write and each step on names that is not durable survives or not, on its own; a write may survive in part
(sectors of 512 bytes).
"""

from __future__ import annotations

import errno
import random
import stat
import time
from dataclasses import dataclass, field

ROOT = 1
SECTOR = 512


@dataclass(slots=True)
class Write:
    """Bytes at an offset, or (`data` None) a new size. `forced`: durable already."""

    offset: int
    data: bytes | None
    forced: bool = False

    def apply(self, target: bytearray) -> None:
        if self.data is None:
            if self.offset < len(target):
                del target[self.offset :]
            else:
                target.extend(bytes(self.offset - len(target)))
        else:
            if self.offset > len(target):
                target.extend(bytes(self.offset - len(target)))
            target[self.offset : self.offset + len(self.data)] = self.data


@dataclass(slots=True)
class Inode:
    number: int
    mode: int
    uid: int = 0
    gid: int = 0
    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Write] = field(default_factory=list)
    entries: dict[str, int] = field(default_factory=dict)
    durable_entries: dict[str, int] = field(default_factory=dict)
    links: int = 0
    durable_links: int = 0
    steps: int = 0  # in the log
    lookups: int = 0  # of the kernel
    changed_ns: int = field(default_factory=time.time_ns)

    @property
    def folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


@dataclass(slots=True)
class Step:
    """A change of names: `inode` leaves (folder, name), enters (to_folder, to_name), or both; 0 and "" where not."""

    inode: int
    folder: int = 0
    name: str = ""
    to_folder: int = 0
    to_name: str = ""
    replaced: int = 0


class Volume:
    """The tree. Inode numbers are never used again. All errors are OSError with an errno."""

    def __init__(self) -> None:
        self.inodes: dict[int, Inode] = {ROOT: Inode(ROOT, stat.S_IFDIR | 0o755, links=1, durable_links=1)}
        self._next = ROOT + 1
        self._log: list[Step] = []
        self.down = False  # the power is off: nothing works any more
        self.syncs = 0
        self.lost = 0  # writes and steps that cuts have undone

    def inode(self, number: int) -> Inode:
        if self.down:
            raise OSError(errno.EIO, "the power is off")
        found = self.inodes.get(number)
        if found is None:
            raise OSError(errno.ESTALE, "no such inode")
        return found

    def lookup(self, folder: int, name: str) -> Inode:
        number = self.inode(folder).entries.get(name)
        if number is None:
            raise OSError(errno.ENOENT, name)
        return self.inode(number)

    # Names

    def create(self, folder: int, name: str, mode: int, uid: int, gid: int) -> Inode:
        parent = self.inode(folder)
        if name in parent.entries:
            raise OSError(errno.EEXIST, name)
        made = Inode(self._next, mode, uid, gid)
        self._next += 1
        self.inodes[made.number] = made
        self._do(Step(made.number, to_folder=folder, to_name=name))
        return made

    def link(self, number: int, folder: int, name: str) -> Inode:
        if name in self.inode(folder).entries:
            raise OSError(errno.EEXIST, name)
        self._do(Step(number, to_folder=folder, to_name=name))
        return self.inode(number)

    def remove(self, folder: int, name: str, *, directory: bool) -> None:
        victim = self.lookup(folder, name)
        if victim.folder != directory:
            raise OSError(errno.ENOTDIR if directory else errno.EISDIR, name)
        if victim.entries:
            raise OSError(errno.ENOTEMPTY, name)
        self._do(Step(victim.number, folder, name))

    def rename(self, folder: int, name: str, to_folder: int, to_name: str, *, replace: bool) -> None:
        moved = self.lookup(folder, name)
        present = self.inode(to_folder).entries.get(to_name, 0)
        if present == moved.number:
            return
        if present and not replace:
            raise OSError(errno.EEXIST, to_name)
        if present and self.inode(present).entries:
            raise OSError(errno.ENOTEMPTY, to_name)
        self._do(Step(moved.number, folder, name, to_folder, to_name, present))

    def _do(self, step: Step) -> None:
        moved = self.inode(step.inode)
        if step.name:
            parent = self.inode(step.folder)
            del parent.entries[step.name]
            parent.changed_ns = time.time_ns()
            moved.links -= 1
        if step.replaced:
            self.inode(step.replaced).links -= 1
        if step.to_name:
            parent = self.inode(step.to_folder)
            parent.entries[step.to_name] = step.inode
            parent.changed_ns = time.time_ns()
            moved.links += 1
        self._log.append(step)
        for number in (step.inode, step.replaced):
            if number:
                self.inodes[number].steps += 1

    def sync_folder(self, number: int) -> None:
        """Make every step into or within a folder durable, with what those steps depend on."""
        self.inode(number)
        self.syncs += 1
        needed: set[int] = set()  # inodes whose earlier steps are needed
        chosen: list[Step] = []
        rest: list[Step] = []
        for step in reversed(self._log):
            removed_here = step.folder == number and not step.to_name
            if step.to_folder == number or removed_here or step.inode in needed or step.replaced in needed:
                needed.add(step.inode)
                chosen.append(step)
            else:
                rest.append(step)
        self._log = rest[::-1]
        for step in reversed(chosen):
            self._settle(step)
            for inode in (step.inode, step.replaced):
                if inode:
                    self.inodes[inode].steps -= 1
                    self._free(inode)

    def _settle(self, step: Step) -> bool:
        """Do a step to the durable names, if it can be done there."""
        if step.name:
            source = self.inodes[step.folder].durable_entries
            if source.get(step.name) != step.inode:
                return False
            del source[step.name]
            self.inodes[step.inode].durable_links -= 1
        if step.to_name:
            target = self.inodes[step.to_folder].durable_entries
            old = target.get(step.to_name)
            if old is not None:
                self.inodes[old].durable_links -= 1
            target[step.to_name] = step.inode
            self.inodes[step.inode].durable_links += 1
        return True

    def forget(self, number: int, count: int) -> None:
        found = self.inodes.get(number)
        if found is not None:
            found.lookups -= count
            self._free(number)

    def _free(self, number: int) -> None:
        one = self.inodes.get(number)
        if one is not None and number != ROOT and not (one.links or one.durable_links or one.steps or one.lookups > 0):
            del self.inodes[number]

    # Bytes

    def write(self, number: int, offset: int, data: bytes, *, synced: bool) -> None:
        self._write(self.inode(number), Write(offset, data, synced))

    def truncate(self, number: int, size: int) -> None:
        self._write(self.inode(number), Write(size, None))

    def _write(self, target: Inode, write: Write) -> None:
        write.apply(target.data)
        target.changed_ns = time.time_ns()
        target.pending.append(write)
        if write.forced:
            write.apply(target.durable)

    def sync(self, number: int) -> None:
        target = self.inode(number)
        self.syncs += 1
        for write in target.pending:
            write.apply(target.durable)
        target.pending.clear()

    # Power

    def cut(self) -> None:
        """From now on every call fails with EIO."""
        self.down = True

    def restore(self, seed: int, keep: float) -> None:
        """What is found when the power is back: everything durable, and each change that is not with probability
        `keep`."""
        rng = random.Random(seed)
        for step in self._log:
            if rng.random() >= keep or not self._settle(step):
                self.lost += 1
        self._log = []
        reachable = self._reachable()
        self.inodes = {number: one for number, one in self.inodes.items() if number in reachable}
        for one in self.inodes.values():
            self._restore_bytes(one, rng, keep)
            one.data = bytearray(one.durable)
            one.entries = dict(one.durable_entries)
            one.links, one.lookups, one.steps = one.durable_links, 0, 0
        self.down = False

    def _restore_bytes(self, one: Inode, rng: random.Random, keep: float) -> None:
        for write in one.pending:
            if write.forced:
                write.apply(one.durable)
            elif rng.random() >= keep:
                self.lost += 1
            elif write.data is not None and rng.random() < 0.3:
                self.lost += 1
                for start in range(0, len(write.data), SECTOR):
                    if rng.random() < 0.5:
                        Write(write.offset + start, write.data[start : start + SECTOR]).apply(one.durable)
            else:
                write.apply(one.durable)
        one.pending.clear()

    def _reachable(self) -> set[int]:
        found, todo = {ROOT}, [ROOT]
        while todo:
            for number in self.inodes[todo.pop()].durable_entries.values():
                if number not in found:
                    found.add(number)
                    todo.append(number)
        return found
