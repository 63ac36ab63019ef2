"""What the journal holds that an index has not read yet, as rows for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlmodel import Session, col, select, tuple_

from memory_snapshot.index import PAST, WINDOW, row_id, scope
from memory_snapshot.items import Remembrance, load
from memory_snapshot.journal import said
from memory_snapshot.state import predecessors, successors
from memory_snapshot.tables import Event, IndexPosition, ItemVersion, Space
from usrland.search import IndexRow

__all__ = ["Batch", "advance", "next_batch", "position", "rows"]

LOOK_BACK = 64
"""Versions that may lie between two neighbours of a session. An erasure looks no further either."""
CLIPPED_CHARS = 400
"""Of each text in a window: the model reads little more."""


@dataclass(slots=True)
class Batch:
    """Rows to add, ids of rows to remove for good, and the positions that are reached with them, by space. `more`:
    there are versions behind these."""

    rows: list[IndexRow] = field(default_factory=list)
    erased: list[str] = field(default_factory=list)
    positions: dict[int, int] = field(default_factory=dict)
    more: bool = False


def position(session: Session, name: str | None, space_id: int) -> int:
    """The last event of the space that the index has read."""
    found = session.get(IndexPosition, (name, space_id)) if name else None
    return found.seq if found else 0


def next_batch(session: Session, name: str, most: int) -> Batch:
    """What the next events of every space brought and took away: at least one of each that has any, and of one
    space no more versions than `most`, unless a single event brought them."""
    batch = Batch()
    for space in session.exec(select(Space).order_by(col(Space.id))):
        assert space.id is not None
        first = position(session, name, space.id)
        query = select(Event).where(Event.space_id == space.id, Event.seq > first).order_by(col(Event.seq))
        versions = select(ItemVersion.seq).where(ItemVersion.space_id == space.id, ItemVersion.seq > first)
        beyond = session.exec(versions.order_by(col(ItemVersion.seq)).offset(most).limit(1)).first()
        if beyond is not None:
            query = query.where(Event.seq < max(beyond, first + 2))
            batch.more = True
        read = session.exec(query.limit(most)).all()
        if not read:
            continue
        batch.positions[space.id] = read[-1].seq
        batch.rows += rows(session, space, first, read[-1].seq)
        gone = [oid for event in read if event.op == "erase" for oid in said(event)["erased"]]
        batch.erased += [row_id(space.id, oid) + row for oid in gone for row in ("", WINDOW)]
        batch.rows += _window_rows(session, space, _windows_around(session, space.id, gone))
    return batch


def rows(session: Session, space: Space, first: int, last: int) -> list[IndexRow]:
    """What the versions after event `first`, up to event `last`, bring into the index and change in it."""
    assert space.id is not None
    query = select(ItemVersion.oid).where(
        ItemVersion.space_id == space.id, ItemVersion.seq > first, ItemVersion.seq <= last
    )
    new = session.exec(query.order_by(col(ItemVersion.seq), col(ItemVersion.place))).all()
    replaced = {oid for found in predecessors(session, space.id, new).values() for oid in found}
    items = load(session, space.id, list(dict.fromkeys([*new, *replaced])))
    past = replaced | successors(session, space.id, new).keys()
    windows = _windows(session, space.id, first, [items[oid] for oid in new])
    where = scope(space.tenant, space.name)
    found: list[IndexRow] = []
    for item in items.values():
        if item.said is not None:
            group = PAST + item.kind if item.oid in past else item.kind
            words = " ".join([*item.said.tags, item.date, _notes(item)])
            found.append(
                IndexRow(id=row_id(space.id, item.oid), scope=where, text=_spoken(item), group=group, words=words)
            )
    return found + _window_rows(session, space, windows)


def _window_rows(session: Session, space: Space, windows: Mapping[str, tuple[Remembrance, str]]) -> list[IndexRow]:
    assert space.id is not None
    past = successors(session, space.id, list(windows)).keys()
    return [
        IndexRow(
            id=row_id(space.id, oid) + WINDOW,
            scope=scope(space.tenant, space.name),
            text=text,
            group=(PAST if oid in past else "") + WINDOW + item.kind,
            words=item.date,
        )
        for oid, (item, text) in windows.items()
    ]


def _spoken(item: Remembrance) -> str:
    """What is embedded of an item: who said it matters, and a key says what a short text leaves out."""
    assert item.said is not None
    if item.said.speaker:
        return f'{item.said.speaker} said, "{item.said.spoken}"'
    return f"{item.said.key}: {item.said.text}" if item.said.key else item.said.text


def _notes(item: Remembrance) -> str:
    """What is not embedded with it."""
    assert item.said is not None
    return "" if item.said.spoken == item.said.text else item.said.text.replace(item.said.spoken, " ")


def _windows(
    session: Session, space_id: int, first: int, new: Sequence[Remembrance]
) -> dict[str, tuple[Remembrance, str]]:
    """oid → the item between those before and after it in its session; also of the last ones there were."""
    if not any(item.occasion for item in new):
        return {}
    line = [*_before(session, space_id, first), *new]
    fresh = {item.oid for item in new}
    return {
        item.oid: (item, "\n".join(map(_clipped, near)))
        for item, near in _between(line)
        if any(other.oid in fresh for other in near)
    }


def _windows_around(session: Session, space_id: int, erased: Sequence[str]) -> dict[str, tuple[Remembrance, str]]:
    """The windows that held what was erased, without it."""
    found: dict[str, tuple[Remembrance, str]] = {}
    for item in load(session, space_id, erased, said=False).values():
        query = select(ItemVersion.oid).where(ItemVersion.space_id == space_id)
        later = query.where(
            tuple_(col(ItemVersion.seq), col(ItemVersion.place)) >= tuple_(item.seq, item.place)
        ).order_by(col(ItemVersion.seq), col(ItemVersion.place))
        after = load(session, space_id, session.exec(later.limit(2 * LOOK_BACK)).all())
        line = [*_before(session, space_id, item.seq, item.place), *after.values()]
        found.update({other.oid: (other, "\n".join(map(_clipped, near))) for other, near in _between(line)})
    return found


def _before(session: Session, space_id: int, seq: int, place: int | None = None) -> list[Remembrance]:
    """The versions up to event `seq`, or before one place in it, as far as a window can reach."""
    here = tuple_(col(ItemVersion.seq), col(ItemVersion.place))
    query = (
        select(ItemVersion.oid)
        .where(
            ItemVersion.space_id == space_id,
            col(ItemVersion.seq) <= seq if place is None else here < tuple_(seq, place),
        )
        .order_by(col(ItemVersion.seq).desc(), col(ItemVersion.place).desc())
        .limit(2 * LOOK_BACK)
    )
    return list(load(session, space_id, list(reversed(session.exec(query).all()))).values())


def _between(line: Sequence[Remembrance]) -> Iterator[tuple[Remembrance, list[Remembrance]]]:
    """Each item of a session, and it with its neighbours there."""
    sessions: dict[str, list[tuple[int, Remembrance]]] = {}
    for position, item in enumerate(line):
        if item.occasion:
            sessions.setdefault(item.occasion, []).append((position, item))
    for turns in sessions.values():
        for place, (position, item) in enumerate(turns):
            near = turns[max(0, place - 1) : place + 2]
            yield item, [other for at, other in near if abs(at - position) <= LOOK_BACK]


def _clipped(item: Remembrance) -> str:
    assert item.said is not None
    text = item.said.spoken[:CLIPPED_CHARS]
    return f"{item.said.speaker}: {text}" if item.said.speaker else text


def advance(session: Session, name: str, positions: Mapping[int, int]) -> None:
    for space_id, seq in positions.items():
        session.merge(IndexPosition(index_name=name, space_id=space_id, seq=seq))
