"""The HTTP edge: who may come in, and which door leads to which server.

A bearer token is checked here on every request, before the protocol sees it. The older eras name no
operation in their headers, so the check here is a courtesy that earns the standard 403 challenge; the call
path checks again and is the one that counts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from usrland.errors import InvalidInput
from usrland.host import PRINCIPAL_KEY, Host
from usrland.identity import TokenFile, local_principal
from usrland.schemas.principal import Principal
from usrland.settings import Settings

__all__ = ["Edge", "mount"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Edge:
    """Who may come in: holders of a token, or (on loopback, while there are no tokens) everyone here."""

    tokens: TokenFile
    everyone: Principal | None

    @classmethod
    def of(cls, settings: Settings, *, loopback: bool) -> Edge:
        """Raises `InvalidInput` where strangers could come in."""
        tokens = TokenFile.of(settings.home)
        if tokens.tokens():
            return cls(tokens, None)
        if not loopback:
            raise InvalidInput(
                "this address can be reached from outside, and there are no tokens.",
                fix="Make one with: usrland token add NAME --scopes …, or bind 127.0.0.1.",
            )
        logger.warning("no tokens: every program on this machine may call, as you. See: usrland token add")
        return cls(tokens, local_principal(settings))

    def principal(self, headers: Headers) -> Principal | None:
        if self.everyone is not None:
            return self.everyone
        given = headers.getlist("authorization")
        kind, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        return self.tokens.principal(token.strip()) if kind.lower() == "bearer" else None


@dataclass(frozen=True, slots=True)
class _Guarded:
    """An ASGI application behind the edge. A class, because a `Route` takes a function for a view."""

    app: ASGIApp
    edge: Edge
    host: Host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        principal = self.edge.principal(headers)
        if principal is None:
            await _challenge(401, "invalid_token", _scopes(self.host))(scope, receive, send)
            return
        missing = _missing(self.host, principal, headers)
        if missing:
            await _challenge(403, "insufficient_scope", missing)(scope, receive, send)
            return
        await self.app({**scope, PRINCIPAL_KEY: principal}, receive, send)


def _missing(host: Host, principal: Principal, headers: Headers) -> frozenset[str]:
    """What the operation named in the headers of the 2026 era needs and the caller does not hold."""
    if headers.get("mcp-method") != "tools/call":
        return frozenset()
    name = headers.get("mcp-name", "")
    needed = [op.scopes for op in host.service.operations if op.name == name]
    return principal.missing(needed[0]) if needed else frozenset()


def _scopes(host: Host) -> frozenset[str]:
    return frozenset(
        scope for operation in host.path.operations if operation.effect == "read" for scope in operation.scopes
    )


def _challenge(status: int, error: str, scopes: frozenset[str]) -> Response:
    text = {
        401: "[denied] no valid token. Send 'Authorization: Bearer …'; make one with: usrland token add.",
        403: f"[denied] missing scope: {', '.join(sorted(scopes))}. Ask the operator to grant it.",
    }[status]
    challenge = f'Bearer error="{error}", scope="{" ".join(sorted(scopes))}"'
    return JSONResponse(
        {"error": error, "error_description": text},
        status_code=status,
        headers={"WWW-Authenticate": challenge},
    )


def mount(
    hosts: Mapping[str, Host],
    edge: Edge,
    security: TransportSecuritySettings,
    *,
    sse_only: bool,
    alone: bool,
) -> tuple[ASGIApp, Sequence[StreamableHTTPSessionManager]]:
    """One application for all hosts, and the session managers that must run while it is used."""
    routes: list[BaseRoute] = [Route("/healthz", _healthz)]
    managers: list[StreamableHTTPSessionManager] = []
    for name, host in hosts.items():
        inner = _sse_routes(host, edge, security, prefix="" if alone else f"/{name}")
        if not sse_only:
            manager = StreamableHTTPSessionManager(app=host.server, stateless=True, security_settings=security)
            managers.append(manager)
            inner.insert(0, Route("/mcp", _Guarded(StreamableHTTPASGIApp(manager), edge, host)))
        routes += inner if alone else [Mount(f"/{name}", routes=inner)]
    return Starlette(routes=routes), managers


def _sse_routes(host: Host, edge: Edge, security: TransportSecuritySettings, *, prefix: str) -> list[BaseRoute]:
    transport = SseServerTransport("/messages/", security_settings=security)

    async def connect(scope: Scope, receive: Receive, send: Send) -> None:
        async with transport.connect_sse(scope, receive, send) as (read, write):
            await host.server.run(read, write, host.server.create_initialization_options())

    return [
        Route("/sse", _Guarded(connect, edge, host), methods=["GET"]),
        Mount("/messages", _Guarded(transport.handle_post_message, edge, host)),
    ]


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok")
