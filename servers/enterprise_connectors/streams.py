"""Redis streams: messages in order, read by place, added with one effect.

    [orders]
    kind = "redis"
    url = "redis://user@queue.example/0"     # or rediss://, or a reference: env:ORDERS_URL
    password = "env:ORDERS_PASSWORD"
    streams = ["orders", "returns:*"]        # the only ones that may be used; * stands for anything

Only stream commands are ever sent, each with the name of a stream that is allowed and nothing that could be a
command of its own: there is no way from an argument to KEYS, EVAL or CONFIG. A message that was added carries the
call's idempotency key, and before a message with a key is added the latest ones are looked through for it: with
the call path's own memory this holds also where that memory was lost with a machine.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from enterprise_connectors.declare import destroying, reading, writing
from usrland.connector import Call, Connector, Operation
from usrland.errors import Denied, InvalidInput, NotFound, Timeout, Unavailable, UsrlandError
from usrland.redact import keep_secret
from usrland.schemas.wire import Answer, Page, Preview

if TYPE_CHECKING:
    import httpx
    from redis.asyncio import Redis

__all__ = ["RedisConfig", "RedisConnector"]


SECONDS = 5.0
MAX_FIELDS = 50
MAX_MESSAGE_CHARACTERS = 64_000
MAX_AT_ONCE = 200
MAX_STREAMS = 1_000
KEY_FIELD = "idempotency-key"
LOOK_BACK = 1_000
"""Messages, newest first, that are searched for an idempotency key."""

_ID = r"^(\d{1,20}(-\d{1,20})?)?$"

StreamName = Annotated[str, Field(min_length=1, max_length=200, description="As streams names it.")]


class RedisConfig(BaseModel):
    """The keys of a `kind = "redis"` table."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(repr=False)
    password: str = Field(default="", repr=False)
    streams: list[str] = Field(default_factory=lambda: ["*"], min_length=1)
    max_length: int | None = Field(default=None, ge=1)
    """A stream longer than this loses its oldest messages when one is added. Default: nothing is ever lost."""


class Stream(Answer):
    name: str
    messages: int
    first: str | None = Field(default=None, description="Id of the oldest message.")
    last: str | None = None
    groups: list[str] = Field(description="Consumer groups with how many messages each still has to do.")


class Message(Answer):
    id: str
    fields: dict[str, str]


class Added(Answer):
    stream: str
    id: str
    note: str | None = None


class Removed(Answer):
    removed: int


