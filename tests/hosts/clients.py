"""The foreign clients and what each of them knows: eras, transports, how it is run.

Every client is run as a process of its own that takes a plan and answers with what it received, in the shape
of `Answers`. What it received is what a host built on that client would hand to its model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kit import DRIVERS, INSPECTOR, TYPESCRIPT_1, TYPESCRIPT_2, Kit

__all__ = ["CLIENTS", "HANDSHAKE", "MODERN", "Answers", "Client", "Failed", "Plan", "Transport"]

Transport = Literal["stdio", "sse", "http"]
Answers = Mapping[str, Any]
"""negotiated, instructions (both only where the client tells), tools, resources, read, calls."""

HANDSHAKE = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN = ("2026-07-28",)
STEP_SECONDS = 120
UNSETTLED = "degraded"
"""An answer with this field says that it may lack something for now: it is asked for again."""
TRIES = 20


class Failed(Exception):
    """The client did not come to an end, or to this one: what it said."""


@dataclass(frozen=True)
class Plan:
    """What a client is to do: list tools and resources, read the resources, make the calls."""

    transport: Transport
    era: str
    command: Sequence[str]
    url: str | None
    calls: Sequence[tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Client:
    name: str
    eras: Mapping[str, Sequence[str]]
    """What it can be told to negotiate, and what it may come to then."""
    install: Callable[[Kit], list[str]]
    """The command that runs it; raises `Missing`."""
    run: Callable[[list[str], Plan, Path], Answers]


def _driven(program: list[str], plan: Plan, scratch: Path) -> Answers:
    told = {"transport": plan.transport, "era": plan.era, "command": list(plan.command), "url": plan.url}
    text = json.dumps({**told, "calls": list(plan.calls), "tries": TRIES, "unsettled": UNSETTLED})
    answers: Answers = json.loads(_said(program, scratch, text))
    return answers


def _inspected(program: list[str], plan: Plan, scratch: Path) -> Answers:
    """The Inspector's command line connects anew for every request."""
    where = [str(plan.url), "--transport", plan.transport] if plan.url else list(plan.command)
    options = ["--protocol-era", plan.era, "--format", "json", "--quiet"]

    def ask(method: str, *more: str) -> Any:
        said = _said([*program, "--cli", *where, *options, "--method", method, *more], scratch, accepted=(0, 5))
        return json.loads(said)["result"]

    def call(name: str, arguments: Mapping[str, Any]) -> Any:
        for _ in range(TRIES):
            answer = ask("tools/call", "--tool-name", name, "--tool-args-json", json.dumps(arguments))
            if not answer.get("structuredContent", {}).get(UNSETTLED):
                break
        return answer

    resources = ask("resources/list")["resources"]
    return {
        "tools": ask("tools/list")["tools"],
        "resources": resources,
        "read": [ask("resources/read", "--uri", resource["uri"]) for resource in resources],
        "calls": [call(name, arguments) for name, arguments in plan.calls],
    }


def _said(command: list[str], scratch: Path, text: str = "", accepted: Sequence[int] = (0,)) -> str:
    # some write into the home folder, and none should find the settings of the person who runs this
    environment = {**os.environ, "HOME": str(scratch), "USERPROFILE": str(scratch)}
    try:
        done = subprocess.run(
            command,
            input=text,
            env=environment,
            cwd=scratch,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=STEP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"no answer within {STEP_SECONDS} seconds") from None
    if done.returncode not in accepted or not done.stdout:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise Failed(f"exit code {done.returncode}: " + " | ".join(lines[-12:]))
    return done.stdout


_LEGACY = {"legacy": HANDSHAKE[-1:]}
_AUTO = {"auto": MODERN}

CLIENTS = (
    Client(
        "Python mcp 2.x", {**_AUTO, **_LEGACY}, lambda _: [sys.executable, str(DRIVERS / "python2.py")], _driven
    ),
    Client(
        "Python mcp 1.30",
        {version: (version,) for version in HANDSHAKE},
        lambda kit: [str(kit.python1), str(DRIVERS / "python1.py")],
        _driven,
    ),
    Client(
        "TypeScript client 2.4",
        {**_AUTO, **_LEGACY},
        lambda kit: kit.driver(TYPESCRIPT_2, "typescript2.mjs"),
        _driven,
    ),
    Client("TypeScript SDK 1.32", _LEGACY, lambda kit: kit.driver(TYPESCRIPT_1, "typescript1.mjs"), _driven),
    Client(
        "Inspector 2.12",
        {"modern": MODERN, **_LEGACY},
        lambda kit: kit.script(INSPECTOR, "clients/launcher/build/index.js"),
        _inspected,
    ),
)
