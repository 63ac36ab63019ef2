"""Changes of files, each of which happens or does not, whatever kills the process.

In this order: what stands there and what shall stand there are kept, and the change is written down as begun;
the new bytes reach the disk as a draft; the draft takes the name; the version is cut and the change struck off.
Whoever finds a change that has begun looks at the file: where it holds the new content the versions are cut,
where it does not the draft is taken away. Nothing is acknowledged before the last step.

One process at a time changes files of a home, by a lock file; other programs are noticed and never overwritten
unseen. A file's former content is a version before it is replaced, so nothing here loses any.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from filelock import Timeout as LockTimeout

from filesystem_retrieval.answers import How
from filesystem_retrieval.patterns import DRAFT
from filesystem_retrieval.reading import SNIFF_BYTES, content_key, kind_of, sha256_of
from filesystem_retrieval.roots import Root
from filesystem_retrieval.slots import Seen, Slot, slot
from filesystem_retrieval.versions import Change, Cut, Versions, packed
from usrland.connector import Call
from usrland.errors import Conflict, Denied, NotFound, Unavailable, UsrlandError

__all__ = ["Changes", "Decide", "Done"]

logger = logging.getLogger(__name__)

LOCK_SECONDS = 20.0

Decide = Callable[[str, Seen | None], bytes | None]
"""From a path and what stands there to what shall stand there; `None` is nothing. Refuses by raising."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A change that has happened, or, without a version, had no need to."""

    path: str
    before: bytes | None
    after: bytes | None
    version: int | None = None
    version_before: int | None = None
    other_path: str | None = None


