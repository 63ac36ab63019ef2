"""stdio, streamable HTTP and (legacy) SSE: how a host is reached, and when it ends.

A stdio server ends when its input ends, when it is told to (SIGTERM: running calls may finish first), and
when its parent dies without saying so. An HTTP server ends when it is told to.

HTTP is stateless in both eras, so any number of replicas can stand behind any balancer; a host of the older
era that reaches us over HTTP therefore cannot be asked questions and gets the two-step confirmation. Host
and Origin are checked on every request, whatever address is bound: the SDK turns that off by itself for any
address but loopback.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from typing import TYPE_CHECKING

import anyio
from mcp.server.stdio import stdio_server

from usrland.errors import InvalidInput
from usrland.host import Host, running
from usrland.settings import ServerTable, Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from usrland.connector import Service

__all__ = ["Wire", "application", "serve_http", "serve_stdio", "take_wire"]

logger = logging.getLogger(__name__)

PARENT_POLL_SECONDS = 1.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Wire:
    """The process's own standard input and output, out of everybody else's reach."""

    read: int
    write: int


def take_wire() -> Wire:
    """Move descriptors 0 and 1 away: from now on input is empty and whatever is printed goes to stderr.

    Call it before any connector is imported. A `print` at import, a chatty C library or a child process
    would otherwise write into the protocol.
    """
    read, write = os.dup(0), os.dup(1)
    os.set_inheritable(read, False)
    os.set_inheritable(write, False)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted, not a path
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return Wire(read, write)


# -- stdio


async def serve_stdio(service: Service, settings: Settings, wire: Wire) -> None:
    """Serve one person until the input ends, the parent dies or SIGTERM comes."""
    stdin = anyio.wrap_file(TextIOWrapper(os.fdopen(wire.read, "rb", closefd=False), "utf-8", errors="replace"))
    stdout = anyio.wrap_file(TextIOWrapper(os.fdopen(wire.write, "wb", closefd=False), "utf-8"))
    async with running(service, settings) as host, anyio.create_task_group() as tasks:
        drain_seconds = settings.section("server", ServerTable).drain_seconds
        tasks.start_soon(_leave_when_told, host, drain_seconds, name="signals")
        tasks.start_soon(_leave_with_parent, host, os.getppid(), name="parent watch")
        async with stdio_server(stdin, stdout) as (read, write):
            await host.server.run(read, write, host.server.create_initialization_options())
        tasks.cancel_scope.cancel()


async def _leave_when_told(host: Host, drain_seconds: float) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            await _leave(host, drain_seconds)


async def _leave_with_parent(host: Host, parent: int) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing tells that a parent died
        await anyio.sleep(PARENT_POLL_SECONDS)
    await _leave(host, 0.0)


async def _leave(host: Host, drain_seconds: float) -> None:
    """Let running calls end, write the last audit entries, and go.

    The process ends here and not by returning: a thread waits in a read of standard input that nothing can
    interrupt, and Python would wait for it.
    """
    host.draining = True
    with anyio.move_on_after(drain_seconds):
        await host.path.idle()
        await anyio.sleep(0.05)  # the last answers are on their way through the writer task
    await host.path.ledger.flush()
    logging.shutdown()
    os._exit(0)


# -- HTTP


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `InvalidInput` where the address is taken."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise InvalidInput(
            f"cannot listen on {host}:{port}: {error.strerror}.",
            fix="Choose another --port, or 0 for a free one.",
        ) from error


async def serve_http(
    services: Sequence[Service], settings: Settings, listener: socket.socket, *, sse_only: bool = False
) -> None:
    """Serve until SIGTERM; running calls get `drain_seconds` to end.

    One service is found at `/mcp` (and, legacy, at `/sse`); several each below `/<name>/`.
    """
    import uvicorn

    async with application(services, settings, listener, sse_only=sse_only) as app:
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=max(1, round(settings.section("server", ServerTable).drain_seconds)),
            server_header=False,
            proxy_headers=False,
        )
        await uvicorn.Server(config).serve(sockets=[listener])


@asynccontextmanager
async def application(
    services: Sequence[Service], settings: Settings, listener: socket.socket, *, sse_only: bool = False
) -> AsyncIterator[ASGIApp]:
    """The ASGI application of `serve_http`, for those who bring their own ASGI server.

    Raises `InvalidInput` where it would be open to strangers: bound to more than loopback without tokens, or
    without saying under which host names it is reached.
    """
    from mcp.server.transport_security import TransportSecuritySettings

    from usrland.edge import Edge, mount

    table = settings.section("server", ServerTable)
    address, port = listener.getsockname()[:2]
    edge = Edge.of(settings, loopback=address in LOOPBACK, address=f"http://{_place(address, port)}")
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=_hosts(table, address, port),
        allowed_origins=_origins(table, address, port),
    )
    async with AsyncExitStack() as stack:
        hosts: dict[str, Host] = {}
        for service in services:
            hosts[service.name] = await stack.enter_async_context(
                running(service, settings, principal=edge.everyone, remote=True)
            )
        alone = len(services) == 1
        app, managers = mount(hosts, edge, security, sse_only=sse_only, alone=alone, sessions=table.sessions)
        for manager in managers:
            await stack.enter_async_context(manager.run())
        _announce(hosts, address, port, sse_only=sse_only, alone=alone)
        yield app


def _hosts(table: ServerTable, address: str, port: int) -> list[str]:
    if address in LOOPBACK:
        return [f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}", *table.allowed_hosts]
    if not table.allowed_hosts:
        raise InvalidInput(
            f"{address} can be reached from outside, and nobody said under which name.",
            fix="Set [server] allowed_hosts in usrland.toml, or bind 127.0.0.1.",
        )
    return list(table.allowed_hosts)


def _origins(table: ServerTable, address: str, port: int) -> list[str]:
    local = [f"http://127.0.0.1:{port}", f"http://localhost:{port}", f"http://[::1]:{port}"]
    return [*(local if address in LOOPBACK else []), *table.allowed_origins]


def _place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _announce(hosts: Mapping[str, Host], address: str, port: int, *, sse_only: bool, alone: bool) -> None:
    """Say on stderr where everything is. Tests and people read the same lines."""
    where = _place(address, port)
    for name in hosts:
        base = f"http://{where}" if alone else f"http://{where}/{name}"
        if not sse_only:
            print(f"usrland: {name} at {base}/mcp", file=sys.stderr)  # noqa: T201 - a person waits for it
        print(f"usrland: {name} at {base}/sse (legacy)", file=sys.stderr, flush=True)  # noqa: T201
