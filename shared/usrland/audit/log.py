"""The chain: append under the database's own lock, verify from the first byte.

hash(n) = SHA-256(hash(n-1) ‖ SHA-256(0x00 ‖ body(n))), with 32 zero bytes before the first. Bodies are kept
as the bytes that were hashed, so verifying never has to write JSON the same way twice. Several processes
share one chain, because an append reads the newest hash inside the transaction that writes. The same leaves
are a tree (`merkle`), whose root is what checkpoints sign.

What it proves: no entry was changed, dropped, moved or put in since a checkpoint was exported. What it cannot
prove alone: that nothing was cut off after the last exported checkpoint, or that the whole log was not replaced
by somebody who could also replace every exported one. So export them to where the log's owner cannot write
(`[audit] checkpoints`, `usrland audit head`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from usrland.audit.checkpoint import Checkpoint
from usrland.audit.entry import Entry
from usrland.audit.merkle import Frontier, inclusion_proof, leaf_hash
from usrland.errors import NotFound

if TYPE_CHECKING:
    from sqlmodel import Session
    from sqlmodel.sql.expression import Select

    from usrland.database import Database

__all__ = ["AuditLog", "Proof", "Verdict", "verified_file"]

_GENESIS = bytes(32)
_BATCH = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What `verify` found. `problems` is empty exactly when the log is what was written."""

    chain: str
    entries: int
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """That one entry is in the log of that size and root, for who has the root from elsewhere."""

    body: bytes
    index: int
    """From 0."""
    size: int
    root: bytes
    path: Sequence[bytes]


def link(previous: bytes, body: bytes) -> bytes:
    """The hash of an entry that follows one with hash `previous`."""
    return hashlib.sha256(previous + leaf_hash(body)).digest()


class AuditLog:
    """One chain in one database."""

    def __init__(self, database: Database, chain: str) -> None:
        self.database = database
        self.chain = chain
        self._tree = Frontier()
        """As far as it was read: entries never change, so the next checkpoint goes on from here."""

    def append(self, session: Session, entries: Sequence[Entry]) -> None:
        """Add entries within the caller's write transaction; they are durable when it commits.

        Others wait from the lock to the commit: what can be done before is done before, and not by way of objects.
        """
        from sqlalchemy import insert

        from usrland.audit.tables import AuditArgument, AuditEntry

        session.flush()
        connection = session.connection()
        intents = [entry.arguments for entry in entries if entry.phase != "outcome"]  # whose arguments are stored
        if intents:
            kept = [{"commitment": each.digest, "salt": each.salt, "value": each.value} for each in intents]
            connection.execute(insert(AuditArgument), kept)
        self.lock(session)
        seq, previous = self._newest(session)
        rows = []
        for entry in entries:
            seq += 1
            body = entry.body(chain=self.chain, seq=seq)
            previous = link(previous, body)
            rows.append({"chain": self.chain, "seq": seq, "body": body, "hash": previous})
        connection.execute(insert(AuditEntry), rows)

    def lock(self, session: Session) -> None:
        """Be the only one who writes beside this chain, until the transaction ends."""
        locked: set[str] = session.info.setdefault("locked chains", set())  # a session is one transaction
        if self.chain not in locked:
            self.database.alone(session, f"audit {self.chain}")
            locked.add(self.chain)

    async def size(self) -> int:
        """How many entries there are."""
        return await self.database.read(lambda session: self._newest(session)[0])

    async def state(self) -> tuple[int, bytes]:
        """How many entries there are, and the root of their tree: what a checkpoint signs."""
        return await self.database.read(self._state)

    async def prove(self, seq: int) -> Proof:
        """That entry `seq` is in the log as it is now; raises `NotFound`."""
        return await self.database.read(lambda session: self._prove(session, seq))

    async def last(self, count: int) -> list[dict[str, Any]]:
        """The newest entries, oldest first, with their arguments where those were not erased."""
        return await self.database.read(lambda session: self._last(session, count))

    async def verify(self, checkpoints: Sequence[Checkpoint] = ()) -> Verdict:
        """Recompute every hash, and hold the log against each exported checkpoint of this chain."""
        try:
            return await self.database.read(lambda session: self._verify(session, checkpoints))
        except TypeError:  # SQLite keeps whatever it is given; the driver cannot make bytes of text
            problem = "an entry was changed: it holds something else than bytes"
            return Verdict(chain=self.chain, entries=0, problems=(problem,))

    def _state(self, session: Session) -> tuple[int, bytes]:
        tree = self._tree.copy()
        for _, body, _ in self._rows(session, after=tree.size):
            tree.add(leaf_hash(body))
        self._tree = tree
        return tree.size, tree.root()

    def _prove(self, session: Session, seq: int) -> Proof:
        bodies = [body for _, body, _ in self._rows(session)]
        if not 1 <= seq <= len(bodies):
            raise NotFound(f"there is no entry {seq} in {self.chain!r}.", fix=f"It has {len(bodies)} entries.")
        leaves = [leaf_hash(body) for body in bodies]
        size, root = self._state(session)
        return Proof(
            body=bodies[seq - 1], index=seq - 1, size=size, root=root, path=inclusion_proof(leaves, seq - 1)
        )

    def _newest(self, session: Session) -> tuple[int, bytes]:
        """Number and hash of the newest entry."""
        row = session.connection().execute(_newest_entry(), {"chain": self.chain}).first()
        return (row[0], bytes(row[1])) if row else (0, _GENESIS)

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

    def _rows(self, session: Session, *, after: int | None = None) -> Iterator[tuple[int, bytes, bytes]]:
        from sqlmodel import col, select

        from usrland.audit.tables import AuditEntry

        while True:
            query = select(AuditEntry.seq, AuditEntry.body, AuditEntry.hash).where(AuditEntry.chain == self.chain)
            if after is not None:
                query = query.where(col(AuditEntry.seq) > after)
            rows = session.exec(query.order_by(col(AuditEntry.seq)).limit(_BATCH)).all()
            yield from ((seq, bytes(body), bytes(stored)) for seq, body, stored in rows)
            if len(rows) < _BATCH:
                return
            after = rows[-1][0]

    def _verify(self, session: Session, checkpoints: Sequence[Checkpoint]) -> Verdict:
        found = verified(self.chain, self._rows(session), checkpoints)
        more = [*self._strayed(session), *self._changed_arguments(session)]
        return replace(found, problems=(*found.problems, *more))

    async def exported(self, first: int) -> list[dict[str, Any]]:
        """The entries from that number on as they were hashed, with their arguments where those were not erased:
        what `verified_file` verifies without this database."""
        return await self.database.read(lambda session: self._exported(session, first))

    def _exported(self, session: Session, first: int) -> list[dict[str, Any]]:
        known = self._arguments(session)
        lines: list[dict[str, Any]] = []
        for seq, body, stored in self._rows(session, after=first - 1):
            line: dict[str, Any] = {"seq": seq, "entry": body.decode(), "hash": stored.hex()}
            salt_and_value = known.get(json.loads(body)["arguments"])
            if salt_and_value is not None:
                line |= {"salt": salt_and_value[0].hex(), "call_arguments": salt_and_value[1].decode()}
            lines.append(line)
        return lines

    def _arguments(self, session: Session) -> dict[str, tuple[bytes, bytes]]:
        from sqlmodel import select

        from usrland.audit.tables import AuditArgument

        rows = session.exec(select(AuditArgument.commitment, AuditArgument.salt, AuditArgument.value))
        return {commitment: (bytes(salt), bytes(value)) for commitment, salt, value in rows}

    def _strayed(self, session: Session) -> list[str]:
        """Entries of this chain that somebody filed under another one."""
        from sqlmodel import col, select

        from usrland.audit.tables import AuditEntry

        mark = f'"chain":{json.dumps(self.chain)}'.encode()
        rows = session.exec(select(AuditEntry.seq, AuditEntry.body).where(col(AuditEntry.chain) != self.chain))
        return [f"entry {seq} was moved to another chain" for seq, body in rows if mark in bytes(body)]

    def _changed_arguments(self, session: Session) -> list[str]:
        return [
            f"the arguments kept for commitment {commitment[:12]}… were changed"
            for commitment, (salt, value) in self._arguments(session).items()
            if hashlib.sha256(salt + value).hexdigest() != commitment
        ]


