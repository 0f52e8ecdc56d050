"""A naive model of S3's versions: lists of dictionaries, no cleverness."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.types import ListedObject, ObjectInfo, Versioning


@dataclass
class Entry:
    """A version or marker, newest first in its key's list."""

    version_id: str
    data: bytes | None  # None: a delete marker


@dataclass
class Model:
    versioning: Versioning = Versioning.UNVERSIONED
    keys: dict[str, list[Entry]] = field(default_factory=dict)

    def add(self, key: str, entry: Entry) -> None:
        """`entry.version_id` is what the store answered."""
        entries = self.keys.setdefault(key, [])
        if self.versioning is Versioning.ENABLED:
            assert entry.version_id != "null"
            assert all(old.version_id != entry.version_id for old in entries)
        else:
            assert entry.version_id == "null"
            entries[:] = [old for old in entries if old.version_id != "null"]
        entries.insert(0, entry)

    def remove(self, key: str, version_id: str) -> Entry | None:
        entries = self.keys.get(key, [])
        for entry in entries:
            if entry.version_id == version_id:
                entries.remove(entry)
                return entry
        return None

    def latest(self, key: str) -> Entry | None:
        entries = self.keys.get(key, [])
        return entries[0] if entries else None

    def find(self, key: str, version_id: str) -> Entry | None:
        return next((entry for entry in self.keys.get(key, []) if entry.version_id == version_id), None)

    def objects(self) -> list[str]:
        """Keys whose latest version is no marker, in UTF-8 order."""
        live = [key for key, entries in self.keys.items() if entries and entries[0].data is not None]
        return sorted(live, key=str.encode)

    def versions(self) -> list[tuple[str, Entry, bool]]:
        """(key, entry, is latest) in the order of ListObjectVersions."""
        return [
            (key, entry, index == 0)
            for key in sorted(self.keys, key=str.encode)
            for index, entry in enumerate(self.keys[key])
        ]


def group(
    keys: list[tuple[str, int]], prefix: str, delimiter: str, marker: tuple[str, int], limit: int
) -> tuple[list[tuple[str, int]], list[str], bool]:
    """A page of (key, rank) pairs in order, by the definition: items are keys or common prefixes, each counted once;
    the page holds those > marker. A common prefix has rank infinity: a marker at it means behind all of it."""
    behind_all = 1 << 60
    items: list[tuple[bytes, int, str]] = []
    for key, rank in keys:
        if not key.startswith(prefix):
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        item = (key.encode(), rank, "") if at < 0 else (b"", behind_all, key[: at + len(delimiter)])
        if item[2]:
            item = (item[2].encode(), behind_all, item[2])
        if item not in items:
            items.append(item)
    items.sort(key=lambda item: item[:2])
    wanted = [item for item in items if item[:2] > (marker[0].encode(), marker[1])]
    page = wanted[:limit]
    return (
        [(item[0].decode(), item[1]) for item in page if not item[2]],
        [item[2] for item in page if item[2]],
        limit > 0 and len(wanted) > limit,
    )


def shown(item: ListedObject | ObjectInfo) -> tuple[str, str, bool, bool]:
    return item.key, item.version_id, item.is_latest, item.delete_marker
