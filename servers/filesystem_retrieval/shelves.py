"""What the files of folders held when they were last looked through, kept in memory.

To open, read and close a small file takes three times as long as to ask whether it has changed. So the bytes of
files are held, folder by folder and `MAX_BYTES` in all, and a file is read again once its number, size or times
are others. As in the catalogue, what changed so shortly before it was read is not trusted.

What that does not notice: bytes that change while all of these stay, as where a program has mapped a file into its
memory and the system notes the time later.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from filesystem_retrieval.beneath import CLOCK_TICK_NS
from filesystem_retrieval.roots import Folder, Named, Root

__all__ = ["Shelf", "Shelves"]

MAX_BYTES = 64 << 20
NAME_BYTES = 300
"""What a name and all that is known of it take, about."""
_identity = attrgetter("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
_ELSEWHERE = (0, 0, 0, 0)
"""Of a file whose text does not stand in its bytes."""

Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The files of one folder, in the order of their names."""

    names: Sequence[str]
    seen: Sequence[Identity | None]
    """What each was when it was read; None where that says nothing."""
    text: bytes
    """The bytes of all files, one after the other."""
    ends: Sequence[int]
    odd: Sequence[int]
    """Places of the files that have to be looked at whatever their bytes are."""

    @property
    def size(self) -> int:
        return len(self.text) + NAME_BYTES * (len(self.names) + 1)

    def content(self, place: int) -> bytes:
        return self.text[self.ends[place - 1] if place else 0 : self.ends[place]]

    def places(self, plain: Any) -> Sequence[int]:
        """Of all files that hold what this compiled pattern of plain text finds, some that do not, and the odd."""
        found, start = set(self.odd), 0
        while start < len(self.text) and (match := plain.search(self.text, start)) is not None:
            place = bisect_right(self.ends, match.start())
            found.add(place)
            start = self.ends[place]
        return sorted(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How files are read: their bytes, or None where that failed; which of them are odd; which need no reading."""

    read: Callable[[Folder, str], bytes | None]
    is_odd: Callable[[bytes], bool]
    is_elsewhere: Callable[[str], bool]


@dataclass(slots=True)
class _Held:
    """Of one root, as one kind of caller sees it."""

    named: dict[str, Named] = field(default_factory=dict)
    shelves: dict[str, Shelf] = field(default_factory=dict)


class Shelves:
    """All that is held. Callers who hold different labels share nothing."""

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held: dict[tuple[str, str, frozenset[str]], _Held] = {}
        self._lock = threading.Lock()
        self.size = 0

    def folders(self, root: Root, reading: Reading) -> Iterator[tuple[Folder, Shelf | None]]:
        """Every folder of a root, with its files as they are now; None where there is no room for them."""
        held = self._held.setdefault((root.tenant, root.name, root.withheld), _Held())
        met = set()
        for folder in root.folders(held.named):
            met.add(folder.path)
            before = held.shelves.get(folder.path)
            room = self._max_bytes - self.size + (before.size if before else 0)
            shelf = _shelf(before, folder, reading, room)
            if shelf is None or shelf is not before:
                self._keep(held, folder.path, shelf)
            yield folder, shelf
        with self._lock:
            gone = held.shelves.keys() - met
        for path in gone:
            self._keep(held, path, None)

    def _keep(self, held: _Held, path: str, shelf: Shelf | None) -> None:
        with self._lock:
            before = held.shelves.pop(path, None)
            self.size -= before.size if before else 0
            if shelf is None:
                held.named.pop(path, None)
            else:
                held.shelves[path] = shelf
                self.size += shelf.size


def _shelf(before: Shelf | None, folder: Folder, reading: Reading, room: int) -> Shelf | None:
    """What has not changed is taken from the shelf as it was before."""
    read_ns = time.time_ns()
    now = [_ELSEWHERE if reading.is_elsewhere(name) else _of(folder, name) for name in folder.names]
    if before is not None and before.seen == now and before.names == folder.names:
        return before
    if sum(seen[1] for seen in now if seen) + NAME_BYTES * (len(now) + 1) > room:
        return None
    known = {name: place for place, name in enumerate(before.names)} if before else {}
    seen: list[Identity | None] = []
    parts, ends, odd, end = [], [], [], 0
    for place, (name, identity) in enumerate(zip(folder.names, now, strict=True)):
        at = known.get(name)
        content: bytes | None = b""
        if identity != _ELSEWHERE:
            if before is not None and at is not None and identity is not None and before.seen[at] == identity:
                content = before.content(at)
            else:
                content = reading.read(folder, name)
        if identity == _ELSEWHERE or (content is not None and reading.is_odd(content)):
            odd.append(place)
        settled = identity is not None and identity[3] <= read_ns - CLOCK_TICK_NS
        seen.append(identity if settled and content is not None else None)
        end += len(content or b"")
        parts.append(content or b"")
        ends.append(end)
    return Shelf(names=folder.names, seen=seen, text=b"".join(parts), ends=ends, odd=odd)


def _of(folder: Folder, name: str) -> Identity | None:
    try:
        identity: Identity = _identity(os.stat(name, dir_fd=folder.fd, follow_symlinks=False))
    except OSError:  # gone since the walk met it
        return None
    return identity
