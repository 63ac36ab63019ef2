"""The one path that every call of every operation takes.

    identity ─► admit ─► consent ─► run ─► shape ─► record
    who          scope    ask, or    deadline  budget    an entry before a change takes effect,
                 quota    a token,   cancel    redact    and one after it
                 strict   dry run    retry     cursor

Identity is proven before (by the host); here begins what is the same on every transport. Hand-written and
generated operations, tools and the operations behind `sys_call` go through `CallPath.run` and nowhere else.

A `delegate` (`sys_call`) is looked through before anything is decided: the operation meant is the one that
is admitted, asked for, run and recorded. Doing it inside the operation's own function would have needed a
second path.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Protocol

import anyio
import anyio.to_thread
from pydantic import BaseModel

from usrland.asking import Asking, ConsentTable
from usrland.audit.entry import Commitment, Entry, Phase, canonical, commit
from usrland.connector import Call, Operation, Service
from usrland.errors import (
    ConsentNeeded,
    Denied,
    Failed,
    InvalidInput,
    QuotaExceeded,
    Timeout,
    Unavailable,
    UsrlandError,
)
from usrland.ledger import Binding, Ledger
from usrland.parameters import Parameters, closest
from usrland.places import Places
from usrland.quota import Quotas, QuotaTable
from usrland.redact import redact
from usrland.schemas.principal import Principal
from usrland.schemas.wire import Preview
from usrland.settings import ServerTable, Settings
from usrland.shape import Cursor, Shaped, shape
from usrland.telemetry import measured

__all__ = ["CallPath", "Channel", "Consent", "NoChannel", "Paused"]

logger = logging.getLogger(__name__)

Consent = Literal["accepted", "declined", "cannot_ask"]

WHOLE_TOKENS = 10_000_000
"""More than any answer has: systems outside are read up to some megabytes."""
RETRIES = 2
SHOWN_CHARACTERS = 500
RETRY_SECONDS = 0.2


class Paused(Exception):
    """The call stops for a question that travels in its answer, and is made again with the reply.

    Raised by a `Channel`, before the operation has changed anything.
    """


class Channel(Protocol):
    """The way back to the person, as far as the transport has one."""

    async def ask(self, question: str, schema: Mapping[str, Any], /) -> Mapping[str, Any] | None:
        """Ask for values; None where the person declined or cannot be asked."""
        ...

    async def confirm(self, question: str, token: str) -> tuple[Consent, str]:
        """Ask; returns the answer and the token it answers to (an earlier one, where the question was put
        in an earlier round)."""
        ...

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Tell how far the work has come."""
        ...


class NoChannel:
    """Nobody to ask: the command line, tests, hosts without elicitation."""

    async def ask(self, question: str, schema: Mapping[str, Any], /) -> Mapping[str, Any] | None:
        return None

    async def confirm(self, question: str, token: str) -> tuple[Consent, str]:
        return "cannot_ask", token

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Nobody listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """One call, looked through and checked: everything that is decided before it runs."""

    id: str
    operation: Operation
    via: str
    principal: Principal
    channel: Channel
    arguments: dict[str, Any]
    """As they came, secrets redacted: what a person is shown."""
    recorded: dict[str, Any]
    """As they may be written down: what is recorded, and what confirmations and cursors are bound to."""
    values: dict[str, Any]
    """As the function takes them."""
    added: Mapping[str, Any]
    commitment: Commitment
    begun: float
    whole: bool = False
    """Another operation made this call and works with the answer: it is not cut."""

    @property
    def binding(self) -> Binding:
        return Binding(principal=self.principal, operation=self.operation.name, arguments=self.recorded)

    def entry(self, phase: Phase, **facts: Any) -> Entry:
        return Entry(
            at_ms=int(time.time() * 1000),
            call=self.id,
            phase=phase,
            operation=self.operation.name,
            via=self.via,
            effect=self.operation.effect,
            principal=self.principal.subject,
            tenant=self.principal.tenant,
            namespace=self.principal.namespace,
            source=self.principal.source,
            client=self.principal.client,
            arguments=self.commitment,
            duration_ms=int((time.monotonic() - self.begun) * 1000),
            **facts,
        )


