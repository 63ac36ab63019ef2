"""The roots a caller may see, and the parts that serve them: catalogue, index, indexer."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio

from filesystem_retrieval.archives import listing, opened_member
from filesystem_retrieval.beneath import absent
from filesystem_retrieval.buckets import Bucket
from filesystem_retrieval.catalogue import MIGRATIONS, Catalogue
from filesystem_retrieval.changes import Changes
from filesystem_retrieval.config import SERVER, Table
from filesystem_retrieval.indexer import RESCAN_SECONDS, Indexer, Progress, Scan
from filesystem_retrieval.lease import LEASE_SECONDS, Lease
from filesystem_retrieval.patterns import Rules, compiled
from filesystem_retrieval.resources import label_scopes, uri_of
from filesystem_retrieval.roots import Root
from filesystem_retrieval.selection import kinds_of
from filesystem_retrieval.shelves import Shelves
from filesystem_retrieval.versions import Versions
from filesystem_retrieval.watching import Watch
from usrland.changes import Changes as ResourceChanges
from usrland.database import Database
from usrland.embedding import Embedder, embedder
from usrland.embedding.reranking import reranker
from usrland.errors import InvalidInput, NotFound, Unavailable
from usrland.schemas.principal import Principal
from usrland.search import KEEP_VERSIONS, HybridIndex, place_of
from usrland.settings import Settings

__all__ = ["BARRED", "ONE_INDEX", "PAUSED", "STILL_READING", "Counts", "Library", "Place"]

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 1.5
"""How long a search waits for the folders to be looked over; what takes longer goes on behind it."""
FULL_SCAN_SECONDS = 60.0
"""How long to rely on a watch without looking over the folders."""
GATHER_SECONDS = 0.3
QUIET_SECONDS = KEEP_VERSIONS.total_seconds() + 1.0
"""After so long without anything to do all but the newest state of the index can go."""
FIRST_SECONDS = 5.0
"""How long the model waits for the first files to be read."""
STILL_READING = "the folders are still being read; files may be missing."
PAUSED = "indexing is paused; what changed since may be missing until `usrland index --resume`."
BARRED = (
    "the catalogue in this database is filled into the search index of another replica, so the index of this one "
    "lacks files."
)
ONE_INDEX = (
    "The operator has to give all replicas one index: [index.bucket] in usrland.toml, see "
    f"docs/how-to/run-replicas.md. Where there is no other any more, this one is filled in {LEASE_SECONDS:.0f} s."
)
REST = 10
"""The background rests so many times as long as its last scan took, before it scans again."""
MOST_REST_SECONDS = 3.0
PATIENCE_SECONDS = 1.0
"""How long of that for another process that is doing so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A path in a root."""

    root: Root
    path: str

    @property
    def key(self) -> str:
        """What is stored about it is kept under this. Raises `NotFound` where its label is withheld."""
        return self.root.key_of(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What indexing once did."""

    files: int
    passages: int
    forgotten: int
    vectors: int
    unreachable: Sequence[str]
    paused: bool


