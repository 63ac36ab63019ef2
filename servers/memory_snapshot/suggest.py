"""What a blank could be filled with, where a host completes what a person types."""

from __future__ import annotations

from collections.abc import Iterator

from sqlmodel import Session, and_, col, select

from memory_snapshot import journal
from memory_snapshot.canonical import short
from memory_snapshot.journal import MAIN
from memory_snapshot.questions import HEAD
from memory_snapshot.snapshots import PIN, find_state
from memory_snapshot.state import States
from memory_snapshot.tables import Body, ItemVersion, Ref, Snapshot
from usrland import Principal, Suggestions
from usrland.database import in_batches

__all__ = ["suggest"]

SHOWN = 100


def suggest(session: Session, states: States, principal: Principal, *, what: str, prefix: str) -> Suggestions:
    """`what` is refs, branches or items."""
    space = journal.find_space(session, principal)
    if space is None or space.id is None:
        return Suggestions(values=[MAIN] if what != "items" and MAIN.startswith(prefix) else [])
    if what == "items":
        found = list(_items(session, states, space.id, principal, prefix))
    else:
        names = _branches(session, space.id) if what == "branches" else _refs(session, space.id)
        found = [name for name in names if name.startswith(prefix)]
    return Suggestions(values=found[:SHOWN], total=len(found))


def _branches(session: Session, space_id: int) -> Iterator[str]:
    yield MAIN
    names = session.exec(select(Ref.name).where(Ref.space_id == space_id).order_by(Ref.name))
    yield from (name for name in names if name != MAIN and not name.startswith(PIN))


def _refs(session: Session, space_id: int) -> Iterator[str]:
    yield HEAD
    yield from _branches(session, space_id)
    yield from session.exec(select(Ref.name).where(Ref.space_id == space_id, col(Ref.name).startswith(PIN)))
    query = select(Snapshot.id).where(Snapshot.space_id == space_id).order_by(col(Snapshot.seq).desc())
    yield from map(short, session.exec(query))


def _items(session: Session, states: States, space_id: int, principal: Principal, prefix: str) -> Iterator[str]:
    standing = find_state(session, states, space_id, principal, HEAD).standing
    place = and_(
        col(Body.space_id) == ItemVersion.space_id,
        col(Body.seq) == ItemVersion.seq,
        col(Body.place) == ItemVersion.place,
    )
    found: list[tuple[int, str]] = []
    for some in in_batches(standing.values()):
        query = (
            select(ItemVersion.seq, ItemVersion.item_id, Body.key)
            .join(Body, place)
            .where(ItemVersion.space_id == space_id, col(ItemVersion.oid).in_(some))
        )
        found += [
            (seq, short(item_id))
            for seq, item_id, key in session.exec(query)
            if item_id.startswith(prefix.lower()) or (prefix and (key or "").startswith(prefix))
        ]
    yield from (item_id for _, item_id in sorted(found, reverse=True))
