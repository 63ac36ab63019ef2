"""RabbitMQ: messages published with the broker's confirmation, looked at, and taken with an answer for each.

    [work]
    kind = "rabbitmq"
    url = "amqp://user@broker.example/vhost"     # or amqps://
    password = "env:WORK_PASSWORD"
    queues = ["orders", "mail.*"]                # the only ones that may be read; * stands for anything
    exchanges = ["events"]                       # the only ones that may be published to, beside those queues

A message is published when the broker has confirmed it and could route it, and not before; it carries the call's
idempotency key as its message id and as `x-deduplication-header`, for brokers and consumers that look at them.
What is taken stays the broker's until it is said to be done: when that is not said in time, or this process ends,
the broker gives it to somebody else. So taken messages belong to the process that took them.
"""

from __future__ import annotations

import fnmatch
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import anyio
from pydantic import BaseModel, ConfigDict, Field

from enterprise_connectors.declare import reading, writing
from enterprise_connectors.messages import Headers, Message, Receipts, Settled, Text, headed, message
from usrland.connector import Call, Connector, Operation
from usrland.errors import Conflict, Denied, InvalidInput, NotFound, Timeout, Unavailable, UsrlandError
from usrland.redact import keep_secret
from usrland.schemas.principal import Principal
from usrland.schemas.wire import Answer, Page, Preview

if TYPE_CHECKING:
    import httpx
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue

__all__ = ["RabbitConfig", "RabbitConnector"]


SECONDS = 10.0
MAX_AT_ONCE = 50
MAX_ANSWER_BYTES = 1024 * 1024
"""Of messages in one answer."""
LOOK_SECONDS = 5.0
OURS = ("x-deduplication-header",)

ResultT = TypeVar("ResultT")
Queue = Annotated[str, Field(min_length=1, max_length=255)]


