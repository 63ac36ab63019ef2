"""The log of snapshots, and what was said about one item over time."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from sqlmodel import Session, select

from memory_snapshot import journal
from memory_snapshot.canonical import SHORT_ID, short
from memory_snapshot.items import Remembrance, load
from memory_snapshot.journal import MAIN
from memory_snapshot.snapshots import find_state
from memory_snapshot.state import States, predecessors
from memory_snapshot.tables import ItemVersion, Snapshot
from memory_snapshot.wire import HistoryEntry, Source
from usrland import InvalidInput, NotFound, Page, Principal

__all__ = ["lineage", "log"]


def log(
    session: Session, states: States, principal: Principal, ref: str, *, offset: int, limit: int
) -> Page[HistoryEntry]:
    """Snapshots, newest first: `ref` and what it came from."""
    space = journal.find_space(session, principal)
    if space is None or space.id is None:
        return Page(items=[], total=0, note="Nothing is remembered yet.")
    newest = find_state(session, states, space.id, ref).snapshot
    if newest is None:
        return Page(items=[], total=0, note="There is no snapshot yet.")
    line = _ancestry(session, space.id, newest)
    found = line[offset : offset + limit]
    return Page(items=[_commit(snapshot) for snapshot in found], total=len(line), more=offset + limit < len(line))


def _ancestry(session: Session, space_id: int, newest: str) -> list[Snapshot]:
    """A snapshot and everything before it. One query: spaces hold thousands of snapshots, not millions."""
    known = {found.id: found for found in session.exec(select(Snapshot).where(Snapshot.space_id == space_id))}
    line: dict[str, Snapshot] = {}
    waiting = [newest]
    while waiting:
        name = waiting.pop()
        if name in line or name not in known:
            continue  # seen already, or compacted away
        line[name] = known[name]
        waiting += json.loads(known[name].parents)
    return sorted(line.values(), key=lambda snapshot: -snapshot.log_seq)


def _commit(snapshot: Snapshot) -> HistoryEntry:
    return HistoryEntry(
        id=snapshot.id,
        at=snapshot.taken_at,
        actor=json.loads(snapshot.author)["subject"],
        text=snapshot.message,
        reason=snapshot.reason,
        parents=json.loads(snapshot.parents),
        **json.loads(snapshot.working_set),
    )


def lineage(
    session: Session,
    states: States,
    principal: Principal,
    *,
    item_id: str | None,
    key: str | None,
    offset: int,
    limit: int,
) -> Page[HistoryEntry]:
    """All versions of an item or a key, and what they superseded, newest first."""
    space = journal.find_space(session, principal)
    start = [] if space is None or space.id is None else _versions(session, space.id, item_id, key)
    if space is None or space.id is None or not start:
        what = f"item {item_id!r}" if item_id else f"key {key!r}"
        raise NotFound(f"nothing was ever remembered as {what}.", fix="Use memory_recall to find it.")
    before = _all_before(session, space.id, start)
    oids = set(start).union(before, *before.values())
    items = sorted(load(session, space.id, oids).values(), key=lambda item: item.order, reverse=True)
    standing = set(states.current(session, space.id, MAIN).standing.values())
    found = items[offset : offset + limit]
    entries = [_version(item, before.get(item.oid, []), item.oid in standing) for item in found]
    return Page(items=entries, total=len(items), more=offset + limit < len(items))


def _versions(session: Session, space_id: int, item_id: str | None, key: str | None) -> Sequence[str]:
    query = select(ItemVersion.oid, ItemVersion.item_id).where(ItemVersion.space_id == space_id)
    if key is not None:
        query = query.where(ItemVersion.key == key)
    if item_id is not None:
        if len(item_id) < SHORT_ID:
            raise InvalidInput(f"item id {item_id!r} is too short.", fix=f"Give at least {SHORT_ID} characters.")
        prefix = item_id.lower()
        query = query.where(ItemVersion.item_id >= prefix, ItemVersion.item_id < prefix + "g")
    found = session.exec(query).all()
    if item_id is not None and len({name for _, name in found}) > 1:
        raise InvalidInput(f"item id {item_id!r} is ambiguous.", fix="Give more characters of it.")
    return [oid for oid, _ in found]


def _all_before(session: Session, space_id: int, oids: Collection[str]) -> dict[str, list[str]]:
    """oid → what it superseded, for these versions and all that came before them."""
    found: dict[str, list[str]] = {}
    waiting = list(oids)
    while waiting:
        new = predecessors(session, space_id, waiting)
        found.update(new)
        waiting = [oid for targets in new.values() for oid in targets if oid not in found]
    return found


def _version(item: Remembrance, supersedes: Sequence[str], current: bool) -> HistoryEntry:
    return HistoryEntry(
        id=short(item.oid),
        at=item.recorded_at,
        actor=item.actor,
        text=item.text,
        tokens=item.tokens,
        item_id=short(item.item_id),
        kind=item.kind,
        key=item.key,
        source=Source.model_validate_json(item.source),
        trust=item.trust,
        valid_from=item.valid_from,
        valid_to=item.valid_to,
        supersedes=[short(oid) for oid in supersedes] or None,
        current=current,
    )
