"""The derived index: fed from the journal in batches, thrown away and rebuilt without a loss.

The journal is its outbox. `IndexPosition` says up to which event of a space the index has read; whatever
stands behind that is searched directly (`scan`), so a just acknowledged item is found whether or not anybody
had time to index it. A little is compared with the query by words and by meaning, as the index would, and read in
the background: each feed is a version of the tables and waits for the disk. Only where more is unread a recall
waits for the index. One process feeds at a time; the others do not wait for it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import anyio

from memory_snapshot.scan import scan
from memory_snapshot.words import spelled
from usrland import Unavailable
from usrland.database import Database
from usrland.embedding import Embedder
from usrland.search import KEEP_VERSIONS, HybridIndex, IndexRow, Place

if TYPE_CHECKING:
    from sqlmodel import Session

    from memory_snapshot.feeding import Batch

__all__ = ["PAST", "READ_DIRECTLY", "UNREAD", "WINDOW", "Index", "Measures", "row_id", "scope"]

logger = logging.getLogger(__name__)

PAST = "past/"
"""Before the kind of a row that something superseded: a hint to look at fewer, never an answer."""
WINDOW = "~"
"""Of a row that holds an item between its neighbours: before its kind, and at the end of its id."""
CANDIDATES = 400
"""Of each list: what stands in none of them cannot be lifted by what it stands beside."""
NAME, FEEDING = "name", "feed"
VERSIONS_PER_BATCH = 1_000
"""Every batch is a version of the tables on the disk, and costs the same however little is in it."""
EMBED_AT_ONCE = 64
"""More rows than this are found by their words first, and get their vectors in the background."""
READ_DIRECTLY = 32
"""So many versions that the index has not read are compared with each query as they are."""
UNREAD = "What was remembered last is found by words alone until the index has read it."
FEED_WAIT_SECONDS = 2.0
REBUILD_WAIT_SECONDS = 60.0
GATHER_SECONDS = 1.0
"""A burst of writes is one batch: every batch is a version of the tables on the disk."""
RETRY_SECONDS = 10.0
QUIET_SECONDS = KEEP_VERSIONS.total_seconds() + 1.0
"""After so long without a write all but the newest version can go."""


def scope(tenant: str, name: str) -> str:
    """A space as the index knows it; no two spaces share one, whatever characters their names hold."""
    return f"{len(tenant)}:{tenant}/{name}"


def row_id(space_id: int, oid: str) -> str:
    """A version as the index knows it; two spaces may hold the same one."""
    return f"{space_id}/{oid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """By oid: the cosine of the item itself and of the window around it, and how sure we are of the better of the
    two. What only words found has no cosine."""

    items: dict[str, float] = field(default_factory=dict)
    windows: dict[str, float] = field(default_factory=dict)
    confidence: dict[str, float] = field(default_factory=dict)
    degraded: str | None = None


class Index:
    """One place of search tables over the journals in one database."""

    def __init__(self, place: Place, database: Database, embedder: Embedder | None) -> None:
        self._place = place
        self._database = database
        self._tables = HybridIndex(place, embedder)
        self._written = anyio.Event()
        self._feeding = anyio.Lock()
        self._begun = self._ended = 0
        """Feeds of this process."""
        self._wordy = True
        """Some rows may be without their vectors."""

    async def name(self) -> str | None:
        """Which index this is; None before the first feed. A lost place takes its name and position along."""
        return await self._place.note(NAME)

    async def measure(
        self, query: str, *, scope: str, kinds: Collection[str], past: bool, unread: Collection[IndexRow] = ()
    ) -> Measures:
        """How well rows of these kinds fit the query, by every measure; with `past`, also what was superseded.

        Rows that are `unread` are compared as they are given, whatever the tables hold in their place.
        """
        words = spelled(query)
        groups = [
            [before + kind for kind in kinds for before in ([row, PAST + row] if past else [row])]
            for row in ("", WINDOW)
        ]
        items, windows = [
            await self._tables.search(
                query,
                scopes=[scope],
                words=words,
                groups=some,
                k=2 * CANDIDATES,
                floor=0.0,
                candidates=CANDIDATES,
            )
            for some in groups
        ]
        measures = Measures(degraded=items.degraded or windows.degraded)
        replaced = {row.id for row in unread}
        for answer, legs in ((items, measures.items), (windows, measures.windows)):
            for hit in answer.hits:
                if hit.id not in replaced:
                    _add(measures, legs, hit.id, hit.dense, hit.confidence)
        wanted = [row for row in unread if any(row.group in some for some in groups)]
        if not wanted:
            return measures
        cosines = await self._tables.cosines(query, [row.text for row in wanted])
        near = dict(zip([row.id for row in wanted], cosines, strict=True)) if cosines is not None else {}
        for row_id, sure in scan(query, {row.id: f"{row.text} {row.words}" for row in wanted}, near).items():
            legs = measures.windows if row_id.endswith(WINDOW) else measures.items
            _add(measures, legs, row_id, near.get(row_id), sure)
        if cosines is None and measures.degraded is None:
            return replace(measures, degraded=UNREAD)
        return measures

    async def feed(self) -> None:
        """Index what is new. Waits a moment for others that do so; what they leave is searched directly.

        Of those that wait in this process one feeds for all: what it reads is newer than what they ask for.
        """
        await self._tables.model()  # not while others wait
        begun = self._begun
        with anyio.move_on_after(FEED_WAIT_SECONDS) as waiting:
            await self._feeding.acquire()
        if waiting.cancelled_caught:
            return
        try:
            if self._ended > begun:  # by one that began after this
                return
            self._begun += 1
            async with self._place.turn(FEEDING, FEED_WAIT_SECONDS) as mine:
                if mine:
                    await self._feed()
            self._ended = self._begun
        finally:
            self._feeding.release()

    async def forget(self) -> None:
        """Index what is new, erasures among it; when this returns, nothing erased is left in any of its files."""
        async with self._place.turn(FEEDING, REBUILD_WAIT_SECONDS) as mine:
            if not mine:
                raise Unavailable("another process is filling the memory index.")
            await self._feed()

    async def rebuild(self) -> None:
        """Drop the index and make it anew from the journal."""
        async with self._place.turn(FEEDING, REBUILD_WAIT_SECONDS) as mine:
            if not mine:
                raise Unavailable("another process is filling the memory index.")
            # the new name first: from then on everybody searches directly what the new index has not read yet
            await self._rename()
            await self._tables.drop()
            await self._feed()
        await self._embed()

    def wake(self) -> None:
        """Something was written."""
        self._written.set()

    async def run(self) -> None:
        """Keep the index up to date until cancelled. Nothing that goes wrong here loses an item."""
        while True:
            self._written = anyio.Event()
            patience = QUIET_SECONDS
            try:
                await self.feed()
                if self._wordy:
                    await self._embed()
            except Exception:  # the edge of a background task: search goes on without the index
                logger.exception("the memory index could not be brought up to date")
                patience = RETRY_SECONDS
            with anyio.move_on_after(patience):
                await self._written.wait()
            if patience == QUIET_SECONDS and not self._written.is_set():
                while await self._settle() and not self._written.is_set():
                    with anyio.move_on_after(QUIET_SECONDS):
                        await self._written.wait()
                await self._written.wait()
            await anyio.sleep(GATHER_SECONDS)

    async def _settle(self) -> bool:
        """Let go of what a burst of writes left on the disk; whether some of it is too young for that."""
        try:
            return await self._tables.settle()
        except Exception:  # the edge of a background task: the index is right, only larger
            logger.exception("the memory index could not be made smaller")
            return False

    async def _feed(self) -> None:
        name = await self.name() or await self._rename()
        while True:
            batch = await self._database.read(partial(_next_batch, name=name))
            if not batch.positions:
                return
            at_once = len(batch.rows) <= EMBED_AT_ONCE and await self._tables.model() is not None
            self._wordy = self._wordy or not at_once
            await self._tables.upsert(batch.rows, embed=at_once, more=batch.more)
            if batch.erased:
                await self._tables.delete(batch.erased)
                await self._tables.optimise(forget=True)
            await self._database.write(partial(_advance, name=name, positions=batch.positions))

    async def _embed(self) -> None:
        self._wordy = False  # rows may come while these get their vectors
        done = False
        try:
            await self._tables.embed_pending()
            done = await self._tables.model() is not None
        finally:
            self._wordy = self._wordy or not done

    async def _rename(self) -> str:
        name = secrets.token_hex(16)
        await self._place.write_note(NAME, name)
        return name


def _add(measures: Measures, legs: dict[str, float], row_id: str, cosine: float | None, sure: float) -> None:
    oid = row_id.partition("/")[2].removesuffix(WINDOW)
    if cosine is not None:
        legs[oid] = cosine
    measures.confidence[oid] = max(sure, measures.confidence.get(oid, 0.0))


def _next_batch(session: Session, *, name: str) -> Batch:
    from memory_snapshot import feeding

    return feeding.next_batch(session, name, VERSIONS_PER_BATCH)


def _advance(session: Session, *, name: str, positions: dict[int, int]) -> None:
    from memory_snapshot import feeding

    feeding.advance(session, name, positions)
