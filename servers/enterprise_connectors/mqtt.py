"""MQTT 5: messages published with the broker's receipt, and topics listened to for a moment.

    [plant]
    kind = "mqtt"
    url = "mqtt://broker.example:1883"       # or mqtts://
    username = "svc"
    password = "env:PLANT_PASSWORD"
    topics = ["plant/+/state", "alarms/#"]   # the only ones that may be used

A broker keeps one message for a topic, the retained one; anything else is only heard by who listens just then. So
there is nothing to take and to answer for here: `listen` gives what is retained and what comes meanwhile. The
call's idempotency key goes along as a user property; the protocol itself knows no duplicates.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import anyio
from pydantic import BaseModel, ConfigDict, Field

from enterprise_connectors.declare import destroying, reading, writing
from enterprise_connectors.messages import Headers, Message, Text, headed, message
from usrland.connector import Call, Connector, Operation
from usrland.errors import Denied, InvalidInput, NotFound, Timeout, Unavailable
from usrland.redact import keep_secret
from usrland.schemas.wire import Answer, Page, Preview

if TYPE_CHECKING:
    import httpx
    from aiomqtt import Client

__all__ = ["MqttConfig", "MqttConnector"]


SECONDS = 10.0
MAX_AT_ONCE = 200
MAX_ANSWER_BYTES = 1024 * 1024
QUIET_SECONDS = 0.3
"""After the retained messages have come; a broker does not say which is the last."""
KEY_PROPERTY = "idempotency-key"

Topic = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^#+\x00]+$")]
Filter = Annotated[
    str,
    Field(
        min_length=1, max_length=500, pattern=r"^[^\x00]+$", description="+ stands for a level, # for the rest."
    ),
]
Retain = Annotated[bool, Field(description="The broker keeps it as the topic's state.")]


class MqttConfig(BaseModel):
    """The keys of a `kind = "mqtt"` table."""

    model_config = ConfigDict(extra="forbid")

    url: str
    username: str = ""
    password: str = Field(default="", repr=False)
    topics: list[str] = Field(default_factory=lambda: ["#"], min_length=1)


class Published(Answer):
    topic: str
    bytes: int
    retained: bool


class MqttConnector(Connector[MqttConfig]):
    """One broker. Each call is a connection of its own."""

    name = "mqtt"
    config_type = MqttConfig

    def __init__(self, config: MqttConfig, http: httpx.AsyncClient) -> None:
        super().__init__(config, http)
        parts = urlsplit(config.url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.username:
            raise InvalidInput("url: it is mqtt://host:1883 or mqtts://…, without credentials.")
        self._host, self._tls = parts.hostname, parts.scheme == "mqtts"
        self._port = parts.port or (8883 if self._tls else 1883)
        keep_secret(config.password)

    def operations(self) -> Sequence[Operation]:
        return [
            reading(self.listen),
            writing(self.publish, self.would_publish),
            destroying(self.clear, self.would_clear, idempotent=True),
        ]

    async def check(self) -> None:
        async with self._connected():
            pass

    async def listen(
        self,
        topic: Filter,
        seconds: Annotated[float, Field(ge=0, le=20, description="How long; 0 gives what is retained.")] = 0,
        limit: Annotated[int, Field(ge=1, le=MAX_AT_ONCE)] = 50,
    ) -> Page[Message]:
        """Read the state that the broker keeps for topics, and what comes while you listen."""
        self._allow(topic)
        items = await self._heard(topic, seconds, limit)
        full = len(items) == limit
        return Page(items=items, note="It stopped at the limit; there may be more." if full else None)

    async def publish(
        self, topic: Topic, text: Text, call: Call, retain: Retain = False, headers: Headers | None = None
    ) -> Published:
        """Publish one message. It answers once the broker has it; whoever listens may act at once."""
        self._allow(topic)
        more = headed(headers, (KEY_PROPERTY,))
        if call.idempotency_key:
            more[KEY_PROPERTY] = call.idempotency_key
        async with self._connected() as client:
            await client.publish(
                topic, text.encode(), qos=1, retain=retain, properties=_properties(more), timeout=SECONDS
            )
        return Published(topic=topic, bytes=len(text.encode()), retained=retain)

    async def would_publish(
        self, topic: Topic, text: Text, call: Call, retain: Retain = False, headers: Headers | None = None
    ) -> Preview:
        """Say what would be published, and what it would replace."""
        self._allow(topic)
        headed(headers, (KEY_PROPERTY,))
        kept = await self._heard(topic, 0, 1) if retain else []
        replaced = f" It replaces: {(kept[0].text or '')[:200]}" if kept else ""
        how = "as the state of" if retain else "to"
        return Preview(would=f"Publish one message {how} {topic!r}.{replaced}", affected=1, examples=[text[:300]])

    async def clear(self, topic: Topic) -> Published:
        """Let the broker forget the state it keeps for one topic."""
        self._allow(topic)
        async with self._connected() as client:
            await client.publish(topic, b"", qos=1, retain=True, timeout=SECONDS)
        return Published(topic=topic, bytes=0, retained=False)

    async def would_clear(self, topic: Topic) -> Preview:
        """Show the state that would be forgotten."""
        self._allow(topic)
        kept = await self._heard(topic, 0, 1)
        if not kept:
            raise NotFound(f"the broker keeps nothing for {topic!r}.")
        return Preview(
            would=f"Forget the state of {topic!r} ({kept[0].bytes} bytes).",
            affected=1,
            examples=[(kept[0].text or kept[0].base64 or "")[:300]],
        )

    async def _heard(self, topic: str, seconds: float, limit: int) -> list[Message]:
        items: list[Message] = []
        room = MAX_ANSWER_BYTES
        async with self._connected() as client:
            await client.subscribe(topic, qos=1, timeout=SECONDS)
            coming = aiter(client.messages)
            end = anyio.current_time() + seconds
            while len(items) < limit and room > 0:
                patience = max(end - anyio.current_time(), QUIET_SECONDS if seconds == 0 else 0)
                with anyio.move_on_after(patience) as waited:
                    each = await anext(coming)
                if waited.cancelled_caught:
                    break
                content = (
                    bytes(each.payload)
                    if isinstance(each.payload, bytes | bytearray)
                    else str(each.payload).encode()
                )
                room -= len(content)
                items.append(
                    message(
                        str(each.topic),
                        content,
                        headers=_stated(each.properties),
                        note="retained" if each.retain else None,
                    )
                )
        return items

    def _allow(self, topic: str) -> None:
        if not any(_covers(allowed.split("/"), topic.split("/")) for allowed in self.config.topics):
            raise Denied(
                f"the topic {topic!r} is not available.", fix=f"Available: {', '.join(self.config.topics)}."
            )

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Client]:
        """A connection for one call; failures as errors of ours."""
        try:
            from aiomqtt import Client, MqttCodeError, MqttError, ProtocolVersion
        except ModuleNotFoundError as error:
            raise Unavailable("MQTT needs: pip install 'usrland[mqtt]'.") from error
        begun = False
        try:
            async with Client(
                self._host,
                self._port,
                username=self.config.username or None,
                password=self.config.password or None,
                protocol=ProtocolVersion.V5,
                timeout=SECONDS,
                tls_context=ssl.create_default_context() if self._tls else None,
            ) as client:
                begun = True
                yield client
        except MqttCodeError as error:
            code = getattr(error.rc, "value", error.rc)
            if code in (4, 5, 134, 135):
                raise Denied(
                    "the MQTT broker refuses this role.", fix="The operator has to check its rights."
                ) from error
            raise Unavailable(f"the MQTT broker answers {code}.") from error
        except TimeoutError as error:
            raise Timeout(
                "the MQTT broker did not answer in time.", fix="Look before you repeat a message."
            ) from error
        except (MqttError, OSError) as error:
            if "timed out" in str(error).lower():
                raise Timeout(
                    "the MQTT broker did not answer in time.", fix="Look before you repeat a message."
                ) from error
            raise Unavailable("the MQTT broker cannot be connected to.", unsent=not begun) from error


def _covers(allowed: Sequence[str], asked: Sequence[str]) -> bool:
    """Whether everything that one filter means is meant by the other, too."""
    for position, level in enumerate(allowed):
        if level == "#":
            return True
        if position >= len(asked) or asked[position] == "#":
            return False
        if level != "+" and level != asked[position]:
            return False
    return len(allowed) == len(asked)


def _properties(stated: dict[str, str]) -> Any:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    made: Any = Properties  # the package does not type it
    properties = made(PacketTypes.PUBLISH)
    if stated:
        properties.UserProperty = list(stated.items())
    return properties


def _stated(properties: Any) -> dict[str, str] | None:
    return dict(getattr(properties, "UserProperty", None) or []) or None
