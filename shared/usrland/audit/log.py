"""The chain: append under the database's own lock, verify from the first byte.

hash(n) = SHA-256(hash(n-1) ‖ SHA-256(0x00 ‖ body(n))), with 32 zero bytes before the first. Bodies are kept
as the bytes that were hashed, so verifying never has to write JSON the same way twice. Several processes
share one chain, because an append reads the head inside the transaction that writes.

What it proves: no entry was changed, dropped, moved or put in since a head was exported. What it cannot
prove alone: that nothing was cut off after the last exported head, or that the whole log was not replaced
by somebody who could also replace every exported head. So export heads to where the log's owner cannot
write (`usrland audit head`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from usrland.audit.entry import Entry
from usrland.errors import InvalidInput

if TYPE_CHECKING:
    from sqlmodel import Session

    from usrland.database import Database

__all__ = ["AuditLog", "Head", "Verdict"]

_GENESIS = bytes(32)
_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry of a chain: what to keep elsewhere, to notice a cut later."""

    chain: str
    seq: int
    hash: str

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Head:
        try:
            values = json.loads(text)
            return cls(chain=str(values["chain"]), seq=int(values["seq"]), hash=str(values["hash"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                "this is not an exported audit head.", fix="Export one with: usrland audit head."
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What `verify` found. `problems` is empty exactly when the log is what was written."""

    chain: str
    entries: int
    head: Head | None
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


def link(previous: bytes, body: bytes) -> bytes:
    """The hash of an entry that follows one with hash `previous`."""
    return hashlib.sha256(previous + hashlib.sha256(b"\x00" + body).digest()).digest()


class AuditLog:
    """One chain in one database."""

    def __init__(self, database: Database, chain: str) -> None:
        self.database = database
        self.chain = chain

    def append(self, session: Session, entries: Sequence[Entry]) -> None:
        """Add entries within the caller's write transaction; they are durable when it commits."""
        from sqlalchemy import text

        from usrland.audit.tables import AuditArgument, AuditEntry

        if not self.database.is_sqlite:
            session.execute(
                text("SELECT pg_advisory_xact_lock(hashtext(:chain))"), {"chain": f"audit {self.chain}"}
            )
        head = self._newest(session)
        seq, previous = (head.seq, bytes.fromhex(head.hash)) if head else (0, _GENESIS)
        for entry in entries:
            seq += 1
            body = entry.body(chain=self.chain, seq=seq)
            previous = link(previous, body)
            session.add(AuditEntry(chain=self.chain, seq=seq, body=body, hash=previous))
            if entry.phase != "outcome":  # its intent has stored them
                argument = entry.arguments
                session.add(AuditArgument(commitment=argument.digest, salt=argument.salt, value=argument.value))

    async def head(self) -> Head | None:
        """The newest entry, or None where nothing was recorded yet."""
        return await self.database.read(self._newest)

    async def last(self, count: int) -> list[dict[str, Any]]:
        """The newest entries, oldest first, with their arguments where those were not erased."""
        return await self.database.read(lambda session: self._last(session, count))

    async def verify(self, heads: Sequence[Head] = ()) -> Verdict:
        """Recompute every hash, and look for each exported head of this chain."""
        try:
            return await self.database.read(lambda session: self._verify(session, heads))
        except TypeError:  # SQLite keeps whatever it is given; the driver cannot make bytes of text
            problem = "an entry was changed: it holds something else than bytes"
            return Verdict(chain=self.chain, entries=0, head=None, problems=(problem,))

    def _newest(self, session: Session) -> Head | None:
        from sqlmodel import col, select

        from usrland.audit.tables import AuditEntry

        row = session.exec(
            select(AuditEntry.seq, AuditEntry.hash)
            .where(AuditEntry.chain == self.chain)
            .order_by(col(AuditEntry.seq).desc())
            .limit(1)
        ).first()
        return Head(self.chain, row[0], row[1].hex()) if row else None

    def _last(self, session: Session, count: int) -> list[dict[str, Any]]:
        from sqlmodel import col, select

        from usrland.audit.tables import AuditArgument, AuditEntry

        bodies = session.exec(
            select(AuditEntry.body)
            .where(AuditEntry.chain == self.chain)
            .order_by(col(AuditEntry.seq).desc())
            .limit(count)
        ).all()
        entries: list[dict[str, Any]] = [json.loads(body) for body in reversed(bodies)]
        wanted = [entry["arguments"] for entry in entries]
        values = session.exec(
            select(AuditArgument.commitment, AuditArgument.value).where(col(AuditArgument.commitment).in_(wanted))
        ).all()
        known: Mapping[str, bytes] = dict(values)
        for entry in entries:
            value = known.get(entry["arguments"])
            entry["call_arguments"] = json.loads(value) if value is not None else None
        return entries

    def _rows(self, session: Session) -> Iterator[tuple[int, bytes, bytes]]:
        from sqlmodel import col, select

        from usrland.audit.tables import AuditEntry

        after: int | None = None
        while True:
            query = select(AuditEntry.seq, AuditEntry.body, AuditEntry.hash).where(AuditEntry.chain == self.chain)
            if after is not None:
                query = query.where(col(AuditEntry.seq) > after)
            rows = session.exec(query.order_by(col(AuditEntry.seq)).limit(_BATCH)).all()
            yield from ((seq, bytes(body), bytes(stored)) for seq, body, stored in rows)
            if len(rows) < _BATCH:
                return
            after = rows[-1][0]

    def _verify(self, session: Session, heads: Sequence[Head]) -> Verdict:
        problems: list[str] = []
        previous, expected_seq, count = _GENESIS, 1, 0
        awaited = {head.seq: head.hash for head in heads if head.chain == self.chain}
        for seq, body, stored in self._rows(session):
            count += 1
            if seq != expected_seq:
                problems.append(f"entry {expected_seq} is missing (the next one is {seq})")
            problems += _problems_of(seq, body, self.chain)
            computed = link(previous, body)
            if computed != stored:
                problems.append(f"entry {seq} was changed, or one before it was: its hash does not follow")
            if seq in awaited and awaited.pop(seq) != stored.hex():
                problems.append(f"entry {seq} is not the one that was exported as a head")
            previous, expected_seq = stored, seq + 1
            if len(problems) >= 20:
                problems.append("and perhaps more: stopped after 20 problems")
                break
        else:
            problems += [f"the log ends before the exported head {seq}" for seq in sorted(awaited)]
        problems += self._strayed(session)
        problems += self._changed_arguments(session)
        head = Head(self.chain, expected_seq - 1, previous.hex()) if count else None
        return Verdict(chain=self.chain, entries=count, head=head, problems=tuple(problems))

    def _strayed(self, session: Session) -> list[str]:
        """Entries of this chain that somebody filed under another one."""
        from sqlmodel import col, select

        from usrland.audit.tables import AuditEntry

        mark = f'"chain":{json.dumps(self.chain)}'.encode()
        rows = session.exec(select(AuditEntry.seq, AuditEntry.body).where(col(AuditEntry.chain) != self.chain))
        return [f"entry {seq} was moved to another chain" for seq, body in rows if mark in bytes(body)]

    def _changed_arguments(self, session: Session) -> list[str]:
        from sqlmodel import select

        from usrland.audit.tables import AuditArgument

        rows = session.exec(select(AuditArgument.commitment, AuditArgument.salt, AuditArgument.value))
        return [
            f"the arguments kept for commitment {commitment[:12]}… were changed"
            for commitment, salt, value in rows
            if hashlib.sha256(bytes(salt) + bytes(value)).hexdigest() != commitment
        ]


def _problems_of(seq: int, body: bytes, chain: str) -> list[str]:
    try:
        fields = json.loads(body)
    except ValueError:
        return [f"entry {seq} cannot be read"]
    if fields.get("seq") != seq or fields.get("chain") != chain:
        return [f"entry {seq} was moved: it says it is entry {fields.get('seq')} of {fields.get('chain')!r}"]
    return []
