"""How a memory is: where it stands, how much there is, what the index has read."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session, col, func, select

from memory_snapshot import journal, usage
from memory_snapshot.anchors import Anchors
from memory_snapshot.canonical import NO_HASH
from memory_snapshot.feeding import position
from memory_snapshot.journal import MAIN
from memory_snapshot.kernels import KernelProfile
from memory_snapshot.manifest import Manifest
from memory_snapshot.questions import HEAD
from memory_snapshot.snapshots import PIN, find_state
from memory_snapshot.state import States
from memory_snapshot.tables import Body, ItemVersion, Ref, Returned, Snapshot
from memory_snapshot.wire import Rot, Status
from memory_snapshot.writing import seat
from usrland import Principal

__all__ = ["status"]

_COUNTS = ("newer", "items", "tokens", "snapshots", "versions", "erased", "events", "indexed")


def status(
    session: Session,
    states: States,
    principal: Principal,
    *,
    index_name: str | None,
    kernel: KernelProfile,
    anchors: Anchors | None,
) -> Status:
    """The principal's space."""
    space = journal.find_space(session, principal)
    figures: dict[str, Any] = {
        "advertised": kernel.advertised,
        "reliable": kernel.reliable,
        "basis": kernel.source,
    }
    if space is None or space.id is None:
        nothing: dict[str, Any] = dict.fromkeys(_COUNTS, 0)
        return Status(branch=MAIN, branches=1, journal=NO_HASH, **nothing, **figures)
    state = find_state(session, states, space.id, principal, HEAD)
    last = journal.last_event(session, space.id)
    problem = anchors.problem(space, last) if anchors else None
    versions = _count(session, select(func.count()).where(ItemVersion.space_id == space.id))
    snapshots = _count(session, select(func.count()).where(Snapshot.space_id == space.id))
    said = _count(
        session,
        select(func.count()).where(
            Body.space_id == space.id,
            col(Body.seq).not_in(select(Snapshot.seq).where(Snapshot.space_id == space.id)),
        ),
    )
    refs = session.exec(select(Ref.name).where(Ref.space_id == space.id, ~col(Ref.name).startswith(PIN))).all()
    return Status(
        branch=seat(session, space.id, principal),
        head=state.snapshot,
        newer=state.newer,
        items=len(state.standing),
        tokens=states.tokens(session, space.id, state),
        branches=len({*refs, MAIN}),
        snapshots=snapshots,
        versions=versions,
        erased=versions - said,
        events=last.seq if last else 0,
        journal=last.hash if last else NO_HASH,
        indexed=position(session, index_name, space.id),
        rot=_rot(session, states, space.id, state.standing, last.seq if last else 0),
        quota=_quota(session, states, space.id, len(state.standing)),
        problems=[problem] if problem else None,
        **figures,
    )


def _rot(session: Session, states: States, space_id: int, standing: Manifest, seq: int) -> Rot:
    kept_out = usage.counted(session, space_id)
    oids = list(standing.values())
    returned = set(session.exec(select(Returned.item_id).where(Returned.space_id == space_id)))
    return Rot(
        duplicates=kept_out.get("duplicate", 0),
        echoes=kept_out.get("echo", 0),
        secrets=kept_out.get("secret", 0),
        similar=states.similar.pairs(session, space_id, oids, until=seq),
        never_returned=sum(item_id not in returned for item_id in standing),
    )


def _quota(session: Session, states: States, space_id: int, items: int) -> str | None:
    quota = states.quota
    if quota is None:
        return None
    tokens = usage.kept(session, space_id)
    return f"{items} of {quota.items} items, {tokens} of {quota.tokens} tokens with old versions"


def _count(session: Session, query: object) -> int:
    return int(session.exec(query).one())  # type: ignore[call-overload]
