"""What the call path remembers in SQL: retried calls, spent confirmations, and the audit log with them.

They share one database, because "this call has begun" and "it was recorded" must become true in the same
transaction. A server's own data lies elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from usrland.audit import AuditLog, Entry, canonical
from usrland.audit.entry import commit
from usrland.audit.exporting import AuditTable
from usrland.database import Database
from usrland.errors import Conflict, Denied, NotFound, Unavailable
from usrland.schemas.principal import Principal
from usrland.settings import ServerTable, Settings

if TYPE_CHECKING:
    from sqlmodel import Session

    from usrland.audit.tables import KeyedCall

__all__ = ["Binding", "Ledger"]

logger = logging.getLogger(__name__)

CONFIRMATION_SECONDS = 600
KEYED_CALL_SECONDS = 7 * 24 * 3600
_MIGRATIONS = Path(__file__).parent / "audit" / "migrations"
_HASHED = ("audit_entry", "audit_argument")
_MAX_WAITING_READS = 10_000
GATHER_SECONDS = 0.05
"""How long entries that nobody waits for are gathered: a transaction for each would cost more than the reads."""
_REDACTED = canonical([{"note": "This answer was redacted."}, '{"note":"This answer was redacted."}'])


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What a confirmation or an idempotency key is good for: this principal, this operation, these arguments."""

    principal: Principal
    operation: str
    arguments: dict[str, Any]

    @property
    def caller(self) -> str:
        who = self.principal
        return _digest([who.tenant, who.namespace, who.subject, self.operation])

    @property
    def digest(self) -> str:
        return _digest([self.caller, self.arguments])


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


@dataclass(slots=True)
class _Batch:
    """Entries that wait for one transaction."""

    entries: list[Entry] = field(default_factory=list)
    written: anyio.Event = field(default_factory=anyio.Event)
    lost: bool = False


