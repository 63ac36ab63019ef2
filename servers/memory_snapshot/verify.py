"""Does everything still say what it said? Recomputes every hash of a space.

Finds any edit of an event, a version, a text, a page, a snapshot or a branch. It cannot see a journal that
was cut off at its end together with all that hung on it, or that was replaced as a whole by a consistent one:
for that, keep the `head` of a verification somewhere else and compare.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from memory_snapshot import journal
from memory_snapshot.canonical import NO_HASH, commitment, digest
from memory_snapshot.drafts import words
from memory_snapshot.items import version_oid
from memory_snapshot.journal import MOVES
from memory_snapshot.manifest import children, entries
from memory_snapshot.snapshots import PIN, snapshot_id
from memory_snapshot.tables import Body, Event, ItemVersion, Lineage, Page, Ref, Snapshot, Space
from usrland import Principal

__all__ = ["Verification", "verify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """`problems` is empty where all is well. `head` is (seq, hash) of the last event."""

    problems: list[str]
    head: tuple[int, str]
    events: int
    versions: int
    erased: int
    snapshots: int


def verify(session: Session, *, principal: Principal) -> Verification:
    """Check the principal's space; costs one look at every row of it."""
    space = journal.find_space(session, principal)
    if space is None or space.id is None:
        return Verification(problems=[], head=(0, NO_HASH), events=0, versions=0, erased=0, snapshots=0)
    events = session.exec(select(Event).where(Event.space_id == space.id).order_by(col(Event.seq))).all()
    placed: dict[str, tuple[str, int, int]] = {}
    committed: dict[str, Mapping[str, object]] = {}
    for event in events:
        payload = json.loads(event.payload)
        if event.op in MOVES:
            committed[payload["snapshot"]] = payload
        else:
            for place, (item_id, oid) in enumerate(payload["put"]):
                placed[oid] = (item_id, event.seq, place)
    versions = {row.oid: row for row in session.exec(select(ItemVersion).where(ItemVersion.space_id == space.id))}
    bodies = {row.oid: row for row in session.exec(select(Body).where(Body.space_id == space.id))}
    snapshots = {row.id: row for row in session.exec(select(Snapshot).where(Snapshot.space_id == space.id))}
    problems = [
        *_chain(space, events),
        *_versions(session, space.id, versions, placed),
        *_bodies(bodies, versions),
        *_snapshots(session, space.id, snapshots, committed, versions),
        *_refs(session, space.id, events, snapshots),
    ]
    head = (events[-1].seq, events[-1].hash) if events else (0, NO_HASH)
    return Verification(
        problems=problems,
        head=head,
        events=len(events),
        versions=len(versions),
        erased=len(versions.keys() - bodies.keys()),
        snapshots=len(snapshots),
    )


def _chain(space: Space, events: Sequence[Event]) -> Iterator[str]:
    before = NO_HASH
    for expected, event in enumerate(events, start=1):
        if event.seq != expected:
            yield f"event {expected} is missing"
            return
        if event.prev_hash != before or event.hash != journal.event_hash(space, event):
            yield f"event {event.seq} was changed"
        if digest(event.payload) != event.payload_hash:
            yield f"the payload of event {event.seq} was changed"
        before = event.hash


def _versions(
    session: Session,
    space_id: int,
    versions: Mapping[str, ItemVersion],
    placed: Mapping[str, tuple[str, int, int]],
) -> Iterator[str]:
    lineage: dict[str, dict[str, list[str]]] = {}
    for row in session.exec(select(Lineage).where(Lineage.space_id == space_id)):
        lineage.setdefault(row.oid, {}).setdefault(row.relation, []).append(row.target)
    for oid, version in versions.items():
        before = lineage.pop(oid, {})
        if version_oid(version, before.pop("supersedes", []), before.pop("derived_from", [])) != oid or before:
            yield f"version {oid} was changed"
        if placed.get(oid) != (version.item_id, version.seq, version.place):
            yield f"version {oid} is not the one its event names"
    yield from (f"lineage of {oid} belongs to nothing" for oid in lineage)
    yield from (f"version {oid} is missing" for oid in placed.keys() - versions.keys())


def _bodies(bodies: Mapping[str, Body], versions: Mapping[str, ItemVersion]) -> Iterator[str]:
    for oid, body in bodies.items():
        version = versions.get(oid)
        if version is None or commitment(body.salt, body.text) != version.body_commitment:
            yield f"the text of version {oid} was changed"
        elif body.digest != words(version.kind, body.text):
            yield f"the digest of version {oid} was changed"


def _snapshots(
    session: Session,
    space_id: int,
    snapshots: Mapping[str, Snapshot],
    committed: Mapping[str, Mapping[str, object]],
    versions: Mapping[str, ItemVersion],
) -> Iterator[str]:
    pages = {row.hash: row.entries for row in session.exec(select(Page).where(Page.space_id == space_id))}
    for page, content in pages.items():
        if hashlib.sha256(content).digest() != page:
            yield f"page {page.hex()} was changed"
        elif any(child not in pages for child in children(content)):
            yield f"a page under {page.hex()} is missing"
        elif any(oid not in versions for oid in entries(content).values()):
            yield f"page {page.hex()} names a version that is missing"
    for name, snapshot in snapshots.items():
        said = committed.get(name)
        if snapshot_id(snapshot) != name:
            yield f"snapshot {name} was changed"
        elif said is None or (said["root"], said["log_seq"]) != (snapshot.root, snapshot.log_seq):
            yield f"snapshot {name} is not the one its event names"
        elif bytes.fromhex(snapshot.root) not in pages:
            yield f"the root page of snapshot {name} is missing"
    yield from (f"snapshot {name} is missing" for name in committed.keys() - snapshots.keys())


def _refs(
    session: Session, space_id: int, events: Sequence[Event], snapshots: Mapping[str, Snapshot]
) -> Iterator[str]:
    last = {event.branch: json.loads(event.payload)["snapshot"] for event in events if event.op in MOVES}
    refs = {row.name: row.snapshot for row in session.exec(select(Ref).where(Ref.space_id == space_id))}
    for name, snapshot in refs.items():
        if name.startswith(PIN):
            if snapshot not in snapshots:
                yield f"{name} keeps a snapshot that is missing"
        elif last.get(name) != snapshot:
            yield f"branch {name} does not point to its last snapshot"
    yield from (f"branch {name} is missing" for name in last.keys() - refs.keys())
