"""Keeps catalogue and search index in step with the disk.

A scan compares a walk over the folders with the catalogue by size and times, reads what differs, and brings it
in by batches: written down as pending, put into the index, acknowledged. It may be cancelled or killed anywhere;
the next scan does what is left. Words come first, for all files; vectors follow in the background. What the
operating system tells of changes only says when to look: what has changed is always found by a scan, and a walk
over twenty thousand files costs a tenth of a second.

Of many files those come first that are read here and now. With nothing in the catalogue the index is not opened
before they are in it, and they are found while it is being opened (`HybridIndex.upsert`): importing what is behind
it takes as long as all the rest until something is found, and two of that kind at a time take twice as long.

One process at a time reads files into an index, in a turn that it has only while it does; another turn is for the
one that makes vectors, which takes longer and must not keep new files from being found.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from filesystem_retrieval.answers import How
from filesystem_retrieval.archives import is_archive, listing, members, read_members
from filesystem_retrieval.beneath import Opened
from filesystem_retrieval.catalogue import Catalogue, Chunk, Content, File, Known, distrust
from filesystem_retrieval.chunking import embedded, passages
from filesystem_retrieval.documents import Unreadable, extract
from filesystem_retrieval.languages import LANGUAGES
from filesystem_retrieval.lease import Lease
from filesystem_retrieval.reading import (
    SNIFF_BYTES,
    Kind,
    Text,
    bytes_in_words,
    content_key,
    decode,
    is_current,
    kind_of,
    read_all,
    sha256_of,
)
from filesystem_retrieval.renames import MAX_FILES, renames
from filesystem_retrieval.roots import Found, Root
from filesystem_retrieval.versions import Blob, Cut, Versions, packed
from usrland.errors import NotFound, UsrlandError
from usrland.search import Hit, HybridIndex, IndexRow, Place

__all__ = ["Indexer", "Progress", "Scan", "beside", "files_of", "group_of", "key_of", "language_of", "scope_of"]

logger = logging.getLogger(__name__)

MAX_TOUCHED = 100_000
BATCH_CHUNKS = 500
BATCH_FILES = 200
FIRST_BATCH_FILES = 20
"""Something can be found as soon as these are read."""
LONG_FILES = 300
"""With more of them to be read, a search does not wait for the rest: they take longer than it would wait."""
BATCH_BYTES = 16 << 20
PRUNE_SECONDS = 3600.0
DAY_NS = 24 * 3600 * 10**9
RESCAN_SECONDS = 2.0

Progress = Callable[[str, int, int], Awaitable[None]]
"""Called with what is being done (`files` or `vectors`), how many are done, and of how many."""


@dataclass(slots=True, kw_only=True)
class Scan:
    """What one scan over all roots found."""

    read: int = 0
    """Files that were new or had changed."""
    passages: int = 0
    """Passages of contents that were not known yet."""
    forgotten: int = 0
    """Files that are gone."""
    left: int = 0
    """Files of the root that are still to be read."""
    unreachable: list[str] = field(default_factory=list)
    """Roots whose folder cannot be entered; what is known of them is kept."""
    elsewhere: bool = False
    """Another process is indexing, so nothing was done here."""
    paused: bool = False
    """Somebody has paused indexing, so not everything was done."""

    @property
    def changed(self) -> bool:
        return bool(self.read or self.forgotten)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """A file as it was read: its row, and what it holds where that is new."""

    file: File
    content: Content | None = None
    chunks: Sequence[Chunk] = ()
    document: bytes = b""
    """Still to be parsed, elsewhere."""
    blob: Blob | None = None


class _Paused(Exception):
    """Raised out of the making of vectors, which ends with those that are written."""


class Indexer:
    """The one that writes. `scan` and `embed` may be called by anyone at any time."""

    def __init__(
        self,
        roots: Sequence[Root],
        catalogue: Catalogue,
        index: HybridIndex,
        versions: Versions,
        place: Place,
        lease: Lease,
        data: Path,
        *,
        keep_days: float,
    ) -> None:
        self._roots = roots
        self._catalogue = catalogue
        self._index = index
        self._versions = versions
        self._keep_ns = int(keep_days * DAY_NS)
        self._pruned_at = float("-inf")
        self._place = place
        self._lease = lease
        self.barred = False
        """Whether the catalogue was last seen filled into another index, so that this one lacks files."""
        self._pause = data / "paused"
        self._turn = anyio.Lock()
        self.begun = anyio.Event()
        """Set when the first files are in the index, or there is nothing new."""
        self._scanned_at = float("-inf")
        self.scanned_from = float("-inf")
        """When the last scan that was done here began, of `time.monotonic`."""
        self.busy = False
        """Whether a scan is under way that will take longer than anybody should wait for."""
        self._waiting: set[anyio.CancelScope] = set()
        self._touched: deque[tuple[Root, str]] = deque(maxlen=MAX_TOUCHED)
        self._checked = False
        self.last = Scan()

    @property
    def paused(self) -> bool:
        """Whether every process that would index leaves it be until somebody says otherwise, restarts included."""
        return self._pause.exists()

    def pause(self, paused: bool) -> None:
        """Have indexing stop after what is being read, or go on. Doing either twice changes nothing."""
        if paused:
            self._pause.touch()
        else:
            self._pause.unlink(missing_ok=True)

    async def scan(
        self,
        progress: Progress | None = None,
        *,
        unless_within_seconds: float = 0.0,
        patience_seconds: float = 0.0,
    ) -> Scan:
        """Bring catalogue and word index up to date with the disk; returns at once where that is recent.

        Waits so long at most for another process that does the same.
        """
        async with self._turn:
            if time.monotonic() - self._scanned_at < unless_within_seconds:
                return self.last
            if self.paused:
                self.barred = await self._lease.is_anothers()
                return Scan(paused=True)
            async with self._place.turn("indexing", patience_seconds) as leading:
                if not leading:
                    self.barred = await self._lease.is_anothers()
                    return Scan(elsewhere=True)
                await self._hold()
                if self.barred:
                    return Scan()
                begun = time.monotonic()
                try:
                    self.last = await self._scan(progress)
                finally:
                    self.busy = False
            self.begun.set()
            if not self.last.paused:
                self._scanned_at, self.scanned_from = time.monotonic(), begun
            return self.last

    @contextmanager
    def waited_for(self, scope: anyio.CancelScope) -> Iterator[None]:
        """Cancels the scope as soon as it turns out that a scan has too much to read."""
        self._waiting.add(scope)
        try:
            yield
        finally:
            self._waiting.discard(scope)

    def _go_on_alone(self) -> None:
        self.busy = True
        for scope in self._waiting:
            scope.cancel()

    def take_touched(self) -> Sequence[tuple[Root, str]]:
        """The files that scans found new, changed or gone since this was asked before."""
        touched = list(self._touched)
        self._touched.clear()
        return touched

    def expect_change(self) -> None:
        """The next scan is due at once."""
        self._scanned_at = self.scanned_from = float("-inf")

    async def embed(self, progress: Progress | None = None, *, workers: int = 1, ray: str | None = None) -> int:
        """Give every passage its vector; how many had none. Loads the model where it is not loaded.

        Takes its turn after other processes: what they do not know of is then still to be done.
        """

        given = 0

        async def tell(done: int, total: int) -> None:
            nonlocal given
            given = done
            if progress is not None:
                await progress("vectors", done, total)
            if self.paused and done < total:
                raise _Paused

        if self.paused or self.barred:
            return 0
        async with self._place.turn("embedding"):
            try:
                return await self._index.embed_pending(tell, workers=workers, ray=ray)
            except _Paused:
                return given

    async def _scan(self, progress: Progress | None) -> Scan:
        scan = Scan()
        if not self._checked:
            await self._check_index()
            await self._forget_roots()
        await self._prune()
        for root in self._roots:
            if scan.paused:
                return scan
            try:
                if root.bucket is not None:
                    await root.bucket.sync()
                await self._scan_root(root, scan, progress)
            except NotFound:
                scan.unreachable.append(root.name)
            except UsrlandError as error:
                if root.bucket is None:
                    raise
                logger.warning("bucket %r cannot be read now: %s", root.name, error)
                scan.unreachable.append(root.name)
        self._checked = not scan.paused
        return scan

    async def _hold(self) -> None:
        """Find out whether this index may be filled. One that the catalogue does not know is emptied before, as
        nobody knows what is in it."""
        standing, was_barred = await self._lease.hold(), self.barred
        if standing == "free":
            logger.warning("the catalogue was filled into a search index that is gone; filling this one")
            await self._index.drop()
            standing = await self._lease.take(distrust)
            self._checked = False
        self.barred = standing != "ours"
        if self.barred and not was_barred:
            logger.warning("not indexing: the catalogue is being filled into another search index")

    async def _check_index(self) -> None:
        """The index may have been emptied, or put back as it once was; then fill it again, once."""
        passages = await self._catalogue.passages()
        if passages and await self._index.count() < passages:
            logger.warning("the search index lacks passages of the catalogue; filling it again")
            await self._catalogue.distrust_index()

    async def _forget_roots(self) -> None:
        for key in await self._catalogue.roots() - {key for root in self._roots for key in root.keys}:
            now_ns = time.time_ns()
            files = await self._catalogue.files(key)
            await self._catalogue.forget_files(key, [_gone(file, now_ns) for file in files.values()])
            await self._settle(key)

    async def _prune(self) -> None:
        """Let go of versions whose time is over, now and then."""
        if time.monotonic() - self._pruned_at < PRUNE_SECONDS:
            return
        self._pruned_at = time.monotonic()
        if await self._versions.prune(time.time_ns() - self._keep_ns):
            for key in await self._catalogue.roots():
                await self._settle(key)

    async def _scan_root(self, root: Root, scan: Scan, progress: Progress | None) -> None:
        begun_ns = time.time_ns()
        known = {key: await self._catalogue.files(key) for key in root.keys}
        found = await anyio.to_thread.run_sync(partial(files_of, root, known, retry=not self._checked))
        for key, files in found.items():
            if scan.paused:
                return
            await self._scan_key(root, key, files, known[key], scan, progress, begun_ns)

    async def _scan_key(
        self,
        root: Root,
        key: str,
        found: Sequence[Found],
        known: Mapping[str, Known],
        scan: Scan,
        progress: Progress | None,
        begun_ns: int,
    ) -> None:
        indexed = await self._catalogue.indexed(key)
        changed = _soonest(
            [file for file in found if _differs(file, known.get(file.path), retry=not self._checked)]
        )
        start, end = 0, FIRST_BATCH_FILES
        while start < len(changed):
            scan.left = max(len(changed) - end, 0)
            await self._take(root, key, changed[start:end], indexed, scan)
            if progress is not None:
                await progress("files", min(end, len(changed)), len(changed))
            start, end = end, end + BATCH_FILES
            if start < len(changed) and self.paused:
                scan.paused = True
                return
        gone = [known[path] for path in known.keys() - {file.path for file in found}]
        if gone:
            to = await self._renamed(key, gone, known) if changed else {}
            await self._catalogue.forget_files(key, [_gone(file, begun_ns, to.get(file.path)) for file in gone])
        scan.forgotten += len(gone)
        self._touched += [(root, each.path) for each in changed] + [(root, each.path) for each in gone]
        if changed or gone or not self._checked:
            await self._settle(key)
            if found or gone:  # or this would open it for nothing
                await self._index.tidy()

    async def _renamed(self, key: str, gone: Sequence[Known], known: Mapping[str, Known]) -> Mapping[str, str]:
        """Where files went that are gone, by their contents."""
        files = await self._catalogue.files(key)
        new = [file for path, file in files.items() if path not in known and file.sha256]
        arrived = {file.sha256: file.path for file in new}
        found = {file.path: arrived[file.sha256] for file in gone if file.sha256 in arrived}
        others = [file for file in gone if file.path not in found and file.sha256]
        new = [file for file in new if file.path not in found.values()]
        if others and new and len(others) + len(new) <= MAX_FILES:
            before, after = await self._contents(key, others), await self._contents(key, new)
            found.update(await anyio.to_thread.run_sync(renames, before, after))
        return found

    async def _contents(self, key: str, files: Sequence[Known]) -> Mapping[str, bytes]:
        found = {file.path: await self._versions.content(key, file.sha256) for file in files}
        return {path: content for path, content in found.items() if content is not None}

    async def _settle(self, key: str) -> None:
        """Have every content found where it belongs: among the present, among the past, or not at all.

        The index goes first: what the catalogue still lists is looked for again.
        """
        drift = await self._catalogue.drift(key)
        await self._move(key, drift.over, past=True)
        for content in drift.lost:
            chunks = await self._catalogue.chunks_of(key, content)
            rows = [_row(scope_of(key, past=True), chunk) for chunk in chunks]
            await self._index.upsert(rows, embed=False)
            await self._catalogue.finish(key, [content], [])
        await self._index.delete_groups([group_of(key, content) for content in drift.unkept])
        await self._catalogue.forget_contents(key, drift.unkept)

    async def _move(self, key: str, contents: Sequence[str], *, past: bool) -> None:
        """To the past, or back from it."""
        await self._index.move_groups([group_of(key, content) for content in contents], scope_of(key, past=past))
        await self._catalogue.mark_past(key, contents, past=past)

    async def _take(
        self, root: Root, key: str, files: Sequence[Found], indexed: dict[str, bool], scan: Scan
    ) -> None:
        batch: list[_Reading] = []
        unpacked: dict[str, bytes] = {}
        for place, found in enumerate(files):
            if found.archive is not None and found.path not in unpacked:
                unpacked = await anyio.to_thread.run_sync(_unpacked, root, files[place:])
            content = unpacked.pop(found.path, None)
            reading = await anyio.to_thread.run_sync(self._read, root, found, content, indexed)
            if reading.document:
                reading = await _parsed(reading)
            if reading.content is not None:
                indexed[reading.content.content] = False  # a copy in the same batch brings nothing new
            batch.append(reading)
            size = sum(len(earlier.blob.data) for earlier in batch if earlier.blob is not None)
            if size >= BATCH_BYTES or sum(len(earlier.chunks) for earlier in batch) >= BATCH_CHUNKS:
                await self._bring_in(key, batch, indexed, scan)
                batch = []
            scan.read += 1
            scan.passages += len(reading.chunks)
        await self._bring_in(key, batch, indexed, scan)

    async def _bring_in(self, key: str, batch: Sequence[_Reading], indexed: dict[str, bool], scan: Scan) -> None:
        if not batch:
            return
        files = [reading.file for reading in batch]
        contents = [reading.content for reading in batch if reading.content is not None]
        chunks = [chunk for reading in batch for chunk in reading.chunks]
        blobs = [reading.blob for reading in batch if reading.blob is not None]
        await self._catalogue.begin(
            key, files, contents, chunks, [_seen(file) for file in files if file.sha256], blobs
        )
        found = partial(self._can_be_found, scan)
        await self._index.upsert([_row(key, chunk) for chunk in chunks], embed=False, more=True, held=found)
        back = {file.content for file in files if indexed.get(file.content)}
        await self._move(key, sorted(back), past=False)
        indexed.update(dict.fromkeys(back, False))
        await self._catalogue.finish(key, [content.content for content in contents], [file.path for file in files])
        self.begun.set()
        self._can_be_found(scan)

    def _can_be_found(self, scan: Scan) -> None:
        """Files have been brought in, so that a search can answer."""
        if scan.left > LONG_FILES:
            self._go_on_alone()

    def _read(self, root: Root, found: Found, content: bytes | None, indexed: Mapping[str, bool]) -> _Reading:
        """Read a file, or take the content of a member of an archive."""
        row = File(
            root=root.key_of(found.path),
            path=found.path,
            size=found.signature.size,
            mtime_ns=found.signature.mtime_ns,
            ctime_ns=found.signature.ctime_ns,
            read_ns=time.time_ns(),
            state="failed",
            kind="text",
        )
        try:
            if found.archive is not None:
                return self._member(root, row, content, indexed)
            with root.open_found(found) as file:
                row.reason = found.problem
                return self._read_open(root, row, file, indexed)
        except NotFound:
            row.reason = "it cannot be opened"
        except Exception as error:  # one file that breaks a reader must not keep the others from being found
            logger.exception("reading a file failed")
            row.reason = f"reading it failed: {type(error).__name__}"
        return _Reading(file=row)

    def _read_open(self, root: Root, row: File, file: Opened, indexed: Mapping[str, bool]) -> _Reading:
        row.size, row.mtime_ns, row.ctime_ns = (
            file.signature.size,
            file.signature.mtime_ns,
            file.signature.ctime_ns,
        )
        if root.lacks(file):
            row.reason = f"it is larger than {bytes_in_words(root.max_document_bytes)}"
            return _Reading(file=row)
        kind = kind_of(row.path, os.pread(file.fd, SNIFF_BYTES, 0))
        row.kind = kind
        limit = root.limit(kind)
        if kind in ("binary", "archive") or not limit:  # listed, and never read further
            row.state = "failed" if row.reason else "ok"
            return _Reading(file=row)
        return self._filled(row, read_all(file.fd, limit), limit, indexed)

    def _member(self, root: Root, row: File, content: bytes | None, indexed: Mapping[str, bool]) -> _Reading:
        if content is None:
            row.reason = "it is damaged"
            return _Reading(file=row)
        row.kind = kind_of(row.path, content[:SNIFF_BYTES])
        if row.kind == "archive":
            row.reason = "it is an archive in an archive that cannot be unpacked"
            return _Reading(file=row)
        limit = root.limit(row.kind)
        if row.kind == "binary" or not limit:
            row.state = "ok"
            return _Reading(file=row)
        return self._filled(row, content if len(content) <= limit else None, limit, indexed)

    def _filled(self, row: File, data: bytes | None, limit: int, indexed: Mapping[str, bool]) -> _Reading:
        """What it holds, where that is not too much and is new."""
        kind = row.kind
        if data is None:
            row.reason = f"it is larger than {bytes_in_words(limit)}"
            return _Reading(file=row)
        row.sha256 = sha256_of(data)
        row.content = content_key(row.sha256, kind)
        row.state = "ok"
        blob = packed(row.root, row.sha256, data)
        if indexed.get(row.content) is False:
            return _Reading(file=row, blob=blob)
        row.state = "pending"
        if row.content in indexed:
            return _Reading(file=row, blob=blob)
        content = Content(root=row.root, content=row.content, kind=kind)
        if kind == "document":
            return _Reading(file=row, content=content, document=data, blob=blob)
        chunks = _chunks(content, Text(text=decode(data)), kind)
        return _Reading(file=row, content=content, chunks=chunks, blob=blob)


def group_of(key: str, content: str) -> str:
    """What the passages of one content of one root are called together in the index."""
    return f"{key}:{content}"


def key_of(hit: Hit) -> tuple[str, str, int]:
    """Root, content and ordinal of a passage that was found."""
    root, content, ordinal = json.loads(hit.extra)
    return root, content, ordinal


def beside(row: str) -> Sequence[str]:
    """The rows of the passages before and after that of this row."""
    group, _, ordinal = row.rpartition(":")
    return [f"{group}:{int(ordinal) - 1}", f"{group}:{int(ordinal) + 1}"]


def language_of(row: str) -> str | None:
    """The programming language that the passage of this row is written in."""
    content = row.rpartition(":")[0].rpartition(":")[2]
    kind = content.partition(".")[2].rpartition(".")[0]
    return kind if kind in LANGUAGES else None


def scope_of(key: str, *, past: bool) -> str:
    """Where the passages of a root are looked for: those of its files, or those that only versions hold."""
    return f"{key}@past" if past else key


def _seen(file: File) -> Cut:
    return Cut(
        path=file.path,
        sha256=file.sha256,
        content=file.content,
        kind=file.kind,
        size=file.size,
        at_ns=file.read_ns,
    )


def _gone(file: Known, at_ns: int, to: str | None = None) -> Cut:
    how: How = "left" if to is not None else "gone"
    return Cut(path=file.path, sha256="", kind=file.kind, size=0, at_ns=at_ns, how=how, other_path=to)


def _row(scope: str, chunk: Chunk) -> IndexRow:
    return IndexRow(
        id=f"{group_of(chunk.root, chunk.content)}:{chunk.ordinal}",
        scope=scope,
        group=group_of(chunk.root, chunk.content),
        text=embedded(chunk.heading, chunk.text),
        extra=json.dumps([chunk.root, chunk.content, chunk.ordinal]),
    )


def _chunks(content: Content, text: Text, kind: Kind) -> list[Chunk]:
    return [
        Chunk(
            root=content.root,
            content=content.content,
            ordinal=ordinal,
            first_byte=passage.first_byte,
            last_byte=passage.last_byte,
            first_line=passage.first_line,
            last_line=passage.last_line,
            page=passage.page,
            sheet=passage.sheet,
            first_row=passage.first_row,
            last_row=passage.last_row,
            heading=passage.heading,
            sha256=passage.sha256,
            text=passage.text,
        )
        for ordinal, passage in enumerate(passages(text, kind))
    ]


async def _parsed(reading: _Reading) -> _Reading:
    content = reading.content
    assert content is not None
    try:
        text = await extract(reading.file.path, reading.document)
    except Unreadable as error:
        reading.file.state, reading.file.reason, reading.file.content = "failed", str(error), ""
        return _Reading(file=reading.file, blob=reading.blob)
    content.text = text.text
    content.pages = json.dumps([[page.number, page.first_line, page.sheet] for page in text.pages])
    chunks = await anyio.to_thread.run_sync(_chunks, content, text, "document")
    return replace(reading, chunks=chunks, document=b"")


def files_of(
    root: Root, known: Mapping[str, Mapping[str, Known]], *, retry: bool
) -> Mapping[str, Sequence[Found]]:
    """The files of a root and those in its archives, by the key that each is kept under."""
    files: dict[str, list[Found]] = {key: [] for key in root.keys}
    inside: dict[str, list[Known]] = {}
    for row in (row for rows in known.values() for row in rows.values()):
        for end, letter in enumerate(row.path):
            if letter == "/" and is_archive(row.path[:end]):
                inside.setdefault(row.path[:end], []).append(row)
    for found in root.walk():
        if found.folder:
            continue
        key = root.key_of(found.path)
        files[key].append(found)
        if not is_archive(found.path) or not root.limit("archive"):
            continue
        if not _differs(found, known[key].get(found.path), retry=retry):
            for row in inside.get(found.path, ()):
                member = replace(found, path=row.path, archive=found.path)
                files[row.root].append(member)
            continue
        problem, there = _looked_over(root, found)
        files[key][-1] = replace(found, problem=problem)
        for member in there:
            files[root.key_of(member.path)].append(member)
    return files


def _looked_over(root: Root, archive: Found) -> tuple[str | None, Sequence[Found]]:
    there = members(root, archive)
    with suppress(NotFound), root.open_found(archive) as file:
        return listing(file).problem, there
    return None, []


def _unpacked(root: Root, files: Sequence[Found]) -> dict[str, bytes]:
    """The contents of the first of these members, and of those after it in the same archive, as far as they are
    not too many."""
    archive, size = files[0].archive, 0
    names: list[str] = []
    assert archive is not None
    for found in files:
        if found.archive != archive or (names and size + (found.size or 0) > BATCH_BYTES):
            break
        names.append(found.path.removeprefix(f"{archive}/"))
        size += found.size or 0
    with suppress(NotFound), root.open(archive) as file:
        return {f"{archive}/{name}": content for name, content in read_members(file, names).items()}
    return {}


def _soonest(files: Sequence[Found]) -> Sequence[Found]:
    """The same files, where they are many with those in front that are read without another process."""
    if len(files) <= FIRST_BATCH_FILES:
        return files
    first = sorted(files, key=_is_parsed)[:FIRST_BATCH_FILES]
    paths = {file.path for file in first}
    return [*first, *(file for file in files if file.path not in paths)]


def _is_parsed(file: Found) -> bool:
    """Whether reading a file takes a process of its own, as far as its name tells."""
    return file.archive is not None or kind_of(file.path, b"") in {"document", "archive", *LANGUAGES}


def _differs(found: Found, known: Known | None, *, retry: bool) -> bool:
    if known is None or known.state == "pending" or not known.is_like(found.signature):
        return True
    if not is_current(known.content):
        return True
    # too large, or not to be opened; the limits or the rights may have changed since
    return retry and known.state == "failed" and not known.sha256
