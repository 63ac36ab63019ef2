"""Snapshots: a manifest that was named, dated and chained to the one before it; and how a state is found."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from sqlalchemy import update
from sqlmodel import Session, col, func, select

from memory_snapshot import journal
from memory_snapshot.canonical import SHORT_ID, canonical, digest, parse_moment, short
from memory_snapshot.drafts import Draft
from memory_snapshot.journal import MAIN
from memory_snapshot.manifest import Pages, pages_of
from memory_snapshot.questions import HEAD
from memory_snapshot.remember import Writing, begin, put
from memory_snapshot.state import State, States, in_batches
from memory_snapshot.tables import ItemVersion, Page, Ref, Snapshot
from memory_snapshot.wire import SnapshotTaken
from usrland import Conflict, InvalidInput, NotFound, Principal

__all__ = ["PIN", "find_snapshot", "find_state", "snapshot_id", "take"]

PIN = "pin/"
"""Refs that keep a snapshot from ever being compacted away begin so."""
MAX_MESSAGE = 2_000

_HEX = re.compile(r"[0-9a-f]{8,64}", re.IGNORECASE)


def take(
    session: Session,
    states: States,
    principal: Principal,
    items: Sequence[Draft],
    *,
    message: str,
    reason: str,
    pin: bool,
    expected_head: str | None,
) -> SnapshotTaken:
    """Journal the items and commit everything that then stands."""
    if not 0 < len(message.strip()) <= MAX_MESSAGE:
        raise InvalidInput(f"message has {len(message)} characters.", fix=f"Write 1 to {MAX_MESSAGE}.")
    writing = begin(session, states, principal, expected_head)
    done = put(writing, items)
    snapshot = _commit(writing, states, message=message.strip(), reason=reason)
    _move(writing, snapshot.id)
    if pin:
        session.add(
            Ref(space_id=writing.space_id, name=PIN + short(snapshot.id), snapshot=snapshot.id, generation=1)
        )
    working_set = json.loads(snapshot.working_set)
    return SnapshotTaken(
        id=snapshot.id,
        parent=next(iter(json.loads(snapshot.parents)), None),
        items=working_set["items"],
        tokens=working_set["tokens"],
        remembered=done,
        duplicates=sum(not item.new for item in done),
    )


def _commit(writing: Writing, states: States, *, message: str, reason: str) -> Snapshot:
    root, pages = pages_of(writing.standing)
    _store_pages(writing, pages)
    snapshot = Snapshot(
        space_id=writing.space_id,
        id="",
        root=root.hex(),
        parents=_dump([writing.head] if writing.head else []),
        author=canonical({"subject": writing.actor}),
        message=message,
        reason=reason,
        working_set=canonical(
            {"items": len(writing.standing), "tokens": _tokens(writing, writing.standing.values())}
        ),
        log_seq=writing.last.seq if writing.last else 0,
        taken_at=writing.at,
    )
    snapshot.id = snapshot_id(snapshot)
    writing.session.add(snapshot)
    writing.record("snapshot", {"snapshot": snapshot.id, "root": snapshot.root, "log_seq": snapshot.log_seq})
    states.learn(writing.space_id, root, dict(writing.standing))
    return snapshot


def snapshot_id(snapshot: Snapshot) -> str:
    """The hash of all that a snapshot says. Where the journal stood is not part of it: that is the journal's
    to say (its event holds `log_seq`), and the same snapshot in another journal keeps its id."""
    return digest(canonical(snapshot.model_dump(exclude={"space_id", "id", "log_seq"})))


def _store_pages(writing: Writing, pages: Pages) -> None:
    known: set[bytes] = set()
    for some in in_batches(pages):
        known.update(
            writing.session.exec(
                select(Page.hash).where(Page.space_id == writing.space_id, col(Page.hash).in_(some))
            )
        )
    writing.session.add_all(
        Page(space_id=writing.space_id, hash=name, entries=content)
        for name, content in pages.items()
        if name not in known
    )


def _tokens(writing: Writing, oids: Collection[str]) -> int:
    total = 0
    for some in in_batches(oids):
        query = select(func.sum(ItemVersion.tokens)).where(
            ItemVersion.space_id == writing.space_id, col(ItemVersion.oid).in_(some)
        )
        total += int(writing.session.exec(query).one() or 0)
    return total


def _move(writing: Writing, snapshot: str) -> None:
    """Point the branch to `snapshot`, if it is still where this transaction found it."""
    ref = writing.ref
    if ref is None:
        writing.session.add(Ref(space_id=writing.space_id, name=writing.branch, snapshot=snapshot, generation=1))
        return
    moved = writing.session.connection().execute(
        update(Ref)
        .where(
            col(Ref.space_id) == writing.space_id,
            col(Ref.name) == writing.branch,
            col(Ref.snapshot) == ref.snapshot,
            col(Ref.generation) == ref.generation,
        )
        .values(snapshot=snapshot, generation=ref.generation + 1)
    )
    if moved.rowcount != 1:
        raise Conflict(f"the head is no longer {ref.snapshot}; nothing was written.")


def find_state(session: Session, states: States, space_id: int, ref: str) -> State:
    """What `ref` means: `HEAD` is everything that was acknowledged, a snapshot exactly itself, an ISO time
    what stood then."""
    if ref == HEAD:
        return states.current(session, space_id, MAIN)
    if _HEX.fullmatch(ref):
        try:
            return states.of_snapshot(session, find_snapshot(session, space_id, ref))
        except NotFound:
            if len(ref) > SHORT_ID:
                raise  # eight digits may still be a date
    try:
        at = parse_moment(ref, "ref")
    except InvalidInput as error:
        raise NotFound(
            f"there is no snapshot {ref!r}.",
            fix="Give HEAD, at least 8 characters of a snapshot id, or an ISO time.",
        ) from error
    return replace(states.at(session, space_id, MAIN, journal.last_seq_at(session, space_id, at)), at=at)


def find_snapshot(session: Session, space_id: int, prefix: str) -> Snapshot:
    """The one snapshot whose id begins so. Raises `NotFound`, or `InvalidInput` where several do."""
    prefix = prefix.lower()
    found = session.exec(
        select(Snapshot)
        .where(Snapshot.space_id == space_id, Snapshot.id >= prefix, Snapshot.id < prefix + "g")
        .limit(2)
    ).all()
    if not found:
        raise NotFound(f"there is no snapshot {prefix!r}.", fix="List them with memory_history.")
    if len(found) > 1:
        raise InvalidInput(f"snapshot {prefix!r} is ambiguous.", fix="Give more characters of its id.")
    return found[0]


def _dump(value: list[str]) -> str:
    return json.dumps(value, separators=(",", ":"))
