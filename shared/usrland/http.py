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

import datetime
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import anyio
import httpx

from usrland.errors import Denied, InvalidInput, Timeout, Unavailable, UsrlandError
from usrland.exchange import Broken, Exchange, Origin, Reply, Unreached

__all__ = ["Tls", "client", "refusal", "request", "without"]

TOTAL_SECONDS = 30.0
MAX_ANSWER_BYTES = 8 * 1024 * 1024

# no compression: a cap on bytes read must be a cap on bytes held
_OWN_HEADERS = {"user-agent": "usrland", "accept-encoding": "identity"}
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_METADATA = frozenset(map(ipaddress.ip_address, ("169.254.169.254", "100.100.100.200", "fd00:ec2::254")))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How one system's TLS differs from everybody's: files in PEM."""

    certificate: str = ""
    """Ours, shown to the system (mutual TLS)."""
    key: str = ""
    """Of the certificate, where it is not in the same file."""
    authority: str = ""
    """Who vouches for the system, instead of the public authorities."""


def client(
    *,
    allow_private: bool = False,
    tls: Tls | None = None,
    total_seconds: float = TOTAL_SECONDS,
    max_answer_bytes: int = MAX_ANSWER_BYTES,
) -> httpx.AsyncClient:
    """A client for one system. `allow_private` permits loopback and private addresses, never link-local ones."""
    return _Client(
        _Egress(
            allow_private=allow_private, tls=tls, total_seconds=total_seconds, max_answer_bytes=max_answer_bytes
        ),
        timeout=total_seconds,
        follow_redirects=False,
        trust_env=False,
        headers=_OWN_HEADERS,
    )


def request(
    method: str,
    url: str,
    *,
    query: Sequence[tuple[str, str]] = (),
    headers: Mapping[str, str],
    content: bytes | None = None,
) -> httpx.Request:
    """A request that carries exactly this: no cookie that an answer to somebody else has left in the client."""
    return httpx.Request(
        method, url, params=list(query) or None, headers={**_OWN_HEADERS, **headers}, content=content
    )


def without(response: httpx.Response, secret: str) -> httpx.Response:
    """The same answer with a secret that it repeats blotted out."""
    return httpx.Response(
        response.status_code,
        headers=[(name, value) for name, value in response.headers.raw if name.lower() != b"content-length"],
        content=response.content.replace(secret.encode(), b"[redacted]"),
        request=response.request,
    )


class _Client(httpx.AsyncClient):
    """A client whose plain requests skip what they do not use (credentials by challenge, redirects, hooks)."""

    def __init__(self, egress: _Egress, **options: Any) -> None:
        super().__init__(transport=egress, **options)
        self._egress = egress

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        asked = any(value is not httpx.USE_CLIENT_DEFAULT for value in options.values())
        if asked or self.is_closed or any(self.event_hooks.values()) or self.auth is not None:
            return await super().send(request, **options)
        begun = time.perf_counter()
        response = await self._egress.handle_async_request(request)
        response.request = request
        if "set-cookie" in response.headers:
            self.cookies.extract_cookies(response)
        try:
            await response.aread()
        finally:
            await response.aclose()
        response.elapsed = datetime.timedelta(seconds=time.perf_counter() - begun)
        return response


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
    def __init__(
        self, *, allow_private: bool, tls: Tls | None, total_seconds: float, max_answer_bytes: int
    ) -> None:
        self._allow_private = allow_private
        self._tls = tls
        self._total_seconds = total_seconds
        self._max_answer_bytes = max_answer_bytes
        self._exchange = Exchange()
        self._checked: tuple[str, ...] = ()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        seconds = float(request.extensions.get("total_seconds", self._total_seconds))
        url, deadline = request.url, anyio.current_time() + seconds
        with _translated(request, deadline):
            reply = await self._send(request, await self._addresses(url.host, url.port))
        body = _Capped(reply, request, deadline, self._max_answer_bytes)
        response = httpx.Response(reply.status, headers=reply.headers, stream=body)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise Unavailable(f"{url.host!r} answers compressed though it was asked not to.")
        return response

    async def _send(self, request: httpx.Request, addresses: list[str]) -> Reply:
        url, secure = request.url, request.url.scheme == "https"
        if secure and self._exchange.tls is None:  # reading all certificates takes tens of milliseconds
            self._exchange.tls = _context(self._tls) if self._tls else _certificates()
        return await self._exchange.send(
            Origin(secure, url.host, url.port or (443 if secure else 80)),
            addresses,
            (request.method.encode(), url.raw_path, request.headers.raw),
            [await request.aread()],
        )

    async def _addresses(self, host: str, port: int | None) -> list[str]:
        if host in self._checked:  # an address in its usual form always means itself
            return [host]
        addresses = [host] if _is_address(host) else await _resolved(host, port)
        for address in addresses:
            reason = refusal(address, allow_private=self._allow_private)
            if reason:
                raise Denied(
                    f"{host!r} is {reason}; it was not contacted.",
                    fix="If it is meant, the operator sets allow_private = true for this system.",
                )
        if addresses == [host]:
            self._checked = (host,)
        return addresses

    async def aclose(self) -> None:
        await self._exchange.aclose()


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
        raise Unavailable(f"the name {host!r} cannot be resolved.", unsent=True) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    """The trusted authorities, read once for all systems."""
    return httpx.create_ssl_context(trust_env=False)


def _context(tls: Tls) -> ssl.SSLContext:
    """One system's own; read at its first request, so a certificate that is renewed needs a restart."""
    try:
        context = (
            ssl.create_default_context(cafile=tls.authority)
            if tls.authority
            else httpx.create_ssl_context(trust_env=False)
        )
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key or None)
    except (OSError, ssl.SSLError) as error:
        raise Unavailable("the certificates of this system cannot be read.", fix="Correct its [tls].") from error
    return context


class _Capped(httpx.AsyncByteStream):
    """A response body that ends in time and in size."""

    def __init__(self, reply: Reply, request: httpx.Request, deadline: float, max_bytes: int) -> None:
        self._reply = reply
        self._request = request
        self._deadline = deadline
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks, left, chunk = self._reply.rest(), self._max_bytes, self._reply.begun
        while True:
            left -= len(chunk)
            if left < 0:
                raise InvalidInput(
                    f"the answer of {self._request.url.host!r} is larger than {self._max_bytes} bytes.",
                    fix="Ask for less at once."
                    if _is_safe(self._request)
                    else "It took effect; do not repeat it.",
                )
            yield chunk
            if self._reply.whole:
                return
            try:
                with _translated(self._request, self._deadline):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return

    async def aclose(self) -> None:
        await self._reply.aclose()


@contextmanager
def _translated(request: httpx.Request, deadline: float) -> Iterator[None]:
    host = request.url.host
    doubt = "" if _is_safe(request) else "It may have taken effect: look before you repeat it."
    try:
        with anyio.fail_after(deadline - anyio.current_time()):
            yield
    except UsrlandError:
        raise
    except TimeoutError as error:
        raise Timeout(f"{host!r} did not answer in time.", fix=doubt) from error
    except Unreached as error:
        raise Unavailable(f"{host!r} cannot be connected to.", unsent=True) from error
    except Broken as error:
        raise Unavailable(f"the connection to {host!r} broke.", fix=doubt) from error
    except ValueError as error:
        raise InvalidInput("the arguments do not make a request.") from error


def _is_safe(request: httpx.Request) -> bool:
    return request.method in _SAFE_METHODS
