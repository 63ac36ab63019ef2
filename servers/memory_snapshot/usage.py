"""How much a space holds and may hold, what was kept out of it, and what was given back from it lately.

Counts and ids, no text. What was returned is noted in memory first and written with the next change, or by
whoever stops the server: a read stays a read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock

from sqlalchemy import delete
from sqlmodel import Session, col, func, select

from memory_snapshot.canonical import moment
from memory_snapshot.journal import inserting
from memory_snapshot.tables import Body, ItemVersion, Returned, Space, Tally
from usrland import QuotaExceeded
from usrland.database import in_batches

__all__ = ["Quota", "Returns", "count", "counted", "forget", "kept", "returned_lately", "spend"]

TOKENS = "tokens"
LATELY = timedelta(hours=6)
MOST_LATELY = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What one space may hold."""

    items: int
    """That stand on one branch."""
    tokens: int
    """Of all versions that are kept, on whatever branch."""


class Returns:
    """What this process has returned and not yet written down."""

    def __init__(self) -> None:
        self._waiting: dict[int, dict[str, str]] = {}
        self._lock = Lock()

    def note(self, space_id: int, item_ids: Iterable[str]) -> None:
        at = moment(datetime.now(UTC))
        with self._lock:
            self._waiting.setdefault(space_id, {}).update(dict.fromkeys(item_ids, at))

    def write(self, session: Session, space_id: int) -> None:
        """Write down what waits for this space, which the caller has locked."""
        with self._lock:
            returned = self._waiting.pop(space_id, {})
        rows = [{"space_id": space_id, "item_id": item_id, "at": at} for item_id, at in returned.items()]
        if rows:
            insert = inserting(session, Returned)
            newer = insert.on_conflict_do_update(
                index_elements=["space_id", "item_id"], set_={"at": insert.excluded.at}
            )
            session.connection().execute(newer, rows)

    def write_all(self, session: Session) -> None:
        for space_id in sorted(self._waiting):
            session.exec(select(Space).where(Space.id == space_id).with_for_update()).one()
            self.write(session, space_id)

    def __bool__(self) -> bool:
        return bool(self._waiting)


def returned_lately(session: Session, space_id: int) -> list[str]:
    """Ids of items that a kernel was given in the last hours, the newest first."""
    since = moment(datetime.now(UTC) - LATELY)
    query = select(Returned.item_id).where(Returned.space_id == space_id, Returned.at >= since)
    return list(session.exec(query.order_by(col(Returned.at).desc()).limit(MOST_LATELY)))


def count(session: Session, space_id: int, name: str, more: int = 1) -> None:
    """Add to a tally; the space is locked by the caller."""
    row = session.get(Tally, (space_id, name))
    if row is None:
        session.add(Tally(space_id=space_id, name=name, count=more))
    else:
        row.count += more
        session.add(row)


def counted(session: Session, space_id: int) -> dict[str, int]:
    return dict(session.exec(select(Tally.name, Tally.count).where(Tally.space_id == space_id)).all())


def spend(session: Session, space_id: int, tokens: int, quota: Quota | None) -> None:
    """Account for a text that is stored now. Raises `QuotaExceeded`."""
    if session.get(Tally, (space_id, TOKENS)) is None:
        count(session, space_id, TOKENS, kept(session, space_id))
        session.flush()
    count(session, space_id, TOKENS, tokens)
    row = session.get(Tally, (space_id, TOKENS))
    if quota is not None and row is not None and row.count > quota.tokens:
        raise QuotaExceeded(
            f"this memory may keep {quota.tokens} tokens, old versions included; nothing was stored.",
            fix="Have what is not needed erased (memory_forget, mode=erase), or ask the operator for more.",
        )


def kept(session: Session, space_id: int) -> int:
    """Tokens of all versions whose text is there."""
    row = session.get(Tally, (space_id, TOKENS))
    if row is not None:
        return row.count
    query = select(func.sum(ItemVersion.tokens)).where(
        ItemVersion.space_id == space_id,
        select(Body.seq)
        .where(Body.space_id == space_id, Body.seq == ItemVersion.seq, Body.place == ItemVersion.place)
        .exists(),
    )
    return int(session.exec(query).one() or 0)


def forget(session: Session, space_id: int, tokens: int, item_ids: Iterable[str]) -> None:
    """What was erased takes no room, and was never returned."""
    spend(session, space_id, -tokens, None)
    for some in in_batches(item_ids):
        gone = delete(Returned).where(col(Returned.space_id) == space_id, col(Returned.item_id).in_(some))
        session.connection().execute(gone)
