"""Branches: lines of snapshots that go on independently, and who works on which.

A fork copies nothing. What was in no snapshot when it was made becomes one on the new branch, and only there,
so that nobody else's head moves.
"""

from __future__ import annotations

import re
from dataclasses import replace

from sqlalchemy import delete
from sqlmodel import Session, col, select

from memory_snapshot import drafts, journal
from memory_snapshot.canonical import parse_moment
from memory_snapshot.journal import MAIN
from memory_snapshot.questions import HEAD
from memory_snapshot.snapshots import PIN, find_state
from memory_snapshot.state import State, States
from memory_snapshot.tables import Ref, Seat
from memory_snapshot.wire import Branch, Branches
from memory_snapshot.writing import Writing, begin, seat
from usrland import Conflict, InvalidInput, Principal

__all__ = ["create", "fork", "listed", "remove", "switch"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
_ID = re.compile(r"[0-9a-fA-F]{8,64}")


def create(
    session: Session, states: States, principal: Principal, *, name: str, source: str, expected_head: str | None
) -> Branches:
    """Begin a branch where `source` stands."""
    _check_name(name)
    writing = begin(session, states, principal, expected_head=expected_head)
    if name == MAIN or session.get(Ref, (writing.space_id, name)) is not None:
        raise Conflict(f"branch {name!r} is there already.", fix="Choose another name, or switch to it.")
    state = writing.state if source == HEAD else find_state(session, states, writing.space_id, principal, source)
    head = fork(writing, name, state)
    return Branches(
        current=writing.branch, branches=[Branch(name=name, head=head, items=len(state.standing), newer=0)]
    )


def fork(writing: Writing, name: str, state: State) -> str:
    """Begin a branch at a state; the snapshot it stands on."""
    session = writing.session
    base = state.snapshot
    start = writing.states.taken(session, writing.space_id, base) if base else State()
    line = replace(writing, branch=name, ref=None, state=start, standing=start.standing)
    line.record("branch", snapshot=base)
    if base is not None:
        line.ref = Ref(space_id=writing.space_id, name=name, snapshot=base, generation=1)
        session.add(line.ref)
    if base is None or start.standing != state.standing:
        line.turn_into("fork", state.standing)
        line.commit(drafts.message(f"what {name} began with"), "branch")
    writing.last = line.last
    assert line.head is not None
    return line.head


def switch(
    session: Session, states: States, principal: Principal, *, name: str, expected_head: str | None
) -> Branches:
    """Have the principal work on a branch from now on, in every session."""
    writing = begin(session, states, principal, branch=name, expected_head=expected_head)
    session.merge(Seat(space_id=writing.space_id, subject=principal.subject, branch=name))
    session.flush()
    return listed(session, states, principal, only=name)


def remove(
    session: Session, states: States, principal: Principal, *, name: str, expected_head: str | None
) -> Branches:
    """Take the name away. Its snapshots stay and are found by their ids; whoever worked on it is on `main`."""
    if name == MAIN:
        raise InvalidInput(f"branch {MAIN!r} cannot be deleted.")
    writing = begin(session, states, principal, branch=name, expected_head=expected_head)
    writing.record("unbranch", snapshot=writing.head)
    session.delete(writing.ref)
    seats = delete(Seat).where(col(Seat.space_id) == writing.space_id, col(Seat.branch) == name)
    session.connection().execute(seats)
    session.flush()
    session.expire_all()
    return listed(session, states, principal)


def listed(session: Session, states: States, principal: Principal, *, only: str | None = None) -> Branches:
    """Every branch by name, or one."""
    space = journal.find_space(session, principal)
    if space is None or space.id is None:
        return Branches(current=MAIN, branches=[Branch(name=MAIN, items=0, newer=0)])
    own = seat(session, space.id, principal)
    query = select(Ref).where(Ref.space_id == space.id, ~col(Ref.name).startswith(PIN))
    heads = {MAIN: None, own: None, **{ref.name: ref.snapshot for ref in session.exec(query)}}
    names = sorted(heads) if only is None else [only]
    return Branches(
        current=own, branches=[_branch(session, states, space.id, name, heads[name]) for name in names]
    )


def _branch(session: Session, states: States, space_id: int, name: str, head: str | None) -> Branch:
    state = states.current(session, space_id, name)
    return Branch(name=name, head=head, items=len(state.standing), newer=state.newer)


def _check_name(name: str) -> None:
    taken = name == HEAD or name.startswith(PIN) or _ID.fullmatch(name) is not None
    try:
        parse_moment(name, "name")
        taken = True
    except InvalidInput:
        pass
    if taken or not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot name a branch.",
            fix="Use letters, digits and . _ / -, and nothing that reads as a snapshot id or a date.",
        )