@cache
def _newest_entry() -> Select[int, bytes]:
    """Made once: putting it together takes ten times as long as running it, and every entry asks for it."""
    from sqlmodel import bindparam, col, select

    from usrland.audit.tables import AuditEntry

    newest = select(AuditEntry.seq, AuditEntry.hash).where(AuditEntry.chain == bindparam("chain"))
    return newest.order_by(col(AuditEntry.seq).desc()).limit(1)


def verified(
    chain: str, rows: Iterable[tuple[int, bytes, bytes]], checkpoints: Sequence[Checkpoint], *, first: int = 1
) -> Verdict:
    """Recompute every hash of these entries (number, body, hash).

    Where they do not begin at the first, the hash before them is taken from the first of them, and checkpoints
    say nothing.
    """
    problems: list[str] = []
    previous, expected_seq, count = _GENESIS, first, 0
    tree = Frontier()
    awaited = {(each.size, each.root) for each in checkpoints if each.chain == chain and each.size and first == 1}
    for seq, body, stored in rows:
        count += 1
        if seq != expected_seq:
            problems.append(f"entry {expected_seq} is missing (the next one is {seq})")
        problems += _problems_of(seq, body, chain)
        if link(previous, body) != stored and not (count == 1 and first > 1):
            problems.append(f"entry {seq} was changed, or one before it was: its hash does not follow")
        tree.add(leaf_hash(body))
        for size, root in [kept for kept in awaited if kept[0] == count]:
            awaited.discard((size, root))
            if root != tree.root():
                problems.append(f"the first {size} entries are not those of the exported checkpoint")
        previous, expected_seq = stored, seq + 1
        if len(problems) >= 20:
            problems.append("and perhaps more: stopped after 20 problems")
            break
    else:
        problems += [f"the log ends before the exported checkpoint of {size}" for size, _ in sorted(awaited)]
    return Verdict(chain=chain, entries=count, problems=tuple(problems))


def verified_file(lines: Sequence[Mapping[str, Any]], checkpoints: Sequence[Checkpoint] = ()) -> Verdict:
    """What `AuditLog.exported` gave, verified by who has nothing else."""
    if not lines:
        return Verdict(chain="", entries=0)
    rows = [(int(line["seq"]), str(line["entry"]).encode(), bytes.fromhex(line["hash"])) for line in lines]
    chain = str(json.loads(rows[0][1])["chain"])
    found = verified(chain, rows, checkpoints, first=rows[0][0])
    changed = tuple(
        f"the arguments of entry {line['seq']} were changed"
        for line in lines
        if "salt" in line
        and hashlib.sha256(bytes.fromhex(line["salt"]) + line["call_arguments"].encode()).hexdigest()
        != json.loads(line["entry"])["arguments"]
    )
    return replace(found, problems=(*found.problems, *changed))


def _problems_of(seq: int, body: bytes, chain: str) -> list[str]:
    try:
        fields = json.loads(body)
    except ValueError:
        return [f"entry {seq} cannot be read"]
    if fields.get("seq") != seq or fields.get("chain") != chain:
        return [f"entry {seq} was moved: it says it is entry {fields.get('seq')} of {fields.get('chain')!r}"]
    return []
