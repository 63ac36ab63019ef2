"""A memory server whose wall clock is set forward and back while it works."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from sqlmodel import Session, col, select

from memory_snapshot.server import service
from memory_snapshot.tables import Body, ItemVersion
from usrland.keeping import check
from usrland.settings import Settings

__all__ = ["JUMPS", "built", "through_jumps"]

SOURCE = Path(__file__).parent.parent / "faults" / "clock.c"
JUMPS = (0, 3600, -3600, 30 * 24 * 3600, -30 * 24 * 3600, 0)
"""Seconds ahead of the true time, one after the other."""
NAME = "memory-snapshot"


def built(folder: Path) -> Path:
    """The clock as a library; raises `FileNotFoundError` where there is no C compiler."""
    library = folder / "clock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


async def through_jumps(home: Path, library: Path, *, writes: int) -> list[str]:
    """So many items remembered after each jump, each twice with one key; what is not as it should be then."""
    await anyio.Path(home).mkdir()
    await anyio.Path(home / "usrland.toml").write_text(f'[{NAME}]\nembedding = "none"\n', encoding="utf-8")
    file = home.with_suffix(".clock")
    _set(file, 0)
    problems: list[str] = []
    said: list[str] = []
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "memory_snapshot", "--home", str(home)],
        env={**os.environ, "LD_PRELOAD": str(library), "CLOCK_FILE": str(file)},
    )
    with open(os.devnull, "w") as nowhere:  # noqa: ASYNC230, PTH123 - it only goes to a process
        async with Client(stdio_client(parameters, errlog=nowhere), read_timeout_seconds=60) as client:
            for jump in JUMPS:
                _set(file, jump)
                for _ in range(writes):
                    text = f"item {len(said)} was said at the quay"
                    arguments = {"items": [{"text": text}], "idempotency_key": text}
                    first, again = [await _called(client, "memory_remember", arguments) for _ in range(2)]
                    if first["items"] != again["items"]:
                        problems.append(f"{jump:+}: the same key gave {first['items']} and {again['items']}")
                    said.append(text)
                found = await _called(client, "memory_recall", {"query": said[-1], "limit": 3})
                if said[-1] not in [item["text"] for item in found["items"]]:
                    problems.append(f"{jump:+}: {said[-1]!r} is not recalled")
    settings = Settings.load(home, {})
    made = service(settings)
    journal = await made.state["memory"].read(_journal)
    made.state["memory"].close()
    if [text for text, _ in journal] != said:
        problems.append(f"the journal holds {journal}")
    moments = [moment for _, moment in journal]
    if moments != sorted(moments):
        problems.append(f"the journal turns around: {moments}")
    if moments[0][:10] == moments[-1][:10]:
        problems.append(f"the clock did not jump: {moments}")
    found = [f"{each.place}: {each.fact}" async for each in check(settings, service(settings), read_data=True)]
    return [*problems, *found]


def _journal(session: Session) -> list[tuple[str, str]]:
    joined = (col(Body.seq) == col(ItemVersion.seq)) & (col(Body.place) == col(ItemVersion.place))
    rows = session.exec(
        select(Body.text, ItemVersion.recorded_at).join(ItemVersion, joined).order_by(col(Body.seq))
    )
    return [(text, str(moment)) for text, moment in rows.all()]


def _set(file: Path, ahead: int) -> None:
    mode = "r+b" if file.exists() else "w+b"
    with file.open(mode) as opened:  # in place: the file is mapped by the server
        opened.write(struct.pack("<q", ahead))


async def _called(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    with anyio.fail_after(60):
        result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return dict(result.structured_content or {})
