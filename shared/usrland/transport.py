"""stdio, streamable HTTP and (legacy) SSE: how a host is reached, and when it ends.

A stdio server ends when its input ends, when it is told to (SIGTERM: running calls may finish first), and
when its parent dies without saying so. An HTTP server ends when it is told to.

HTTP is stateless in both eras, so any number of replicas can stand behind any balancer; a host of the older
era that reaches us over HTTP therefore cannot be asked questions and gets the two-step confirmation. Host
and Origin are checked on every request, whatever address is bound: the SDK turns that off by itself for any
address but loopback.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
from mcp.server.stdio import stdio_server
from mcp.types import PARSE_ERROR
from pydantic_core import from_json

from usrland.bounds import Bounds
from usrland.errors import InvalidInput
from usrland.host import Host, running
from usrland.settings import LOOPBACK, ServerTable, Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from usrland.connector import Service

__all__ = ["Wire", "application", "serve_http", "serve_stdio", "take_wire"]

logger = logging.getLogger(__name__)

PARENT_POLL_SECONDS = 1.0


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
    output = _Output(os.fdopen(wire.write, "wb", closefd=False))
    lines = _lines(os.fdopen(wire.read, "rb", closefd=False), output)
    async with running(service, settings) as host, anyio.create_task_group() as tasks:
        drain_seconds = settings.section("server", ServerTable).drain_seconds
        tasks.start_soon(_leave_when_told, host, drain_seconds, name="signals")
        tasks.start_soon(_leave_with_parent, host, os.getppid(), name="parent watch")
        # it only iterates over the one and only writes to the other
        async with stdio_server(cast("Any", lines), cast("Any", output)) as (read, write):
            await host.server.run(read, write, host.server.create_initialization_options())
        tasks.cancel_scope.cancel()


MAX_LINE_BYTES = 8 * 1024 * 1024


class _Output:
    """Standard output, a whole line at a time whoever writes."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream
        self._turn = anyio.Lock()

    async def write(self, line: str) -> None:
        async with self._turn:
            await anyio.to_thread.run_sync(self._write, line.encode("utf-8"))

    def _write(self, line: bytes) -> None:
        self._stream.write(line)
        self._stream.flush()

    async def flush(self) -> None:
        """Every line has gone out already."""


async def _lines(stream: BufferedIOBase, output: _Output) -> AsyncIterator[str]:
    """The messages that can be read. What cannot is answered here: the SDK would drop it without a word."""
    while line := await anyio.to_thread.run_sync(_line, stream):
        problem = "longer than 8 MiB" if len(line) > MAX_LINE_BYTES else _unreadable(line)
        if not problem:
            yield line.decode("utf-8", errors="replace")
        elif line.strip():
            error = {"code": PARSE_ERROR, "message": f"this line is {problem}"}
            await output.write(json.dumps({"jsonrpc": "2.0", "id": None, "error": error}) + "\n")


def _line(stream: BufferedIOBase) -> bytes:
    """The next line; of one that is too long, the beginning, and the rest is gone."""
    line = stream.readline(MAX_LINE_BYTES + 1)
    if len(line) > MAX_LINE_BYTES:
        while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
    return line


def _unreadable(line: bytes) -> str:
    try:
        from_json(line)
    except ValueError:
        return "not JSON"
    return ""


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


UNIX = "unix:"


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one, `unix:/path` a socket file that only its owner can open.

    Raises `InvalidInput` where the address is taken.
    """
    try:
        if host.startswith(UNIX):
            return _bind_file(Path(host.removeprefix(UNIX)))
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise InvalidInput(
            f"cannot listen on {host}{'' if host.startswith(UNIX) else f':{port}'}: {error.strerror}.",
            fix="Choose another --port, or 0 for a free one.",
        ) from error


def _bind_file(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    with suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as other:
        if path.is_socket() and other.connect_ex(str(path)):  # its server is gone
            path.unlink()
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.listen(128)
    return listener


async def serve_http(
    services: Sequence[Service], settings: Settings, listener: socket.socket, *, sse_only: bool = False
) -> None:
    """Serve until SIGTERM; running calls get `drain_seconds` to end.

    One service is found at `/mcp` (and, legacy, at `/sse`); several each below `/<name>/`.
    """
    import uvicorn

    servers: list[uvicorn.Server] = []
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn ends at these by itself and then raises them again: what is left to close would never be closed
        signal.signal(number, stop)
    async with application(services, settings, listener, sse_only=sse_only) as app:
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=max(1, round(settings.section("server", ServerTable).drain_seconds)),
            server_header=False,
            proxy_headers=False,
        )
        servers.append(uvicorn.Server(config))
        if not stopped:
            await servers[0].serve(sockets=[listener])


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
    name = listener.getsockname()
    address, port = ("localhost", 80) if listener.family == socket.AF_UNIX else name[:2]
    where = f"http://{_place(address, port)}"
    async with AsyncExitStack() as stack:
        edge = stack.enter_context(Edge.of(settings, listener, address=where))
        security = TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=_hosts(table, address, port),
            allowed_origins=_origins(table, address, port),
        )
        hosts: dict[str, Host] = {}
        for service in services:
            hosts[service.name] = await stack.enter_async_context(running(service, settings, remote=True))
        bounds = Bounds(table.max_requests, table.max_streams, table.body_seconds)
        app, managers = mount(
            hosts, edge, security, bounds, sse_only=sse_only, alone=len(services) == 1, sessions=table.sessions
        )
        for manager in managers:
            await stack.enter_async_context(manager.run())
        if edge.start is not None:
            _say(f"the token for programs on this machine is in {edge.start.file}")
        base = f"{UNIX}{name} http://localhost" if listener.family == socket.AF_UNIX else where
        _announce(hosts, base, sse_only=sse_only, alone=len(services) == 1)
        yield app


def _hosts(table: ServerTable, address: str, port: int) -> list[str]:
    if address in LOOPBACK:
        plain = ["localhost"] if port == 80 else []
        return [f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}", *plain, *table.allowed_hosts]
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


def _announce(hosts: Mapping[str, Host], where: str, *, sse_only: bool, alone: bool) -> None:
    """Say where everything is. Tests and people read the same lines."""
    for name in hosts:
        base = where if alone else f"{where}/{name}"
        if not sse_only:
            _say(f"{name} at {base}/mcp")
        _say(f"{name} at {base}/sse (legacy)")


def _say(line: str) -> None:
    print(f"usrland: {line}", file=sys.stderr, flush=True)  # noqa: T201 - a person waits for it
