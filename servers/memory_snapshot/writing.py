"""A transaction that changes a branch: the locked space, what stands in it, and the ways to change that."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col, select

from memory_snapshot import journal
from memory_snapshot.canonical import SHORT_ID, canonical, commitment, digest, short
from memory_snapshot.drafts import new_salt, words
from memory_snapshot.items import Remembrance, load
from memory_snapshot.journal import MAIN
from memory_snapshot.manifest import Manifest
from memory_snapshot.said import Said
from memory_snapshot.state import State, States
from memory_snapshot.tables import Body, Event, Page, Ref, Seat, Snapshot, Space
from memory_snapshot.usage import spend
from usrland import Conflict, NotFound, Principal, QuotaExceeded
from usrland.database import in_batches

__all__ = ["Writing", "begin", "check_head", "seat", "snapshot_id"]

PAGE_AT_LEAST = 256
"""Changes. A manifest is stored when the journal since the last stored one would take longer to fold than the
manifest to read: a snapshot costs what changed, and a cold start what there is."""


@dataclass(slots=True, kw_only=True)
class Writing:
    """What stands on one branch, kept up to date while the transaction changes it."""

    session: Session
    states: States
    space: Space
    space_id: int
    actor: str
    branch: str
    at: str
    begun: int
    """The last event that was committed before this transaction."""
    last: Event | None
    ref: Ref | None
    state: State
    standing: Manifest
    _known: dict[str, Remembrance] = field(default_factory=dict)

    @property
    def head(self) -> str | None:
        return self.ref.snapshot if self.ref else None

    @property
    def next_seq(self) -> int:
        return self.last.seq + 1 if self.last else 1

    @property
    def after(self) -> State:
        """What stands now, though nobody else can see it yet."""
        return replace(self.state, snapshot=self.head, standing=self.standing)

    def record(
        self,
        op: str,
        *,
        put: Sequence[tuple[str, str]] = (),
        drop: Iterable[str] = (),
        **more: Any,
    ) -> Event:
        """Append an event, and have it true: `put` (item id, oid) stands, the last of an item; `drop` does not."""
        dropped = sorted(drop)
        self.standing = self.standing.changed({**dict(put), **dict.fromkeys(dropped)})
        payload = {"put": [oid for _, oid in put] or None, "drop": dropped or None, **more}
        self.last = journal.append(
            self.session,
            self.space,
            self.last,
            op=op,
            branch=self.branch,
            actor=self.actor,
            at=self.at,
            payload=payload,
        )
        return self.last

    def turn_into(self, op: str, target: Manifest, **more: Any) -> int:
        """Make `target` what stands; how many items that changed."""
        changes = self.standing.changes_to(target)
        put = [(item_id, oid) for item_id, oid in sorted(changes.items()) if oid is not None]
        self.record(op, put=put, drop=[item_id for item_id, oid in changes.items() if oid is None], **more)
        return len(changes)

    def item(self, item_id: str) -> Remembrance:
        """The standing version of an item."""
        return self.version(self.standing[item_id])

    def version(self, oid: str) -> Remembrance:
        if oid not in self._known:
            self._known.update(load(self.session, self.space_id, [oid]))
        return self._known[oid]

    def spend(self, tokens: int, *, another: bool) -> None:
        """Account for one more version, of `another` item than stand already. Raises `QuotaExceeded`."""
        quota = self.states.quota
        if another and quota is not None and len(self.standing) >= quota.items:
            raise QuotaExceeded(
                f"this memory may hold {quota.items} items on a branch; nothing was stored.",
                fix="Make room with memory_compact or memory_forget, or ask the operator for more.",
            )
        spend(self.session, self.space_id, tokens, quota)

    def commit(self, message: Said, reason: str, *, merged: str | None = None) -> Snapshot:
        """Take a snapshot of what stands and move the branch to it."""
        changes = self.state.changes + len(self.state.standing.changes_to(self.standing))
        paged = changes >= max(PAGE_AT_LEAST, len(self.standing))
        if paged:
            self.store_pages()
        salt = new_salt()
        snapshot = Snapshot(
            space_id=self.space_id,
            id="",
            seq=self.next_seq,
            branch=self.branch,
            paged=paged,
            root=self.standing.root,
            parents=_dump([parent for parent in (self.head, merged) if parent]),
            author=canonical({"subject": self.actor}),
            commitment=commitment(salt, message.committed),
            reason=reason,
            items=len(self.standing),
            tokens=self.states.tokens(self.session, self.space_id, self.after),
            taken_at=self.at,
        )
        snapshot.id = snapshot_id(snapshot)
        body = Body(
            space_id=self.space_id,
            seq=snapshot.seq,
            place=0,
            salt=salt,
            digest=words("snapshot", message.text),
            text=message.text,
        )
        self.session.add_all([snapshot, body])
        self.record("snapshot", snapshot=snapshot.id, root=snapshot.root, paged=paged or None)
        self._move(snapshot.id)
        return snapshot

    def store_pages(self) -> None:
        """Keep the whole manifest, as far as it is not kept already."""
        pages = self.standing.pages()
        known: set[bytes] = set()
        for some in in_batches(pages):
            query = select(Page.hash).where(Page.space_id == self.space_id, col(Page.hash).in_(some))
            known.update(self.session.exec(query))
        self.session.add_all(
            Page(space_id=self.space_id, hash=name, content=content)
            for name, content in pages.items()
            if name not in known
        )

    def _move(self, snapshot: str) -> None:
        """Point the branch to `snapshot`, if it is still where this transaction found it."""
        if self.ref is None:
            self.ref = Ref(space_id=self.space_id, name=self.branch, snapshot=snapshot, generation=1)
            self.session.add(self.ref)
            self.session.flush()
            return
        moved = self.session.connection().execute(
            update(Ref)
            .where(
                col(Ref.space_id) == self.space_id,
                col(Ref.name) == self.branch,
                col(Ref.snapshot) == self.ref.snapshot,
                col(Ref.generation) == self.ref.generation,
            )
            .values(snapshot=snapshot, generation=self.ref.generation + 1)
        )
        if moved.rowcount != 1:
            raise Conflict(f"the head is no longer {self.ref.snapshot}; nothing was written.")
        self.session.refresh(self.ref)


def snapshot_id(snapshot: Snapshot) -> str:
    """The hash of all that a snapshot says, wherever and on whatever branch it is kept."""
    return digest(canonical(snapshot.model_dump(exclude={"space_id", "id", "seq", "branch", "paged"})))


def begin(
    session: Session,
    states: States,
    principal: Principal,
    *,
    branch: str | None = None,
    expected_head: str | None = None,
) -> Writing:
    """Lock the principal's space. Raises `Conflict` with the head there is, where another was expected."""
    space = journal.lock_space(session, principal)
    assert space.id is not None
    states.returns.write(session, space.id)
    branch = branch or seat(session, space.id, principal)
    ref = session.get(Ref, (space.id, branch))
    if ref is None and branch != MAIN:
        raise NotFound(f"there is no branch {branch!r}.", fix="List them with memory_branch.")
    last = journal.last_event(session, space.id)
    state = states.current(session, space.id, branch)
    writing = Writing(
        session=session,
        states=states,
        space=space,
        space_id=space.id,
        actor=principal.subject,
        branch=branch,
        at=journal.now_after(last),
        begun=last.seq if last else 0,
        last=last,
        ref=ref,
        state=state,
        standing=state.standing,
    )
    if expected_head is not None:
        check_head(branch, ref, expected_head)
    return writing


def seat(session: Session, space_id: int, principal: Principal) -> str:
    """The branch that the principal works on."""
    found = session.get(Seat, (space_id, principal.subject))
    return found.branch if found else MAIN


def check_head(branch: str, ref: Ref | None, expected: str) -> None:
    """Raises `Conflict` where the branch does not stand there."""
    if ref is None:
        raise Conflict(
            f"branch {branch!r} has no snapshot yet.",
            fix="Repeat the call without expected_head.",
            details={"branch": branch},
        )
    head = ref.snapshot
    if len(expected) < SHORT_ID or not head.startswith(expected.lower()):
        raise Conflict(
            f"the head is {head}, not {expected!r}; nothing was written.",
            fix=f"See what is new with memory_diff(a={short(expected)!r}), then repeat with this expected_head.",
            details={"branch": branch, "head": head},
        )


def _dump(value: Sequence[str]) -> str:
    return json.dumps(value, separators=(",", ":"))
