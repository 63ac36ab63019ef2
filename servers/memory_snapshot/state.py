"""What stands: the items of a branch at one point of the journal.

A state is the last stored manifest of its branch with the events after it folded in. Only the newest version
of an item is in it, and none that another item superseded; older ones are reached from there, by lineage,
when somebody asks what was true at an earlier time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from threading import Lock
from typing import Any

import sqlalchemy
from sqlalchemy import CompoundSelect
from sqlmodel import Session, and_, bindparam, col, func, or_, select, tuple_, union_all
from sqlmodel.sql.expression import SelectOfScalar

from memory_snapshot.canonical import NO_HASH
from memory_snapshot.journal import said
from memory_snapshot.manifest import EMPTY, Manifest
from memory_snapshot.similar import Similar
from memory_snapshot.tables import Event, ItemVersion, Lineage, Page, Snapshot
from memory_snapshot.usage import Quota, Returns
from usrland.database import in_batches

__all__ = [
    "RELATIONS",
    "Shown",
    "State",
    "States",
    "ancestors",
    "in_force",
    "item_ids",
    "predecessors",
    "successors",
]

RELATIONS = ("supersedes", "derived_from")
KEPT_STATES = 64
KEPT_MANIFESTS = 64
WHOLE_SCAN = 2_000
"""More versions than this are cheaper to read all together than by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """`standing` is the manifest as of event `seq`; `newer` counts what changed since `snapshot`, and `changes`
    what changed since a manifest was stored. `at` is the moment that was asked for, where it was a moment."""

    seq: int = 0
    hash: str = NO_HASH
    snapshot: str | None = None
    standing: Manifest = EMPTY
    newer: int = 0
    changes: int = 0
    at: str | None = None


