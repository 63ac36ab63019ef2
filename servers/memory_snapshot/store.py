"""The store behind the operations: one database, its states in memory, its derived index."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sqlmodel import Session

from memory_snapshot import history, journal, recall, remember, restore, snapshots, verify
from memory_snapshot.canonical import short
from memory_snapshot.drafts import Draft
from memory_snapshot.index import Index
from memory_snapshot.items import Remembrance, load
from memory_snapshot.kernels import KernelProfile
from memory_snapshot.questions import Asked, Found, Wanted
from memory_snapshot.state import States
from memory_snapshot.wire import HistoryEntry, RecallHit, Remembered, Restored, SnapshotTaken, Source
from usrland import Page, Principal
from usrland.database import Database
from usrland.embedding import embedder

__all__ = ["Store"]

NOTHING = "Nothing relevant is remembered."


class Store:
    """Made after the database was opened. Every call names the principal, whose space bounds it."""

    def __init__(self, database: Database, index_folder: Path, embedding: str) -> None:
        self._database = database
        self._states = States()
        self.index = Index(index_folder, database, embedder(embedding))

    async def remember(
        self, principal: Principal, items: Sequence[Draft], *, expected_head: str | None
    ) -> Remembered:
        work = partial(
            remember.remember, states=self._states, principal=principal, items=items, expected_head=expected_head
        )
        done = await self._database.write(work)
        self.index.wake()
        return done

    async def take(
        self,
        principal: Principal,
        items: Sequence[Draft],
        *,
        message: str,
        reason: str,
        pin: bool,
        expected_head: str | None,
    ) -> SnapshotTaken:
        work = partial(
            snapshots.take,
            states=self._states,
            principal=principal,
            items=items,
            message=message,
            reason=reason,
            pin=pin,
            expected_head=expected_head,
        )
        taken = await self._database.write(work)
        self.index.wake()
        return taken

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
        work = partial(restore.restore, states=self._states, principal=principal, wanted=wanted, kernel=kernel)
        return await self._database.read(work)

    async def log(self, principal: Principal, ref: str, *, offset: int, limit: int) -> Page[HistoryEntry]:
        work = partial(history.log, states=self._states, principal=principal, ref=ref, offset=offset, limit=limit)
        return await self._database.read(work)

    async def lineage(
        self, principal: Principal, *, item_id: str | None, key: str | None, offset: int, limit: int
    ) -> Page[HistoryEntry]:
        work = partial(
            history.lineage,
            states=self._states,
            principal=principal,
            item_id=item_id,
            key=key,
            offset=offset,
            limit=limit,
        )
        return await self._database.read(work)

    async def verify(self, principal: Principal) -> verify.Verification:
        return await self._database.read(partial(verify.verify, principal=principal))


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
        source=Source.model_validate(json.loads(item.source)),
        trust=item.trust,
        confidence=round(confidence, 3),
        key=item.key,
        valid_from=item.valid_from,
        valid_to=item.valid_to,
        tags=item.tag_list or None,
    )
