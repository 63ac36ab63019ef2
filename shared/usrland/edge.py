"""The HTTP edge: who may come in, and which door leads to which server.

A bearer token is checked here on every request, before the protocol sees it. The older eras name no
operation in their headers, so the check here is a courtesy that earns the standard 403 challenge; the call
path checks again and is the one that counts.

Every server is an OAuth protected resource of its own, found through its metadata (RFC 9728) and named by its
address: a token for one is refused by the others.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from usrland.bounds import Bounds, arrived
from usrland.errors import InvalidInput, QuotaExceeded, Timeout, Unavailable, UsrlandError
from usrland.host import PRINCIPAL_KEY, Host
from usrland.identity import GrantFile, OAuth, StartToken, TokenFile, Verifier, local_principal
from usrland.identity.tokens import PREFIX
from usrland.schemas.principal import Principal
from usrland.settings import LOOPBACK, ServerTable, Settings

__all__ = ["Edge", "mount"]

logger = logging.getLogger(__name__)

METADATA = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Who may come in: holders of a token."""

    tokens: TokenFile
    verifier: Verifier | None
    grants: GrantFile
    base: str
    """The address clients use, without a path."""
    start: StartToken | None = None
    """What opens a port of loopback while nobody handed out tokens."""
    owner: Principal | None = None
    """Who calls with that token, or without any where only the owner can reach the socket."""

    @classmethod
    @contextmanager
    def of(cls, settings: Settings, listener: socket.socket, *, address: str) -> Iterator[Edge]:
        """`address` is the base address where the settings name none. Raises `InvalidInput` where strangers
        could come in."""
        table = settings.section("server", ServerTable)
        tokens = TokenFile.of(settings.home)
        config = settings.section("oauth", OAuth)
        edge = cls(
            tokens=tokens,
            verifier=Verifier(config) if config.issuer else None,
            grants=GrantFile.of(settings.home),
            base=(table.public_url or address).rstrip("/"),
        )
        edge.grants.roles()  # a damaged file is told now and not at the first call
        if edge.verifier is not None or tokens.tokens():
            yield edge
            return
        owner = local_principal(settings, "local")
        if listener.family == socket.AF_UNIX:
            yield replace(edge, owner=owner)
            return
        host, port = listener.getsockname()[:2]
        if host not in LOOPBACK:
            raise InvalidInput(
                "this address can be reached from outside, and there are no tokens.",
                fix="Make one with: usrland token add NAME --scopes …, name an authorization server under [oauth] "
                "in usrland.toml, or bind 127.0.0.1.",
            )
        if table.open_loopback:
            logger.warning("open_loopback: every program on this machine may call, as you")
            yield replace(edge, owner=owner)
            return
        with StartToken.made(settings.home, port) as start:
            yield replace(edge, start=start, owner=owner)

    async def principal(self, token: str, audience: Collection[str]) -> Principal | None:
        """Who this is and what it may do; None where nobody is. Raises `InvalidInput` where a file is damaged."""
        found = await self._proven(token, audience)
        return None if found is None else self.grants.bounded(found)

    async def _proven(self, token: str, audience: Collection[str]) -> Principal | None:
        if self.owner is not None:
            return self.owner if self.start is None or self.start.opens(token) else None
        if self.verifier is None or token.startswith(PREFIX):
            return self.tokens.principal(token)
        return await self.verifier.principal(token, audience=audience)


@dataclass(frozen=True, slots=True)
class _Resource:
    """One server, as OAuth sees it."""

    host: Host
    edge: Edge
    path: str
    """Below the base; empty where it is alone."""
    security: TransportSecurityMiddleware
    bounds: Bounds

    @property
    def addresses(self) -> Sequence[str]:
        """By which a token may be meant for it; the first is its name."""
        return [f"{self.edge.base}{self.path}/{door}" for door in ("mcp", "sse")]

    @property
    def metadata_path(self) -> str:
        return f"{METADATA}{urlsplit(self.addresses[0]).path}"

    async def metadata(self, _: Request) -> Response:
        assert self.edge.verifier is not None
        return JSONResponse(
            {
                "resource": self.addresses[0],
                "resource_name": self.host.service.title,
                "authorization_servers": [self.edge.verifier.config.issuer],
                "scopes_supported": sorted(self.scopes),
                "bearer_methods_supported": ["header"],
            },
            headers={"access-control-allow-origin": "*"},
        )

    @property
    def scopes(self) -> frozenset[str]:
        """What reading takes: who needs more is told which at the call."""
        return frozenset(
            scope
            for operation in self.host.path.operations
            if operation.effect == "read"
            for scope in operation.scopes
        )

    def challenge(self, status: int, error: str, scopes: frozenset[str]) -> Response:
        text = {
            400: "[invalid_input] several Authorization headers. Send one.",
            401: "[denied] no valid token. Send 'Authorization: Bearer …'; its file was named when the server "
            "started, or make one with: usrland token add.",
            403: f"[denied] missing scope: {', '.join(sorted(scopes))}. Ask the operator to grant it.",
        }[status]
        facts = {"error": error, "scope": " ".join(sorted(scopes))}
        if self.edge.verifier is not None:
            facts["resource_metadata"] = f"{_origin(self.edge.base)}{self.metadata_path}"
        challenge = ", ".join(f'{name}="{value}"' for name, value in facts.items() if value)
        return JSONResponse(
            {"error": error or "unauthorized", "error_description": text},
            status_code=status,
            headers={"WWW-Authenticate": f"Bearer {challenge}"},
        )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