@dataclass(slots=True)
class CallPath:
    """The operations of one server, and the way to call them."""

    operations: Sequence[Operation]
    ledger: Ledger
    durable_reads: bool = False
    """Whether a read is answered only after its audit entry has reached the disk."""
    quotas: Quotas | None = None
    asking: Asking | None = None
    places: Places | None = None
    """What callers may have open in all processes together; None where nobody shares the ledger."""
    max_in_flight: int = 64
    """Calls of one principal at the same time, in this process."""
    _by_name: dict[str, Operation] = field(init=False)
    _parameters: dict[int, Parameters] = field(default_factory=dict)
    _looked_up: set[int] = field(default_factory=set)
    _in_flight: dict[str, int] = field(default_factory=dict)
    _idle: anyio.Event = field(default_factory=anyio.Event)

    @classmethod
    def of(cls, service: Service, settings: Settings, ledger: Ledger, *, remote: bool = False) -> CallPath:
        """The path to a service's operations with everything the operator has set."""
        quotas = settings.section("quotas", QuotaTable)
        streams = settings.section("server", ServerTable).max_streams
        return cls(
            service.operations,
            ledger,
            durable_reads=remote,
            quotas=Quotas(ledger.database, quotas.limits(remote=remote)),
            asking=Asking(settings.section("consent", ConsentTable), ledger.database),
            places=Places(ledger.database, {"calls": quotas.in_flight, "streams": streams}) if remote else None,
            max_in_flight=quotas.in_flight,
        )

    def __post_init__(self) -> None:
        self._by_name = {}
        for operation in self.operations:
            if operation.name in self._by_name:
                raise ValueError(f"two operations are named {operation.name!r}")
            self._by_name[operation.name] = operation

    def listed(self, principal: Principal) -> list[Operation]:
        """What this principal may call, in the order it was declared."""
        return [op for op in self.operations if op.visible and not principal.missing(op.scopes)]

    def schema(self, name: str) -> Mapping[str, Any] | None:
        """What the operation of that name takes; None where there is none."""
        operation = self._by_name.get(name)
        return self.parameters(operation).schema if operation else None

    def parameters(self, operation: Operation) -> Parameters:
        """The operation's arguments; built once."""
        known = self._parameters.get(id(operation))
        if known is None or known.operation is not operation:
            may_ask = self.asking.may_ask(operation) if self.asking else None
            known = self._parameters[id(operation)] = Parameters(operation, may_ask=may_ask)
        return known

    async def idle(self) -> None:
        """Wait until no call is running."""
        if self._in_flight:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def run(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        principal: Principal,
        channel: Channel | None = None,
        tools_only: bool = True,
    ) -> Shaped:
        """Make one call. Every foreseen failure is a `UsrlandError`; it was recorded before it is raised.

        Without `tools_only`, operations that are no tool of their own can be called, too: what stands behind
        resources, prompts and completion.
        """
        return await self._run(name, arguments, principal, channel or NoChannel(), tools_only=tools_only)

    async def _run(
        self,
        name: str,
        arguments: Mapping[str, Any],
        principal: Principal,
        channel: Channel,
        *,
        whole: bool = False,
        tools_only: bool = True,
    ) -> Shaped:
        begun, call_id = time.monotonic(), secrets.token_hex(8)
        arguments = dict(arguments)
        operation = self._by_name.get(name)
        if operation is None or (tools_only and not operation.visible):
            near = closest(name, [op.name for op in self.listed(principal)])
            raise InvalidInput(
                f"there is no operation {name!r}.",
                fix=f"Did you mean {near[0]!r}?" if near else "List the tools.",
            )
        async with self._counted(principal):
            try:
                request = await self._admit(operation, arguments, principal, channel, call_id, begun, whole=whole)
                if self.quotas is not None:
                    await self.quotas.take(principal, request.operation.cost)
            except UsrlandError as error:
                await self._refused(operation, arguments, principal, call_id, begun, error)
                raise
            with measured(request.operation.name) as facts:
                try:
                    return replace(await self._made(request), quotes=request.operation.quotes)
                except BaseException as error:
                    facts["error.type"] = _outcome(error)
                    raise

    async def _made(self, request: _Request) -> Shaped:
        if request.added.get("dry_run"):
            return await self._dry_run(request)
        if request.operation.effect == "read":
            return await self._read(request)
        return await self._change(request)

    # -- admit

    async def _admit(
        self,
        operation: Operation,
        arguments: dict[str, Any],
        principal: Principal,
        channel: Channel,
        call_id: str,
        begun: float,
        *,
        whole: bool,
    ) -> _Request:
        self._require(operation, principal)
        own, added = self.parameters(operation).split(arguments)
        values = self.parameters(operation).check(own)
        via = ""
        if operation.delegate is not None:
            via = operation.name
            operation, passed = await self._meant(operation.delegate, values)
            self._require(operation, principal)
            own = dict(passed)
            values = self.parameters(operation).check(own)
        shown = redact(own)
        recorded = _recorded(operation, shown)
        return _Request(
            id=call_id,
            operation=operation,
            via=via,
            principal=principal,
            channel=channel,
            arguments=shown,
            recorded=recorded,
            values=values,
            added=added,
            commitment=commit(recorded),
            begun=begun,
            whole=whole,
        )

    async def _meant(
        self, delegate: Callable[[Mapping[str, Any]], tuple[Operation, Mapping[str, Any]]], values: dict[str, Any]
    ) -> tuple[Operation, Mapping[str, Any]]:
        """What a delegate stands for. It may have to read a catalogue the first time, and others must be answered
        meanwhile; once it has answered it only looks up."""
        if id(delegate) in self._looked_up:
            return delegate(values)
        found = await anyio.to_thread.run_sync(delegate, values)
        self._looked_up.add(id(delegate))
        return found

    def _require(self, operation: Operation, principal: Principal) -> None:
        missing = principal.missing(operation.scopes)
        if missing:
            raise Denied(
                f"missing scope: {', '.join(sorted(missing))}.",
                fix=f"Ask the operator to grant it to {principal.subject!r}.",
                missing_scopes=missing,
            )

    @asynccontextmanager
    async def _counted(self, principal: Principal) -> AsyncIterator[None]:
        who = f"{principal.tenant}/{principal.subject}"
        if self._in_flight.get(who, 0) >= self.max_in_flight:
            raise QuotaExceeded(f"{self.max_in_flight} calls of {principal.subject!r} are running already.")
        self._in_flight[who] = self._in_flight.get(who, 0) + 1
        try:
            async with self.places.held(principal, "calls") if self.places is not None else nullcontext():
                yield
        finally:
            self._in_flight[who] -= 1
            if not self._in_flight[who]:
                del self._in_flight[who]
            if not self._in_flight:
                self._idle.set()

    # -- run

    async def _dry_run(self, request: _Request) -> Shaped:
        if request.operation.preview is None:
            raise InvalidInput(f"{request.operation.name} has no dry run.")
        return await self._observed(request, request.operation.preview, decision="dry_run")

    async def _read(self, request: _Request) -> Shaped:
        try:
            decision, confirmation = await self._consent(request, await self._reason(request))
            if confirmation is not None:
                await self.ledger.spend(confirmation, request.binding)
        except UsrlandError as error:
            await self._note_refusal(request, error)
            raise
        return await self._observed(request, request.operation.call, decision=decision)

    async def _observed(
        self, request: _Request, function: Callable[..., Awaitable[BaseModel]], *, decision: str
    ) -> Shaped:
        """Run what changes nothing, and record it once."""
        try:
            shaped = await self._answer(request, function)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self.ledger.note(
                    request.entry("read", decision=decision, outcome=_outcome(error)),
                    durable=self.durable_reads,
                )
            raise
        entry = request.entry("read", decision=decision, outcome="ok", result=shaped.digest)
        await self.ledger.note(entry, durable=self.durable_reads)
        return shaped

    async def _change(self, request: _Request) -> Shaped:
        """Ask, record the intent, run, record the outcome. No step is skipped when the caller goes away."""
        key = request.added.get("idempotency_key")
        try:
            reason = await self._reason(request)
            # whoever lost the answer of a confirmed call has no second confirmation to give
            if reason is not None and key is not None:
                done = await self.ledger.answered(request.binding, key)
                if done is not None:
                    return _restored(done)
            decision, confirmation = await self._consent(request, reason)
            intent = request.entry("intent", decision=decision)
            done = await self.ledger.begin(intent, request.binding, key, confirmation)
        except UsrlandError as error:
            await self._note_refusal(request, error)
            raise
        if done is not None:
            return _restored(done)
        try:
            shaped = await self._answer(request, request.operation.call)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                outcome = request.entry("outcome", decision=decision, outcome=_outcome(error))
                await self.ledger.end(outcome, request.binding, key, release=_without_effect(error))
            raise
        with anyio.CancelScope(shield=True):
            outcome = request.entry("outcome", decision=decision, outcome="ok", result=shaped.digest)
            await self.ledger.end(outcome, request.binding, key, answer=_stored(shaped))
        return shaped

    async def _answer(self, request: _Request, function: Callable[..., Awaitable[BaseModel]]) -> Shaped:
        operation = request.operation
        max_tokens = WHOLE_TOKENS if request.whole else request.added.get("max_tokens", operation.max_tokens)
        bound = request.binding.digest[:16]
        cursor = (
            Cursor.decode(request.added["cursor"], call=bound) if "cursor" in request.added else Cursor(call=bound)
        )
        call = Call(
            id=request.id,
            principal=request.principal,
            operation=operation.name,
            idempotency_key=request.added.get("idempotency_key"),
            offset=cursor.items,
            max_tokens=max_tokens,
            report=request.channel.progress,
            erase=self.ledger.erase,
            make=partial(self._make, request.principal),
            put_question=request.channel.ask,
        )
        answer = await self._within_deadline(request, function, call)
        if self.asking is not None:
            await self.asking.given(operation, request.principal)
        return shape(answer, cursor=cursor, max_tokens=max_tokens)

    async def _make(
        self, principal: Principal, operation: str, arguments: Mapping[str, Any], /
    ) -> Mapping[str, Any]:
        """A call that an operation makes for its own caller."""
        return (await self._run(operation, arguments, principal, NoChannel(), whole=True)).structured

    async def _within_deadline(
        self, request: _Request, function: Callable[..., Awaitable[BaseModel]], call: Call
    ) -> BaseModel:
        """Run one of the operation's functions, with its call where it asks for one."""
        operation = request.operation
        values = dict(request.values)
        wants = self.parameters(operation).wants_call
        try:
            with anyio.fail_after(operation.timeout_seconds) as deadline:
                if wants is not None:
                    values[wants] = replace(call, put_question=partial(_patient, deadline, call.put_question))
                return await _patiently(operation, function, values)
        except TimeoutError:
            raise Timeout(f"{operation.name} was stopped after {operation.timeout_seconds:g} seconds.") from None

    # -- consent

    async def _consent(self, request: _Request, reason: str | None) -> tuple[str, str | None]:
        """How the call came to be allowed, and the confirmation that is still to be used up.

        Raises `Denied` or `ConsentNeeded` where it was not.
        """
        if reason is None:
            return "allowed", None
        given = request.added.get("confirm_token")
        if given is not None:
            return "confirmed", given
        question = await self._question(request, reason)
        answer, token = await request.channel.confirm(question, self.ledger.confirmation(request.binding))
        match answer:
            case "accepted":
                return "confirmed", token
            case "declined":
                raise Denied("the user declined.", fix="Do not try again unless the user asks for it.")
            case "cannot_ask":
                raise ConsentNeeded(f"{question} This needs the user's consent.", token=token)

    async def _reason(self, request: _Request) -> str | None:
        """Why a person is asked; None where nobody is."""
        if self.asking is not None:
            return await self.asking.reason(request.operation, request.principal)
        return "" if request.operation.consent else None

    async def _question(self, request: _Request, reason: str) -> str:
        operation = request.operation
        why = f" You are asked because {reason}." if reason else ""
        if operation.preview is None:
            return f"Allow {operation.name} with {_shown(request.arguments)}?{why}"
        call = Call(id=request.id, principal=request.principal, operation=operation.name)
        preview = await self._within_deadline(request, operation.preview, call)
        if isinstance(preview, Preview):
            return f"{operation.name}: {redact(preview.would)}{why}"
        return f"Allow {operation.name}: {_shown(redact(preview.model_dump(mode='json')))}?{why}"

    # -- record

    async def _note_refusal(self, request: _Request, error: UsrlandError) -> None:
        entry = request.entry("refused", decision=error.code, outcome=error.code)
        await self.ledger.note(entry, durable=self.durable_reads)

    async def _refused(
        self,
        operation: Operation,
        arguments: dict[str, Any],
        principal: Principal,
        call_id: str,
        begun: float,
        error: UsrlandError,
    ) -> None:
        request = _Request(
            id=call_id,
            operation=operation,
            via="",
            principal=principal,
            channel=NoChannel(),
            arguments={},
            recorded={},
            values={},
            added={},
            commitment=commit(_recorded(operation, redact(arguments))),
            begun=begun,
        )
        await self._note_refusal(request, error)