class Library:
    """All roots of this installation."""

    def __init__(
        self,
        settings: Settings,
        table: Table,
        model: Embedder | None,
        told: ResourceChanges | None = None,
        *,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        data = settings.data(SERVER)
        self.roots = _roots(settings, table, data)
        self.model = model
        self.reranker = reranker(table.rerank, seconds=table.rerank_seconds)
        address = settings.address(table.database) or f"sqlite:///{data}/catalogue.sqlite"
        database = Database(address, [MIGRATIONS], hashed=["fs_blob"])
        place = place_of(settings, SERVER, database)
        self.lease = Lease(database, place, shared=bool(table.database), lease_seconds=lease_seconds)
        self.catalogue = Catalogue(database, self.lease)
        self.versions = Versions(database)
        self.index = HybridIndex(place, model)
        self.max_read_bytes = max(table.max_file_bytes, 64 << 20)
        self.max_document_bytes = table.max_document_bytes
        self.indexer = Indexer(
            self.roots,
            self.catalogue,
            self.index,
            self.versions,
            place,
            self.lease,
            data,
            keep_days=table.keep_days,
        )
        self.changes = Changes(
            self.roots, self.versions, data / "changing.lock", max_bytes=table.max_document_bytes
        )
        self.shelves = Shelves()
        self.keep_days = table.keep_days
        self.max_text_bytes = table.max_file_bytes
        self._wake = anyio.Event()
        self._told = told or ResourceChanges()
        self.watch = Watch(self.roots, data.parent) if table.watch else None
        self._opened = False

    @classmethod
    def of(cls, settings: Settings, table: Table, told: ResourceChanges | None = None) -> Library:
        return cls(settings, table, embedder(table.embedding, home=settings.home), told)

    def visible(self, principal: Principal, name: str | None = None) -> Sequence[Root]:
        """The roots of the caller's tenant, or the one of that name, as far as the caller holds their labels.

        Raises `InvalidInput` where there is none, saying how an operator adds one.
        """
        seen = (root.seen_by(principal) for root in self.roots)
        roots = [root for root in seen if root is not None]
        if not roots:
            raise InvalidInput(
                "no folder has been opened to this server yet.",
                fix='Ask the operator to run `usrland init FOLDER`, or to set roots = { docs = "/path" } under '
                "[filesystem-retrieval] in usrland.toml.",
            )
        named = [root for root in roots if name in (None, root.name)]
        if not named:
            raise InvalidInput(
                f"root: there is no {name!r}.", fix=f"Roots: {', '.join(root.name for root in roots)}."
            )
        return named

    def place(self, principal: Principal, path: str, root: str | None, *, folder: bool = False) -> Place:
        """The one thing that `path` names: `path` in `root`, or `root/path`, or `path` in any root.

        Blocks for a moment, since only the disk knows. Raises `NotFound`, or `InvalidInput` where the path
        names several things.
        """
        path = path.rstrip("/") if path != "/" else path
        if root is not None:
            return Place(root=self.visible(principal, root)[0], path=path)
        roots = self.visible(principal)
        first, _, rest = path.partition("/")
        places = [Place(root=each, path=rest) for each in roots if each.name == first and (rest or folder)]
        places += [Place(root=each, path=path) for each in roots]
        there = [place for place in places if _is_there(place, folder=folder)]
        if not there:
            raise absent(path)
        if len(there) > 1:
            names = ", ".join(f"{place.path!r} in root {place.root.name!r}" for place in there)
            raise InvalidInput(f"path: {path!r} could be {names}.", fix="Name the root as well.")
        return there[0]

    def is_folder(self, principal: Principal, path: str, root: str | None) -> bool:
        """Whether `path` names a folder that the caller may see. Blocks for a moment."""
        with suppress(NotFound, InvalidInput):
            return _is_there(self.place(principal, path, root, folder=True), folder=True)
        return False

    async def refresh(self) -> str | None:
        """Look the folders over, for a moment at most; returns what an answer now may lack.

        Opening index and catalogue is not part of the moment. Only where nothing has been indexed yet and there is
        too much to read to wait for is the index not waited for: the first files are found without it.
        """
        if not self._opened:
            if await self.catalogue.passages():
                await self.index.count()
            self._opened = True
        if self._is_current():
            return self._lacking(self.indexer.last)
        if self.indexer.busy:
            return STILL_READING
        while True:
            with anyio.move_on_after(REFRESH_SECONDS) as scope, self.indexer.waited_for(scope):
                recent = 0.0 if self.watch is not None and self.watch.is_live else RESCAN_SECONDS
                scan = await self.indexer.scan(unless_within_seconds=recent, patience_seconds=PATIENCE_SECONDS)
                if scan.changed:
                    self._wake.set()  # new passages want vectors
                return self._lacking(scan)
            self._wake.set()
            if self.index.is_open or anyio.current_time() < scope.deadline:  # or there is too much to wait for
                return STILL_READING
            await self.index.count()

    def require_index(self) -> None:
        """Raises `Unavailable` where the catalogue was last seen filled into another index than this one."""
        if self.indexer.barred:
            raise Unavailable(BARRED, fix=ONE_INDEX)

    def _lacking(self, scan: Scan) -> str | None:
        """What an answer after this scan may lack."""
        if self.indexer.barred:
            return f"{BARRED} {ONE_INDEX}"
        if scan.paused:
            return PAUSED
        if scan.elsewhere:
            return "another process is indexing now; the newest files may be missing."
        if scan.unreachable:
            return f"root {', '.join(map(repr, scan.unreachable))} cannot be reached now."
        return None

    def _is_current(self) -> bool:
        """Whether nothing has changed since the last scan began, which was not long ago."""
        begun = self.indexer.scanned_from
        if self.watch is None or time.monotonic() - begun > FULL_SCAN_SECONDS:
            return False
        last = self.indexer.last
        return not (last.elsewhere or last.paused or self.indexer.barred) and self.watch.is_quiet_since(begun)

    async def index_once(
        self, progress: Progress | None = None, *, workers: int = 1, ray: str | None = None
    ) -> Counts:
        """Read everything that is new and give it vectors; for the command line, which waits for it."""
        async with self._in_use():
            scan = await self.indexer.scan(progress, patience_seconds=math.inf)
            vectors = await self.indexer.embed(progress, workers=workers, ray=ray)
            self.require_index()
            if not scan.paused and await self.index.is_untidy():
                await self._settle()  # or nobody ever would, where only this runs
        return Counts(
            files=scan.read,
            passages=scan.passages,
            forgotten=scan.forgotten,
            vectors=vectors,
            unreachable=scan.unreachable,
            paused=self.indexer.paused,
        )

    async def keep_indexed(self) -> None:
        """Index in the background until cancelled: once now, then whenever something has changed."""
        untidy, changed_at, first = False, 0.0, True
        while True:
            self._wake = anyio.Event()
            begun, took, embedded, left = time.monotonic(), 0.0, 0, False
            try:
                await anyio.to_thread.run_sync(self.changes.settle)
                if not self._is_current():
                    await self.indexer.scan(unless_within_seconds=GATHER_SECONDS)
                took = time.monotonic() - begun
                embedded = await self.indexer.embed()
                left = first and await self.index.is_untidy()  # by a process that ended before it had tidied up
                first = False
            except Unavailable as error:  # a full disk, a locked database: the next search tries again
                logger.warning("indexing stopped: %s", error)
            touched = self.indexer.take_touched()
            self._tell(touched)
            if touched or embedded or left:
                untidy, changed_at = True, time.monotonic()
            quiet = max(changed_at + QUIET_SECONDS - time.monotonic(), 0.0) if untidy else math.inf
            with anyio.move_on_after(min(self._patience(), quiet)):
                await self._wake.wait()
            if untidy and not self._wake.is_set() and time.monotonic() - changed_at >= QUIET_SECONDS:
                untidy, changed_at = await self._settle(), time.monotonic()
            # where files change without end
            await anyio.sleep(max(GATHER_SECONDS, min(REST * took, MOST_REST_SECONDS)))

    async def _settle(self) -> bool:
        """Let go of what many writes have left on the disk; whether some of it is too young for that."""
        try:
            return await self.index.settle()
        except Unavailable as error:  # the index is right, only larger
            logger.warning("the search index could not be made smaller: %s", error)
            return False

    def _patience(self) -> float:
        """How long to wait for somebody to say that something changed: for ever where everything does."""
        if self.indexer.paused or self.indexer.barred:
            return RESCAN_SECONDS
        watched = self.watch is not None and self.watch.is_live
        return math.inf if watched or not self._told.heard else RESCAN_SECONDS

    def _wake_up(self, paths: Collection[str]) -> None:
        """Files beneath roots have changed: tell who wants to know, then look."""
        for root in self.roots:
            folder = f"{root.folder}/"
            self._tell([(root, path[len(folder) :]) for path in paths if path.startswith(folder)])
        self._wake.set()

    def _tell(self, touched: Collection[tuple[Root, str]]) -> None:
        if not self._told.heard:
            return
        for root, path in touched:
            uri = uri_of(root.name, path)
            self._told.tell(uri, tenant=root.tenant, scopes=label_scopes(root, path))

    @asynccontextmanager
    async def _in_use(self) -> AsyncIterator[None]:
        """Keep the lease until the block ends, for who does not `open` the library."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep_lease, name="keep the lease")
                yield
                tasks.cancel_scope.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _keep_lease(self) -> None:
        """Have no other index take the place of this one for as long as this process lives."""
        while self.lease.shared:
            await anyio.sleep(self.lease.renew_seconds)
            try:
                await self.lease.renew()
            except Unavailable as error:
                logger.warning("others cannot be told that this search index is in use: %s", error)

    async def _warm(self) -> None:
        """Load the model, but not while nothing can be found yet: the first files, by words alone, come first."""
        with anyio.move_on_after(FIRST_SECONDS):
            await self.indexer.begun.wait()
        await self.index.warm()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Keep the library indexed for as long as this is entered."""
        async with anyio.create_task_group() as tasks:
            if self.roots:
                tasks.start_soon(self._warm, name="load the embedding model")
                tasks.start_soon(self.keep_indexed, name="keep the library indexed")
                tasks.start_soon(self._keep_lease, name="keep the lease")
                if self.watch is not None:
                    tasks.start_soon(self.watch.keep, self._wake_up, name="watch the folders")
            yield
            tasks.cancel_scope.cancel()


def _roots(settings: Settings, table: Table, data: Path) -> Sequence[Root]:
    """The roots, each knowing that the usrland home is nobody's document."""
    status = data.parent.stat()
    private = frozenset({(status.st_dev, status.st_ino)})
    roots = []
    for name, root in sorted(table.roots.items()):
        document_bytes = root.max_document_bytes or table.max_document_bytes
        bucket = None
        if root.bucket is not None:
            key = f"{root.tenant}/{name}"
            bucket = Bucket(root.bucket, settings, data, key, max_bytes=document_bytes)
        roots.append(
            Root(
                name=name,
                folder=Path(root.folder).expanduser() if bucket is None else bucket.copy,
                bucket=bucket,
                tenant=root.tenant,
                writable=root.writable,
                rules=Rules(compiled([*table.ignore, *root.ignore])),
                private=private,
                include=compiled(root.include) if root.include else None,
                kinds=kinds_of(root.kinds),
                max_file_bytes=root.max_file_bytes or table.max_file_bytes,
                max_document_bytes=document_bytes,
                label=root.label,
                labels={label: compiled(patterns) for label, patterns in root.labels.items()},
            )
        )
    return roots


def _is_there(place: Place, *, folder: bool) -> bool:
    with suppress(NotFound), place.root.open(place.path, folder=folder):
        return True
    with suppress(NotFound), opened_member(place.root, place.path) as member:
        names = listing(member.archive).sizes
        if folder:
            return not member.name or any(name.startswith(f"{member.name}/") for name in names)
        return member.name in names
    return False
