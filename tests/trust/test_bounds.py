"""What a caller may hold open, and what it may send: more is refused and costs nobody else anything."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from doors import bearer
from processes import Served, serving

MODERN = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2026-07-28"}
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
CALL = {
    "jsonrpc": "2.0", "id": 1, "method": "tools/call",
    "params": {"name": "add", "arguments": {"left": 1}, "_meta": META},
}  # fmt: skip


def call(served: Served, body: bytes = json.dumps(CALL).encode()) -> httpx.Response:
    headers = {**MODERN, **bearer(served.token), "mcp-method": "tools/call", "mcp-name": "add"}
    headers["content-type"] = "application/json"
    return httpx.post(f"{served.url}/mcp", headers=headers, content=body, timeout=30)


def half_sent(served: Served, door: str) -> socket.socket:
    """A request whose body does not come."""
    parts = urlsplit(served.url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30)
    head = f"POST {door} HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {served.token}\r\n"
    connection.sendall(f"{head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{".encode())
    return connection


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    with serving(tmp_path, "toy:service", USRLAND_SERVER_BODY_SECONDS="0.5") as served, ExitStack() as stack:
        waiting = [
            stack.enter_context(half_sent(served, door))
            for door in ("/mcp", "/messages/?session_id=00000000000000000000000000000000")
            for _ in range(50)
        ]
        assert call(served).status_code == 200  # in between

        assert {connection.recv(12) for connection in waiting} == {b"HTTP/1.1 408"}


def test_a_body_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with serving(tmp_path, "toy:service") as served:
        assert call(served, b"[" + b" " * (4 * 1024 * 1024) + b"]").status_code == 413
        assert call(served, b"[" * 100_000).status_code == 400
        assert call(served).status_code == 200


def test_one_caller_holds_only_so_many_streams(tmp_path: Path) -> None:
    with serving(tmp_path, "toy:service", USRLAND_SERVER_MAX_STREAMS="3") as served, ExitStack() as stack:
        client = stack.enter_context(httpx.Client(headers=bearer(served.token), timeout=30))
        streams = [stack.enter_context(client.stream("GET", f"{served.url}/sse")) for _ in range(4)]

        assert [stream.status_code for stream in streams] == [200, 200, 200, 429]
        assert streams[3].headers["retry-after"] == "1"
        assert call(served).status_code == 200
        streams[0].close()
        for _ in range(20):  # until the server has noticed that one was closed
            with client.stream("GET", f"{served.url}/sse") as again:
                if again.status_code == 200:
                    break
        assert again.status_code == 200


def test_callers_who_do_not_read_their_answers_keep_nobody_waiting_and_cost_little(tmp_path: Path) -> None:
    """Forty long answers, of which a byte is read and no more."""
    body = json.loads(json.dumps(CALL))
    body["params"] |= {"name": "lines", "arguments": {"count": 5_000, "max_tokens": 25_000}}
    content = json.dumps(body)
    with serving(tmp_path, "toy:service") as served, ExitStack() as stack:
        parts = urlsplit(served.url)
        assert call(served).status_code == 200
        before = _resident(served.process.pid)
        for _ in range(40):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.settimeout(60)
            connection.connect((parts.hostname, parts.port))
            head = {
                "host": parts.netloc, **MODERN, **bearer(served.token), "content-type": "application/json",
                "content-length": str(len(content)), "mcp-method": "tools/call", "mcp-name": "lines",
            }  # fmt: skip
            lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
            connection.sendall(f"POST /mcp HTTP/1.1\r\n{lines}\r\n{content}".encode())
            assert connection.recv(1) == b"H"

        assert [call(served).status_code for _ in range(5)] == [200] * 5
        assert _resident(served.process.pid) - before < 100 * 1024 * 1024


def test_a_line_without_end_and_one_that_is_no_json_are_answered_and_the_next_is_too(tmp_path: Path) -> None:
    code = "import sys; from usrland.launch import launch; launch('toy:service')"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--home", str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={"PYTHONPATH": str(Path(__file__).parent.parent / "support"), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    ping = {"jsonrpc": "2.0", "id": 7, "method": "ping", "params": {"_meta": META}}

    def send(line: str) -> dict[str, Any]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()
        return dict(json.loads(process.stdout.readline()))

    assert send(json.dumps(ping))["id"] == 7
    before = _resident(process.pid)
    for line in ("x" * (64 * 1024 * 1024), "[" * 100_000, "hello", '{"jsonrpc": "2.0", '):
        answer = send(line)
        assert (answer["id"], answer["error"]["code"]) == (None, -32700)
    assert _resident(process.pid) - before < 40 * 1024 * 1024
    assert send(json.dumps(ping))["id"] == 7
    process.communicate(timeout=60)
    assert process.returncode == 0


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
