"""Which items answer a query: found by the index or by a direct scan, and only those that may be answered.

The index proposes, the journal decides: whether an item still stands, is in force at the asked time and was
said recently enough is read from the database in every recall, for what was proposed and for nothing else.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import get_args

import anyio.to_thread
from sqlalchemy import Row, Select, select
from sqlmodel import Session, bindparam, col

from memory_snapshot import journal
from memory_snapshot.canonical import moment
from memory_snapshot.feeding import position, rows
from memory_snapshot.index import READ_DIRECTLY, UNREAD, Index, Measures, scope
from memory_snapshot.items import Remembrance, load
from memory_snapshot.questions import HEAD, Asked, Found
from memory_snapshot.ranking import Candidate, rank
from memory_snapshot.scan import scan
from memory_snapshot.snapshots import find_state
from memory_snapshot.state import Shown, States, in_force
from memory_snapshot.tables import ItemVersion
from memory_snapshot.wire import Kind
from usrland import Principal, Unavailable
from usrland.database import Database
from usrland.search import IndexRow
from usrland.search.fusion import FLOOR

__all__ = ["candidate", "find"]

logger = logging.getLogger(__name__)

KINDS = get_args(Kind)
CANDIDATES = 200
NO_INDEX = "The search index cannot be used now: these are matches by words alone."


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """One look at the database: where to search, what may be answered, and what the index has not read yet."""

    space_id: int
    scope: str
    shown: Shown
    past: bool
    rows: Sequence[IndexRow] = ()
    """Of what it has not read, where that is little."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """By oid, where it is more: found by words alone."""
    far_behind: bool = False
    """It is more, and nobody has looked what it is."""


async def find(
    database: Database, states: States, index: Index, principal: Principal, query: str, asked: Asked
) -> Found:
    """At most `CANDIDATES` versions above the floor of confidence. Without the index: by words, and said so."""
    try:
        view = await database.read(partial(_look, states, principal, asked, await index.name(), glance=True))
        if view is not None and view.far_behind:
            await index.feed()
            view = await database.read(partial(_look, states, principal, asked, await index.name()))
        if view is None:
            return Found(hits={})
        if view.rows:
            index.wake()
        kinds = asked.kinds or KINDS
        measures = await index.measure(query, scope=view.scope, kinds=kinds, past=view.past, unread=view.rows)
        return await _ranked(database, query, view, asked, measures)
    except (Unavailable, OSError) as error:
        logger.warning("recall goes on without its index: %s", error)
    view = await database.read(partial(_look, states, principal, asked, None))
    if view is None:
        return Found(hits={}, degraded=NO_INDEX)
    return await _ranked(database, query, view, asked, Measures(degraded=NO_INDEX))


async def _ranked(database: Database, query: str, view: _View, asked: Asked, measures: Measures) -> Found:
    fresh = scan(query, view.unread)
    sure = {**fresh, **measures.confidence}
    candidates = await database.read(
        partial(_candidates, view=view, asked=asked, measures=measures, oids=list(sure))
    )
    degraded = measures.degraded or (UNREAD if view.unread else None)
    # thousands of words are counted: not while others wait
    found = await anyio.to_thread.run_sync(partial(rank, query, candidates, complete=degraded is None))
    hits = dict([(oid, sure[oid]) for oid in found.scores if sure[oid] >= FLOOR][:CANDIDATES])
    return Found(hits=hits, degraded=degraded, why={oid: found.why(oid) for oid in hits} if asked.explain else {})


def _candidates(
    session: Session, *, view: _View, asked: Asked, measures: Measures, oids: Sequence[str]
) -> list[Candidate]:
    return [
        candidate(item, measures.items.get(oid), measures.windows.get(oid))
        for oid, item in load(session, view.space_id, oids).items()
        if item.said is not None and _fits(item, view.shown, asked)
    ]


def candidate(item: Remembrance, meaning: float | None, near_meaning: float | None) -> Candidate:
    """What the ranking is told of an item. Where there is nothing around it, it is its own window."""
    assert item.said is not None
    return Candidate(
        oid=item.oid,
        session=item.occasion or item.oid,
        order=item.order,
        speaker=item.said.speaker,
        text=item.said.findable,
        date=item.date,
        asks=item.said.spoken.rstrip().endswith("?"),
        rule=item.core and item.kind in ("instruction", "transcript"),
        meaning=meaning,
        near_meaning=near_meaning if item.occasion else meaning,
    )


def _look(
    states: States,
    principal: Principal,
    asked: Asked,
    index_name: str | None,
    session: Session,
    *,
    glance: bool = False,
) -> _View | None:
    space = journal.find_space(session, principal)
    if space is None or space.id is None:
        return None
    state = find_state(session, states, space.id, principal, asked.ref)
    now = journal.now_after(journal.last_event(session, space.id))
    shown = in_force(session, space.id, state, asked.valid_at or state.at or now, now)
    read_to = position(session, index_name, space.id)
    behind = _behind(session, space.id, read_to, READ_DIRECTLY + 1)
    view = _View(
        space_id=space.id,
        scope=scope(space.tenant, space.name),
        shown=shown,
        # what was superseded can be true (its successor begins later), and can stand again
        past=asked.ref != HEAD or bool(shown.revealed) or journal.has_turned(session, space.id),
    )
    if not behind:
        return view
    if index_name is not None and len(behind) <= READ_DIRECTLY:
        return replace(view, rows=rows(session, space, read_to, behind[-1].seq))
    if glance:
        return replace(view, far_behind=True)
    return replace(view, unread=_unread(session, space.id, shown, asked, read_to))


def _fits(item: Remembrance, shown: Shown, asked: Asked) -> bool:
    return (
        (item.item_id, item.oid) in shown
        and (not asked.kinds or item.kind in asked.kinds)
        and (asked.max_age_days is None or item.recorded_at >= _oldest(asked.max_age_days))
    )


def _oldest(max_age_days: int) -> str:
    return moment(datetime.now(UTC) - timedelta(days=max_age_days))


def _behind(session: Session, space_id: int, read_to: int, most: int = sys.maxsize) -> Sequence[Row[str, int]]:
    """Oid and event of the versions after an event, oldest first."""
    return session.execute(_after(), {"space": space_id, "seq": read_to, "most": most}).all()


@cache
def _after() -> Select[str, int]:
    query = select(col(ItemVersion.oid), col(ItemVersion.seq)).where(
        col(ItemVersion.space_id) == bindparam("space"), col(ItemVersion.seq) > bindparam("seq")
    )
    return query.order_by(col(ItemVersion.seq), col(ItemVersion.place)).limit(bindparam("most"))


def _unread(session: Session, space_id: int, shown: Shown, asked: Asked, read_to: int) -> dict[str, str]:
    items = load(session, space_id, [row.oid for row in _behind(session, space_id, read_to)])
    return {
        item.oid: item.said.findable
        for item in items.values()
        if item.said is not None and _fits(item, shown, asked)
    }