class States:
    """The states of one database, remembered: events never change, so what was folded once stays right.

    A state is only remembered for events that were committed when it was read; whoever appends reads first.
    What else a process knows of its database is here, too.
    """

    def __init__(self, quota: Quota | None = None) -> None:
        self.quota = quota
        self.similar = Similar()
        self.returns = Returns()
        self._current: OrderedDict[tuple[int, str], State] = OrderedDict()
        self._snapshots: OrderedDict[tuple[int, str], State] = OrderedDict()
        self._counted: OrderedDict[int, tuple[Manifest, int]] = OrderedDict()
        """Space → a manifest and its tokens."""
        self._lock = Lock()

    def current(self, session: Session, space_id: int, branch: str) -> State:
        """All that was committed on a branch."""
        with self._lock:
            known = self._current.get((space_id, branch))
        state = self._gone_on(session, space_id, branch, known) if known is not None and known.seq else None
        if state is None:
            state = self.at(session, space_id, branch, None)
            with self._lock:
                self._counted.pop(space_id, None)
        with self._lock:
            _keep(self._current, (space_id, branch), state, KEPT_STATES)
        return state

    def at(self, session: Session, space_id: int, branch: str, seq: int | None) -> State:
        """Up to and with event `seq`."""
        return self._fold(session, space_id, branch, self._start(session, space_id, branch, seq), seq)

    def of_snapshot(self, session: Session, snapshot: Snapshot) -> State:
        """Exactly what was committed, and nothing after it."""
        return self.taken(session, snapshot.space_id, snapshot.id)

    def taken(self, session: Session, space_id: int, snapshot_id: str) -> State:
        """`of_snapshot` by its whole id; a snapshot that was looked at before is not read again."""
        key = (space_id, snapshot_id)
        with self._lock:
            known = self._snapshots.get(key)
        if known is None:
            snapshot = session.get_one(Snapshot, key)
            known = self.at(session, space_id, snapshot.branch, snapshot.seq)
            with self._lock:
                _keep(self._snapshots, key, known, KEPT_MANIFESTS)
        return known

    def tokens(self, session: Session, space_id: int, state: State) -> int:
        """Of all that stands: those of what was counted last, or of the last snapshot, and what changed since."""
        with self._lock:
            before, total = self._counted.get(space_id, (None, 0))
        if before is None:
            head = session.get(Snapshot, (space_id, state.snapshot)) if state.snapshot else None
            before, total = (self.of_snapshot(session, head).standing, head.tokens) if head else (EMPTY, 0)
        if before is not state.standing:
            changes = before.changes_to(state.standing)
            total -= _tokens(session, space_id, [before[item_id] for item_id in changes if item_id in before])
            total += _tokens(session, space_id, [oid for oid in changes.values() if oid is not None])
        with self._lock:
            if any(state is known for known in self._current.values()):  # committed, whatever becomes of this call
                _keep(self._counted, space_id, (state.standing, total), KEPT_STATES)
        return total

    def _gone_on(self, session: Session, space_id: int, branch: str, known: State) -> State | None:
        """What became of a state that was remembered; None where the database was replaced by another one."""
        since = {"space": space_id, "branch": branch, "seq": known.seq}
        events = session.exec(_events_since(), params=since).all()
        if not events or (events[0].seq, events[0].hash) != (known.seq, known.hash):
            return None
        return self._folded(session, space_id, branch, known, events[1:], None)

    def _start(self, session: Session, space_id: int, branch: str, until: int | None) -> State:
        """The nearest state that need not be folded from events."""
        limit = until if until is not None else 2**31 - 1
        begun = session.exec(
            select(Event)
            .where(Event.space_id == space_id, Event.branch == branch, Event.op == "branch", Event.seq <= limit)
            .order_by(col(Event.seq).desc())
            .limit(1)
        ).first()
        stored = session.exec(
            select(Snapshot)
            .where(
                Snapshot.space_id == space_id,
                Snapshot.branch == branch,
                Snapshot.paged,
                Snapshot.seq <= limit,
                Snapshot.seq > (begun.seq if begun else 0),
            )
            .order_by(col(Snapshot.seq).desc())
            .limit(1)
        ).first()
        if stored is not None:
            return State(
                seq=stored.seq,
                hash=_hash(session, space_id, stored.seq),
                snapshot=stored.id,
                standing=_read_pages(session, space_id, stored.root),
            )
        if begun is not None:
            name = said(begun).get("snapshot")
            base = session.get(Snapshot, (space_id, name)) if name else None
            state = self.of_snapshot(session, base) if base else State()
            return replace(state, seq=begun.seq, hash=begun.hash, newer=0)
        return State()

    def _fold(self, session: Session, space_id: int, branch: str, state: State, until: int | None) -> State:
        query = select(Event).where(Event.space_id == space_id, _of_branch(branch), Event.seq > state.seq)
        if until is not None:
            query = query.where(Event.seq <= until)
        events = session.exec(query.order_by(col(Event.seq))).all()
        return self._folded(session, space_id, branch, state, events, until)

    def _folded(
        self,
        session: Session,
        space_id: int,
        branch: str,
        state: State,
        found: Sequence[Event],
        until: int | None,
    ) -> State:
        if not found:
            return state
        events = [(event, said(event)) for event in found]
        named = {oid for _, payload in events for oid in (*payload.get("put", ()), *payload.get("erased", ()))}
        items = item_ids(session, space_id, named)
        changes: dict[str, str | None] = {}
        for event, payload in events:
            if event.op == "branch":  # the line was begun anew since: the last beginning counts
                return self._fold(session, space_id, branch, self._start(session, space_id, branch, until), until)
            puts, drops = payload.get("put", ()), list(payload.get("drop", ()))
            changes.update({items[oid]: oid for oid in puts})
            for oid in payload.get("erased", ()):
                item_id = items[oid]
                if changes.get(item_id, state.standing.get(item_id)) == oid:
                    drops.append(item_id)
            changes.update(dict.fromkeys(drops))
            count = len(puts) + len(drops)
            state = replace(
                state, seq=event.seq, hash=event.hash, newer=state.newer + count, changes=state.changes + count
            )
            if event.op == "snapshot":
                changes_since = 0 if payload.get("paged") else state.changes
                state = replace(state, snapshot=payload["snapshot"], newer=0, changes=changes_since)
        return replace(state, standing=state.standing.changed(changes))


@cache
def _events_since() -> SelectOfScalar[Event]:
    since = select(Event).where(Event.space_id == bindparam("space"), _of_branch(bindparam("branch")))
    return since.where(Event.seq >= bindparam("seq")).order_by(col(Event.seq))


