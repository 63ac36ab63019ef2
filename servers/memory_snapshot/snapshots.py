"""Snapshots: a manifest that was named, dated and chained to the one before it; and how a state is found."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

from sqlmodel import Session, col, select

from memory_snapshot import journal
from memory_snapshot.canonical import SHORT_ID, hex_range, parse_moment, short
from memory_snapshot.drafts import Draft
from memory_snapshot.journal import MAIN
from memory_snapshot.questions import HEAD
from memory_snapshot.remember import not_new, put
from memory_snapshot.said import Said
from memory_snapshot.state import State, States
from memory_snapshot.tables import Ref, Snapshot
from memory_snapshot.wire import SnapshotTaken
from memory_snapshot.writing import begin, seat
from usrland import InvalidInput, NotFound, Principal

__all__ = ["PIN", "find_snapshot", "find_state", "take"]

PIN = "pin/"
"""Refs that name a snapshot for good begin so."""
ID_CHARS = 64

_HEX = re.compile(r"[0-9a-f]{8,64}", re.IGNORECASE)


def take(
    session: Session,
    states: States,
    principal: Principal,
    items: Sequence[Draft],
    *,
    message: Said,
    reason: str,
    pin: bool,
    branch: str | None,
    expected_head: str | None,
) -> SnapshotTaken:
    """Journal the items and commit everything that then stands."""
    writing = begin(session, states, principal, branch=branch, expected_head=expected_head)
    done = put(writing, items)
    parent = writing.head
    snapshot = writing.commit(message, reason)
    if pin:
        name = PIN + short(snapshot.id)
        session.add(Ref(space_id=writing.space_id, name=name, snapshot=snapshot.id, generation=1))
    return SnapshotTaken(
        id=snapshot.id,
        branch=writing.branch,
        parent=parent,
        items=snapshot.items,
        tokens=snapshot.tokens,
        remembered=done,
        **not_new(done),
    )


def find_state(session: Session, states: States, space_id: int, principal: Principal, ref: str) -> State:
    """What `ref` means: `HEAD` is everything that was acknowledged on the principal's branch, a branch the same
    on that one, a snapshot exactly itself, an ISO time what stood on the principal's branch then."""
    own = seat(session, space_id, principal)
    if ref == HEAD:
        return states.current(session, space_id, own)
    if ref == MAIN or (not ref.startswith(PIN) and session.get(Ref, (space_id, ref)) is not None):
        return states.current(session, space_id, ref)
    if _HEX.fullmatch(ref) or ref.startswith(PIN):
        try:
            return states.of_snapshot(session, find_snapshot(session, space_id, ref))
        except NotFound:
            if len(ref) > SHORT_ID:
                raise  # eight digits may still be a date
    try:
        at = parse_moment(ref, "ref")
    except InvalidInput as error:
        raise NotFound(
            f"there is no snapshot or branch {ref!r}.",
            fix="Give HEAD, a branch, at least 8 characters of a snapshot id, or an ISO time.",
        ) from error
    return replace(states.at(session, space_id, own, journal.last_seq_at(session, space_id, at)), at=at)


def find_snapshot(session: Session, space_id: int, prefix: str) -> Snapshot:
    """The one snapshot whose id begins so, or that is pinned so. Raises `NotFound`, or `InvalidInput` where
    several do."""
    pinned = session.get(Ref, (space_id, prefix)) if prefix.startswith(PIN) else None
    prefix = pinned.snapshot if pinned else prefix.lower()
    found: Sequence[Snapshot] = []
    if _HEX.fullmatch(prefix):
        first, last = hex_range(prefix, ID_CHARS)
        found = session.exec(
            select(Snapshot)
            .where(Snapshot.space_id == space_id, col(Snapshot.id) >= first, col(Snapshot.id) <= last)
            .limit(2)
        ).all()
    if not found:
        raise NotFound(f"there is no snapshot {prefix!r}.", fix="List them with memory_history.")
    if len(found) > 1:
        raise InvalidInput(f"snapshot {prefix!r} is ambiguous.", fix="Give more characters of its id.")
    return found[0]


def parents(snapshot: Snapshot) -> list[str]:
    found: list[str] = json.loads(snapshot.parents)
    return found
