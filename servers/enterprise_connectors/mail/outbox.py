"""What is to be sent, on the disk before anybody is told that it will be.

    waiting ─► claimed ─► handed over ─► sent
       ▲          │            │
       └──────────┘            └─► in doubt
     not sent for sure      the answer was lost

A letter is `handed over` (on the disk) just before the last byte goes out. Until then a failure means that it was
not sent, and it waits for the next try. After that a lost answer means that nobody knows: it is `in doubt`, is
never sent again by itself, and says so. A person may look at the other end and send it again: with the same
Message-ID,
by which the receiving side can tell that it is the same. `refused` and `given up` are the two bad ends.

Several processes may work on one outbox: whoever claims a letter has it for `LEASE_SECONDS`, longer than any
conversation with a mail server may take here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from usrland.database import Database
from usrland.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from sqlmodel import Session

    from enterprise_connectors.mail.tables import Letter

__all__ = ["Delivery", "Outbox", "Parcel", "State"]

ResultT = TypeVar("ResultT")
State = Literal["waiting", "claimed", "handed over", "sent", "in doubt", "refused", "given up"]

LEASE_SECONDS = 300
OWN_TRY_SECONDS = 5
"""A new letter is left to whoever stored it, who tries at once and tells the caller how that ended."""
FIRST_PAUSE_SECONDS = 15
LONGEST_PAUSE_SECONDS = 3600
GIVE_UP_SECONDS = 2 * 24 * 3600
KEEP_SECONDS = 30 * 24 * 3600
"""How long it is remembered that a letter was sent, without its content."""

_MIGRATIONS = Path(__file__).parent.parent / "migrations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One letter as it is stored and told about."""

    id: str
    sender: str
    recipients: tuple[str, ...]
    subject: str
    content: bytes
    digest: str
    """Of what was asked for: the same id with another digest is another letter."""
    state: State = "waiting"
    said: str = ""
    created_at: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a try ended."""

    state: Literal["sent", "waiting", "in doubt", "refused"]
    said: str = ""
    left: tuple[str, ...] = ()
    """With `waiting`: the others have it, these do not."""


class Outbox:
    """The letters of one system. Blocks: call it in a thread."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(f"sqlite:///{folder / 'outbox.sqlite'}", [_MIGRATIONS])
        self._clock = clock

    def put(self, parcel: Parcel, owner: str) -> Parcel:
        """Store a letter; when this returns it is on the disk. The same id again is the same letter."""

        def work(session: Session) -> Parcel:
            from enterprise_connectors.mail.tables import Letter

            known = session.get(Letter, parcel.id)
            if known is not None:
                if known.digest != parcel.digest or known.owner != owner:
                    raise InvalidInput("idempotency_key: it was used for another message.", fix="Use a new key.")
                return _parcel(known)
            now = int(self._clock())
            session.add(
                Letter(
                    id=parcel.id,
                    owner=owner,
                    sender=parcel.sender,
                    recipients="\n".join(parcel.recipients),
                    subject=parcel.subject,
                    content=parcel.content,
                    digest=parcel.digest,
                    state="waiting",
                    said="",
                    tries=0,
                    created_at=now,
                    due_at=now + OWN_TRY_SECONDS,
                )
            )
            return parcel

        return self._write(work)

    def listed(self, owner: str) -> list[Parcel]:
        """The owner's letters, newest first; what is in doubt is told to be."""
        self._settle()

        def work(session: Session) -> list[Parcel]:
            from sqlmodel import col, select

            from enterprise_connectors.mail.tables import Letter

            rows = select(Letter).where(col(Letter.owner) == owner).order_by(col(Letter.created_at).desc())
            return [_parcel(row) for row in session.exec(rows.limit(500))]

        return self._read(work)

    def get(self, id: str, owner: str) -> Parcel:
        """The owner's letter; raises `NotFound` for anybody else's as well."""

        def work(session: Session) -> Parcel:
            from enterprise_connectors.mail.tables import Letter

            row = session.get(Letter, id)
            if row is None or row.owner != owner:
                raise NotFound("there is no such message in the outbox.", fix="The operation outbox lists them.")
            return _parcel(row)

        return self._read(work)

    def again(self, id: str) -> None:
        """Let a letter that is in doubt, or was given up, be tried once more, at once."""

        def work(session: Session) -> None:
            row = _row(session, id)
            if row.state not in ("in doubt", "given up") or row.content is None:
                raise InvalidInput(f"the message is {row.state}: there is nothing to send again.")
            row.state, row.due_at, row.created_at = "waiting", int(self._clock()), int(self._clock())
            session.add(row)

        self._write(work)

    def due(self) -> list[str]:
        """Ids of what is to be tried now."""
        self._settle()

        def work(session: Session) -> list[str]:
            from sqlmodel import col, select

            from enterprise_connectors.mail.tables import Letter

            chosen = select(Letter.id).where(col(Letter.state) == "waiting", col(Letter.due_at) <= self._clock())
            return list(session.exec(chosen.order_by(col(Letter.due_at))))

        return self._read(work)

    def deliver(self, id: str, hand_over: Callable[[Parcel, Callable[[], None]], Delivery]) -> Parcel:
        """Try once. `hand_over` gets the letter and a function to call just before the last byte goes out.

        Changes nothing where somebody else has it, or where it is not waiting.
        """
        claimed = self._write(lambda session: self._claim(session, id))
        if claimed is None:
            return self._read(lambda session: _parcel(_row(session, id)))
        done = hand_over(claimed, lambda: self._write(lambda session: self._mark(session, id, "handed over")))
        return self._write(lambda session: self._end(session, id, done))

    def close(self) -> None:
        self._database.close()

    def _claim(self, session: Session, id: str) -> Parcel | None:
        row = _row(session, id)
        if row.state != "waiting":
            return None
        self._mark(session, id, "claimed")
        row.tries += 1
        return _parcel(row)

    def _mark(self, session: Session, id: str, state: State) -> None:
        row = _row(session, id)
        row.state, row.due_at = state, int(self._clock()) + LEASE_SECONDS
        session.add(row)

    def _end(self, session: Session, id: str, done: Delivery) -> Parcel:
        row, now = _row(session, id), int(self._clock())
        row.state, row.said = done.state, done.said[:500]
        if done.state == "waiting":
            row.recipients = "\n".join(done.left) or row.recipients
            row.due_at = now + min(FIRST_PAUSE_SECONDS * 2 ** min(row.tries, 20), LONGEST_PAUSE_SECONDS)
            if now - row.created_at > GIVE_UP_SECONDS:
                row.state = "given up"
        if row.state in ("sent", "refused"):
            row.content = None  # nothing is done with it any more, and it is somebody's private text
        session.add(row)
        return _parcel(row)

    def _settle(self) -> None:
        """What its process left behind: waiting again where it surely was not sent, else in doubt."""

        def work(session: Session) -> None:
            from sqlmodel import col, delete, select

            from enterprise_connectors.mail.tables import Letter

            now = int(self._clock())
            left = select(Letter).where(
                col(Letter.state).in_(["claimed", "handed over"]), col(Letter.due_at) < now
            )
            for row in session.exec(left):
                row.state = "waiting" if row.state == "claimed" else "in doubt"
                row.said = "the server stopped while it was being sent."
                session.add(row)
            old = col(Letter.state).in_(["sent", "refused"]), col(Letter.created_at) < now - KEEP_SECONDS
            session.exec(delete(Letter).where(*old))

        self._write(work)

    def _read(self, work: Callable[[Session], ResultT]) -> ResultT:
        self._database.open()
        return self._database.read_now(work)

    def _write(self, work: Callable[[Session], ResultT]) -> ResultT:
        self._database.open()
        return self._database.write_now(work)


def _row(session: Session, id: str) -> Letter:
    from enterprise_connectors.mail.tables import Letter

    row = session.get(Letter, id)
    if row is None:
        raise NotFound("there is no such message in the outbox.", fix="The operation outbox lists them.")
    return row


def _parcel(row: Letter) -> Parcel:
    state: Any = row.state
    return Parcel(
        id=row.id,
        sender=row.sender,
        recipients=tuple(row.recipients.split("\n")),
        subject=row.subject,
        content=row.content or b"",
        digest=row.digest,
        state=state,
        said=row.said,
        created_at=row.created_at,
    )
