"""Three-way merge, by item: what only one side changed is taken, what both changed differently is a conflict.

Kinds that record what happened (observations, transcripts, summaries) cannot contradict each other: both
versions are kept. Facts, decisions and the like can, and so can two items of one key; these come back as data,
and nothing is written until each is decided. A removal on one side never wins over a change on the other
without being asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlmodel import Session

from memory_snapshot import drafts
from memory_snapshot.canonical import commitment, short
from memory_snapshot.drafts import Draft, new_salt
from memory_snapshot.history import ancestry
from memory_snapshot.items import LOG_KINDS, Remembrance, load
from memory_snapshot.manifest import EMPTY, Manifest
from memory_snapshot.remember import add
from memory_snapshot.state import States
from memory_snapshot.tables import Snapshot
from memory_snapshot.wire import Clash, Merged, Resolution, Strategy, Take, Why
from memory_snapshot.writing import Writing, begin
from usrland import Conflict, InvalidInput, Principal

__all__ = ["merge"]

SHOWN_CONFLICTS = 50


@dataclass(slots=True)
class _Plan:
    """What the merge changes, item by item; `again` are versions of theirs that come in under a new id."""

    changes: dict[str, str | None] = field(default_factory=dict)
    again: list[Remembrance] = field(default_factory=list)
    conflicts: list[Clash] = field(default_factory=list)


def merge(
    session: Session,
    states: States,
    principal: Principal,
    *,
    source: str,
    into: str | None,
    strategy: Strategy,
    resolutions: Sequence[Resolution],
    expected_head: str | None,
    dry_run: bool,
) -> Merged:
    """Bring what `source` has into `into`. Raises `Conflict` with the conflicts where some are undecided."""
    theirs = begin(session, states, principal, branch=source)
    ours = begin(session, states, principal, branch=into, expected_head=expected_head)
    if ours.branch == theirs.branch:
        raise InvalidInput(f"branch {source!r} cannot be merged into itself.")
    base = _base(ours, theirs)
    plan = _plan(ours, theirs, base, strategy, resolutions)
    done = Merged(
        source=theirs.branch,
        into=ours.branch,
        changes=len(plan.changes) + len(plan.again),
        conflicts=plan.conflicts[:SHOWN_CONFLICTS],
    )
    if dry_run:
        return done
    if plan.conflicts:
        raise Conflict(
            f"{len(plan.conflicts)} items were changed on both sides; nothing was written.",
            fix="Decide each and repeat with resolutions=[{id, take}], or choose another strategy.",
            details=done.model_dump(mode="json", exclude_none=True),
        )
    if theirs.head is None or theirs.state.newer:
        theirs.commit(drafts.message(f"before the merge into {ours.branch}"), "merge")
        ours.last = theirs.last
    _apply(ours, plan, theirs)
    snapshot = ours.commit(drafts.message(f"merged {theirs.branch}"), "merge", merged=theirs.head)
    return done.model_copy(update={"snapshot": snapshot.id})


def _base(ours: Writing, theirs: Writing) -> Manifest:
    """The newest state that both come from; empty where they have nothing in common."""
    if ours.head is None or theirs.head is None:
        return EMPTY
    common = ancestry(ours.session, ours.space_id, ours.head).keys()
    line = ancestry(theirs.session, theirs.space_id, theirs.head)
    shared: list[Snapshot] = [snapshot for name, snapshot in line.items() if name in common]
    if not shared:
        return EMPTY
    newest = max(shared, key=lambda snapshot: snapshot.seq)
    return ours.states.of_snapshot(ours.session, newest).standing


def _plan(
    ours: Writing, theirs: Writing, base: Manifest, strategy: Strategy, resolutions: Sequence[Resolution]
) -> _Plan:
    here, there = base.changes_to(ours.standing), base.changes_to(theirs.standing)
    oids = {oid for found in (here, there) for oid in found.values() if oid is not None}
    oids |= {base[name] for name in (here.keys() | there.keys()) if name in base}
    known = load(ours.session, ours.space_id, oids)
    by_key = {known[oid].key: name for name, oid in here.items() if oid is not None and known[oid].key}
    by_words = {_words(known[oid]) for oid in here.values() if oid is not None}
    plan = _Plan()
    decided = {short(resolution.id.lower()): resolution.take for resolution in resolutions}
    if unknown := decided.keys() - {short(name) for name in (*here, *there)}:
        raise InvalidInput(f"resolutions: there is no conflict {min(unknown)!r}.", fix="Ask with dry_run first.")
    for name, oid in sorted(there.items()):
        new = known[oid] if oid is not None else None
        if new is not None and new.said is None:
            continue  # erased since
        if name in here:
            if here[name] != oid:
                old = known[mine] if (mine := here[name]) is not None else None
                why: Why = "changed on both sides" if old and new else "removed on one side"
                clash = _clash(name, why, known.get(base.get(name, "")), old, new)
                _settle(plan, clash, name, old, new, _take(clash, old, new, strategy, decided))
            continue
        rival = by_key.get(new.key) if new is not None and new.key is not None else None
        if new is not None and rival is not None and rival != name:
            mine = here[rival]
            assert mine is not None
            clash = _clash(rival, "same key on both sides", None, known[mine], new)
            take = (
                "ours" if _words(known[mine]) == _words(new) else _take(clash, known[mine], new, strategy, decided)
            )
            if take == "theirs":
                plan.changes[rival] = None
            _settle(plan, clash, name, known[mine], new, take)
        elif new is None or name in base or _words(new) not in by_words:
            plan.changes[name] = oid
    return plan


def _words(item: Remembrance) -> tuple[str, str | None]:
    return (item.kind, item.text)


def _take(
    clash: Clash,
    ours: Remembrance | None,
    theirs: Remembrance | None,
    strategy: Strategy,
    decided: Mapping[str, Take],
) -> Take | None:
    """How a conflict is decided; None where it is not."""
    if clash.id in decided:
        return decided[clash.id]
    if ours is not None and theirs is not None:
        if _words(ours) == _words(theirs):
            return "ours"  # the same was said twice
        if ours.kind in LOG_KINDS and theirs.kind in LOG_KINDS:
            return "both"
        if strategy == "newest":
            return "theirs" if _since(theirs) > _since(ours) else "ours"
    return None if strategy == "ask" or strategy == "newest" else strategy


def _since(item: Remembrance) -> tuple[str, str]:
    return (item.valid_from or item.recorded_at, item.recorded_at)


def _settle(
    plan: _Plan,
    clash: Clash,
    name: str,
    ours: Remembrance | None,
    theirs: Remembrance | None,
    take: Take | None,
) -> None:
    if take is None:
        plan.conflicts.append(clash)
    elif take == "theirs" or (take == "both" and ours is None):
        plan.changes[name] = theirs.oid if theirs else None
    elif take == "both" and theirs is not None:
        plan.again.append(theirs)


def _clash(
    name: str, why: Why, base: Remembrance | None, ours: Remembrance | None, theirs: Remembrance | None
) -> Clash:
    item = theirs or ours
    assert item is not None
    return Clash(
        id=short(name),
        why=why,
        kind=item.kind,
        key=item.key,
        base=base.text if base else None,
        ours=ours.text if ours else None,
        theirs=theirs.text if theirs else None,
    )


def _apply(writing: Writing, plan: _Plan, theirs: Writing) -> None:
    put = [(name, oid) for name, oid in sorted(plan.changes.items()) if oid is not None]
    drop = [name for name, oid in plan.changes.items() if oid is None]
    seq = writing.next_seq
    for place, item in enumerate(plan.again):
        again = add(writing, _again(item), replaced=[], seq=seq, place=place)
        put.append((again.item_id, again.oid))
    writing.record("merge", put=put, drop=drop, merged=theirs.head)


def _again(item: Remembrance) -> Draft:
    """The same once more, as an item of its own: without the key, which the other one keeps."""
    assert item.said is not None
    said = replace(item.said, key=None)
    salt = new_salt()
    return Draft(
        said=said,
        kind=item.kind,
        origin=item.trust,
        valid_from=item.valid_from,
        valid_to=item.valid_to,
        retention=item.retention,
        supersedes=(),
        derived_from=(),
        pin=item.pinned,
        tokens=item.tokens,
        salt=salt,
        commitment=commitment(salt, said.committed),
    )
