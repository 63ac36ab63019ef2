"""Which items answer a query: found by the index or by a direct scan, and only those that may be answered.

The index proposes, the journal decides: whether an item still stands, is in force at the asked time and has
the asked kind is read from the database in every recall.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlmodel import Session, col, select

from memory_snapshot import journal
from memory_snapshot.canonical import moment
from memory_snapshot.feeding import position
from memory_snapshot.index import NOW, Index, scope
from memory_snapshot.items import load
from memory_snapshot.questions import HEAD, Asked, Found
from memory_snapshot.scan import scan
from memory_snapshot.snapshots import find_state
from memory_snapshot.state import States, in_force
from memory_snapshot.tables import ItemVersion, Space
from usrland import Principal, Unavailable
from usrland.database import Database

__all__ = ["find"]

logger = logging.getLogger(__name__)

CANDIDATES = 100
UNREAD = "What was remembered last is found by words alone until the index has read it."
NO_INDEX = "The search index cannot be used now: these are matches by words alone."


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """One look at the database: which versions may be answered, and the texts the index has not read yet."""

    scope: str
    allowed: set[str]
    groups: Sequence[str] | None
    unread: Mapping[str, str]


async def find(
    database: Database, states: States, index: Index, principal: Principal, query: str, asked: Asked
) -> Found:
    """At most `CANDIDATES` versions above the floor of confidence. Without the index: by words, and said so."""
    try:
        await index.feed()
        view = await database.read(partial(_look, states, principal, asked, index.name))
        return Found(hits={}) if view is None else await _ranked(index, query, view)
    except (Unavailable, OSError) as error:
        logger.warning("recall goes on without its index: %s", error)
    view = await database.read(partial(_look, states, principal, asked, None))
    return Found(hits=scan(query, view.unread) if view else {}, degraded=NO_INDEX)


async def _ranked(index: Index, query: str, view: _View) -> Found:
    answer = await index.search(query, scope=view.scope, groups=view.groups, k=CANDIDATES)
    ranked = {hit.id: hit.confidence for hit in answer.hits if hit.id in view.allowed}
    degraded = answer.degraded or (UNREAD if view.unread else None)
    fresh = scan(query, view.unread)
    if fresh:  # scored otherwise than by the index: only the confidence compares
        ranked = dict(sorted({**ranked, **fresh}.items(), key=lambda hit: (-hit[1], hit[0]))[:CANDIDATES])
    return Found(hits=ranked, degraded=degraded)


def _look(
    states: States, principal: Principal, asked: Asked, index_name: str | None, session: Session
) -> _View | None:
    space = journal.find_space(session, principal)
    if space is None or space.id is None:
        return None
    state = find_state(session, states, space.id, asked.ref)
    now = journal.now_after(journal.last_event(session, space.id))
    allowed = in_force(session, space.id, state.standing, asked.valid_at or state.at or now)
    # a past row can be true now (its successor begins later) and was true once: then all rows are searched
    groups = [NOW] if asked.ref == HEAD and allowed.issubset(state.standing.values()) else None
    allowed = _filtered(session, space.id, allowed, asked)
    unread = _unread(session, space, allowed, position(session, index_name, space.id))
    return _View(scope=scope(space.tenant, space.name), allowed=allowed, groups=groups, unread=unread)


def _filtered(session: Session, space_id: int, oids: set[str], asked: Asked) -> set[str]:
    if not asked.kinds and asked.max_age_days is None:
        return oids
    query = select(ItemVersion.oid).where(ItemVersion.space_id == space_id)
    if asked.kinds:
        query = query.where(col(ItemVersion.kind).in_(asked.kinds))
    if asked.max_age_days is not None:
        oldest = moment(datetime.now(UTC) - timedelta(days=asked.max_age_days))
        query = query.where(ItemVersion.recorded_at >= oldest)
    return oids.intersection(session.exec(query).all())


def _unread(session: Session, space: Space, allowed: set[str], read_to: int) -> dict[str, str]:
    assert space.id is not None
    query = select(ItemVersion.oid).where(ItemVersion.space_id == space.id, ItemVersion.seq > read_to)
    unread = load(session, space.id, allowed.intersection(session.exec(query).all()))
    return {item.oid: item.findable for item in unread.values() if item.text is not None}