class RedisConnector(Connector[RedisConfig]):
    """The streams of one Redis. The driver is loaded at the first call."""

    name = "redis"
    config_type = RedisConfig

    def __init__(self, config: RedisConfig, http: httpx.AsyncClient) -> None:
        super().__init__(config, http)
        parts = urlsplit(config.url)
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise InvalidInput("url: it is redis://host:port/number or rediss://….")
        for secret in (unquote(parts.password or ""), config.password):
            keep_secret(secret)
        self._client: Redis | None = None

    def operations(self) -> Sequence[Operation]:
        return [
            reading(self.streams, cost="low"),
            reading(self.read),
            writing(self.add, self.would_add, undo="remove"),
            destroying(self.remove, self.would_remove),
        ]

    async def check(self) -> None:
        await self._asked("ping")

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def streams(
        self, call: Call, pattern: Annotated[str, Field(max_length=200, description="Part of the name.")] = ""
    ) -> Page[Stream]:
        """List the streams with their length, first and last message and who still has to read what."""
        names = sorted(name for name in await self._names() if pattern in name)
        wanted = names[call.offset : call.offset + 50]
        return Page(
            items=[await self._stream(name) for name in wanted],
            total=len(names),
            more=call.offset + len(wanted) < len(names),
        )

    async def read(
        self,
        stream: StreamName,
        call: Call,
        after: Annotated[str, Field(pattern=_ID, description="Only messages after this id.")] = "",
        newest_first: bool = False,
        limit: Annotated[int, Field(ge=1, le=MAX_AT_ONCE)] = 20,
    ) -> Page[Message]:
        """Read messages in order, from the oldest or from `after` on. Reading takes nothing away."""
        self._allow(stream)
        if newest_first:
            found = await self._asked(
                "xrevrange", stream, "+", f"({after}" if after else "-", call.offset + limit + 1
            )
        else:
            found = await self._asked(
                "xrange", stream, f"({after}" if after else "-", "+", call.offset + limit + 1
            )
        if not found and not await self._asked("exists", stream):
            raise NotFound(f"there is no stream {stream!r}.", fix="The operation streams lists those there are.")
        page = found[call.offset : call.offset + limit]
        items = [Message(id=id, fields=fields) for id, fields in page]
        return Page(items=items, more=len(found) > call.offset + limit)

    async def add(
        self,
        stream: StreamName,
        fields: Annotated[dict[str, str], Field(min_length=1, max_length=MAX_FIELDS)],
        call: Call,
    ) -> Added:
        """Add one message to the end of a stream. Consumers may act on it at once."""
        self._check(stream, fields)
        if call.idempotency_key is None:
            return Added(stream=stream, id=await self._add(stream, fields))
        marked = {**fields, KEY_FIELD: call.idempotency_key}
        for id, known in await self._asked("xrevrange", stream, "+", "-", LOOK_BACK):
            if known.get(KEY_FIELD) == call.idempotency_key:
                if known != marked:
                    raise InvalidInput("idempotency_key: it was used for another message.", fix="Use a new key.")
                return Added(stream=stream, id=id, note="It was there already; nothing was added.")
        return Added(stream=stream, id=await self._add(stream, marked))

    async def would_add(
        self,
        stream: StreamName,
        fields: Annotated[dict[str, str], Field(min_length=1, max_length=MAX_FIELDS)],
        call: Call,
    ) -> Preview:
        """Say what would be added and to how long a stream."""
        self._check(stream, fields)
        length = await self._asked("xlen", stream)
        return Preview(
            would=f"Add one message to {stream!r}, which holds {length}.", affected=1, examples=[str(fields)]
        )

    async def remove(
        self, stream: StreamName, ids: Annotated[list[str], Field(min_length=1, max_length=100)]
    ) -> Removed:
        """Remove messages by their ids. Consumers that have read them are not told."""
        self._allow(stream)
        return Removed(removed=await self._asked("xdel", stream, *ids))

    async def would_remove(
        self, stream: StreamName, ids: Annotated[list[str], Field(min_length=1, max_length=100)]
    ) -> Preview:
        """Show the messages that would be removed."""
        self._allow(stream)
        found = [message for id in ids for message in await self._asked("xrange", stream, id, id)]
        return Preview(
            would=f"Remove {len(found)} messages from {stream!r}.",
            affected=len(found),
            examples=[f"{id}: {fields}"[:300] for id, fields in found[:10]],
        )

    def _check(self, stream: str, fields: dict[str, str]) -> None:
        self._allow(stream)
        if KEY_FIELD in fields:
            raise InvalidInput(f"fields: {KEY_FIELD!r} is ours.", fix="Give idempotency_key beside the arguments.")
        if sum(len(key) + len(value) for key, value in fields.items()) > MAX_MESSAGE_CHARACTERS:
            raise InvalidInput(f"fields: a message has at most {MAX_MESSAGE_CHARACTERS} characters.")

    def _allow(self, stream: str) -> None:
        if not any(fnmatch.fnmatchcase(stream, pattern) for pattern in self.config.streams):
            raise Denied(
                f"the stream {stream!r} is not available.", fix="The operation streams lists those there are."
            )

    async def _names(self) -> list[str]:
        names: set[str] = set()
        for pattern in self.config.streams:
            cursor = 0
            while True:
                cursor, found = await self._asked("scan", cursor, pattern, 500, "stream")
                names.update(found)
                if cursor == 0 or len(names) >= MAX_STREAMS:
                    break
        return list(names)

    async def _stream(self, name: str) -> Stream:
        facts = await self._asked("xinfo_stream", name)
        groups = await self._asked("xinfo_groups", name)
        ends = [entry[0] if entry else None for entry in (facts["first-entry"], facts["last-entry"])]
        return Stream(
            name=name,
            messages=facts["length"],
            first=ends[0],
            last=ends[1],
            groups=[f"{group['name']}: {(group.get('lag') or 0) + group['pending']}" for group in groups],
        )

    async def _add(self, stream: str, fields: dict[str, str]) -> str:
        return str(await self._asked("xadd", stream, fields, "*", self.config.max_length))

    async def _asked(self, command: str, *arguments: Any) -> Any:
        """One command; failures as errors of ours."""
        from redis import exceptions

        try:
            return await getattr(self._opened(), command)(*arguments)
        except UsrlandError:
            raise
        except exceptions.TimeoutError as error:
            raise Timeout(
                "Redis did not answer in time.", fix="Look before you repeat what changes something."
            ) from error
        except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
            raise Denied("Redis refuses this role.", fix="The operator has to check its rights.") from error
        except (exceptions.ConnectionError, OSError) as error:
            raise Unavailable("Redis cannot be connected to.") from error
        except exceptions.ResponseError as error:
            if "no such key" in str(error):
                raise NotFound("there is no such stream.") from error
            raise InvalidInput(f"Redis says: {str(error)[:200]}.") from error

    def _opened(self) -> Redis:
        if self._client is None:
            try:
                from redis.asyncio import Redis
                from redis.backoff import NoBackoff
                from redis.retry import Retry
            except ModuleNotFoundError as error:
                raise Unavailable("Redis needs: pip install 'usrland[redis]'.") from error
            self._client = Redis.from_url(
                self.config.url,
                password=self.config.password or None,
                decode_responses=True,
                socket_timeout=SECONDS,
                socket_connect_timeout=SECONDS,
                # the driver's own retries would add a message twice
                retry=Retry(NoBackoff(), 0),
            )
        return self._client
