"""Real processes on real transports: what comes out, who gets in, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from doors import opened
from mcp.types import ElicitRequestParams, ElicitResult

from usrland.identity import TokenFile

SUPPORT = Path(__file__).parent.parent / "support"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
LAUNCH = "import sys; from usrland.launch import launch; launch(sys.argv.pop(1))"


@dataclass
class Servers:
    home: Path
    started: list[subprocess.Popen[str]]
    token_file: Path = Path()

    @property
    def token(self) -> str:
        """Of the last start, where nobody handed out tokens."""
        return self.token_file.read_text(encoding="ascii")

    def start(self, *options: str, service: str = "toy:service") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, service, "--home", str(self.home), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SUPPORT)},
        )
        self.started.append(process)
        return process

    def http(self, *options: str, transport: str = "http") -> tuple[subprocess.Popen[str], str]:
        """A server on a free port, and its address."""
        process = self.start("--transport", transport, "--port", "0", *options)
        assert process.stderr is not None
        for line in process.stderr:
            if "token" in line:
                self.token_file = Path(line.split(" is in ")[1].strip())
            if "/sse" in line:
                return process, line.split(" at ")[1].split("/sse")[0]
        raise AssertionError("it did not start")


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    made = Servers(tmp_path / "home", [])
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


def send(process: subprocess.Popen[str], *messages: dict[str, Any]) -> None:
    assert process.stdin is not None
    for message in messages:
        process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


def receive(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    return dict(json.loads(process.stdout.readline()))


def tool(number: int, name: str, **arguments: Any) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": number,
        "method": "tools/call",
        "params": {"name": name, "arguments": arguments},
    }


def shake_hands(process: subprocess.Popen[str]) -> None:
    send(process, INITIALIZE)
    assert receive(process)["id"] == 1
    send(process, {"jsonrpc": "2.0", "method": "notifications/initialized"})


# -- stdio


def test_nothing_that_is_printed_reaches_the_wire(servers: Servers) -> None:
    process = servers.start(service="noisy:service")

    shake_hands(process)
    send(process, tool(2, "add", left=1))
    assert receive(process)["result"]["structuredContent"] == {"value": 3}
    output, errors = process.communicate(timeout=60)

    assert output == ""
    for noise in ("noise from print", "noise from a C library", "noise from a child"):
        assert noise in errors
    assert process.returncode == 0


def test_it_ends_when_the_input_ends_even_with_a_call_running(servers: Servers) -> None:
    process = servers.start()
    shake_hands(process)
    send(process, tool(2, "wait"))

    process.communicate(timeout=60)

    assert process.returncode == 0


def test_on_sigterm_a_running_call_may_finish_and_is_answered(servers: Servers) -> None:
    process = servers.start()
    shake_hands(process)
    send(process, {**tool(2, "wait", seconds=0.5), "params": {"name": "wait", "arguments": {"seconds": 0.5}}})
    send(process, tool(3, "add", left=1))
    assert receive(process)["id"] == 3

    process.send_signal(signal.SIGTERM)

    assert receive(process)["result"]["structuredContent"] == {"value": 1}
    assert process.wait(timeout=60) == 0


def test_on_sigterm_a_call_that_does_not_finish_is_not_waited_for_long(servers: Servers) -> None:
    servers.home.mkdir()
    (servers.home / "usrland.toml").write_text("[server]\ndrain_seconds = 0.3\n")
    process = servers.start()
    shake_hands(process)
    send(process, tool(2, "wait"), tool(3, "add", left=1))
    assert receive(process)["id"] == 3

    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=60) == 0


def test_it_ends_when_its_parent_dies_and_leaks_the_pipe(servers: Servers, tmp_path: Path) -> None:
    """The parent dies by SIGKILL while somebody else still holds the input open: no end of input comes."""
    read, write = os.pipe()
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, LAUNCH, str(servers.home)],
        stdin=read, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(SUPPORT)},
    )  # fmt: skip
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.write(write, (json.dumps(INITIALIZE) + "\n").encode())
    assert json.loads(parent.stdout.readline())["id"] == 1

    parent.kill()
    parent.wait()

    deadline = time.monotonic() + 10
    while _alive(child):
        assert time.monotonic() < deadline, "it outlived its parent"
        time.sleep(0.05)
    os.close(read)
    os.close(write)
    parent.stdout.close()


_PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], "toy:service", "--home", sys.argv[2]])
print(child.pid, flush=True)
child.wait()
"""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]


# -- HTTP and SSE


async def test_both_eras_over_http_and_sse(servers: Servers, era: str) -> None:
    _, url = servers.http()

    for door in ("mcp", "sse"):
        async with opened(f"{url}/{door}", servers.token, mode=era) as client:
            result = await client.call_tool("add", {"left": 1})
            assert result.structured_content == {"value": 3}