@dataclass(slots=True)
class Ledger:
    """The call path's own tables. Opened at the first call, so that listing tools costs nothing."""

    database: Database
    audit: AuditLog
    key: bytes = field(repr=False)
    _waiting: _Batch = field(default_factory=_Batch)
    _arrived: anyio.Event = field(default_factory=anyio.Event)
    _hurried: anyio.Event = field(default_factory=anyio.Event)
    _flushing: anyio.Lock = field(default_factory=anyio.Lock)

    @staticmethod
    def url(settings: Settings, server: str) -> str:
        """Where this server's ledger is: what `[server] database` says, or a file of its own."""
        said = settings.address(settings.section("server", ServerTable).database)
        return said or f"sqlite:///{settings.home / server / 'calls.sqlite'}"

    @classmethod
    def of(cls, settings: Settings, server: str) -> Ledger:
        """A server's ledger, to call with."""
        return cls.open(
            cls.url(settings, server),
            chain=server,
            key=settings.key("calls"),
            wait_seconds=settings.section("audit", AuditTable).wait_seconds,
        )

    @classmethod
    def open(cls, url: str, *, chain: str, key: bytes, wait_seconds: float = 10.0) -> Ledger:
        """`wait_seconds`: how long a call waits for the log before it is refused."""
        database = Database(url, [_MIGRATIONS], wait_seconds=wait_seconds, hashed=_HASHED)
        return cls(database, AuditLog(database, chain), key)

    # -- writes: intent before, outcome after

    async def begin(
        self, intent: Entry, binding: Binding, key: str | None, confirmation: str | None = None
    ) -> bytes | None:
        """Record the intent; with a key, claim it. Returns the stored answer of a call that was done before.

        A confirmation is used up in the same step, so that who asks again meanwhile is told of the call and not of
        the confirmation. Raises `Conflict` where the key was used for other arguments, or where its call has not
        ended, and `Denied` as `spend` does.
        """

        def work(session: Session) -> bytes | None:
            if key is not None or confirmation is not None:
                self.audit.lock(session)  # of two that claim one key at once, the second must see the first
            if key is not None and (done := _claim(session, binding, key)) is not None:
                return done
            if confirmation is not None:
                self._spend(session, confirmation, binding)
            self.audit.append(session, [intent])
            return None

        return await self.database.write(work)

    async def answered(self, binding: Binding, key: str) -> bytes | None:
        """The stored answer of this very call, where it was made with this key before.

        Raises `Conflict` where the key was used for other arguments, or where its call has not ended.
        """

        def work(session: Session) -> bytes | None:
            from usrland.audit.tables import KeyedCall

            return _kept(session.get(KeyedCall, _keyed(binding, key)), binding)

        return await self.database.read(work)

    async def end(
        self,
        outcome: Entry,
        binding: Binding,
        key: str | None,
        *,
        answer: bytes | None = None,
        release: bool = False,
    ) -> None:
        """Record how a begun call ended, and keep its answer for a retry with the same key.

        `release` gives the key of a call that changed nothing back. With neither, the call stays in doubt.
        """

        def work(session: Session) -> None:
            from usrland.audit.tables import KeyedCall

            row = session.get(KeyedCall, _keyed(binding, key)) if key is not None else None
            if row is not None and release:
                session.delete(row)
            elif row is not None:
                row.result = answer
                session.add(row)
            self.audit.append(session, [outcome])

        await self.database.write(work)

    # -- reads and refusals: one entry, written in groups

    async def note(self, entry: Entry, *, durable: bool) -> None:
        """Record something that changed nothing.

        With `durable` it returns when the entry has reached the disk, and raises `Unavailable` where it
        cannot be written. Without, the loss of an entry is told in the server's own log.
        """
        batch = self._waiting
        batch.entries.append(entry)
        self._arrived.set()
        if durable or len(batch.entries) > _MAX_WAITING_READS:
            self._hurried.set()
            await batch.written.wait()
        if durable and batch.lost:
            raise Unavailable("the audit log cannot be written, so nothing is answered.")

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """While this is open, noted entries are written; on leaving, the last of them."""
        failed: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write_notes, name="audit writer")
            try:
                yield
            except Exception as error:  # the group would wrap it, and whoever waits for it expects it as it is
                failed = error
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await self.flush()
                    self.database.close()
        if failed is not None:
            raise failed

    async def _write_notes(self) -> None:
        while True:
            await self._arrived.wait()
            with anyio.move_on_after(GATHER_SECONDS):
                await self._hurried.wait()
            self._arrived, self._hurried = anyio.Event(), anyio.Event()
            with anyio.CancelScope(shield=True):
                await self.flush()

    async def flush(self) -> None:
        """Write what waits; when this returns, all that was noted before has reached the disk."""
        async with self._flushing:
            batch, self._waiting = self._waiting, _Batch()
            if batch.entries:
                try:
                    await self.database.write(lambda session: self.audit.append(session, batch.entries))
                except Exception:  # a full disk, a lost connection, a bug: whoever waits must hear of it
                    batch.lost = True
                    logger.exception("%d audit entries could not be written", len(batch.entries))
            batch.written.set()

    # -- erasure

    async def erase(self, texts: Sequence[str]) -> None:
        """Let go of every argument and kept answer that holds one of these texts, and of its bytes on the disk.

        The entries stay and verify: what they commit to can no longer be shown.
        """
        needles = [json.dumps(text, ensure_ascii=False)[1:-1].encode() for text in texts if text]

        def work(session: Session) -> None:
            from sqlmodel import col, delete, select

            from usrland.audit.tables import AuditArgument, KeyedCall

            for table, key, value in (
                (AuditArgument, AuditArgument.commitment, AuditArgument.value),
                (KeyedCall, KeyedCall.key, KeyedCall.result),
            ):
                rows = session.exec(select(key, value)).all()
                held = [name for name, kept in rows if kept and any(needle in kept for needle in needles)]
                for name in held:
                    session.exec(delete(table).where(col(key) == name))

        if needles:
            await self.flush()
            await self.database.write(work)
            await self.database.scrub("audit_argument", "keyed_call")

    async def redact(self, call: str, reason: str, by: Principal) -> int:
        """Let go of the arguments and of the kept answer of one call; how many values that were.

        It is on record who did it and why, in the same transaction. Raises `NotFound`.
        """

        def work(session: Session) -> int:
            from sqlmodel import select

            from usrland.audit.tables import AuditArgument, AuditEntry, KeyedCall

            self.audit.lock(session)
            mark = f'"call":{json.dumps(call)}'.encode()
            bodies = session.exec(select(AuditEntry.body).where(AuditEntry.chain == self.audit.chain)).all()
            entries = [json.loads(body) for body in bodies if mark in bytes(body)]
            entries = [entry for entry in entries if entry["call"] == call]
            if not entries:
                raise NotFound(f"there is no call {call!r} in the log.", fix="See them with: usrland trace --json")
            entry = entries[0]
            argument = session.get(AuditArgument, entry["arguments"])
            if argument is None:
                raise NotFound(f"the arguments of call {call!r} are erased already.")
            digest = _digest([_caller_of(entry), json.loads(argument.value)])
            answers = session.exec(select(KeyedCall).where(KeyedCall.arguments == digest)).all()
            for answer in answers:  # a retry must not have its effect again, and is told why it gets nothing
                answer.result = _REDACTED
                session.add(answer)
            session.delete(argument)
            self.audit.append(session, _redaction(entry, reason, by))
            return 1 + len(answers)

        removed = await self.database.write(work)
        await self.database.scrub("audit_argument", "keyed_call")
        return removed

    # -- confirmations

    def confirmation(self, binding: Binding, *, now: float | None = None) -> str:
        """A token that says: this exact call was shown to a person. Good once, for ten minutes."""
        expires = int((time.time() if now is None else now) + CONFIRMATION_SECONDS)
        terms = expires.to_bytes(5, "big") + secrets.token_bytes(8)
        return base64.urlsafe_b64encode(terms + self._seal(binding, terms)).decode().rstrip("=")

    async def spend(self, token: str, binding: Binding) -> None:
        """Use a confirmation up; raises `Denied` where it is forged, expired, spent or for another call."""

        def work(session: Session) -> None:
            self.audit.lock(session)
            self._spend(session, token, binding)

        await self.database.write(work)

    def _spend(self, session: Session, token: str, binding: Binding) -> None:
        from sqlmodel import col, delete

        from usrland.audit.tables import SpentToken

        refused = Denied(
            "confirm_token: not valid for this call (it is bound to caller, operation and arguments, "
            "works once and expires after ten minutes).",
            fix="Call without it to get a new one.",
        )
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raise refused from None
        terms, seal, expires = raw[:13], raw[13:], int.from_bytes(raw[:5], "big")
        if not hmac.compare_digest(seal, self._seal(binding, terms)) or expires < time.time():
            raise refused
        session.exec(delete(SpentToken).where(col(SpentToken.expires_at) < int(time.time())))
        if session.get(SpentToken, seal.hex()) is not None:
            raise refused
        session.add(SpentToken(token=seal.hex(), expires_at=expires))

    def _seal(self, binding: Binding, terms: bytes) -> bytes:
        return hmac.digest(self.key, terms + binding.digest.encode(), "sha256")


