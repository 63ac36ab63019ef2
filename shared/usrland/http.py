"""The one HTTP client of the product: every connector is handed one made here.

What a connector cannot forget because it is done for it: no redirects, no proxies from the environment, an
end to every request, a cap on every answer, and an egress rule. A name is resolved first, all its addresses
are checked, and the connection goes to a checked address (TLS still proves the name), so that a name that
changes its mind between check and connection gains nothing. Failures leave here as errors of ours; no other
module needs to know the client's exceptions.

A request that may take longer than others says so in its extension `total_seconds`.

What this does not do: it does not limit which public hosts are reached. That is the connector's base URL.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import lru_cache

import anyio
import httpx

from usrland.errors import Denied, InvalidInput, Timeout, Unavailable, UsrlandError

__all__ = ["client", "refusal"]

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 30.0
MAX_ANSWER_BYTES = 8 * 1024 * 1024

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_METADATA = frozenset(map(ipaddress.ip_address, ("169.254.169.254", "100.100.100.200", "fd00:ec2::254")))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def client(
    *,
    allow_private: bool = False,
    total_seconds: float = TOTAL_SECONDS,
    max_answer_bytes: int = MAX_ANSWER_BYTES,
) -> httpx.AsyncClient:
    """A client for one system. `allow_private` permits loopback and private addresses, never link-local ones."""
    transport = _Egress(
        allow_private=allow_private, total_seconds=total_seconds, max_answer_bytes=max_answer_bytes
    )
    return httpx.AsyncClient(
        transport=transport,
        timeout=httpx.Timeout(total_seconds, connect=CONNECT_SECONDS),
        follow_redirects=False,
        trust_env=False,
        # no compression: a cap on bytes read must be a cap on bytes held
        headers={"user-agent": "usrland", "accept-encoding": "identity"},
    )


def refusal(address: str, *, allow_private: bool) -> str | None:
    """Why this address may not be connected to, or None."""
    plain = _unwrapped(ipaddress.ip_address(address.partition("%")[0]))
    if plain in _METADATA or plain.is_link_local:
        return "a link-local or cloud metadata address"
    if plain.is_multicast or plain.is_unspecified:
        return "not the address of one machine"
    if not plain.is_global and not allow_private:
        return "a private or loopback address"
    return None


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)


class _Egress(httpx.AsyncBaseTransport):
    def __init__(self, *, allow_private: bool, total_seconds: float, max_answer_bytes: int) -> None:
        self._allow_private = allow_private
        self._total_seconds = total_seconds
        self._max_answer_bytes = max_answer_bytes
        # one pool per name: two names on one address must not share a connection that TLS proved for one
        self._pools: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        seconds = float(request.extensions.get("total_seconds", self._total_seconds))
        host, deadline = request.url.host, anyio.current_time() + seconds
        with _translated(request, deadline):
            response = await self._send(request, await self._addresses(host, request.url.port))
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise Unavailable(f"{host!r} answers compressed though it was asked not to.")
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Capped(response.stream, request, deadline, self._max_answer_bytes)
        return response

    async def _send(self, request: httpx.Request, addresses: list[str]) -> httpx.Response:
        host = request.url.host
        if host not in self._pools:  # making one reads all certificates, which takes tens of milliseconds
            self._pools[host] = httpx.AsyncHTTPTransport(trust_env=False, verify=_certificates())
        pool = self._pools[host]
        for position, address in enumerate(addresses):
            pinned = httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await pool.handle_async_request(pinned)
            except httpx.ConnectError:  # nothing was sent yet
                if position == len(addresses) - 1:
                    raise
        raise Unavailable(f"{host!r} has no address.")

    async def _addresses(self, host: str, port: int | None) -> list[str]:
        addresses = [host] if _is_address(host) else await _resolved(host, port)
        for address in addresses:
            reason = refusal(address, allow_private=self._allow_private)
            if reason:
                raise Denied(
                    f"{host!r} is {reason}; it was not contacted.",
                    fix="If it is meant, the operator sets allow_private = true for this system.",
                )
        return addresses

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()
        self._pools.clear()


def _is_address(host: str) -> bool:
    """Whether a host is an address in its usual form; any other form of one is left to the resolver."""
    try:
        return str(ipaddress.ip_address(host)) == host
    except ValueError:
        return False


async def _resolved(host: str, port: int | None) -> list[str]:
    try:
        found = await anyio.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"the name {host!r} cannot be resolved.") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    """The trusted authorities, read once for all systems."""
    return httpx.create_ssl_context(trust_env=False)


class _Capped(httpx.AsyncByteStream):
    """A response body that ends in time and in size."""

    def __init__(
        self, inner: httpx.AsyncByteStream, request: httpx.Request, deadline: float, max_bytes: int
    ) -> None:
        self._inner = inner
        self._request = request
        self._deadline = deadline
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks, left = aiter(self._inner), self._max_bytes
        while True:
            try:
                with _translated(self._request, self._deadline):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            left -= len(chunk)
            if left < 0:
                raise InvalidInput(
                    f"the answer of {self._request.url.host!r} is larger than {self._max_bytes} bytes.",
                    fix="Ask for less at once."
                    if _is_safe(self._request)
                    else "It took effect; do not repeat it.",
                )
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


@contextmanager
def _translated(request: httpx.Request, deadline: float) -> Iterator[None]:
    host = request.url.host
    doubt = "" if _is_safe(request) else "It may have taken effect: look before you repeat it."
    try:
        with anyio.fail_after(deadline - anyio.current_time()):
            yield
    except UsrlandError:
        raise
    except (TimeoutError, httpx.TimeoutException) as error:
        raise Timeout(f"{host!r} did not answer in time.", fix=doubt) from error
    except httpx.ConnectError as error:
        raise Unavailable(f"{host!r} cannot be connected to.") from error
    except httpx.TransportError as error:
        raise Unavailable(f"the connection to {host!r} broke.", fix=doubt) from error


def _is_safe(request: httpx.Request) -> bool:
    return request.method in _SAFE_METHODS