class Changes:
    """The one that changes files. Everything here blocks: call it in a thread, and let it end."""

    def __init__(self, roots: Sequence[Root], versions: Versions, lock: Path, *, max_bytes: int) -> None:
        self._roots = roots
        self._versions = versions
        self._lock = lock
        self._max_bytes = max_bytes

    def look(self, root: Root, path: str, decide: Decide) -> Done:
        """What `put` would do."""
        _require_writable(root)
        try:
            with slot(root, path) as here:
                seen = here.read(self._max_bytes)
                return _done(here.path, seen, decide(here.path, seen))
        except NotFound:  # its folder is missing, which `put` would make
            return _done(path, None, decide(path, None))

    def put(self, root: Root, path: str, how: How, call: Call, decide: Decide) -> Done:
        """Have a path hold what `decide` says."""
        _require_writable(root)
        with self._alone(), slot(root, path, make_folders=True) as here:
            seen = here.read(self._max_bytes)
            done = _done(here.path, seen, decide(here.path, seen))
            if done.after == done.before:
                return done
            change = _change(root, here.path, done.after, how, call)
            self._begin(root, change, seen, done.after)
            try:
                self._replace(here, change, seen, done.after)
            except UsrlandError:  # before or after it took effect: the file knows
                self._settle(change)
                raise
            return self._finished(change, done)

    def move(self, root: Root, path: str, target: str, how: How, call: Call) -> Done:
        """Give a file another path, where nothing is. Raises `Conflict` where something is."""
        _require_writable(root)
        with self._alone(), slot(root, path) as here, slot(root, target, make_folders=True) as there:
            seen = here.read(self._max_bytes)
            if seen is None:
                raise _nothing(path)
            if root.label_of(here.path) != root.label_of(there.path):
                raise Denied(
                    f"{path!r} and {target!r} have different labels, so moving would change who sees it.",
                    fix="Ask the operator to move it.",
                )
            if there.is_taken():
                raise Conflict(
                    f"{there.path!r} is there already; nothing was changed.", fix="Choose another path."
                )
            change = _change(root, there.path, seen.content, how, call, other_path=here.path)
            self._begin(root, change, seen, seen.content)
            try:
                here.move_to(there, seen)
            except UsrlandError:
                self._settle(change)
                raise
            done = Done(path=there.path, before=seen.content, after=seen.content, other_path=here.path)
            return self._finished(change, done)

    def settle(self) -> None:
        """Finish or drop what dead processes have begun. Raises `Unavailable` where another one is at work."""
        if self._versions.unfinished():
            with self._alone():
                pass

    def _begin(self, root: Root, change: Change, seen: Seen | None, after: bytes | None) -> None:
        before = change.other_path or change.path
        contents = [data for data in (seen.content if seen else None, after) if data is not None]
        blobs = [packed(change.root, sha256_of(data), data) for data in contents]
        self._versions.begin(change, _cut(before, seen, change.at_ns - 1), blobs)

    def _replace(self, here: Slot, change: Change, seen: Seen | None, after: bytes | None) -> None:
        if after is None:
            assert seen is not None  # or there would be nothing to change
            here.remove(seen)
        else:
            here.draft(_draft(change), after, seen)
            here.put(_draft(change), seen)

    def _finished(self, change: Change, done: Done) -> Done:
        version, before = self._versions.finish(change, _content(change))
        return Done(
            path=done.path,
            before=done.before,
            after=done.after,
            version=version,
            version_before=before,
            other_path=done.other_path,
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = FileLock(self._lock, thread_local=False)
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except LockTimeout as error:
            raise Unavailable("another process has been changing files for a while.") from error
        try:
            for change in self._versions.unfinished():
                self._settle(change)
            yield
        finally:
            lock.release()

    def _settle(self, change: Change) -> None:
        root = next((each for each in self._roots if change.root in each.keys), None)
        if root is None or not root.folder.is_dir():
            return  # not to be reached now; what was written down stays
        try:
            happened = _has_happened(root, change, self._max_bytes)
        except UsrlandError as error:  # ignored since, or a folder now: nothing of ours to finish
            logger.warning("a change of %r that had begun is dropped: %s", change.path, error)
            happened = False
        if happened:
            self._versions.finish(change, _content(change))
        else:
            self._versions.drop(change)


def _has_happened(root: Root, change: Change, most: int) -> bool:
    try:
        with slot(root, change.path) as here:
            here.discard(_draft(change))
            seen = here.read(most)
            if change.other_path is not None and seen is not None:
                with slot(root, change.other_path) as source:
                    if source.is_same(here):  # it had got its new name and not lost its old one
                        source.remove(seen)
            return (seen.sha256 if seen is not None else "") == change.sha256
    except NotFound:  # the folder is gone
        return change.sha256 == ""


def _change(
    root: Root, path: str, after: bytes | None, how: How, call: Call, *, other_path: str | None = None
) -> Change:
    return Change(
        id=secrets.token_hex(16),
        root=root.key_of(path),
        path=path,
        sha256="" if after is None else sha256_of(after),
        kind=kind_of(path, (after or b"")[:SNIFF_BYTES]),
        size=len(after or b""),
        at_ns=time.time_ns(),
        how=how,
        other_path=other_path,
        subject=call.principal.subject,
        call=call.id,
    )


def _cut(path: str, seen: Seen | None, at_ns: int) -> Cut | None:
    """The version that stands before a change, should no scan have seen it yet."""
    if seen is None:
        return None
    kind = kind_of(path, seen.content[:SNIFF_BYTES])
    content = "" if kind == "binary" else content_key(seen.sha256, kind)
    return Cut(path=path, sha256=seen.sha256, content=content, kind=kind, size=len(seen.content), at_ns=at_ns)


def _content(change: Change) -> str:
    if not change.sha256 or change.kind == "binary":
        return ""
    return content_key(change.sha256, change.kind)


def _draft(change: Change) -> str:
    return DRAFT + change.id


def _done(path: str, seen: Seen | None, after: bytes | None) -> Done:
    return Done(path=path, before=seen.content if seen is not None else None, after=after)


def _nothing(path: str) -> NotFound:
    return NotFound(f"there is no {path!r} here.", fix="fs_list shows what there is.")


def _require_writable(root: Root) -> None:
    if not root.writable:
        raise Denied(
            f"root {root.name!r} can only be read.",
            fix="Its operator can set writable = true for it under [filesystem-retrieval].",
        )
