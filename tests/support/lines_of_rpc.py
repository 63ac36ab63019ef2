"""Wrecked JSON-RPC on the standard input of a server, and what comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from random import Random
from typing import Any

from wrecks import wrecked

__all__ = ["SERVERS", "hammered"]

SERVERS = {
    "filesystem_retrieval": "fs_read",
    "enterprise_connectors": "sys_find",
    "memory_snapshot": "memory_recall",
}
PATIENCE_SECONDS = 60.0
BETWEEN_PINGS = 50
WARM_SHARE, LONG = 0.3, 10_000
"""Of a run of so many lines the memory of the last ones is compared with that after a share of them."""
MOST_GROWN_BYTES = 16 << 20
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


def hammered(server: str, lines: int, seed: int) -> tuple[list[str], str]:
    """What is not as it should be, and a few words on what happened."""
    random, problems = Random(seed), list[str]()
    with tempfile.TemporaryDirectory() as home, running(server, Path(home)) as (process, heard):
        seeds = [json.dumps(each).encode() for each in _whole(SERVERS[server])]
        warm = 0
        assert process.stdin is not None
        process.stdin.writelines(each + b"\n" for each in seeds)  # what is loaded at the first call is no growth
        for number in range(lines):
            try:
                process.stdin.write(wrecked(random, random.choice(seeds)).replace(b"\n", b" ") + b"\n")
                if number % BETWEEN_PINGS == 0:
                    _ping(process, heard, f"ping {number}", problems)
            except OSError:
                problems.append(f"it ended after {number} lines, with {process.wait()}")
                break
            if number == int(lines * WARM_SHARE):
                warm = _resident(process.pid)
        else:
            _ping(process, heard, "the last ping", problems)
            grown = _resident(process.pid) - warm
            if lines >= LONG and grown > MOST_GROWN_BYTES:
                problems.append(f"its memory grew by {grown >> 20} MB")
            process.stdin.close()
            if code := process.wait(PATIENCE_SECONDS):
                problems.append(f"it ended with {code}")
            return [*problems, *heard.wrong], f"{heard.lines} answers, memory {grown / 2**20:+.0f} MB"
    return [*problems, *heard.wrong], f"{heard.lines} answers"


class Heard(threading.Thread):
    """Reads what the server says as it comes."""

    def __init__(self, stream: Any) -> None:
        super().__init__(daemon=True)
        self.answers = Queue[Any]()
        self.lines = 0
        self.wrong: list[str] = []
        self._stream = stream

    def run(self) -> None:
        for line in self._stream:
            self.lines += 1
            try:
                message = json.loads(line)
                assert message["jsonrpc"] == "2.0"
            except (ValueError, KeyError, TypeError, AssertionError):
                self.wrong.append(f"no JSON-RPC: {line[:200]!r}")
                continue
            if str(message.get("id")).endswith("!"):
                self.answers.put(message)


@contextmanager
def running(server: str, home: Path) -> Iterator[tuple[subprocess.Popen[bytes], Heard]]:
    root = home / "root"
    root.mkdir()
    (root / "a.md").write_text("# A\n\nferry\n", encoding="utf-8")
    (home / "usrland.toml").write_text(
        f'[memory-snapshot]\nembedding = "none"\n[filesystem-retrieval]\nembedding = "none"\n'
        f"[filesystem-retrieval.roots]\ndocs = {json.dumps(str(root))}\n",
        encoding="utf-8",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", server, "--home", str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ),
    )
    heard = Heard(process.stdout)
    heard.start()
    try:
        yield process, heard
    finally:
        process.kill()
        process.wait()
        heard.join()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with suppress(OSError):  # what was not sent
                stream.close()


def _ping(process: subprocess.Popen[bytes], heard: Heard, name: str, problems: list[str]) -> None:
    assert process.stdin is not None
    ping = {"jsonrpc": "2.0", "id": f"{name}!", "method": "ping", "params": {"_meta": META}}
    process.stdin.write(json.dumps(ping).encode() + b"\n")
    process.stdin.flush()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        try:
            if heard.answers.get(timeout=left)["id"] == f"{name}!":
                return
        except Empty:
            break
    problems.append(f"{name} was not answered")


def _whole(tool: str) -> list[dict[str, Any]]:
    call = {"name": tool, "arguments": {"query": "ferry", "path": "a.md", "limit": 3}, "_meta": META}
    info = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    methods: dict[str, dict[str, Any]] = {
        "initialize": info,
        "tools/list": {"_meta": META},
        "tools/call": call,
        "resources/list": {"_meta": META},
        "resources/read": {"uri": "file:///a.md", "_meta": META},
        "prompts/get": {"name": "x", "arguments": {}, "_meta": META},
        "notifications/cancelled": {"requestId": 3, "reason": "x"},
    }
    return [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        for number, (method, params) in enumerate(methods.items())
    ]


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