async def _patient(
    deadline: anyio.CancelScope,
    ask: Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any] | None]],
    question: str,
    schema: Mapping[str, Any],
    /,
) -> Mapping[str, Any] | None:
    """Ask; the time a person takes to answer is not the operation's."""
    left = deadline.deadline - anyio.current_time()
    deadline.deadline = math.inf
    try:
        return await ask(redact(question), schema)
    finally:
        deadline.deadline = anyio.current_time() + left


async def _patiently(
    operation: Operation, function: Callable[..., Awaitable[BaseModel]], values: dict[str, Any]
) -> BaseModel:
    """Call; where that is harmless and a system outside did not answer, try twice more."""
    tries = RETRIES if operation.idempotent and operation.open_world else 0
    for attempt in range(tries):
        try:
            return await function(**values)
        except Unavailable as error:
            await anyio.sleep(error.retry_after_seconds or RETRY_SECONDS * 4**attempt)
    return await function(**values)


def _recorded(operation: Operation, arguments: dict[str, Any]) -> dict[str, Any]:
    return arguments if operation.recorded is None else dict(operation.recorded(arguments))


def _shown(value: Any) -> str:
    text = canonical(value).decode()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}… ({len(text)} characters)"


def _outcome(error: BaseException) -> str:
    if isinstance(error, UsrlandError):
        return error.code
    if isinstance(error, Paused):
        return "asked"
    return "failed" if isinstance(error, Exception) else "cancelled"


def _without_effect(error: BaseException) -> bool:
    """Whether a failed write surely changed nothing, so that its idempotency key may be used again."""
    if isinstance(error, Unavailable):
        return error.unsent
    foreseen = isinstance(error, UsrlandError) and not isinstance(error, Timeout | Failed)
    return isinstance(error, Paused) or foreseen


def _stored(shaped: Shaped) -> bytes:
    return canonical([shaped.structured, shaped.text])


def _restored(kept: bytes) -> Shaped:
    structured, text = json.loads(kept)
    return Shaped(structured, text)
