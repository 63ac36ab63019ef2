"""One HTTP/1.1 request and its answer, on connections that go exactly where they were told to.

The HTTP client's own transport spends more on a small answer than identity, checks, audit and budget together,
and it connects to names. This one connects to an address, proves a name over it where TLS is wanted, and keeps
the connection for the next request to the same name. Framing is h11's: nothing here reads a header.

What this does not do: no proxies, no redirects, no HTTP/2, no limits but the caller's.
"""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

import anyio
import anyio.abc
import h11
from anyio.streams.tls import TLSStream

__all__ = ["Broken", "Exchange", "Origin", "Reply", "Unreached"]

CONNECT_SECONDS = 5.0
IDLE_SECONDS = 4.0
"""Shorter than the five seconds after which common servers hang up."""
MAX_IDLE = 20
"""Connections of one origin that wait."""
READ_BYTES = 64 * 1024
MAX_HEADER_BYTES = 100 * 1024
MAX_INTERIM = 10
"""Answers of the kind "go on" before the real one."""

Headers = list[tuple[bytes, bytes]]


class Unreached(Exception):
    """Raised when no connection came about: nothing was sent."""


class Broken(Exception):
    """Raised when a connection failed after something was sent, or what came was not HTTP."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where requests go: two names on one address never share a connection."""

    secure: bool
    host: str
    port: int


@dataclass(slots=True)
class _Connection:
    stream: anyio.abc.ByteStream
    protocol: h11.Connection = field(
        default_factory=lambda: h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BYTES)
    )
    idle_since: float = 0.0
    _watch: select.poll | None = None

    def usable(self) -> bool:
        """Whether a connection that waited is still open: an end, or words nobody asked for, can be read."""
        if time.monotonic() - self.idle_since > IDLE_SECONDS:
            return False
        if self._watch is None:
            self._watch = select.poll()
            self._watch.register(self.stream.extra(anyio.abc.SocketAttribute.raw_socket), select.POLLIN)  # nosec B610 # no query
        return not self._watch.poll(0)

    async def send(self, head: h11.Request, content: Iterable[bytes]) -> None:
        protocol = self.protocol
        parts = [protocol.send(head), *(protocol.send(h11.Data(part)) for part in content if part)]
        parts.append(protocol.send(h11.EndOfMessage()))
        await self.stream.send(b"".join(part for part in parts if part))

    async def receive(self) -> None:
        try:
            data = await self.stream.receive(READ_BYTES)
        except anyio.EndOfStream:
            data = b""
        self.protocol.receive_data(data)

    def has_ended(self) -> bool:
        """Whether the answer is whole and another request may follow."""
        if self.protocol.our_state is not h11.DONE or self.protocol.their_state is not h11.DONE:
            return False
        self.protocol.start_next_cycle()
        return True


@dataclass(slots=True, kw_only=True)
class Reply:
    """The beginning of an answer. Read `rest` to its end, or `aclose`."""

    status: int
    headers: Headers
    begun: bytes
    """What of the body came with the headers."""
    whole: bool
    """`begun` is all there is."""
    _exchange: Exchange
    _origin: Origin
    _connection: _Connection

    async def rest(self) -> AsyncIterator[bytes]:
        """The parts of the body after `begun`. Raises `Broken`."""
        while not self.whole:
            try:
                event = self._connection.protocol.next_event()
                if event is h11.NEED_DATA:
                    await self._connection.receive()
                    continue
            except (h11.RemoteProtocolError, OSError, anyio.BrokenResourceError) as error:
                raise Broken from error
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                self.whole = True
                await self._exchange.release(self._origin, self._connection)

    async def aclose(self) -> None:
        """Drop the connection unless the body was read to its end."""
        if not self.whole:
            self.whole = True
            await _close(self._connection)


class Exchange:
    """Connections by origin."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """Without `tls` no secure origin can be reached; see `secured`."""
        self.tls = tls
        self._idle: dict[Origin, list[_Connection]] = {}

    async def send(
        self,
        origin: Origin,
        addresses: Sequence[str],
        head: tuple[bytes, bytes, Headers],
        content: Iterable[bytes],
    ) -> Reply:
        """Send one request (method, target, headers; content) to the first of the addresses that answers a knock.

        Raises `Unreached` or `Broken`, and `ValueError` for headers that would not be a request.
        """
        try:
            request = h11.Request(method=head[0], target=head[1], headers=head[2])
        except h11.LocalProtocolError as error:
            raise ValueError(str(error)) from error
        connection = await self._waiting(origin) or await self._connected(origin, addresses)
        try:
            await connection.send(request, content)
            return await self._reply(origin, connection)
        except h11.LocalProtocolError as error:
            await _close(connection)
            raise ValueError(str(error)) from error
        except (h11.RemoteProtocolError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            await _close(connection)
            raise Broken from error
        except BaseException:  # a deadline or a cancellation: the answer may still be on its way
            await _close(connection)
            raise

    async def _reply(self, origin: Origin, connection: _Connection) -> Reply:
        protocol, interim = connection.protocol, 0
        while not isinstance(event := protocol.next_event(), h11.Response):
            if event is h11.NEED_DATA:
                await connection.receive()
            elif not isinstance(event, h11.InformationalResponse) or (interim := interim + 1) > MAX_INTERIM:
                raise Broken
        begun = bytearray()
        while isinstance(part := protocol.next_event(), h11.Data):
            begun += part.data
        whole = isinstance(part, h11.EndOfMessage)
        if whole:
            await self.release(origin, connection)
        return Reply(
            status=event.status_code,
            headers=list(event.headers),
            begun=bytes(begun),
            whole=whole,
            _exchange=self,
            _origin=origin,
            _connection=connection,
        )

    async def _waiting(self, origin: Origin) -> _Connection | None:
        idle = self._idle.get(origin, [])
        while idle:
            connection = idle.pop()
            if connection.usable():
                return connection
            await _close(connection)
        return None

    async def _connected(self, origin: Origin, addresses: Sequence[str]) -> _Connection:
        failure: Exception | None = None
        for address in addresses:
            try:
                with anyio.fail_after(CONNECT_SECONDS):
                    stream: anyio.abc.ByteStream = await anyio.connect_tcp(address, origin.port)
                    return _Connection(await self._secured(stream, origin) if origin.secure else stream)
            except (OSError, TimeoutError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
                failure = error
        raise Unreached from failure

    async def _secured(self, stream: anyio.abc.ByteStream, origin: Origin) -> anyio.abc.ByteStream:
        try:
            return await TLSStream.wrap(
                stream, hostname=origin.host, ssl_context=self.tls, server_side=False, standard_compatible=False
            )
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise

    async def release(self, origin: Origin, connection: _Connection) -> None:
        """Take a connection back for the next request, or close it."""
        idle = self._idle.setdefault(origin, [])
        if connection.has_ended() and len(idle) < MAX_IDLE:
            connection.idle_since = time.monotonic()
            idle.append(connection)
        else:
            await _close(connection)

    async def aclose(self) -> None:
        """Close what waits."""
        waiting = [connection for idle in self._idle.values() for connection in idle]
        self._idle.clear()
        for connection in waiting:
            await _close(connection)


async def _close(connection: _Connection) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.aclose_forcefully(connection.stream)