class RabbitConfig(BaseModel):
    """The keys of a `kind = "rabbitmq"` table."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(repr=False)
    password: str = Field(default="", repr=False)
    queues: list[str] = Field(default_factory=lambda: ["*"], min_length=1)
    exchanges: list[str] = Field(default_factory=list)
    lease_seconds: int = Field(default=300, ge=5, le=3600)
    """How long taken messages are kept for whoever took them."""


class QueueState(Answer):
    name: str
    ready: int = Field(description="Messages that nobody has taken.")
    consumers: int


class Published(Answer):
    queue: str | None = None
    exchange: str | None = None
    message_id: str


@dataclass(slots=True)
class _Lease:
    """What one call took: its channel, and the messages that still want an answer."""

    owner: tuple[str, str, str]
    channel: AbstractChannel
    until: float
    messages: dict[str, AbstractIncomingMessage] = field(default_factory=dict)


class RabbitConnector(Connector[RabbitConfig]):
    """One virtual host. The driver is loaded and the connection opened at the first call."""

    name = "rabbitmq"
    config_type = RabbitConfig

    def __init__(self, config: RabbitConfig, http: httpx.AsyncClient) -> None:
        super().__init__(config, http)
        parts = urlsplit(config.url)
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
            raise InvalidInput("url: it is amqp://user@host/vhost or amqps://….")
        for secret in (unquote(parts.password or ""), config.password):
            keep_secret(secret)
        self._connection: AbstractConnection | None = None
        self._opening = anyio.Lock()
        self._leases: dict[str, _Lease] = {}

    def operations(self) -> Sequence[Operation]:
        return [
            reading(self.status, cost="low"),
            reading(self.peek),
            writing(self.publish, self.would_publish),
            writing(self.take, undo="give_back"),
            writing(self.done),
            writing(self.give_back),
        ]

    async def check(self) -> None:
        channel = await self._asked(self._channel)
        await channel.close()

    async def work(self) -> None:
        """Give back in time what was taken and never answered for."""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            for receipt, lease in list(self._leases.items()):
                if time.monotonic() > lease.until:
                    await self._end(receipt)

    async def aclose(self) -> None:
        for receipt in list(self._leases):
            await self._end(receipt)
        if self._connection is not None:
            await self._connection.close()

    async def status(
        self, queue: Annotated[str, Field(max_length=255, description="Default: all that are known by name.")] = ""
    ) -> Page[QueueState]:
        """How many messages wait in a queue and how many consumers it has."""
        names = [queue] if queue else [name for name in self.config.queues if "*" not in name]
        return Page(
            items=[await self._state(name) for name in names],
            note=None if names else "The configuration names patterns only; ask for one queue by its name.",
        )

    async def peek(self, queue: Queue, limit: Annotated[int, Field(ge=1, le=MAX_AT_ONCE)] = 10) -> Page[Message]:
        """Look at the next messages of a queue and leave them there. Others may take them meanwhile."""
        self._allow(queue)

        async def look() -> Page[Message]:
            channel = await self._channel()
            try:
                found = await _got(await channel.get_queue(queue), limit)
                return Page(items=[_shown(each) for each in found])
            finally:
                await channel.close()  # what was not answered goes back to its place

        return await self._asked(look, queue)

    async def publish(
        self,
        text: Text,
        call: Call,
        queue: Annotated[str, Field(max_length=255, description="Straight into this queue, or")] = "",
        exchange: Annotated[str, Field(max_length=255, description="to whoever is bound here.")] = "",
        routing_key: Annotated[str, Field(max_length=255)] = "",
        headers: Headers | None = None,
    ) -> Published:
        """Publish one message. It answers once the broker has it and could route it. Consumers may act at once."""
        key, more = self._addressed(queue, exchange, routing_key, headers)

        async def send() -> Published:
            from aio_pika import DeliveryMode
            from aio_pika import Message as Outgoing

            id = call.idempotency_key or secrets.token_hex(16)
            stated: Any = {**more, OURS[0]: call.idempotency_key} if call.idempotency_key else more
            outgoing = Outgoing(
                text.encode(),
                message_id=id,
                headers=stated,
                content_type="application/json" if _is_json(text) else "text/plain",
                delivery_mode=DeliveryMode.PERSISTENT,
            )
            channel = await self._channel()
            try:
                target = await channel.get_exchange(exchange) if exchange else channel.default_exchange
                await target.publish(outgoing, key, mandatory=True, timeout=SECONDS)
            finally:
                await channel.close()
            return Published(queue=queue or None, exchange=exchange or None, message_id=id)

        return await self._asked(send, exchange or queue)

    async def would_publish(
        self,
        text: Text,
        call: Call,
        queue: Annotated[str, Field(max_length=255, description="Straight into this queue, or")] = "",
        exchange: Annotated[str, Field(max_length=255, description="to whoever is bound here.")] = "",
        routing_key: Annotated[str, Field(max_length=255)] = "",
        headers: Headers | None = None,
    ) -> Preview:
        """Say where the message would go."""
        self._addressed(queue, exchange, routing_key, headers)
        waiting = f", where {(await self._state(queue)).ready} wait" if queue else ""
        where = f"queue {queue!r}" if queue else f"exchange {exchange!r} with key {routing_key!r}"
        return Preview(would=f"Publish one message to {where}{waiting}.", affected=1, examples=[text[:300]])

    async def take(
        self, queue: Queue, call: Call, limit: Annotated[int, Field(ge=1, le=MAX_AT_ONCE)] = 1
    ) -> Page[Message]:
        """Take the next messages of a queue to deal with them: nobody else gets them meanwhile. Say done for each
        receipt afterwards, or give_back; what is not answered for in time goes back by itself."""
        self._allow(queue)

        async def get() -> Page[Message]:
            channel = await self._channel()
            found = await _got(await channel.get_queue(queue), limit)
            if not found:
                await channel.close()
                return Page(items=[], note="The queue is empty.")
            name = secrets.token_hex(8)
            lease = _Lease(_who(call.principal), channel, time.monotonic() + self.config.lease_seconds)
            self._leases[name] = lease
            items = []
            for position, each in enumerate(found):
                lease.messages[f"{name}.{position}"] = each
                items.append(_shown(each, f"{name}.{position}"))
            return Page(items=items, note=f"Say done for each within {self.config.lease_seconds} seconds.")

        return await self._asked(get, queue)

    async def done(self, receipts: Receipts, call: Call) -> Settled:
        """Say that taken messages were dealt with: the broker forgets them."""
        return await self._settle(receipts, call, keep=False)

    async def give_back(self, receipts: Receipts, call: Call) -> Settled:
        """Give taken messages back to their queue, for whoever takes next."""
        return await self._settle(receipts, call, keep=True)

    async def _settle(self, receipts: Sequence[str], call: Call, *, keep: bool) -> Settled:
        who = _who(call.principal)
        for receipt in receipts:
            lease = self._leases.get(receipt.partition(".")[0])
            if lease is None or lease.owner != who or receipt not in lease.messages:
                raise Conflict(
                    f"the receipt {receipt!r} is not held here (any more).",
                    fix="The message went back to its queue: take it again.",
                )

        async def settle() -> Settled:
            for receipt in receipts:
                name = receipt.partition(".")[0]
                held = self._leases[name].messages.pop(receipt)
                await (held.nack(requeue=True) if keep else held.ack())
                if not self._leases[name].messages:
                    await self._end(name)
            return Settled(settled=len(receipts))

        return await self._asked(settle)

    async def _end(self, name: str) -> None:
        """Close a lease; what has no answer yet goes back."""
        lease = self._leases.pop(name, None)
        if lease is not None and not lease.channel.is_closed:
            await lease.channel.close()

    # -- what may be used

    def _allow(self, queue: str) -> None:
        if not any(fnmatch.fnmatchcase(queue, pattern) for pattern in self.config.queues):
            raise Denied(
                f"the queue {queue!r} is not available.", fix="The operation status lists those there are."
            )

    def _addressed(
        self, queue: str, exchange: str, routing_key: str, headers: dict[str, str] | None
    ) -> tuple[str, dict[str, str]]:
        """The routing key and the headers; raises where the target may not be published to."""
        if bool(queue) == bool(exchange):
            raise InvalidInput("give either queue or exchange.")
        if queue:
            self._allow(queue)
        elif not any(fnmatch.fnmatchcase(exchange, pattern) for pattern in self.config.exchanges):
            raise Denied(f"the exchange {exchange!r} may not be published to.")
        return queue or routing_key, headed(headers, OURS)

    async def _state(self, queue: str) -> QueueState:
        self._allow(queue)

        async def look() -> QueueState:
            channel = await self._channel()
            try:
                found = (await channel.declare_queue(queue, passive=True)).declaration_result
                return QueueState(name=queue, ready=found.message_count or 0, consumers=found.consumer_count or 0)
            finally:
                await channel.close()

        return await self._asked(look, queue)

    # -- the connection

    async def _channel(self) -> AbstractChannel:
        async with self._opening:
            if self._connection is None or self._connection.is_closed:
                self._connection = None
                self._connection = await self._connect()
        return await self._connection.channel(publisher_confirms=True, on_return_raises=True)

    async def _connect(self) -> AbstractConnection:
        try:
            import aio_pika
        except ModuleNotFoundError as error:
            raise Unavailable("RabbitMQ needs: pip install 'usrland[rabbitmq]'.") from error
        parts = urlsplit(self.config.url)
        url = self.config.url
        if self.config.password:
            user = quote(unquote(parts.username or "guest"), safe="")
            place = parts.netloc.rpartition("@")[2]
            url = parts._replace(netloc=f"{user}:{quote(self.config.password, safe='')}@{place}").geturl()
        return await aio_pika.connect(url, timeout=SECONDS)

    async def _asked(self, work: Callable[[], Awaitable[ResultT]], what: str = "") -> ResultT:
        """One exchange with the broker; failures as errors of ours."""
        try:
            with anyio.fail_after(SECONDS):
                return await work()
        except UsrlandError:
            raise
        except TimeoutError as error:
            raise Timeout(
                "RabbitMQ did not answer in time.", fix="Look before you repeat what changes something."
            ) from error
        except Exception as error:
            raise _failure(error, what, unsent=self._connection is None) from error


def _failure(error: Exception, what: str, *, unsent: bool) -> Exception:
    from aio_pika import exceptions

    if isinstance(error, exceptions.ChannelNotFoundEntity):
        return NotFound(f"there is no {what!r} on this broker.")
    if isinstance(error, exceptions.ProbableAuthenticationError | exceptions.AuthenticationError):
        return Denied("RabbitMQ refuses the credentials.", fix="The operator has to check them.")
    if isinstance(error, exceptions.ChannelClosed) and "ACCESS_REFUSED" in str(error):
        return Denied(f"RabbitMQ refuses this role access to {what!r}.")
    if isinstance(error, exceptions.PublishError | exceptions.DeliveryError):
        return NotFound(f"nobody is bound to {what!r} for this key: the message was not kept.")
    if isinstance(error, exceptions.ChannelInvalidStateError | exceptions.AMQPError | ConnectionError | OSError):
        doubt = "" if unsent else "Look before you repeat what changes something."
        return Unavailable("RabbitMQ cannot be connected to.", fix=doubt, unsent=unsent)
    return error


async def _got(queue: AbstractQueue, limit: int) -> list[AbstractIncomingMessage]:
    """Up to `limit` messages, unanswered; fewer where they are large."""
    found: list[AbstractIncomingMessage] = []
    room = MAX_ANSWER_BYTES
    while len(found) < limit and room > 0:
        each = await queue.get(fail=False, no_ack=False)
        if each is None:
            break
        found.append(each)
        room -= len(each.body)
    return found


def _shown(each: AbstractIncomingMessage, receipt: str | None = None) -> Message:
    return message(
        each.routing_key or "",
        each.body,
        id=each.message_id,
        headers={str(key): str(value) for key, value in each.headers.items()} or None,
        redelivered=each.redelivered or None,
        receipt=receipt,
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _who(principal: Principal) -> tuple[str, str, str]:
    return principal.tenant, principal.namespace, principal.subject
