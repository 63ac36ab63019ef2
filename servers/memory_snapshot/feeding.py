"""What the journal holds that an index has not read yet, as rows for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlmodel import Session, col, select

from memory_snapshot.index import NOW, PAST, scope
from memory_snapshot.items import load
from memory_snapshot.state import in_batches, predecessors
from memory_snapshot.tables import IndexPosition, ItemVersion, Lineage, Space
from usrland.search import IndexRow

__all__ = ["advance", "next_rows", "position"]


def position(session: Session, name: str | None, space_id: int) -> int:
    """The last event of the space that the index has read."""
    found = session.get(IndexPosition, (name, space_id)) if name else None
    return found.seq if found else 0


def next_rows(session: Session, name: str, events: int) -> tuple[list[IndexRow], dict[int, int]]:
    """Rows of the next events, and the positions that are reached with them, by space."""
    rows: list[IndexRow] = []
    positions: dict[int, int] = {}
    for space in session.exec(select(Space).order_by(col(Space.id))):
        assert space.id is not None
        first = position(session, name, space.id)
        query = select(ItemVersion.seq).where(ItemVersion.space_id == space.id, ItemVersion.seq > first)
        reached = session.exec(query.distinct().order_by(col(ItemVersion.seq)).limit(events)).all()
        if reached:
            positions[space.id] = reached[-1]
            rows += _rows(session, space, first, reached[-1])
    return rows, positions


def _rows(session: Session, space: Space, first: int, last: int) -> list[IndexRow]:
    assert space.id is not None
    query = select(ItemVersion.oid).where(
        ItemVersion.space_id == space.id, ItemVersion.seq > first, ItemVersion.seq <= last
    )
    oids = session.exec(query).all()
    superseded = {oid for found in predecessors(session, space.id, oids).values() for oid in found}
    items = load(session, space.id, superseded.union(oids))
    past = superseded | _superseded(session, space.id, oids)
    return [
        IndexRow(
            id=item.oid,
            scope=scope(space.tenant, space.name),
            text=item.findable,
            group=PAST if item.oid in past else NOW,
        )
        for item in items.values()
        if item.text is not None
    ]


def _superseded(session: Session, space_id: int, oids: Collection[str]) -> set[str]:
    found: set[str] = set()
    for some in in_batches(oids):
        query = select(Lineage.target).where(
            Lineage.space_id == space_id, Lineage.relation == "supersedes", col(Lineage.target).in_(some)
        )
        found.update(session.exec(query))
    return found


def advance(session: Session, name: str, positions: Mapping[int, int]) -> None:
    for space_id, seq in positions.items():
        session.merge(IndexPosition(index_name=name, space_id=space_id, seq=seq))
