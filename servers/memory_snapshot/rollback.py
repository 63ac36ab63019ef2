"""Going back by going on: the old state is taken up again, and what was left stays on a branch of its own.

Nothing is undone in the journal. What was erased in the meantime stays erased.
"""

from __future__ import annotations

from sqlmodel import Session

from memory_snapshot import drafts
from memory_snapshot.branches import fork
from memory_snapshot.canonical import short
from memory_snapshot.history import versions_of
from memory_snapshot.items import load
from memory_snapshot.manifest import Manifest
from memory_snapshot.snapshots import find_state
from memory_snapshot.state import States
from memory_snapshot.tables import Ref
from memory_snapshot.wire import RolledBack
from memory_snapshot.writing import Writing, begin
from usrland import NotFound, Principal

__all__ = ["rollback"]

RESCUE = "rescue/"


def rollback(
    session: Session,
    states: States,
    principal: Principal,
    *,
    to: str,
    item_id: str | None,
    key: str | None,
    reason: str,
    expected_head: str | None,
    dry_run: bool,
) -> RolledBack:
    """Take up what stood at `to`: the whole branch, or one item or key alone."""
    writing = begin(session, states, principal, expected_head=expected_head)
    target = _target(writing, find_state(session, states, writing.space_id, principal, to).standing, item_id, key)
    changes = len(writing.standing.changes_to(target))
    if dry_run or not changes:
        return RolledBack(branch=writing.branch, changes=changes)
    message = drafts.message(reason or f"rolled back to {to}")
    rescue = _rescue(writing)
    writing.turn_into("rollback", target)
    snapshot = writing.commit(message, "rollback")
    return RolledBack(branch=writing.branch, changes=changes, snapshot=snapshot.id, rescue=rescue)


def _target(writing: Writing, then: Manifest, item_id: str | None, key: str | None) -> Manifest:
    changes = writing.standing.changes_to(then)
    if item_id is not None or key is not None:
        oids = versions_of(writing.session, writing.space_id, item_id=item_id, key=key)
        names = {item.item_id for item in load(writing.session, writing.space_id, oids, said=False).values()}
        if not names:
            raise NotFound("nothing was ever remembered so.", fix="Use memory_recall to find the item's id.")
        changes = {name: oid for name, oid in changes.items() if name in names}
    texts = load(writing.session, writing.space_id, [oid for oid in changes.values() if oid is not None])
    erased = {oid for oid, item in texts.items() if item.said is None}
    return writing.standing.changed({name: oid for name, oid in changes.items() if oid not in erased})


def _rescue(writing: Writing) -> str:
    """A branch that stands where this one does now."""
    name = RESCUE + short(writing.standing.root)
    if writing.session.get(Ref, (writing.space_id, name)) is None:
        fork(writing, name, writing.after)
    return name
