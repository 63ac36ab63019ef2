"""Does everything still say what it said? Recomputes every hash of a space.

Finds any edit of an event, a version, a text, a page, a snapshot or a branch. A journal that was cut off at its
end together with all that hung on it, or replaced as a whole by a consistent one, is found out by a head that was
signed before and kept somewhere else: by the server itself (`anchors`), or by a person (`usrland memory head`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlmodel import Session, col, select

from memory_snapshot import journal
from memory_snapshot.anchors import Anchors, chain_name, differing
from memory_snapshot.canonical import NO_HASH, commitment
from memory_snapshot.drafts import words
from memory_snapshot.items import always_applies, said_in, version_oid
from memory_snapshot.journal import MAIN, said
from memory_snapshot.manifest import EMPTY, Manifest, children, entries
from memory_snapshot.snapshots import PIN
from memory_snapshot.tables import Body, Event, ItemVersion, Lineage, Page, Ref, Snapshot, Space
from memory_snapshot.writing import snapshot_id
from usrland import Principal
from usrland.audit import Checkpoint

__all__ = ["Verification", "verify"]

_Place = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """`problems` is empty where all is well. `head` is (seq, hash) of the last event."""

    problems: list[str]
    head: tuple[int, str]
    events: int
    versions: int
    erased: int
    snapshots: int


@dataclass(slots=True, kw_only=True)
class _Replay:
    """The journal as told by its events alone."""

    branches: dict[str, Manifest] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    roots: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Snapshot → (seq, root) as it has to be."""
    places: dict[str, int] = field(default_factory=dict)
    """oid → the event that first put it."""
    erased: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def verify(
    session: Session, *, principal: Principal, anchors: Anchors | None = None, heads: Sequence[Checkpoint] = ()
) -> Verification:
    """Check the principal's space, against `heads` of before where there are any; costs one look at every row."""
    space = journal.find_space(session, principal)
    if space is None or space.id is None:
        space = Space(tenant=principal.tenant, name=principal.namespace)
        lost = [*_anchor(anchors, space, []), *_kept(heads, space, [])]
        return Verification(problems=lost, head=(0, NO_HASH), events=0, versions=0, erased=0, snapshots=0)
    events = session.exec(select(Event).where(Event.space_id == space.id).order_by(col(Event.seq))).all()
    versions = {row.oid: row for row in session.exec(select(ItemVersion).where(ItemVersion.space_id == space.id))}
    bodies = {(row.seq, row.place): row for row in session.exec(select(Body).where(Body.space_id == space.id))}
    snapshots = {row.id: row for row in session.exec(select(Snapshot).where(Snapshot.space_id == space.id))}
    replay = _replay(events, versions)
    problems = [
        *_anchor(anchors, space, events),
        *_kept(heads, space, events),
        *_chain(space, events),
        *replay.problems,
        *_versions(session, space.id, versions, bodies, replay),
        *_bodies(bodies, versions, snapshots, replay),
        *_snapshots(snapshots, replay),
        *_pages(session, space.id, snapshots, versions),
        *_refs(session, space.id, replay, snapshots),
    ]
    places = {(version.seq, version.place) for version in versions.values()}
    return Verification(
        problems=problems,
        head=(events[-1].seq, events[-1].hash) if events else (0, NO_HASH),
        events=len(events),
        versions=len(versions),
        erased=len(places - bodies.keys()),
        snapshots=len(snapshots),
    )


def _anchor(anchors: Anchors | None, space: Space, events: Sequence[Event]) -> Iterator[str]:
    problem = anchors.problem(space, events[-1] if events else None) if anchors else None
    if problem:
        yield problem


def _kept(heads: Sequence[Checkpoint], space: Space, events: Sequence[Event]) -> Iterator[str]:
    name = chain_name(space)
    for head in heads:
        if head.chain == name and (head.size > len(events) or differing(head, events[head.size - 1])):
            yield f"event {head.size} is not the one whose head was kept: the journal was cut off or replaced"


def _chain(space: Space, events: Sequence[Event]) -> Iterator[str]:
    before = NO_HASH
    for expected, event in enumerate(events, start=1):
        if event.seq != expected:
            yield f"event {expected} is missing"
            return
        if event.hash != journal.event_hash(space, before, event):
            yield f"event {event.seq} was changed"
        before = event.hash