@pytest.mark.parametrize("sessions", [True, False])
async def test_a_client_of_the_older_eras_can_be_asked_over_http_where_sessions_are_kept(
    servers: Servers, sessions: bool
) -> None:
    async def agree(context: Any, params: ElicitRequestParams) -> ElicitResult:
        return ElicitResult(action="accept", content={"confirm": True})

    servers.home.mkdir(mode=0o700)
    (servers.home / "usrland.toml").write_text(f"[server]\nsessions = {str(sessions).lower()}\n", encoding="utf-8")
    _, url = servers.http()

    async with opened(f"{url}/mcp", servers.token, mode="legacy", elicitation_callback=agree) as client:
        await client.call_tool("put", {"name": "a", "text": "b"})
        dropped = await client.call_tool("drop", {"name": "a"})
    assert dropped.is_error is not sessions
    assert sessions or "confirm_token" in dropped.content[0].text  # type: ignore[union-attr]


async def test_sse_alone_serves_only_sse(servers: Servers) -> None:
    _, url = servers.http(transport="sse")

    async with httpx.AsyncClient() as http:
        assert (await http.post(f"{url}/mcp", json=INITIALIZE)).status_code == 404
    async with opened(f"{url}/sse", servers.token, mode="legacy") as client:
        assert (await client.call_tool("add", {"left": 1})).structured_content == {"value": 3}


MODERN = {
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/list",
}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9"}, 403),
    ],
)
@pytest.mark.parametrize("door", ["/mcp", "/sse", "/messages/?session_id=0"])
def test_a_foreign_host_or_origin_is_refused_at_every_door(
    servers: Servers, headers: dict[str, str], status: int, door: str
) -> None:
    _, url = servers.http()
    method = "GET" if door == "/sse" else "POST"

    with httpx.stream(method, url + door, headers={**MODERN, **headers}, json=INITIALIZE) as response:
        assert response.status_code == status


def test_with_tokens_only_their_holders_come_in_and_a_missing_scope_is_challenged(servers: Servers) -> None:
    token = TokenFile.of(servers.home).add("reader", ["toy:read"])
    _, url = servers.http()
    body = {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "put", "arguments": {"name": "a", "text": "b"}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }},
    }  # fmt: skip
    headers = {**MODERN, "mcp-method": "tools/call", "mcp-name": "put"}

    def post(*authorization: str, name: str = "put") -> httpx.Response:
        sent = [*{**headers, "mcp-name": name}.items(), *(("authorization", value) for value in authorization)]
        return httpx.post(f"{url}/mcp", headers=sent, json=body)

    for response in (post("Bearer wrong"), post(f"Basic {token}")):
        assert response.status_code == 401
        assert 'error="invalid_token", scope="toy:read"' in response.headers["www-authenticate"]
    assert post().headers["www-authenticate"] == 'Bearer scope="toy:read"'
    assert post(f"Bearer {token}", "Bearer x").status_code == 400
    refused = post(f"Bearer {token}")
    assert refused.status_code == 403
    assert 'error="insufficient_scope", scope="toy:write"' in refused.headers["www-authenticate"]
    assert httpx.get(f"{url}/sse").status_code == 401
    assert post(f"Bearer {token}", name="add").status_code == 400  # header and body name different tools


async def test_the_older_era_names_no_tool_in_its_headers_and_is_refused_all_the_same(servers: Servers) -> None:
    token = TokenFile.of(servers.home).add("reader", ["toy:read"])
    _, url = servers.http()

    async with opened(f"{url}/mcp", token, mode="legacy") as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("put", {"name": "a", "text": "b"})

    assert "add" in names
    assert "put" not in names
    assert result.structured_content["error"]["missing_scopes"] == ["toy:write"]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda home: None, "there are no tokens"),
        (lambda home: TokenFile.of(home).add("x", ["a:b"]), "nobody said under which name"),
    ],
)
def test_an_address_that_strangers_reach_needs_tokens_and_host_names(
    servers: Servers, prepare: Callable[[Path], object], message: str
) -> None:
    prepare(servers.home)
    process = servers.start("--transport", "http", "--host", "0.0.0.0", "--port", "0")

    _, errors = process.communicate(timeout=60)

    assert process.returncode == 2
    assert message in errors


def test_an_address_that_is_taken_is_said(servers: Servers) -> None:
    _, url = servers.http()

    process = servers.start("--transport", "http", "--port", url.rsplit(":", 1)[1])
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 2
    assert "cannot listen on 127.0.0.1" in errors


def test_a_mistake_in_the_settings_is_said_before_anything_is_served(servers: Servers) -> None:
    servers.home.mkdir()
    (servers.home / "usrland.toml").write_text("[server]\nallowed_host = []\n")
    process = servers.start()

    _, errors = process.communicate(timeout=60)

    assert process.returncode == 2
    assert "unknown allowed_host" in errors


def test_http_ends_on_sigterm(servers: Servers) -> None:
    process, url = servers.http()
    assert httpx.get(f"{url}/healthz").text == "ok"

    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=60) in (0, -signal.SIGTERM)
