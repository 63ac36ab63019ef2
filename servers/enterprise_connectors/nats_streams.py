"""NATS JetStream: messages kept by the broker, published once for a key, read by place, taken and answered for.

    [events]
    kind = "nats"
    url = "nats://broker.example:4222"       # or tls://
    username = "svc"                         # with password, or token alone
    password = "env:EVENTS_PASSWORD"
    streams = ["ORDERS"]                     # the only ones that may be used; * stands for anything

A message with an idempotency key carries it as `Nats-Msg-Id`: the broker itself keeps it once, within the stream's
own window. A receipt of `take` is the broker's own address for an answer, so any process may give it. Servers that
the broker tells of are not connected to: the address of the configuration is the only one.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import urlsplit

import anyio
from pydantic import BaseModel, ConfigDict, Field

from enterprise_connectors.declare import destroying, reading, writing
from enterprise_connectors.messages import Headers, Message, Receipts, Settled, Text, headed, message
from usrland.connector import Call, Connector, Operation
from usrland.errors import Denied, InvalidInput, NotFound, Timeout, Unavailable, UsrlandError
from usrland.redact import keep_secret
from usrland.schemas.wire import Answer, Page, Preview

if TYPE_CHECKING:
    import httpx
    from nats.aio.client import Client
    from nats.js import JetStreamContext

__all__ = ["NatsConfig", "NatsConnector"]


SECONDS = 10.0
MAX_AT_ONCE = 100
MAX_ANSWER_BYTES = 1024 * 1024
KEY_HEADER = "Nats-Msg-Id"
OURS = ("nats-msg-id",)
DURABLE = "usrland"
"""The consumer that `take` makes where it is not told another."""

_SUBJECT = r"^[^\s*>.]+(\.[^\s*>.]+)*$"

ResultT = TypeVar("ResultT")
StreamName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,255}$")]
Consumer = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Subject = Annotated[str, Field(max_length=255, pattern=_SUBJECT)]
Sequence_ = Annotated[int, Field(ge=1)]


class NatsConfig(BaseModel):
    """The keys of a `kind = "nats"` table."""

    model_config = ConfigDict(extra="forbid")

    url: str
    username: str = ""
    password: str = Field(default="", repr=False)
    token: str = Field(default="", repr=False)
    streams: list[str] = Field(default_factory=lambda: ["*"], min_length=1)
    lease_seconds: int = Field(default=60, ge=5, le=3600)
    """How long taken messages are kept for whoever took them."""


class Stream(Answer):
    name: str
    subjects: list[str]
    messages: int
    bytes: int
    first: int
    last: int
    consumers: int


class Published(Answer):
    stream: str
    sequence: int
    note: str | None = None


class Removed(Answer):
    removed: int


class NatsConnector(Connector[NatsConfig]):
    """The streams of one broker. The driver is loaded and the connection opened at the first call."""

    name = "nats"
    config_type = NatsConfig

    def __init__(self, config: NatsConfig, http: httpx.AsyncClient) -> None:
        super().__init__(config, http)
        parts = urlsplit(config.url)
        if parts.scheme not in ("nats", "tls") or not parts.hostname or parts.username:
            raise InvalidInput("url: it is nats://host:4222 or tls://…, without credentials.")
        for secret in (config.password, config.token):
            keep_secret(secret)
        self._client: Client | None = None
        self._opening = anyio.Lock()

    def operations(self) -> Sequence[Operation]:
        return [
            reading(self.streams, cost="low"),
            reading(self.read),
            writing(self.publish, self.would_publish, undo="remove"),
            writing(self.take, undo="give_back"),
            writing(self.done, idempotent=True),
            writing(self.give_back, idempotent=True),
            destroying(self.remove, self.would_remove),
        ]

    async def check(self) -> None:
        await self._asked(lambda js: js.account_info())

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def streams(self) -> Page[Stream]:
        """List the streams with the subjects they keep, how many messages, and their first and last number."""
        found = await self._asked(lambda js: js.streams_info())
        items = [_stream(each) for each in found if each.config.name and self._allowed(each.config.name)]
        return Page(items=sorted(items, key=lambda each: each.name), total=len(items))

    async def read(
        self,
        stream: StreamName,
        after: Annotated[int, Field(ge=0, description="Only messages after this number.")] = 0,
        subject: Annotated[str, Field(max_length=255, description="Only this one; * and > stand for parts.")] = "",
        limit: Annotated[int, Field(ge=1, le=MAX_AT_ONCE)] = 20,
    ) -> Page[Message]:
        """Read messages in order. Reading takes nothing away and is seen by no consumer."""
        self._allow(stream)

        async def look(js: JetStreamContext) -> Page[Message]:
            from nats.js.errors import NotFoundError

            last = (await js.stream_info(stream)).state.last_seq
            items: list[Message] = []
            number, room = after, MAX_ANSWER_BYTES
            while number < last and room > 0:
                try:
                    found = await js.get_msg(stream, seq=number + 1, subject=subject or ">", next=True)
                except NotFoundError:
                    break
                if len(items) == limit:
                    return Page(items=items, note=f"There are more: read on with after={items[-1].id}.")
                number = found.seq or last
                room -= len(found.data or b"")
                items.append(
                    message(found.subject or "", found.data or b"", id=str(number), headers=_plain(found.headers))
                )
            return Page(items=items)

        return await self._asked(look, stream)

    async def publish(self, subject: Subject, text: Text, call: Call, headers: Headers | None = None) -> Published:
        """Publish one message to a subject that a stream keeps. It answers once the broker has stored it;
        consumers may act at once."""
        more = headed(headers, OURS)
        if call.idempotency_key:
            more[KEY_HEADER] = call.idempotency_key

        async def send(js: JetStreamContext) -> Published:
            stream = await self._keeping(js, subject)
            stored = await js.publish(subject, text.encode(), timeout=SECONDS, stream=stream, headers=more or None)
            note = "It was there already; nothing was added." if stored.duplicate else None
            return Published(stream=stored.stream, sequence=stored.seq, note=note)

        return await self._asked(send, subject)

    async def would_publish(
        self, subject: Subject, text: Text, call: Call, headers: Headers | None = None
    ) -> Preview:
        """Say which stream would keep the message."""
        headed(headers, OURS)
        stream = await self._asked(lambda js: self._keeping(js, subject), subject)
        return Preview(
            would=f"Publish to {subject!r}; the stream {stream!r} keeps it.", affected=1, examples=[text[:300]]
        )

    async def take(
        self,
        stream: StreamName,
        consumer: Consumer = DURABLE,
        limit: Annotated[int, Field(ge=1, le=MAX_AT_ONCE)] = 1,
        seconds: Annotated[float, Field(ge=0.1, le=8, description="How long to wait for the first one.")] = 1.0,
    ) -> Page[Message]:
        """Take the next messages of a consumer to deal with them: nobody else gets them meanwhile. Say done for
        each receipt afterwards, or give_back; what is not answered for in time is given out again."""
        self._allow(stream)

        async def get(js: JetStreamContext) -> Page[Message]:
            from nats.js.api import AckPolicy, ConsumerConfig
            from nats.js.errors import NotFoundError

            try:
                await js.consumer_info(stream, consumer)
            except NotFoundError:
                await js.stream_info(stream)  # the stream itself may be what is missing
                wanted = ConsumerConfig(
                    durable_name=consumer, ack_policy=AckPolicy.EXPLICIT, ack_wait=self.config.lease_seconds
                )
                await js.add_consumer(stream, wanted)
            subscription = await js.pull_subscribe_bind(consumer, stream)
            try:
                found = await subscription.fetch(limit, timeout=seconds)
            except TimeoutError:
                return Page(items=[], note="Nothing came.")
            finally:
                await subscription.unsubscribe()
            return Page(items=[_taken(each) for each in found])

        return await self._asked(get, stream)

    async def done(self, receipts: Receipts) -> Settled:
        """Say that taken messages were dealt with: the consumer does not give them out again."""
        return await self._answer(receipts, b"+ACK")

    async def give_back(self, receipts: Receipts) -> Settled:
        """Give taken messages back: the consumer gives them out again at once."""
        return await self._answer(receipts, b"-NAK")

    async def remove(self, stream: StreamName, sequence: Sequence_) -> Removed:
        """Remove one message from a stream for good. Consumers that have it are not told."""
        self._allow(stream)
        removed = await self._asked(lambda js: js.delete_msg(stream, sequence), stream)
        return Removed(removed=int(removed))

    async def would_remove(self, stream: StreamName, sequence: Sequence_) -> Preview:
        """Show the message that would be removed."""
        self._allow(stream)
        found = await self._asked(lambda js: js.get_msg(stream, sequence), stream)
        shown = message(found.subject or "", found.data or b"")
        would = f"Remove message {sequence} of {stream!r} ({shown.subject}, {shown.bytes} bytes)."
        return Preview(would=would, affected=1, examples=[(shown.text or shown.base64 or "")[:300]])

    async def _answer(self, receipts: Sequence[str], word: bytes) -> Settled:
        for receipt in receipts:
            stream = _stream_of(receipt)
            self._allow(stream)

        async def answer(js: JetStreamContext) -> Settled:
            client = self._client
            assert client is not None
            for receipt in receipts:
                await client.request(receipt, word, timeout=SECONDS)
            return Settled(settled=len(receipts))

        return await self._asked(answer)

    # -- what may be used

    def _allowed(self, stream: str) -> bool:
        return any(fnmatch.fnmatchcase(stream, pattern) for pattern in self.config.streams)

    def _allow(self, stream: str) -> None:
        if not self._allowed(stream):
            raise Denied(
                f"the stream {stream!r} is not available.", fix="The operation streams lists those there are."
            )

    async def _keeping(self, js: JetStreamContext, subject: str) -> str:
        """The stream that keeps a subject; without one a message would be gone once it was sent."""
        stream = str(await js.find_stream_name_by_subject(subject))
        self._allow(stream)
        return stream

    # -- the connection

    async def _asked(self, work: Callable[[JetStreamContext], Awaitable[ResultT]], what: str = "") -> ResultT:
        """One exchange with the broker; failures as errors of ours."""
        try:
            with anyio.fail_after(SECONDS):
                client = await self._connected()
                return await work(client.jetstream(timeout=SECONDS))
        except UsrlandError:
            raise
        except TimeoutError as error:
            raise Timeout(
                "NATS did not answer in time.", fix="Look before you repeat what changes something."
            ) from error
        except Exception as error:
            raise _failure(error, what, unsent=self._client is None) from error

    async def _connected(self) -> Client:
        async with self._opening:
            if self._client is None or not self._client.is_connected:
                try:
                    import nats
                except ModuleNotFoundError as error:
                    raise Unavailable("NATS needs: pip install 'usrland[nats]'.") from error
                self._client = None
                self._client = await nats.connect(
                    self.config.url,
                    user=self.config.username or None,
                    password=self.config.password or None,
                    token=self.config.token or None,
                    connect_timeout=SECONDS / 2,
                    allow_reconnect=False,  # it would go wherever the broker says
                    max_reconnect_attempts=1,  # 0 would try for ever
                    reconnect_time_wait=0,
                    error_cb=_said,
                    name="usrland",
                )
            return self._client


async def _said(error: Exception) -> None:
    """The driver tells failures twice; the call hears of them."""


def _failure(error: Exception, what: str, *, unsent: bool) -> Exception:
    from nats import errors
    from nats.js import errors as stream_errors

    if isinstance(error, stream_errors.NotFoundError | stream_errors.NoStreamResponseError):
        return NotFound(
            f"there is nothing for {what!r} in this JetStream.", fix="The operation streams lists streams."
        )
    if isinstance(error, errors.AuthorizationError):
        return Denied("NATS refuses the credentials.", fix="The operator has to check them.")
    if isinstance(error, errors.NoRespondersError):
        return Unavailable("nobody answers: JetStream is not on, or the receipt is of a consumer that is gone.")
    if isinstance(error, stream_errors.APIError):
        return InvalidInput(f"NATS says: {(error.description or 'no')[:200]}.")
    if isinstance(error, errors.Error | ConnectionError | OSError):
        if "authorization" in str(error).lower():
            return Denied("NATS refuses the credentials.", fix="The operator has to check them.")
        return Unavailable("NATS cannot be connected to.", unsent=unsent)
    return error


def _stream(info: Any) -> Stream:
    state = info.state
    return Stream(
        name=info.config.name,
        subjects=list(info.config.subjects or []),
        messages=state.messages,
        bytes=state.bytes,
        first=state.first_seq,
        last=state.last_seq,
        consumers=state.consumer_count,
    )


def _taken(each: Any) -> Message:
    facts = each.metadata
    return message(
        each.subject,
        each.data,
        id=str(facts.sequence.stream),
        headers=_plain(each.headers),
        redelivered=facts.num_delivered > 1 or None,
        receipt=each.reply,
    )


def _stream_of(receipt: str) -> str:
    """The stream that a receipt is of; it is an address, and nothing else may be one."""
    parts = receipt.split(".")
    if not re.fullmatch(r"\$JS\.ACK\.[A-Za-z0-9_.\-]+", receipt) or len(parts) not in (9, 11, 12):
        raise InvalidInput("receipts: not one of ours.", fix="Pass what take gave.")
    return parts[2] if len(parts) == 9 else parts[4]


def _plain(headers: Any) -> dict[str, str] | None:
    return {str(key): str(value) for key, value in (headers or {}).items()} or None
