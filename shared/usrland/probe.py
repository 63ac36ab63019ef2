"""Start a server the way a host does and see what it answers.

Raw JSON-RPC over pipes and the standard library only: the probe must see what a host sees, so it does not
share a line of code with the protocol library that the server uses. Both `usrland doctor` and the contract
suite look through it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from usrland.errors import Timeout, Unavailable

__all__ = ["Era", "Launch", "Probe", "ServerProcess", "bare_environment", "probe"]

Era = Literal["2025-06-18", "2026-07-28"]
"""The two ways to begin: with an `initialize` handshake, or with `server/discover` and no session."""

STDERR_LINES = 30
EXIT_SECONDS = 5.0
_CLIENT = {"name": "usrland-probe", "version": "1"}


def bare_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a graphical host leaves of an environment: a short PATH, and on Windows what Python needs."""
    if sys.platform == "win32":
        kept = (
            "SYSTEMROOT",
            "SYSTEMDRIVE",
            "WINDIR",
            "TEMP",
            "USERPROFILE",
            "APPDATA",
            "LOCALAPPDATA",
            "PATH",
        )
        return {name: environment[name] for name in kept if name in environment}
    return {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A command with everything it is given: nothing is inherited from the process that starts it."""

    command: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self.command, *self.arguments])


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What one start showed. `failure` is empty when the tools were listed."""

    era: Era
    failure: str = ""
    server: str = ""
    version: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()
    answers: tuple[Mapping[str, Any], ...] = ()
    """What the calls that were asked for were answered with."""
    wall_seconds: float | None = None
    """From the start of the process to the answer of `tools/list`."""
    cpu_seconds: float | None = None
    """The same, in processor time; `None` where the system does not tell."""
    noise: tuple[str, ...] = ()
    """Lines on stdout that are not JSON-RPC: each one breaks some host."""
    stderr: tuple[str, ...] = ()
    exit_code: int | None = None
    """After stdin was closed; `None` when the process had to be killed."""


class ServerProcess:
    """A running server at the end of two pipes. Leaving the context closes stdin and waits for the exit."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.noise: list[str] = []
        self.exit_code: int | None = None
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._errors: deque[str] = deque(maxlen=STDERR_LINES)
        self._last_id = 0

    def __enter__(self) -> ServerProcess:
        """Raises `Unavailable` where the command cannot be started at all."""
        try:
            self._process = subprocess.Popen(
                [self.launch.command, *self.launch.arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(self.launch.environment),
            )
        except OSError as error:
            raise Unavailable(
                f"{self.launch.command!r} cannot be started: {error.strerror}.",
                fix="Install it again, or run: usrland connect.",
            ) from error
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._stdin = self._process.stdin
        self._readers = [
            threading.Thread(target=self._read_answers, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def stderr(self) -> tuple[str, ...]:
        return tuple(self._errors)

    def request(
        self, method: str, parameters: Mapping[str, Any] | None = None, *, timeout_seconds: float = 60.0
    ) -> dict[str, Any]:
        """The whole answer, with `result` or `error`.

        Raises `Unavailable` when the process ends first, `Timeout` when it does not answer.
        """
        self._last_id += 1
        self._send({"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": dict(parameters or {})})
        until = time.monotonic() + timeout_seconds
        while True:
            try:
                message = self._answers.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise Timeout(f"no answer to {method!r} within {timeout_seconds:g} seconds.") from None
            if message is None:
                raise Unavailable(
                    f"the server ended with exit code {self._process.wait()} before it answered {method!r}."
                )
            if message.get("id") == self._last_id and "method" not in message:
                return message

    def notify(self, method: str, parameters: Mapping[str, Any] | None = None) -> None:
        self._send({"jsonrpc": "2.0", "method": method, "params": dict(parameters or {})})

    def cpu_seconds(self) -> float | None:
        """Processor time of the process so far; `None` where there is no `/proc`."""
        try:
            # the command name, field 2, may hold spaces; what follows its last ')' is plain
            fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self, timeout_seconds: float = EXIT_SECONDS) -> int | None:
        """Close stdin, as a host does when it quits. The exit code; `None` where it had to be killed."""
        if self._stdin.closed:
            return self.exit_code
        with contextlib.suppress(OSError):  # it died with our last line still in the pipe
            self._stdin.close()
        try:
            self.exit_code = self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join(timeout=1)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()
        return self.exit_code

    def _send(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it is gone: the reader has seen the end and says so
            self._stdin.write(json.dumps(message).encode() + b"\n")
            self._stdin.flush()

    def _read_answers(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            message = _json_rpc(line)
            if message is not None:
                self._answers.put(message)
            elif line.strip():
                self.noise.append(line.decode(errors="replace").rstrip())
        self._answers.put(None)

    def _read_errors(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            self._errors.append(line.decode(errors="replace").rstrip())


def probe(
    launch: Launch,
    era: Era = "2025-06-18",
    *,
    calls: Sequence[tuple[str, Mapping[str, Any]]] = (),
    timeout_seconds: float = 60.0,
    exit_seconds: float = EXIT_SECONDS,
) -> Probe:
    """Start, list the tools, make the calls, close. Never raises: what went wrong is in the answer."""
    process = ServerProcess(launch)
    started = time.monotonic()
    seen: dict[str, Any] = {}
    try:
        with process:
            hello, listing = _begin(process, era, timeout_seconds)
            seen |= {"wall_seconds": time.monotonic() - started, "cpu_seconds": process.cpu_seconds()}
            seen |= _facts(era, hello, listing)
            seen["answers"] = tuple(_call(process, era, *call, timeout_seconds) for call in calls)
            process.close(exit_seconds)
    except (Timeout, Unavailable) as error:
        seen["failure"] = error.fact
    return Probe(era=era, **seen, noise=tuple(process.noise), stderr=process.stderr, exit_code=process.exit_code)


def _meta(era: Era) -> dict[str, Any]:
    """What every request says of its sender, in the era that has no session."""
    if era != "2026-07-28":
        return {}
    return {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": era,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": _CLIENT,
        }
    }


def _call(
    process: ServerProcess, era: Era, name: str, arguments: Mapping[str, Any], timeout_seconds: float
) -> dict[str, Any]:
    parameters = {"name": name, "arguments": dict(arguments), **_meta(era)}
    answer = process.request("tools/call", parameters, timeout_seconds=timeout_seconds)
    return dict(answer.get("result", {"isError": True, **answer}))


def _begin(process: ServerProcess, era: Era, timeout_seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    if meta := _meta(era):
        hello = process.request("server/discover", meta, timeout_seconds=timeout_seconds)
        return hello, process.request("tools/list", meta, timeout_seconds=timeout_seconds)
    hello = process.request(
        "initialize",
        {"protocolVersion": era, "capabilities": {}, "clientInfo": _CLIENT},
        timeout_seconds=timeout_seconds,
    )
    process.notify("notifications/initialized")
    return hello, process.request("tools/list", timeout_seconds=timeout_seconds)


def _facts(era: Era, hello: Mapping[str, Any], listing: Mapping[str, Any]) -> dict[str, Any]:
    for answer in (hello, listing):
        if "error" in answer:
            return {"failure": f"the server refused protocol {era}: {answer['error'].get('message')}."}
    result = hello["result"]
    spoken = result.get("supportedVersions") or [result.get("protocolVersion")]
    if era not in spoken:
        return {"failure": f"the server does not speak protocol {era} but {', '.join(map(str, spoken))}."}
    info = result.get("serverInfo") or result.get("_meta", {}).get("io.modelcontextprotocol/serverInfo", {})
    return {
        "server": info.get("name", ""),
        "version": info.get("version", ""),
        "tools": tuple(listing["result"].get("tools", ())),
    }


def _json_rpc(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and message.get("jsonrpc") == "2.0" else None