def _of_branch(branch: Any) -> Any:
    """An erasure is of every branch."""
    return or_(col(Event.branch) == branch, col(Event.op) == "erase")


def item_ids(session: Session, space_id: int, oids: Collection[str]) -> dict[str, str]:
    """oid → the item it is a version of."""
    query = select(ItemVersion.oid, ItemVersion.item_id).where(ItemVersion.space_id == space_id)
    if len(oids) > WHOLE_SCAN:
        return dict(session.exec(query).all())
    found: dict[str, str] = {}
    for some in in_batches(oids):
        found.update(session.exec(query.where(col(ItemVersion.oid).in_(some))).all())
    return found


def _tokens(session: Session, space_id: int, oids: Collection[str]) -> int:
    total = 0
    for some in in_batches(oids):
        total += int(session.exec(_sum_of_tokens(), params={"space": space_id, "oids": some}).one() or 0)
    return total


@cache
def _sum_of_tokens() -> SelectOfScalar[int]:
    named = col(ItemVersion.oid).in_(bindparam("oids", expanding=True))
    return select(func.sum(ItemVersion.tokens)).where(ItemVersion.space_id == bindparam("space"), named)


def _hash(session: Session, space_id: int, seq: int) -> str:
    return session.exec(select(Event.hash).where(Event.space_id == space_id, Event.seq == seq)).one()