def _caller_of(entry: Mapping[str, Any]) -> str:
    """`Binding.caller` of the call that an entry is about."""
    return _digest([entry["tenant"], entry["namespace"], entry["principal"], entry["operation"]])


def _redaction(entry: Mapping[str, Any], reason: str, by: Principal) -> list[Entry]:
    intent = Entry(
        at_ms=int(time.time() * 1000),
        call=secrets.token_hex(8),
        phase="intent",
        operation="audit_redact",
        effect="destroy",
        principal=by.subject,
        tenant=by.tenant,
        namespace=by.namespace,
        source=by.source,
        arguments=commit({"call": entry["call"], "commitment": entry["arguments"], "reason": reason}),
        decision="allowed",
    )
    return [intent, replace(intent, phase="outcome", outcome="ok")]


def _keyed(binding: Binding, key: str) -> str:
    return _digest([binding.caller, key])


def _claim(session: Session, binding: Binding, key: str) -> bytes | None:
    from sqlmodel import col, delete

    from usrland.audit.tables import KeyedCall

    now = int(time.time())
    session.exec(delete(KeyedCall).where(col(KeyedCall.started_at) < now - KEYED_CALL_SECONDS))
    row = session.get(KeyedCall, _keyed(binding, key))
    if row is None:
        session.add(KeyedCall(key=_keyed(binding, key), arguments=binding.digest, started_at=now))
        return None
    return _kept(row, binding)


def _kept(row: KeyedCall | None, binding: Binding) -> bytes | None:
    """What was answered to a call that had this key."""
    if row is None:
        return None
    if row.arguments != binding.digest:
        raise Conflict("idempotency_key: it was used for other arguments.", fix="Use a new key for a new call.")
    if row.result is None:
        raise Conflict(
            "a call with this idempotency_key has begun and not ended; its outcome is unknown.",
            fix="Look whether it took effect, then use a new key if it did not.",
        )
    return bytes(row.result)