def _replay(events: Sequence[Event], versions: Mapping[str, ItemVersion]) -> _Replay:
    """Fold the whole journal, branch by branch, as `state` folds a part of it."""
    replay = _Replay(branches={MAIN: EMPTY})
    taken: dict[str, Manifest] = {}
    for event in events:
        payload = said(event)
        if event.op == "branch":
            replay.branches[event.branch] = taken.get(payload.get("snapshot", ""), EMPTY)
            if "snapshot" in payload:
                replay.heads[event.branch] = payload["snapshot"]
        if event.op == "unbranch":
            replay.branches.pop(event.branch, None)
            replay.heads.pop(event.branch, None)
            continue
        erased = payload.get("erased", [])
        replay.erased.update(erased)
        brought = payload.get("brought", [])
        replay.erased.update(payload.get("mute", []))
        named = [*payload.get("put", []), *erased, *brought]
        if missing := [oid for oid in named if oid not in versions]:
            replay.problems += [f"version {oid} is missing" for oid in missing]
            continue
        for oid in (*brought, *payload.get("put", [])):
            replay.places.setdefault(oid, event.seq)
        changes: dict[str, str | None] = {versions[oid].item_id: oid for oid in payload.get("put", [])}
        changes.update(dict.fromkeys(payload.get("drop", [])))
        standing = replay.branches.get(event.branch, EMPTY).changed(changes)
        replay.branches[event.branch] = standing
        if erased:
            for branch, manifest in replay.branches.items():
                gone = [versions[oid].item_id for oid in erased if manifest.get(versions[oid].item_id) == oid]
                replay.branches[branch] = manifest.changed(dict.fromkeys(gone))
        if event.op == "snapshot":
            taken[payload["snapshot"]] = standing
            replay.heads[event.branch] = payload["snapshot"]
            replay.roots[payload["snapshot"]] = (event.seq, standing.root)
            if payload["root"] != standing.root:
                replay.problems.append(f"snapshot {payload['snapshot']} is not what its journal says")
    return replay


def _versions(
    session: Session,
    space_id: int,
    versions: Mapping[str, ItemVersion],
    bodies: Mapping[_Place, Body],
    replay: _Replay,
) -> Iterator[str]:
    by_place = {(version.seq, version.place): version.oid for version in versions.values()}
    lineage: dict[_Place, dict[str, list[str]]] = {}
    for row in session.exec(select(Lineage).where(Lineage.space_id == space_id)):
        target = by_place.get((row.target_seq, row.target_place), "missing")
        lineage.setdefault((row.seq, row.place), {}).setdefault(row.relation, []).append(target)
    for oid, version in versions.items():
        before = lineage.pop((version.seq, version.place), {})
        body = bodies.get((version.seq, version.place))
        core = always_applies(version.kind, version.pinned, said_in(body)) if body else version.core
        if version_oid(version, before.pop("supersedes", []), before.pop("derived_from", [])) != oid or before:
            yield f"version {oid} was changed"
        if replay.places.get(oid, version.seq) != version.seq or version.core != core:
            yield f"version {oid} is not the one its event names"
    yield from (f"lineage at {place} belongs to nothing" for place in lineage)


def _bodies(
    bodies: Mapping[_Place, Body],
    versions: Mapping[str, ItemVersion],
    snapshots: Mapping[str, Snapshot],
    replay: _Replay,
) -> Iterator[str]:
    committed = {(version.seq, version.place): (version.commitment, version.kind) for version in versions.values()}
    committed.update({(taken.seq, 0): (taken.commitment, "snapshot") for taken in snapshots.values()})
    for place, body in bodies.items():
        expected, kind = committed.get(place, ("", ""))
        if commitment(body.salt, said_in(body).committed) != expected:
            yield f"what was said at {place} was changed"
        elif body.digest != words(kind, body.text):
            yield f"the digest at {place} was changed"
    for oid, version in versions.items():
        if ((version.seq, version.place) in bodies) == (oid in replay.erased):
            yield f"the text of version {oid} is {'still there' if oid in replay.erased else 'missing'}"


def _snapshots(snapshots: Mapping[str, Snapshot], replay: _Replay) -> Iterator[str]:
    for name, snapshot in snapshots.items():
        if snapshot_id(snapshot) != name:
            yield f"snapshot {name} was changed"
        elif replay.roots.get(name) != (snapshot.seq, snapshot.root):
            yield f"snapshot {name} is not the one its event names"
    yield from (f"snapshot {name} is missing" for name in replay.roots.keys() - snapshots.keys())


def _pages(
    session: Session, space_id: int, snapshots: Mapping[str, Snapshot], versions: Mapping[str, ItemVersion]
) -> Iterator[str]:
    pages = {row.hash: row.content for row in session.exec(select(Page).where(Page.space_id == space_id))}
    for page, content in pages.items():
        if hashlib.sha256(content).digest() != page:
            yield f"page {page.hex()} was changed"
        elif any(child not in pages for child in children(content)):
            yield f"a page under {page.hex()} is missing"
        elif any(oid not in versions for oid in entries(content).values()):
            yield f"page {page.hex()} names a version that is missing"
    for snapshot in snapshots.values():
        if snapshot.paged and bytes.fromhex(snapshot.root) not in pages:
            yield f"the root page of snapshot {snapshot.id} is missing"


def _refs(session: Session, space_id: int, replay: _Replay, snapshots: Mapping[str, Snapshot]) -> Iterator[str]:
    refs = {row.name: row.snapshot for row in session.exec(select(Ref).where(Ref.space_id == space_id))}
    for name, snapshot in refs.items():
        if name.startswith(PIN):
            if snapshot not in snapshots:
                yield f"{name} keeps a snapshot that is missing"
        elif replay.heads.get(name) != snapshot:
            yield f"branch {name} does not point to its last snapshot"
    yield from (f"branch {name} is missing" for name in replay.heads.keys() - refs.keys())