def _read_pages(session: Session, space_id: int, root: str) -> Manifest:
    def fetch(names: Iterable[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for some in in_batches(names):
            query = select(Page.hash, Page.content).where(Page.space_id == space_id, col(Page.hash).in_(some))
            found.update(session.exec(query).all())
        return found

    return Manifest.read(root, fetch)


def _keep(kept: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is true of a state at a moment: what stands but for `hidden`, and `revealed` (oids) instead of it."""

    standing: Manifest
    hidden: frozenset[str]
    revealed: frozenset[str]

    def __contains__(self, version: tuple[str, str]) -> bool:
        """Whether this version (item id, oid) may be shown."""
        item_id, oid = version
        return oid in self.revealed or (oid not in self.hidden and self.standing.get(item_id) == oid)

    def __len__(self) -> int:
        return len(self.standing) - len(self.hidden) + len(self.revealed)


def in_force(session: Session, space_id: int, state: State, at: str, now: str) -> Shown:
    """The versions that are true at a moment, by what is known in this state.

    A version begins at its `valid_from`; without one, a correction begins when it was recorded, and until
    then what it superseded is in force. A first statement without `valid_from` was always true. What was to be
    kept until a moment (`retention`) is not shown any more, whatever moment is asked for.
    """
    exceptions = _exceptions(session, space_id, at, now)
    waiting = [oid for oid, found in exceptions.items() if state.standing.get(found.item_id) == oid]
    hidden, revealed = set(waiting), set[str]()
    while waiting:
        before = predecessors(session, space_id, [oid for oid in waiting if exceptions[oid].begins])
        reached: list[str] = []
        for oid in waiting:
            found, earlier = exceptions[oid], before.get(oid, [])
            if not found.ended and found.begins == "recorded" and not earlier:
                hidden.discard(oid)  # a first statement was always true
                continue
            revealed.discard(oid)
            if found.begins:
                revealed.update(earlier)
                reached.extend(earlier)
        waiting = [oid for oid in reached if oid in exceptions]
    return Shown(standing=state.standing, hidden=frozenset(hidden), revealed=frozenset(revealed))


@dataclass(frozen=True, slots=True)
class _Exception:
    """Why a version may not be in force: how its beginning lies after the moment, whether it has ended."""

    item_id: str
    begins: str
    ended: bool


def _exceptions(session: Session, space_id: int, at: str, now: str) -> dict[str, _Exception]:
    # nothing was recorded after now: `journal.now_after`
    late = _first_event_after(session, space_id, at) if at < now else None
    asked = {"space": space_id, "at": at, "now": now} | ({} if late is None else {"late": late})
    found: dict[str, _Exception] = {}
    for version in session.execute(_exceptional(back=late is not None), asked):
        begins = ""
        if version.valid_from is not None:
            begins = "stated" if version.valid_from > at else ""
        elif version.recorded_at > at:
            begins = "recorded"
        ended = (version.valid_to or "~") <= at or (version.retention or "~") <= now
        if begins or ended:
            found[version.oid] = _Exception(version.item_id, begins, ended)
    return found


@cache
def _exceptional(*, back: bool) -> CompoundSelect[Any]:
    """Versions that may not be in force. A part for each reason: each has an index that holds little else, and
    together they have none."""
    reasons = [
        col(ItemVersion.valid_from) > bindparam("at"),
        col(ItemVersion.valid_to) <= bindparam("at"),
        col(ItemVersion.retention) <= bindparam("now"),
    ]
    if back:
        reasons.append(col(ItemVersion.seq) >= bindparam("late"))
    facts = (col(ItemVersion.oid), col(ItemVersion.item_id), col(ItemVersion.recorded_at))
    limits = (col(ItemVersion.valid_from), col(ItemVersion.valid_to), col(ItemVersion.retention))
    query = sqlalchemy.select(*facts, *limits).where(col(ItemVersion.space_id) == bindparam("space"))
    return union_all(*(query.where(reason) for reason in reasons))


def _first_event_after(session: Session, space_id: int, at: str) -> int | None:
    query = select(Event.seq).where(Event.space_id == space_id, Event.at > at).order_by(col(Event.seq))
    return session.exec(query.limit(1)).first()


def ancestors(session: Session, space_id: int, oids: Collection[str]) -> dict[str, dict[str, list[str]]]:
    """By relation: oid → what it superseded, or was derived from, of these versions and of all that they came from
    in either way."""
    found: dict[str, dict[str, list[str]]] = {relation: {} for relation in RELATIONS}
    seen, waiting = set(oids), set(oids)
    while waiting:
        reached: set[str] = set()
        for relation in RELATIONS:
            new = predecessors(session, space_id, waiting, relation)
            found[relation].update(new)
            reached.update(*new.values())
        waiting = reached - seen
        seen |= waiting
    return found


def predecessors(
    session: Session, space_id: int, oids: Iterable[str], relation: str = "supersedes"
) -> dict[str, list[str]]:
    """oid → what it superseded, or was derived from."""
    here, there = (Lineage.seq, Lineage.place), (Lineage.target_seq, Lineage.target_place)
    return _pairs(session, space_id, oids, relation, here=here, there=there)


def successors(
    session: Session, space_id: int, oids: Iterable[str], relation: str = "supersedes"
) -> dict[str, list[str]]:
    """oid → what superseded it, or was derived from it."""
    here, there = (Lineage.target_seq, Lineage.target_place), (Lineage.seq, Lineage.place)
    return _pairs(session, space_id, oids, relation, here=here, there=there)


def _pairs(
    session: Session,
    space_id: int,
    oids: Iterable[str],
    relation: str,
    *,
    here: tuple[Any, Any],
    there: tuple[Any, Any],
) -> dict[str, list[str]]:
    """In two steps: joined in one, SQLite compares each with every version there is."""
    ends: dict[tuple[int, int], list[str]] = {}
    at = (col(ItemVersion.seq), col(ItemVersion.place))
    for some in in_batches(oids):
        link = and_(Lineage.space_id == ItemVersion.space_id, here[0] == at[0], here[1] == at[1])
        query = (
            select(ItemVersion.oid, *there)
            .join(Lineage, link)
            .where(ItemVersion.space_id == space_id, Lineage.relation == relation, col(ItemVersion.oid).in_(some))
        )
        for oid, seq, place in session.execute(query):
            ends.setdefault((seq, place), []).append(oid)
    found: dict[str, list[str]] = {}
    for places in in_batches(ends):
        others = select(*at, col(ItemVersion.oid)).where(ItemVersion.space_id == space_id, tuple_(*at).in_(places))
        for seq, place, other in session.execute(others):
            for oid in ends[seq, place]:
                found.setdefault(oid, []).append(other)
    return {oid: sorted(found[oid]) for oid in sorted(found)}
