"""What the journal holds that an index has not read yet, as rows for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlmodel import Session, col, select

from memory_snapshot.index import PAST, row_id, scope
from memory_snapshot.items import load
from memory_snapshot.journal import said
from memory_snapshot.state import predecessors, successors
from memory_snapshot.tables import Event, IndexPosition, ItemVersion, Space
from usrland.search import IndexRow

__all__ = ["Batch", "advance", "next_batch", "position"]


@dataclass(slots=True)
class Batch:
    """Rows to add, ids of rows to remove for good, and the positions that are reached with them, by space."""

    rows: list[IndexRow] = field(default_factory=list)
    erased: list[str] = field(default_factory=list)
    positions: dict[int, int] = field(default_factory=dict)


def position(session: Session, name: str | None, space_id: int) -> int:
    """The last event of the space that the index has read."""
    found = session.get(IndexPosition, (name, space_id)) if name else None
    return found.seq if found else 0


def next_batch(session: Session, name: str, events: int) -> Batch:
    """What the next events of every space brought and took away."""
    batch = Batch()
    for space in session.exec(select(Space).order_by(col(Space.id))):
        assert space.id is not None
        first = position(session, name, space.id)
        query = select(Event).where(Event.space_id == space.id, Event.seq > first).order_by(col(Event.seq))
        read = session.exec(query.limit(events)).all()
        if not read:
            continue
        batch.positions[space.id] = read[-1].seq
        batch.rows += _rows(session, space, first, read[-1].seq)
        gone = [oid for event in read if event.op == "erase" for oid in said(event)["erased"]]
        batch.erased += [row_id(space.id, oid) for oid in gone]
    return batch


def _rows(session: Session, space: Space, first: int, last: int) -> list[IndexRow]:
    assert space.id is not None
    query = select(ItemVersion.oid).where(
        ItemVersion.space_id == space.id, ItemVersion.seq > first, ItemVersion.seq <= last
    )
    new = session.exec(query).all()
    replaced = {oid for found in predecessors(session, space.id, new).values() for oid in found}
    items = load(session, space.id, list({*new, *replaced}))
    past = replaced | successors(session, space.id, new).keys()
    return [
        IndexRow(
            id=row_id(space.id, item.oid),
            scope=scope(space.tenant, space.name),
            text=item.said.findable,
            group=PAST + item.kind if item.oid in past else item.kind,
        )
        for item in items.values()
        if item.said is not None
    ]


def advance(session: Session, name: str, positions: Mapping[int, int]) -> None:
    for space_id, seq in positions.items():
        session.merge(IndexPosition(index_name=name, space_id=space_id, seq=seq))