@dataclass(frozen=True, slots=True)
class _Guarded:
    """An ASGI application behind the edge. A class, because a `Route` takes a function for a view."""

    app: ASGIApp
    resource: _Resource

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        answer = await self.resource.security.validate_request(request) or await self._refusal(
            request.headers, scope
        )
        if answer is not None:
            await answer(scope, receive, send)
            return
        bounds = self.resource.bounds
        try:
            async with self._room(scope, stream=_is_stream(request)):
                if request.method == "POST":
                    receive = await arrived(receive, seconds=bounds.body_seconds)
                await self.app(scope, receive, send)
        except (QuotaExceeded, Timeout, InvalidInput, Unavailable) as error:
            await _bounded(error)(scope, receive, send)

    @asynccontextmanager
    async def _room(self, scope: Scope, *, stream: bool) -> AsyncIterator[None]:
        """Among what this process holds open for the caller and, where it stays open, among what all hold."""
        places = self.resource.host.path.places
        shared = places.held(scope[PRINCIPAL_KEY], "streams") if stream and places is not None else nullcontext()
        with self.resource.bounds.held(scope["user"].access_token.subject, stream=stream):
            async with shared:
                yield

    async def _refusal(self, headers: Headers, scope: Scope) -> Response | None:
        """What is answered in place of the application; else the caller is in the scope now."""
        resource = self.resource
        given = headers.getlist("authorization")
        if len(given) > 1:
            return resource.challenge(400, "invalid_request", frozenset())
        kind, _, token = given[0].partition(" ") if given else ("", "", "")
        try:
            principal = await resource.edge.principal(
                token.strip() if kind.lower() == "bearer" else "", resource.addresses
            )
        except UsrlandError as error:  # a file of ours is damaged: nobody comes in until it is mended
            logger.error("nobody can be let in: %s", error)
            return JSONResponse({"error": "temporarily_unavailable"}, status_code=503)
        if principal is None:
            return resource.challenge(401, "invalid_token" if given else "", resource.scopes)
        missing = _missing(resource.host, principal, headers)
        if missing:
            logger.info("%s lacks %s", principal.subject, ", ".join(sorted(missing)))
            return resource.challenge(403, "insufficient_scope", missing)
        scope[PRINCIPAL_KEY] = principal
        scope["user"] = _user(principal)
        return None


def _is_stream(request: Request) -> bool:
    """Whether it stays open for as long as the caller likes."""
    return request.method == "GET" or request.headers.get("mcp-method") == "subscriptions/listen"


def _bounded(error: UsrlandError) -> Response:
    status = {QuotaExceeded: 429, Timeout: 408, InvalidInput: 413, Unavailable: 503}[type(error)]
    headers = {"connection": "close"}
    if error.retry_after_seconds:
        headers["retry-after"] = str(round(error.retry_after_seconds))
    return JSONResponse(
        {"error": error.code, "error_description": str(error)}, status_code=status, headers=headers
    )


def _user(principal: Principal) -> AuthenticatedUser:
    """The caller, as the SDK compares those who send to a stream with the one who opened it."""
    owner = json.dumps([principal.source, principal.tenant, principal.namespace, principal.subject])
    return AuthenticatedUser(AccessToken(token="", client_id=principal.client or owner, scopes=[], subject=owner))


def _missing(host: Host, principal: Principal, headers: Headers) -> frozenset[str]:
    """What the operation named in the headers of the 2026 era needs and the caller does not hold."""
    if headers.get("mcp-method") != "tools/call":
        return frozenset()
    name = headers.get("mcp-name", "")
    needed = [op.scopes for op in host.service.operations if op.name == name]
    return principal.missing(needed[0]) if needed else frozenset()


def mount(
    hosts: Mapping[str, Host],
    edge: Edge,
    security: TransportSecuritySettings,
    bounds: Bounds,
    *,
    sse_only: bool,
    alone: bool,
    sessions: bool,
) -> tuple[ASGIApp, Sequence[StreamableHTTPSessionManager]]:
    """One application for all hosts, and the session managers that must run while it is used."""
    routes: list[BaseRoute] = [Route("/healthz", _healthz)]
    managers: list[StreamableHTTPSessionManager] = []
    gate = TransportSecurityMiddleware(security)
    for name, host in hosts.items():
        resource = _Resource(host, edge, "" if alone else f"/{name}", gate, bounds)
        inner = _sse_routes(resource, security)
        if not sse_only:
            manager = StreamableHTTPSessionManager(
                app=host.server, stateless=not sessions, security_settings=security
            )
            managers.append(manager)
            inner.insert(0, Route("/mcp", _Guarded(StreamableHTTPASGIApp(manager), resource)))
        if edge.verifier is not None:
            routes.append(Route(resource.metadata_path, resource.metadata))
        routes += inner if alone else [Mount(f"/{name}", routes=inner)]
    return Starlette(routes=routes), managers


def _sse_routes(resource: _Resource, security: TransportSecuritySettings) -> list[BaseRoute]:
    host = resource.host
    transport = SseServerTransport("/messages/", security_settings=security)

    async def connect(scope: Scope, receive: Receive, send: Send) -> None:
        async with transport.connect_sse(scope, receive, send) as (read, write):
            await host.server.run(read, write, host.server.create_initialization_options())

    return [
        Route("/sse", _Guarded(connect, resource), methods=["GET"]),
        Mount("/messages", _Guarded(transport.handle_post_message, resource)),
    ]


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok")
