"""The store behind the operations: one database, its states in memory, its derived index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlmodel import Session

from memory_snapshot import history, journal, recall, remember, restore, snapshots, verify
from memory_snapshot.canonical import short
from memory_snapshot.drafts import Draft
from memory_snapshot.index import Index
from memory_snapshot.items import Remembrance, load
from memory_snapshot.kernels import KernelProfile
from memory_snapshot.questions import Asked, Found, Wanted
from memory_snapshot.state import States
from memory_snapshot.wire import HistoryEntry, RecallHit, Remembered, Restored, SnapshotTaken
from usrland import Page, Principal
from usrland.database import Database
from usrland.embedding import embedder

__all__ = ["Store"]

ResultT = TypeVar("ResultT")

NOTHING = "Nothing relevant is remembered."


class Store:
    """Made after the database was opened. Every call names the principal, whose space bounds it."""

    def __init__(self, database: Database, index_folder: Path, embedding: str) -> None:
        self._database = database
        self._states = States()
        self.index = Index(index_folder, database, embedder(embedding))

    async def remember(
        self, principal: Principal, items: Sequence[Draft], *, branch: str | None, expected_head: str | None
    ) -> Remembered:
        return await self._write(
            remember.remember, principal, items=items, branch=branch, expected_head=expected_head
        )

    async def take(
        self,
        principal: Principal,
        items: Sequence[Draft],
        *,
        message: str,
        reason: str,
        pin: bool,
        branch: str | None,
        expected_head: str | None,
    ) -> SnapshotTaken:
        return await self._write(
            snapshots.take,
            principal,
            items=items,
            message=message,
            reason=reason,
            pin=pin,
            branch=branch,
            expected_head=expected_head,
        )

    async def find(self, principal: Principal, query: str, asked: Asked) -> Found:
        return await recall.find(self._database, self._states, self.index, principal, query, asked)

    async def recall(
        self, principal: Principal, query: str, asked: Asked, *, offset: int, limit: int
    ) -> Page[RecallHit]:
        found = await self.find(principal, query, asked)
        chosen = list(found.hits)[:limit]
        items = await self._database.read(partial(_load, principal=principal, oids=chosen[offset:]))
        return Page(
            items=[_hit(items[oid], found.hits[oid]) for oid in chosen[offset:] if oid in items],
            total=len(chosen),
            note=None if chosen else NOTHING,
            degraded=found.degraded,
        )

    async def restore(self, principal: Principal, wanted: Wanted, kernel: KernelProfile) -> Restored:
        return await self._read(restore.restore, principal, wanted=wanted, kernel=kernel)

    async def log(self, principal: Principal, ref: str, *, offset: int, limit: int) -> Page[HistoryEntry]:
        return await self._read(history.log, principal, ref=ref, offset=offset, limit=limit)

    async def lineage(
        self, principal: Principal, *, item_id: str | None, key: str | None, offset: int, limit: int
    ) -> Page[HistoryEntry]:
        return await self._read(history.lineage, principal, item_id=item_id, key=key, offset=offset, limit=limit)

    async def verify(self, principal: Principal) -> verify.Verification:
        return await self._database.read(partial(verify.verify, principal=principal))

    async def _read(self, work: Callable[..., ResultT], principal: Principal, **arguments: Any) -> ResultT:
        return await self._database.read(partial(work, states=self._states, principal=principal, **arguments))

    async def _write(self, work: Callable[..., ResultT], principal: Principal, **arguments: Any) -> ResultT:
        done = await self._database.write(partial(work, states=self._states, principal=principal, **arguments))
        self.index.wake()
        return done


def _load(session: Session, *, principal: Principal, oids: Sequence[str]) -> dict[str, Remembrance]:
    space = journal.find_space(session, principal)
    return {} if space is None or space.id is None else load(session, space.id, oids)


def _hit(item: Remembrance, confidence: float) -> RecallHit:
    return RecallHit(
        id=short(item.item_id),
        kind=item.kind,
        text=item.text or "",
        recorded_at=item.recorded_at,
        actor=item.actor,
        source=item.source,
        trust=item.trust,
        confidence=round(confidence, 3),
        key=item.key,
        valid_from=item.valid_from,
        valid_to=item.valid_to,
        speaker=item.said.speaker if item.said else None,
        tags=list(item.said.tags) or None if item.said else None,
    )
