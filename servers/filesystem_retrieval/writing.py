"""`fs_write`, `fs_edit`, `fs_move`, `fs_undo`: changes that say what they replace, and can be taken back.

Nobody overwrites what they have not read: a file that is there is replaced only by who names what it held.
A repeated `fs_write` finds its own content and changes nothing, so a retry needs no key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import anyio.to_thread

from filesystem_retrieval.answers import How, Written
from filesystem_retrieval.beneath import absent
from filesystem_retrieval.changes import Done
from filesystem_retrieval.differences import difference, is_text, line_counts
from filesystem_retrieval.library import Library, Place
from filesystem_retrieval.reading import SNIFF_BYTES, decode, encoding_of, kind_of, sha256_of
from filesystem_retrieval.slots import Seen
from filesystem_retrieval.versions import Version, bytes_of, latest
from usrland.connector import Call
from usrland.errors import Conflict, InvalidInput, NotFound
from usrland.schemas.wire import Preview

if TYPE_CHECKING:
    from sqlmodel import Session

__all__ = ["REQUESTS"]

MIN_HASH_CHARS = 8
PREVIEW_LINES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """What is to be done to one path: decide what it shall hold, or move it."""

    place: Place
    how: How
    decide: Callable[[str, Seen | None], bytes | None] | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """One call, on the way to its step. What it needs of disk and database it asks in a thread."""

    library: Library
    call: Call
    path: str
    root: str | None = None

    async def run(self) -> Written:
        done, place = await anyio.to_thread.run_sync(self._run)
        self.library.indexer.expect_change()
        return await anyio.to_thread.run_sync(_written, self.library, place, done)

    async def preview(self) -> Preview:
        return await anyio.to_thread.run_sync(self._preview)

    def step(self) -> _Step:
        raise NotImplementedError

    def _run(self) -> tuple[Done, Place]:
        step = self.step()
        changes, root = self.library.changes, step.place.root
        if step.decide is None:
            assert step.target is not None
            return changes.move(root, step.place.path, step.target, step.how, self.call), step.place
        return changes.put(root, step.place.path, step.how, self.call, step.decide), step.place

    def _preview(self) -> Preview:
        step = self.step()
        root, path = step.place.root, step.place.path
        if step.decide is None:
            return Preview(would=f"{path!r} would become {step.target!r} in root {root.name!r}.", affected=1)
        done = self.library.changes.look(root, path, step.decide)
        if done.after == done.before:
            return Preview(would=f"{done.path!r} holds that already; nothing would change.", affected=0)
        verb = "made" if done.before is None else "removed" if done.after is None else "changed"
        lines = difference(done.before or b"", done.after or b"", done.path).splitlines()
        return Preview(
            would=f"{done.path!r} in root {root.name!r} would be {verb}.",
            affected=1,
            examples=["\n".join(lines[:PREVIEW_LINES])],
        )

    def _place(self, path: str, *, new: bool = False) -> Place:
        """Where it is, links resolved, or, for a new file, where it would be."""
        principal = self.call.principal
        path = "/".join(part for part in path.split("/") if part != ".")
        try:
            place = self.library.place(principal, path, self.root)
            with place.root.open(place.path) as file:
                return replace(place, path=file.path)
        except NotFound:
            if not new:
                raise
        if self.root is not None:
            return Place(root=self.library.visible(principal, self.root)[0], path=path)
        roots = {root.name: root for root in self.library.visible(principal)}
        first, _, rest = path.partition("/")
        if first in roots and rest:
            return Place(root=roots[first], path=rest)
        if len(roots) == 1:
            return Place(root=next(iter(roots.values())), path=path)
        raise InvalidInput(f"root: {path!r} is new, and there are several roots.", fix="Name the root.")

    def _ask(self, work: Callable[[Session], Version | None]) -> Version | None:
        return self.library.versions.database.read_now(work)

    def _last(self, place: Place) -> Version | None:
        return self._ask(lambda session: latest(session, place.key, [place.path]).get(place.path))

    def _version(self, place: Place, number: int) -> Version:
        found = self._ask(lambda session: session.get(Version, number))
        if found is None or found.root != place.key or found.path != place.path:
            raise _no_version(self.path, number)
        return found

    def _bytes(self, version: Version) -> bytes:
        content = self.library.versions.database.read_now(
            lambda session: bytes_of(session, version.root, version.sha256)
        )
        if content is None:
            raise NotFound(f"the content of version {version.id} is not kept any more.")
        return content

    def _require(self, expected: str | None, place: Place, path: str, seen: Seen | None) -> None:
        """Raise `Conflict` where the file does not hold what the caller has read."""
        held = "" if seen is None else seen.sha256
        if expected is not None and expected.isdigit() and len(expected) < MIN_HASH_CHARS:
            wanted = self._version(place, int(expected)).sha256
        else:
            wanted = (expected or "").lower()
            if wanted and len(wanted) < MIN_HASH_CHARS:
                raise InvalidInput("expected: too short.", fix="Give a version, or 8 characters of a sha256.")
        if held.startswith(wanted) if wanted else not held:
            return
        last = self._last(Place(root=place.root, path=path))
        now = {"path": path, "sha256": held, "version": last.id if last and last.sha256 == held else None}
        details = {name: value for name, value in now.items() if value}
        if seen is None:
            raise Conflict(f"{path!r} is not there any more; nothing was changed.", details=details)
        if expected is None:
            raise Conflict(
                f"{path!r} is there already; nothing was changed.",
                fix=f"Read it, then pass expected={held[:12]!r} to replace it.",
                details=details,
            )
        raise Conflict(
            f"{path!r} is not what you expected: it holds {held[:12]} now; nothing was changed.",
            fix="Read it again, then decide.",
            details=details,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Write(_Request):
    content: str
    expected: str | None = None

    def step(self) -> _Step:
        after = self.content.encode()
        if len(after) > self.library.max_text_bytes:
            raise InvalidInput(f"content: larger than {self.library.max_text_bytes} bytes.")
        place = self._place(self.path, new=True)
        _require_text(place.path, after)

        def decide(path: str, seen: Seen | None) -> bytes:
            if seen is None or seen.content != after:
                self._require(self.expected, place, path, seen)
            return after

        return _Step(place=place, how="written", decide=decide)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit(_Request):
    old: str
    new: str
    everywhere: bool = False
    expected: str | None = None

    def step(self) -> _Step:
        place = self._place(self.path)

        def decide(path: str, seen: Seen | None) -> bytes:
            if seen is None:
                raise NotFound(f"there is no {path!r} here.", fix="fs_list shows what there is.")
            _require_text(path, seen.content)
            if self.expected is not None:
                self._require(self.expected, place, path, seen)
            after = _replaced(seen.content, self.old, self.new, everywhere=self.everywhere)
            if len(after) > self.library.max_text_bytes:
                raise InvalidInput(f"new: the file would be larger than {self.library.max_text_bytes} bytes.")
            return after

        return _Step(place=place, how="edited", decide=decide)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move(_Request):
    to: str

    def step(self) -> _Step:
        place = self._place(self.path)
        first, _, rest = self.to.partition("/")
        target = rest if first == place.root.name and self.path.startswith(f"{first}/") and rest else self.to
        return _Step(place=place, how="moved", target=target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo(_Request):
    version: int | None = None

    def step(self) -> _Step:
        place = self._place(self.path, new=True)
        if place.root.hides(place.path):
            raise absent(self.path) if self.version is None else _no_version(self.path, self.version)
        if self.version is not None:
            return self._restore(place, self.version)
        last = self._last(place)
        if last is None:
            raise absent(self.path)
        if last.call is None:
            raise Conflict(
                f"the last change of {place.path!r} was not made here, so it is not taken back.",
                fix="fs_history lists its versions; name the one to restore.",
            )
        if last.other_path is not None and place.root.hides(last.other_path):
            raise Conflict(f"the last change of {place.path!r} cannot be taken back.", fix="Name a version.")
        if last.how == "left":
            raise Conflict(f"{place.path!r} was moved to {last.other_path!r}.", fix="Undo it there.")
        if last.how == "moved":
            return self._move_back(place, last)
        before = self._before(last)

        def decide(path: str, seen: Seen | None) -> bytes | None:
            if (seen.sha256 if seen else "") != last.sha256:
                raise Conflict(
                    f"{path!r} has changed since version {last.id}; nothing was changed.",
                    fix="Read it, then name the version to restore.",
                    details={"path": path, "sha256": seen.sha256 if seen else ""},
                )
            return self._bytes(before) if before is not None and before.sha256 else None

        return _Step(place=place, how="restored", decide=decide)

    def _restore(self, place: Place, number: int) -> _Step:
        version = self._version(place, number)
        content = self._bytes(version) if version.sha256 else None
        return _Step(place=place, how="restored", decide=lambda _path, _seen: content)

    def _move_back(self, place: Place, last: Version) -> _Step:
        assert last.other_path is not None
        return _Step(place=place, how="moved", target=last.other_path)

    def _before(self, version: Version) -> Version | None:
        def work(session: Session) -> Version | None:
            from sqlmodel import col, select

            here = select(Version).where(Version.root == version.root, Version.path == version.path)
            earlier = here.where(col(Version.id) < version.id).order_by(col(Version.id).desc())
            return session.exec(earlier.limit(1)).first()

        return self._ask(work)


def _no_version(path: str, number: int) -> NotFound:
    return NotFound(f"{path!r} has no version {number}.", fix="fs_history lists the versions of a file.")


REQUESTS: Mapping[str, type[_Request]] = {"fs_write": Write, "fs_edit": Edit, "fs_move": Move, "fs_undo": Undo}


def _replaced(content: bytes, old: str, new: str, *, everywhere: bool) -> bytes:
    """The file with `old` replaced, in its own encoding and with its own line ends."""
    mark, codec = encoding_of(content)
    text = content[len(mark) :].decode(codec, "strict")
    if not old:
        raise InvalidInput("old: it is empty.", fix="Give the text to replace; fs_write makes a new file.")
    if old not in text and "\r\n" in text and "\r" not in old:
        old, new = old.replace("\n", "\r\n"), new.replace("\n", "\r\n")
    count = text.count(old)
    if count == 0:
        raise Conflict("old: the file does not hold that text; nothing was changed.", fix="Read it again.")
    if count > 1 and not everywhere:
        raise InvalidInput(
            f"old: the file holds it {count} times.", fix="Give more of the text around it, or everywhere=true."
        )
    try:
        return mark + text.replace(old, new).encode(codec)
    except UnicodeEncodeError:
        raise InvalidInput(f"new: the file is in {codec}, which cannot hold it.") from None


def _require_text(path: str, content: bytes) -> None:
    if not is_text(content) or kind_of(path, content[:SNIFF_BYTES]) in ("binary", "document"):
        raise InvalidInput(
            f"{PurePosixPath(path).name!r} is not plain text.", fix="Only text files can be written and edited."
        )


def _written(library: Library, place: Place, done: Done) -> Written:
    version, before = done.version, done.version_before
    if version is None:  # it held that already
        last = library.versions.database.read_now(
            lambda session: latest(session, place.root.key_of(done.path), [done.path]).get(done.path)
        )
        version = last.id if last is not None else None
    added, removed = line_counts(decode(done.before or b""), decode(done.after or b""))
    return Written(
        root=place.root.name,
        path=done.path,
        moved_from=done.other_path,
        changed=done.version is not None,
        version=version,
        version_before=before,
        sha256=None if done.after is None else sha256_of(done.after),
        lines_added=added,
        lines_removed=removed,
    )
