"""What stands: the items of a branch at one point of the journal.

A state is the manifest of the branch's last snapshot with the events after it folded in. Only the newest
version of an item is in it, and none that another item superseded; older ones are reached from there, by
lineage, when somebody asks what was true at an earlier time.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from sqlmodel import Session, col, or_, select

from memory_snapshot import manifest
from memory_snapshot.canonical import NO_HASH
from memory_snapshot.journal import MOVES
from memory_snapshot.manifest import Manifest
from memory_snapshot.tables import Event, ItemVersion, Lineage, Page, Snapshot

__all__ = ["State", "States", "in_batches", "in_force", "predecessors"]

BATCH = 500
"""Values in one IN (…): databases have limits."""
KEPT_STATES = 64
KEPT_MANIFESTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """`standing` is the manifest as of event `seq`; `newer` counts what changed since `snapshot`.

    `at` is the moment that was asked for, where it was a moment.
    """

    seq: int = 0
    hash: str = NO_HASH
    snapshot: str | None = None
    standing: Manifest
    newer: int = 0
    at: str | None = None


class States:
    """The states of one database, remembered: events never change, so what was folded once stays right.

    A state is only remembered for events that were committed when it was read; whoever appends reads first.
    """

    def __init__(self) -> None:
        self._current: OrderedDict[tuple[int, str], State] = OrderedDict()
        self._manifests: OrderedDict[tuple[int, str], Manifest] = OrderedDict()
        self._lock = Lock()

    def current(self, session: Session, space_id: int, branch: str) -> State:
        """All that was committed."""
        known = self._known(session, space_id, branch)
        state = (
            self._fold(session, space_id, branch, known, None)
            if known
            else self.at(session, space_id, branch, None)
        )
        with self._lock:
            _keep(self._current, (space_id, branch), state, KEPT_STATES)
        return state

    def at(self, session: Session, space_id: int, branch: str, seq: int | None) -> State:
        """Up to and with event `seq`."""
        query = select(Event).where(Event.space_id == space_id, Event.branch == branch, col(Event.op).in_(MOVES))
        if seq is not None:
            query = query.where(Event.seq <= seq)
        base = session.exec(query.order_by(col(Event.seq).desc()).limit(1)).first()
        start = (
            State(standing={}) if base is None else self._moved(session, space_id, base, json.loads(base.payload))
        )
        return self._fold(session, space_id, branch, start, seq)

    def of_snapshot(self, session: Session, snapshot: Snapshot) -> State:
        """Exactly what was committed, and nothing after it."""
        standing = self._manifest(session, snapshot.space_id, snapshot.root)
        return State(seq=snapshot.log_seq, snapshot=snapshot.id, standing=standing)

    def _known(self, session: Session, space_id: int, branch: str) -> State | None:
        with self._lock:
            known = self._current.get((space_id, branch))
        if known is None or known.seq == 0:
            return None
        found = session.exec(select(Event.hash).where(Event.space_id == space_id, Event.seq == known.seq)).first()
        return known if found == known.hash else None  # another hash: the database was replaced by another one

    def _fold(self, session: Session, space_id: int, branch: str, state: State, until: int | None) -> State:
        query = select(Event).where(Event.space_id == space_id, Event.branch == branch, Event.seq > state.seq)
        if until is not None:
            query = query.where(Event.seq <= until)
        standing = dict(state.standing)
        for event in session.exec(query.order_by(col(Event.seq))):
            payload = json.loads(event.payload)
            if event.op in MOVES:
                state = self._moved(session, space_id, event, payload)
                standing = dict(state.standing)
                continue
            standing.update(payload["put"])
            for item_id in payload["drop"]:
                standing.pop(item_id, None)
            changes = len(payload["put"]) + len(payload["drop"])
            state = replace(state, seq=event.seq, hash=event.hash, newer=state.newer + changes)
        return replace(state, standing=standing)

    def _moved(self, session: Session, space_id: int, event: Event, payload: Mapping[str, Any]) -> State:
        """Such an event makes a snapshot what stands, whatever stood before."""
        standing = self._manifest(session, space_id, payload["root"])
        return State(seq=event.seq, hash=event.hash, snapshot=payload["snapshot"], standing=standing)

    def learn(self, space_id: int, root: bytes, standing: Manifest) -> None:
        """Spare the next reader the pages; what a root stands for can never change."""
        with self._lock:
            _keep(self._manifests, (space_id, root.hex()), standing, KEPT_MANIFESTS)

    def _manifest(self, session: Session, space_id: int, root: str) -> Manifest:
        with self._lock:
            known = self._manifests.get((space_id, root))
        if known is not None:
            return known

        def fetch(names: Iterable[bytes]) -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            for some in in_batches(names):
                query = select(Page.hash, Page.entries).where(Page.space_id == space_id, col(Page.hash).in_(some))
                found.update(session.exec(query).all())
            return found

        standing = manifest.read(bytes.fromhex(root), fetch)
        self.learn(space_id, bytes.fromhex(root), standing)
        return standing


def _keep(kept: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)


def in_batches(values: Iterable[Any]) -> Iterable[list[Any]]:
    """Slices short enough for one query."""
    whole = list(values)
    return (whole[start : start + BATCH] for start in range(0, len(whole), BATCH))


def in_force(session: Session, space_id: int, standing: Manifest, at: str) -> set[str]:
    """The versions (oids) that are true at a moment, by what is known in this state.

    A version begins at its `valid_from`; without one, a correction begins when it was recorded, and until
    then what it superseded is in force. A first statement without `valid_from` was always true.
    """
    chosen = set(standing.values())
    exceptions = _exceptions(session, space_id, at)
    waiting = [oid for oid in chosen if oid in exceptions]
    while waiting:
        before = predecessors(session, space_id, waiting)
        reached: list[str] = []
        for oid in waiting:
            begins, ended = exceptions[oid]
            earlier = before.get(oid, [])
            not_begun = begins == "stated" or (begins == "recorded" and bool(earlier))
            if not_begun or ended:
                chosen.discard(oid)
            if not_begun:
                chosen.update(earlier)
                reached.extend(earlier)
        waiting = [oid for oid in reached if oid in exceptions]
    return chosen


def _exceptions(session: Session, space_id: int, at: str) -> dict[str, tuple[str, bool]]:
    """Versions that may not be in force: oid → (how its beginning lies after `at`, whether it has ended)."""
    query = select(ItemVersion.oid, ItemVersion.valid_from, ItemVersion.valid_to, ItemVersion.recorded_at).where(
        ItemVersion.space_id == space_id,
        or_(
            col(ItemVersion.valid_from) > at,
            col(ItemVersion.valid_to) <= at,
            col(ItemVersion.recorded_at) > at,
        ),
    )
    found: dict[str, tuple[str, bool]] = {}
    for oid, valid_from, valid_to, recorded_at in session.exec(query):
        begins = ""
        if valid_from is not None:
            begins = "stated" if valid_from > at else ""
        elif recorded_at > at:
            begins = "recorded"
        found[oid] = (begins, valid_to is not None and valid_to <= at)
    return found


def predecessors(session: Session, space_id: int, oids: Iterable[str]) -> dict[str, list[str]]:
    """oid → what it superseded."""
    found: dict[str, list[str]] = {}
    for some in in_batches(oids):
        query = select(Lineage.oid, Lineage.target).where(
            Lineage.space_id == space_id, Lineage.relation == "supersedes", col(Lineage.oid).in_(some)
        )
        for oid, target in session.exec(query.order_by(col(Lineage.oid), col(Lineage.target))):
            found.setdefault(oid, []).append(target)
    return found
