"""The store behind the operations: one database, its states in memory, its derived index."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
from sqlmodel import Session

from memory_snapshot import (
    branches,
    calibration,
    compact,
    diff,
    exports,
    forget,
    graph,
    history,
    journal,
    merge,
    recall,
    remember,
    restore,
    rollback,
    snapshots,
    status,
    suggest,
    transfer,
    usage,
    verify,
)
from memory_snapshot.anchors import Anchors
from memory_snapshot.canonical import short
from memory_snapshot.copies import Copies
from memory_snapshot.drafts import Draft, draft
from memory_snapshot.forget import Erased
from memory_snapshot.hygiene import Policy
from memory_snapshot.index import Index
from memory_snapshot.items import Remembrance, load
from memory_snapshot.kernels import KernelProfile
from memory_snapshot.questions import Asked, Found, Wanted
from memory_snapshot.resources import Watch
from memory_snapshot.said import Said
from memory_snapshot.state import States
from memory_snapshot.tables import Event, Space
from memory_snapshot.wire import (
    Branches,
    Calibration,
    Compacted,
    Diff,
    Forgotten,
    HistoryEntry,
    Merged,
    Probe,
    RecallHit,
    Remembered,
    Restored,
    RolledBack,
    SnapshotTaken,
    Status,
    Transferred,
)
from usrland import Changes, Page, Preview, Principal, Suggestions, Unavailable
from usrland.audit import Checkpoint
from usrland.database import Database
from usrland.embedding import Embedder
from usrland.search import Place

__all__ = ["Store"]

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

NOTHING = "Nothing relevant is remembered."
NO_MOMENT = "1970-01-01T00:00:00+00:00"
"""Before any."""
RETENTION = "retention"
"""Who erases what was to be kept until a moment."""


class Store:
    """Made after the database was opened. Every call names the principal, whose space bounds it."""

    def __init__(
        self,
        database: Database,
        place: Place,
        model: Embedder | None,
        anchors: Anchors | None = None,
        quota: usage.Quota | None = None,
        changes: Changes | None = None,
        copies: Copies | None = None,
    ) -> None:
        self._database = database
        self._anchors = anchors
        self._states = States(quota)
        self._copies = copies
        self.watch = Watch(database, changes or Changes())
        self.index = Index(place, database, model)

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
        message: Said,
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
        items = await self._read(_load, principal, oids=chosen[offset:])
        return Page(
            items=[
                _hit(items[oid], found.hits[oid], found.why.get(oid)) for oid in chosen[offset:] if oid in items
            ],
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

    async def branches(
        self, principal: Principal, action: str, *, name: str, source: str, expected_head: str | None
    ) -> Branches:
        named: dict[str, Any] = {"name": name, "expected_head": expected_head}
        match action:
            case "create":
                return await self._write(branches.create, principal, source=source, **named)
            case "switch":
                return await self._write(branches.switch, principal, **named)
            case "delete":
                return await self._write(branches.remove, principal, **named)
            case _:
                return await self._read(branches.listed, principal)

    async def diff(self, principal: Principal, **asked: Any) -> Diff:
        return await self._read(diff.diff, principal, **asked)

    async def merge(self, principal: Principal, *, dry_run: bool, **asked: Any) -> Merged:
        return await self._write(merge.merge, principal, dry_run=dry_run, **asked)

    async def rollback(self, principal: Principal, *, dry_run: bool, **asked: Any) -> RolledBack:
        return await self._write(rollback.rollback, principal, dry_run=dry_run, **asked)

    async def preview_forgetting(self, principal: Principal, wish: forget.Wish, mode: str) -> Preview:
        return await self._write(forget.preview, principal, wish=wish, mode=mode)

    async def forget(
        self,
        principal: Principal,
        wish: forget.Wish,
        mode: str,
        elsewhere: Callable[[Sequence[str]], Awaitable[None]],
    ) -> Forgotten:
        """`elsewhere` lets go of copies that others keep. What could not be done yet is said in the receipt."""
        if mode == "retract":
            return await self._write(forget.retract, principal, wish=wish)
        return await self._let_go(principal, await self._write(forget.erase, principal, wish=wish), elsewhere)

    async def expire(self, elsewhere: Callable[[Sequence[str]], Awaitable[None]]) -> Sequence[Forgotten]:
        """Erase what was to be kept until a moment that has passed, in every space."""
        receipts: list[Forgotten] = []
        for tenant, name in await self._database.read(forget.due):
            server = Principal(subject=RETENTION, tenant=tenant, namespace=name)
            erased = await self._write(forget.expire, server)
            if erased is not None:
                receipts.append(await self._let_go(server, erased, elsewhere))
        return receipts

    async def _let_go(
        self, principal: Principal, erased: Erased, elsewhere: Callable[[Sequence[str]], Awaitable[None]]
    ) -> Forgotten:
        """Have every copy follow what is gone from the tables."""
        cleaned = exports.Cleaned()
        late: list[str] = []
        for where, done in (
            ("the search index", self.index.forget()),
            ("the audit log", elsewhere(erased.texts)),
            ("the database file", self._database.scrub("memory_body")),
            ("exported files", self._clean_exports(principal, erased, cleaned)),
            ("copies by usrland backup", self._clean_copies(principal, erased, cleaned)),
        ):
            try:
                await done
            except (Unavailable, OSError) as error:
                logger.warning("%s may still hold erased bytes: %s", where, error)
                late.append(where)
        said = f"{', '.join(late)} may still hold the bytes: erase the same again in a moment." if late else None
        update: dict[str, Any] = {
            "degraded": said,
            "files": cleaned.files or None,
            "moved": cleaned.moved or None,
            "copies": cleaned.copies or None,
        }
        return erased.receipt.model_copy(update=update)

    async def _clean_exports(self, principal: Principal, erased: Erased, cleaned: exports.Cleaned) -> None:
        paths = await self._read(exports.written_since, principal, at=_first(erased))
        if not paths:
            return

        def anew(head: str) -> bytes | None:
            work = partial(exports.native_anew, states=self._states, principal=principal, head=head)
            return self._database.read_now(work)

        done = await anyio.to_thread.run_sync(exports.clean, paths, erased, anew)
        cleaned.files, cleaned.moved = done.files, done.moved

    async def _clean_copies(self, principal: Principal, erased: Erased, cleaned: exports.Cleaned) -> None:
        """Those that it did not get to are named, in whatever way it ends."""
        if self._copies is None:
            return
        since = _first(erased)
        moment = datetime.fromisoformat(since).timestamp()
        cleaned.copies = list(await anyio.to_thread.run_sync(self._copies.since, moment))
        first = await self._read(_first_hash, principal)
        work = partial(self._copies.erase, principal, erased, first=first, since=since, moment=moment)
        done = await anyio.to_thread.run_sync(work)
        cleaned.files += len(done.done)
        cleaned.copies = list(done.left)

    async def plan_compaction(self, principal: Principal, budget: int, *, expected_head: str | None) -> Compacted:
        return await self._read(compact.plan, principal, budget=budget, expected_head=expected_head)

    async def compact(
        self, principal: Principal, summaries: Sequence[Draft], *, expected_head: str | None, dry_run: bool
    ) -> Compacted:
        return await self._write(
            compact.fold, principal, summaries=summaries, expected_head=expected_head, dry_run=dry_run
        )

    async def export(
        self, principal: Principal, folder: Path, *, format: str, ref: str, name: str, expected_head: str | None
    ) -> Transferred:
        path = transfer.checked_path(folder, name)
        await self._write(exports.note, principal, path=path)
        files = await self._write(transfer.export, principal, format=format, ref=ref, expected_head=expected_head)
        await anyio.to_thread.run_sync(_write_files, path, files)
        whole = files.get("")
        return Transferred(
            format=format,
            path=str(path),
            items=len(files) if whole is None else whole.count(b'"is":"version"' if format == "native" else b"\n"),
            sha256=None if whole is None else hashlib.sha256(whole).hexdigest(),
        )

    async def plan_export(
        self, principal: Principal, folder: Path, *, format: str, ref: str, name: str, expected_head: str | None
    ) -> Transferred:
        path = transfer.checked_path(folder, name)
        items = await self._write(transfer.exported_items, principal, ref=ref, expected_head=expected_head)
        return Transferred(format=format, path=str(path), items=items, note="Nothing was written.")

    async def import_(
        self,
        principal: Principal,
        folder: Path,
        *,
        name: str,
        policy: Policy,
        expected_head: str | None,
        dry_run: bool,
    ) -> Transferred:
        found = await anyio.to_thread.run_sync(transfer.read_items, transfer.checked_path(folder, name))
        if isinstance(found, list):
            items = [draft(item, f"{name} item {place + 1}", policy) for place, item in enumerate(found)]
            if dry_run:
                return Transferred(format="items", path=name, items=len(items), note="Nothing was written.")
            return await self._write(
                transfer.import_items, principal, items=items, path=name, expected_head=expected_head
            )
        return await self._write(
            transfer.carry_in, principal, carried=found, path=name, expected_head=expected_head, dry_run=dry_run
        )

    async def status(self, principal: Principal, kernel: KernelProfile) -> Status:
        name = await self.index.name()
        return await self._read(status.status, principal, index_name=name, kernel=kernel, anchors=self._anchors)

    async def verify(self, principal: Principal, heads: Sequence[Checkpoint] = ()) -> verify.Verification:
        """`heads` were signed before and kept elsewhere."""
        return await self._database.read(
            partial(verify.verify, principal=principal, anchors=self._anchors, heads=heads)
        )

    async def probe(self, principal: Principal, **asked: Any) -> Probe:
        return await self._read(calibration.probe, principal, **asked)

    async def score(self, principal: Principal, answers: str) -> Calibration:
        return await self._read(calibration.score, principal, answers=answers)

    async def picture(self, principal: Principal, limit: int) -> str:
        """The page of `graph`."""
        return await self._read(graph.page, principal, limit=limit)

    async def suggest(self, principal: Principal, what: str, prefix: str) -> Suggestions:
        return await self._read(suggest.suggest, principal, what=what, prefix=prefix)

    async def count(self, principal: Principal, name: str) -> None:
        """Add to a tally of the principal's space."""
        await self._write(_count, principal, name=name)

    async def settle(self) -> None:
        """Write down what was returned; for whoever stops using the store."""
        if self._states.returns:
            await self._database.write(self._states.returns.write_all)

    async def head(self, principal: Principal) -> tuple[Space, Event] | None:
        """The newest event of the principal's journal."""
        return await self._database.read(partial(_head, principal=principal))

    async def _read(self, work: Callable[..., ResultT], principal: Principal, **arguments: Any) -> ResultT:
        return await self._database.read(partial(work, states=self._states, principal=principal, **arguments))

    async def _write(self, work: Callable[..., ResultT], principal: Principal, **arguments: Any) -> ResultT:
        work = partial(work, states=self._states, principal=principal, **arguments)
        if self._anchors is None:
            done = await self._database.write(work)
        else:
            done, space, last = await self._database.write(partial(_anchored, self._anchors, work, principal))
            if last is not None:
                await anyio.to_thread.run_sync(self._anchors.keep, space, last)
        self.index.wake()
        self.watch.wake()
        return done


