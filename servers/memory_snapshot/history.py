"""The log of snapshots, and what was said about one item over time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from sqlmodel import Session, and_, col, select

from memory_snapshot import journal
from memory_snapshot.canonical import SHORT_ID, hex_range, short
from memory_snapshot.items import Remembrance, load
from memory_snapshot.questions import HEAD
from memory_snapshot.remember import ITEM_ID_CHARS
from memory_snapshot.snapshots import find_state, parents
from memory_snapshot.state import RELATIONS, States, ancestors
from memory_snapshot.tables import Body, ItemVersion, Snapshot
from memory_snapshot.wire import HistoryEntry
from usrland import InvalidInput, NotFound, Page, Principal
from usrland.database import in_batches

__all__ = ["ancestry", "lineage", "log", "messages", "versions_of"]


def log(
    session: Session, states: States, principal: Principal, ref: str, *, offset: int, limit: int
) -> Page[HistoryEntry]:
    """Snapshots, newest first: `ref` and what it came from."""
    space = journal.find_space(session, principal)
    if space is None or space.id is None:
        return Page(items=[], total=0, note="Nothing is remembered yet.")
    newest = find_state(session, states, space.id, principal, ref).snapshot
    if newest is None:
        return Page(items=[], total=0, note="There is no snapshot yet.")
    line = sorted(ancestry(session, space.id, newest).values(), key=lambda snapshot: -snapshot.seq)
    found = line[offset : offset + limit]
    texts = messages(session, space.id, found)
    return Page(
        items=[_commit(snapshot, texts.get(snapshot.id)) for snapshot in found],
        total=len(line),
        more=offset + limit < len(line),
    )


def ancestry(session: Session, space_id: int, newest: str) -> dict[str, Snapshot]:
    """A snapshot and everything before it. One query: spaces hold thousands of snapshots, not millions."""
    known = {found.id: found for found in session.exec(select(Snapshot).where(Snapshot.space_id == space_id))}
    line: dict[str, Snapshot] = {}
    waiting = [newest]
    while waiting:
        name = waiting.pop()
        if name not in line:
            line[name] = known[name]
            waiting += parents(known[name])
    return line


def messages(session: Session, space_id: int, snapshots: Iterable[Snapshot]) -> dict[str, str]:
    """Snapshot id → message, for those that were not erased."""
    by_seq = {snapshot.seq: snapshot.id for snapshot in snapshots}
    found: dict[str, str] = {}
    for some in in_batches(by_seq):
        query = select(Body.seq, Body.text).where(Body.space_id == space_id, col(Body.seq).in_(some))
        found.update({by_seq[seq]: text for seq, text in session.exec(query)})
    return found


def _commit(snapshot: Snapshot, message: str | None) -> HistoryEntry:
    return HistoryEntry(
        id=snapshot.id,
        at=snapshot.taken_at,
        actor=json.loads(snapshot.author)["subject"],
        text=message,
        reason=snapshot.reason,
        parents=parents(snapshot),
        items=snapshot.items,
        tokens=snapshot.tokens,
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
    """All versions of an item or a key, and what they superseded or were made from, newest first."""
    space = journal.find_space(session, principal)
    start = [] if space is None or space.id is None else versions_of(session, space.id, item_id=item_id, key=key)
    if space is None or space.id is None or not start:
        what = f"item {item_id!r}" if item_id else f"key {key!r}"
        raise NotFound(f"nothing was ever remembered as {what}.", fix="Use memory_recall to find it.")
    related = ancestors(session, space.id, start)
    superseded, derived = (related[relation] for relation in RELATIONS)
    oids = set(start).union(*superseded.values(), *derived.values())
    items = sorted(load(session, space.id, oids).values(), key=lambda item: item.order, reverse=True)
    standing = find_state(session, states, space.id, principal, HEAD).standing
    found = items[offset : offset + limit]
    entries = [
        _version(
            item,
            superseded.get(item.oid, []),
            derived.get(item.oid, []),
            standing.get(item.item_id) == item.oid,
        )
        for item in found
    ]
    return Page(items=entries, total=len(items), more=offset + limit < len(items))


def versions_of(
    session: Session, space_id: int, *, item_id: str | None = None, key: str | None = None
) -> Sequence[str]:
    """The oids of every version of an item or a key, on whatever branch."""
    query = select(ItemVersion.oid, ItemVersion.item_id).where(ItemVersion.space_id == space_id)
    if key is not None:
        place = and_(
            col(Body.space_id) == ItemVersion.space_id,
            col(Body.seq) == ItemVersion.seq,
            col(Body.place) == ItemVersion.place,
        )
        query = query.join(Body, place).where(Body.key == key)
    if item_id is not None:
        if len(item_id) < SHORT_ID:
            raise InvalidInput(f"item id {item_id!r} is too short.", fix=f"Give at least {SHORT_ID} characters.")
        try:
            bytes.fromhex(item_id.ljust(ITEM_ID_CHARS, "0"))
        except ValueError:
            return []
        first, last = hex_range(item_id.lower(), ITEM_ID_CHARS)
        query = query.where(col(ItemVersion.item_id) >= first, col(ItemVersion.item_id) <= last)
    found = session.exec(query).all()
    if item_id is not None and len({name for _, name in found}) > 1:
        raise InvalidInput(f"item id {item_id!r} is ambiguous.", fix="Give more characters of it.")
    return [oid for oid, _ in found]


def _version(
    item: Remembrance, supersedes: Sequence[str], derived_from: Sequence[str], current: bool
) -> HistoryEntry:
    return HistoryEntry(
        id=short(item.oid),
        at=item.recorded_at,
        actor=item.actor,
        text=item.text,
        tokens=item.tokens,
        item_id=short(item.item_id),
        kind=item.kind,
        key=item.key,
        source=item.source,
        trust=item.trust,
        valid_from=item.valid_from,
        valid_to=item.valid_to,
        keep_until=item.retention,
        pin=item.pinned or None,
        speaker=item.said.speaker if item.said else None,
        tags=list(item.said.tags) or None if item.said else None,
        supersedes=[short(oid) for oid in supersedes] or None,
        derived_from=[short(oid) for oid in derived_from] or None,
        current=current,
    )
