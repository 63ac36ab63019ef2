"""A memory server on a disk that fails: what it answers meanwhile, and what is there afterwards."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from memory_snapshot.server import service
from usrland import Principal
from usrland.ledger import Ledger
from usrland.settings import Settings

__all__ = ["Kind", "Outcome", "built", "on_a_failing_disk"]

Kind = Literal["kill", "power", "ENOSPC", "EIO"]
SOURCE = Path(__file__).parent.parent / "faults" / "disk.c"
NAME = "memory-snapshot"


@dataclass
class Outcome:
    acknowledged: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Codes of the errors that were answered while the disk failed."""
    gone: bool = False
    """The server ended, as it does where it is killed."""
    lost: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.lost and not self.problems and set(self.refused) <= {"unavailable"}


def built(folder: Path) -> Path:
    """The failing disk as a library; raises `FileNotFoundError` where there is no C compiler."""
    library = folder / "disk.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


async def on_a_failing_disk(
    home: Path, library: Path, *, path: str, call: str, at: int, kind: Kind, writes: int
) -> Outcome:
    """Remember so many items while the disk fails at one place; then start anew on a good one and look."""
    await anyio.Path(home).mkdir()
    settings_file = anyio.Path(home / "usrland.toml")
    await settings_file.write_text(f'[{NAME}]\nembedding = "none"\n', encoding="utf-8")
    outcome = Outcome()
    fault = {"FAULT_PATH": path, "FAULT_CALL": call, "FAULT_AT": str(at), "FAULT_KIND": kind}
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "memory_snapshot", "--home", str(home)],
        env={**os.environ, "LD_PRELOAD": str(library), **fault},
    )
    with open(os.devnull, "w") as nowhere:  # noqa: ASYNC230, PTH123 - it only goes to a process
        try:
            async with Client(stdio_client(parameters, errlog=nowhere), read_timeout_seconds=60) as client:
                for number in range(writes):
                    await _write(client, number, outcome)
        except Exception:  # the server was killed, and there are many ways to notice it
            outcome.gone = True
    await _look_over(home, outcome)
    return outcome


async def _write(client: Client, number: int, outcome: Outcome) -> None:
    text = f"item {number} was said at the quay"
    result = await client.call_tool("memory_remember", {"items": [{"text": text}]})
    if result.is_error:
        answer: dict[str, Any] = result.structured_content
        outcome.refused.append(answer["error"]["code"])
    else:
        outcome.acknowledged.append(text)


async def _look_over(home: Path, outcome: Outcome) -> None:
    settings = Settings.load(home, {})
    made = service(settings)
    who = Principal(subject="check", scopes=frozenset({"*"}))
    outcome.problems += (await made.state["verify"](who)).problems
    made.state["memory"].close()
    ledger = Ledger.open(Ledger.url(settings, NAME), chain=NAME, key=b"")
    outcome.problems += (await ledger.audit.verify()).problems
    ledger.database.close()
    parameters = StdioServerParameters(command=sys.executable, args=["-m", "memory_snapshot", "--home", str(home)])
    with open(os.devnull, "w") as nowhere:  # noqa: ASYNC230, PTH123 - it only goes to a process
        async with Client(stdio_client(parameters, errlog=nowhere), read_timeout_seconds=60) as client:
            arguments = {"mode": "full", "budget_tokens": 20_000}
            restored = (await client.call_tool("memory_restore", arguments)).structured_content["text"]
            again = await client.call_tool("memory_remember", {"items": [{"text": "The disk is well again."}]})
    found = re.findall(r"item \d+ was said at the quay", restored)
    outcome.lost += [text for text in outcome.acknowledged if text not in found]
    outcome.problems += [f"{text} is there twice" for text in set(found) if found.count(text) > 1]
    if again.is_error:
        outcome.problems.append("it does not go on where the disk is well again")
