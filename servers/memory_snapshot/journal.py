"""The append-only log of one space: every change is an event, chained by hash to the one before it.

A space is locked from the first look until the commit, so `seq` has no gaps, time never runs backwards in
it, and whoever reads up to a `seq` has read all there will ever be up to it. What a bare chain cannot show
is a log cut off at its end or replaced as a whole: compare heads that were kept somewhere else for that.

An event says what changed on its branch: it may `put` versions (oids; each in place of what stood for its
item) and `drop` items. Over that: `snapshot` names the snapshot that was taken then, `branch` begins a line at
the `snapshot` it names, and what an `erase` event lists under `erased` stands on no branch from then on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel, bindparam, col, select
from sqlmodel.sql.expression import SelectOfScalar

from memory_snapshot.canonical import NO_HASH, canonical, digest, moment
from memory_snapshot.tables import Event, Space
from usrland import Principal

__all__ = [
    "MAIN",
    "append",
    "event_hash",
    "find_space",
    "first_hash",
    "has_turned",
    "inserting",
    "last_event",
    "last_seq_at",
    "lock_space",
    "now_after",
    "said",
]

MAIN = "main"
"""The branch that is there from the beginning."""


def find_space(session: Session, principal: Principal) -> Space | None:
    """The space that this principal may reach; None before the first write."""
    named = {"tenant": principal.tenant, "name": principal.namespace}
    return session.exec(_space_of(), params=named).first()


@cache
def _space_of() -> SelectOfScalar[Space]:
    """Made once, as all that every call asks: putting a question together takes longer than asking it."""
    return select(Space).where(Space.tenant == bindparam("tenant"), Space.name == bindparam("name"))


def lock_space(session: Session, principal: Principal) -> Space:
    """The principal's space, made on first use. Other writers of it wait until this transaction ends."""
    # SQLite ignores FOR UPDATE: there the whole database is locked already
    locked, named = _space_of().with_for_update(), {"tenant": principal.tenant, "name": principal.namespace}
    space = session.exec(locked, params=named).first()
    if space is None:
        session.execute(inserting(session, Space).values(**named).on_conflict_do_nothing())
        space = session.exec(locked, params=named).one()
    return space


def inserting(session: Session, table: type[SQLModel]) -> Any:
    """An INSERT that can say what to do where the row is there already."""
    postgres = session.get_bind().dialect.name == "postgresql"
    return (postgresql.insert if postgres else sqlite.insert)(table)


def last_event(session: Session, space_id: int) -> Event | None:
    return session.exec(_last_event(), params={"space": space_id}).first()


@cache
def _last_event() -> SelectOfScalar[Event]:
    return select(Event).where(Event.space_id == bindparam("space")).order_by(col(Event.seq).desc()).limit(1)


def first_hash(session: Session, space_id: int) -> str | None:
    """By which two journals are told to be of one memory."""
    return session.exec(select(Event.hash).where(Event.space_id == space_id, Event.seq == 1)).first()


def last_seq_at(session: Session, space_id: int, at: str) -> int:
    """The last event up to a moment; 0 where there is none."""
    query = select(Event.seq).where(Event.space_id == space_id, Event.at <= at).order_by(col(Event.seq).desc())
    return session.exec(query.limit(1)).first() or 0


TURNS = "op IN ('branch', 'rollback', 'merge', 'import')"
"""What can make an older version stand again. As in the index of the migration, or it would not be used."""


def has_turned(session: Session, space_id: int) -> bool:
    """Whether time always ran forwards in this space."""
    query = select(Event.seq).where(Event.space_id == space_id, text(TURNS)).limit(1)
    return session.exec(query).first() is not None


def now_after(last: Event | None) -> str:
    """The present, or the last event's moment where a clock was set back."""
    now = moment(datetime.now(UTC))
    return max(now, last.at) if last else now


def said(event: Event) -> dict[str, Any]:
    """The payload."""
    payload: dict[str, Any] = json.loads(event.payload)
    return payload


def append(
    session: Session,
    space: Space,
    last: Event | None,
    *,
    op: str,
    branch: str,
    actor: str,
    at: str,
    payload: Mapping[str, Any],
) -> Event:
    """Add one event behind `last`; the space is locked by the caller."""
    assert space.id is not None
    event = Event(
        space_id=space.id,
        seq=last.seq + 1 if last else 1,
        hash=NO_HASH,
        op=op,
        branch=branch,
        actor=actor,
        payload=canonical(payload),
        at=at,
    )
    event.hash = event_hash(space, last.hash if last else NO_HASH, event)
    session.add(event)
    session.flush()
    return event


def event_hash(space: Space, before: str, event: Event) -> str:
    """What `hash` has to be. The space is part of it, so that a chain cannot be moved to another tenant."""
    fields = event.model_dump(exclude={"space_id", "hash"})
    return digest(canonical({"space": [space.tenant, space.name], "before": before, **fields}))