def _anchored(
    anchors: Anchors, work: Callable[[Session], ResultT], principal: Principal, session: Session
) -> tuple[ResultT, Space, Event | None]:
    """Do the work between two heads; the event that is the new one, where there is one."""
    space = journal.lock_space(session, principal)
    assert space.id is not None
    before = journal.last_event(session, space.id)
    anchors.check(space, before)
    done = work(session)
    after = journal.last_event(session, space.id)
    if after is None or (before is not None and before.seq == after.seq):
        return done, space, None
    anchors.promise(space, before, after)
    return done, space, after


def _head(session: Session, *, principal: Principal) -> tuple[Space, Event] | None:
    space = journal.find_space(session, principal)
    last = None if space is None or space.id is None else journal.last_event(session, space.id)
    return None if space is None or last is None else (space, last)


def _first(erased: Erased) -> str:
    """The moment since which something may hold what was erased."""
    return NO_MOMENT if erased.messages else min((item.recorded_at for item in erased.items), default=NO_MOMENT)


def _first_hash(session: Session, *, states: States, principal: Principal) -> str:
    space = journal.find_space(session, principal)
    return (space and space.id and journal.first_hash(session, space.id)) or ""


def _load(
    session: Session, *, states: States, principal: Principal, oids: Sequence[str]
) -> dict[str, Remembrance]:
    space = journal.find_space(session, principal)
    if space is None or space.id is None:
        return {}
    found = load(session, space.id, oids)
    states.returns.note(space.id, [item.item_id for item in found.values()])
    return found


def _count(session: Session, *, states: States, principal: Principal, name: str) -> None:
    space = journal.lock_space(session, principal)
    assert space.id is not None
    usage.count(session, space.id, name)


def _write_files(path: Path, files: Mapping[str, bytes]) -> None:
    for suffix, content in files.items():
        transfer.write_file(Path(f"{path}{suffix}"), content)


def _hit(item: Remembrance, confidence: float, why: Mapping[str, float] | None) -> RecallHit:
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
        why=None if why is None else dict(why),
    )
