"""Two replicas of a server on one PostgreSQL behind a balancer that remembers nothing, and callers who do not care
which of them answers, nor that one of them is killed now and then."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
from doors import bearer
from processes import Served, serving

from memory_snapshot.server import service
from usrland import Principal
from usrland.identity import TokenFile
from usrland.ledger import Ledger
from usrland.settings import Settings

__all__ = ["Tally", "replicated"]

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
SERVICE = "memory_snapshot.server:service"
NAME = "memory-snapshot"


@dataclass
class Tally:
    acknowledged: list[str] = field(default_factory=list)
    answered: int = 0
    asked_again: int = 0
    kills: int = 0
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    spent_twice: int = 0
    by_replica: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not (self.wrong or self.lost or self.doubled or self.problems or self.spent_twice)


@dataclass
class _Replica:
    home: Path
    port: int
    served: Served | None = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self) -> None:
        self.stack = AsyncExitStack()
        entered = serving(self.home, SERVICE, port=self.port)
        self.served = await anyio.to_thread.run_sync(entered.__enter__)
        self.stack.push(entered)

    async def kill(self) -> None:
        assert self.served is not None
        os.kill(self.served.process.pid, signal.SIGKILL)
        await self.stack.aclose()


async def replicated(
    top: Path, url: str, *, seconds: float, kill_every: float, callers: int = 4, count: int = 2
) -> Tally:
    """Let callers remember, recall and forget for so long; what became of it."""
    tally = Tally()
    token = _prepare(top, url, count)
    replicas = [_Replica(top / f"home{number}", _free_port()) for number in range(count)]
    for replica in replicas:
        await replica.start()
    try:
        async with (
            _balanced([replica.port for replica in replicas], tally) as port,
            anyio.create_task_group() as tasks,
        ):
            begun = time.monotonic()
            until = begun + seconds
            if kill_every:
                tasks.start_soon(_kill, replicas, kill_every, until, tally)
            for number in range(callers):
                tasks.start_soon(_caller, number, f"http://127.0.0.1:{port}", replicas, token, until, tally)
        tally.seconds = time.monotonic() - begun
    finally:
        with anyio.CancelScope(shield=True):
            for replica in replicas:
                await replica.stack.aclose()
    await _look_over(top / "home0", tally)
    return tally


def _prepare(top: Path, url: str, count: int) -> str:
    """A home for each, alike: in a cluster the same secret and the same settings are mounted into all."""
    first = top / "home0"
    first.mkdir(parents=True)
    (first / "usrland.toml").write_text(
        f"[server]\ndatabase = {json.dumps('env:LEDGER')}\nallowed_hosts = ['usrland.test']\n"
        f'[memory-snapshot]\nembedding = "none"\ndatabase = {json.dumps("env:LEDGER")}\n',
        encoding="utf-8",
    )
    os.environ["LEDGER"] = url
    settings = Settings.load(first)
    for key in ("calls", "audit"):
        settings.key(key)
    token = TokenFile.of(first).add("team", ["*"], tenant="acme")
    for number in range(1, count):
        shutil.copytree(first, top / f"home{number}")
    return token


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return int(free.getsockname()[1])


async def _kill(replicas: list[_Replica], every: float, until: float, tally: Tally) -> None:
    for replica in itertools.cycle(replicas):
        await anyio.sleep(every)
        if time.monotonic() > until:
            return
        await replica.kill()
        tally.kills += 1
        await replica.start()


@asynccontextmanager
async def _balanced(ports: list[int], tally: Tally) -> AsyncIterator[int]:
    """Each connection goes to the next replica, or to the other where that one is not there."""
    turn = itertools.cycle(range(len(ports)))

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = next(turn)
        for number in (first, (first + 1) % len(ports)):
            try:
                there, back = await asyncio.open_connection("127.0.0.1", ports[number])
            except OSError:
                continue
            tally.by_replica[number] += 1
            await asyncio.gather(pipe(reader, back), pipe(there, writer))
            return
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def _caller(
    number: int, base: str, replicas: list[_Replica], token: str, until: float, tally: Tally
) -> None:
    host = {"host": "usrland.test"}
    for place in itertools.count():
        if time.monotonic() > until:
            return
        text = f"caller {number} said item {place} at the quay"
        write = {"items": [{"text": text}], "idempotency_key": f"{number}-{place}"}
        said = await _call(base, token, host, "memory_remember", write, tally)
        if said is None:
            continue
        tally.acknowledged.append(text)
        found = await _call(base, token, host, "memory_recall", {"query": text, "limit": 5}, tally)
        if found is None or text not in [item["text"] for item in found.get("items", [])]:
            tally.wrong.append(f"{text}: not recalled: {str(found)[:200]}")
        if place % 5 == 4:
            await _forget(base, token, host, text, tally)


async def _forget(base: str, token: str, host: dict[str, str], text: str, tally: Tally) -> None:
    """What one replica asks may be answered to the other; and only one of two that answer at once is heard."""
    wish = {"containing": text, "mode": "erase", "reason": "test"}
    asked = await _call(base, token, host, "memory_forget", wish, tally, whole=True)
    confirm = re.search(r"confirm_token='([^']+)'", json.dumps(asked))
    if confirm is None:
        tally.wrong.append(f"no token: {str(asked)[:300]}")
        return
    answers: list[Any] = []

    async def answer() -> None:
        given = {**wish, "confirm_token": confirm[1]}
        answers.append(await _call(base, token, host, "memory_forget", given, tally, whole=True))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        tasks.start_soon(answer)
    done = [each for each in answers if each and not each.get("isError")]
    tally.spent_twice += len(done) > 1
    if done:
        tally.acknowledged.remove(text)
    elif any("not valid for this call" not in json.dumps(each) for each in answers):
        tally.acknowledged.remove(text)  # killed on the way: it may or may not be gone


async def _call(
    base: str,
    token: str,
    host: dict[str, str],
    tool: str,
    arguments: dict[str, Any],
    tally: Tally,
    *,
    whole: bool = False,
) -> dict[str, Any] | None:
    """Call until somebody answers; each try is a connection of its own, and so may reach either replica."""
    headers = {
        **bearer(token),
        **host,
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": tool,
    }
    params = {"name": tool, "arguments": arguments, "_meta": META}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    for _ in range(100):
        try:
            async with httpx.AsyncClient(timeout=60) as http:
                answer = await http.post(f"{base}/mcp", headers=headers, json=body)
            result = dict(answer.json()["result"])
        except (httpx.HTTPError, ValueError, KeyError):
            tally.asked_again += 1
            await anyio.sleep(0.05)
            continue
        tally.answered += 1
        if whole or not result.get("isError"):
            return result if whole else dict(result["structuredContent"])
        if result["structuredContent"]["error"]["code"] == "conflict":  # begun by one that was killed: in doubt
            arguments = {**arguments, "idempotency_key": f"{arguments.get('idempotency_key')}+"}
            tally.asked_again += 1
            continue
        if result["structuredContent"]["error"]["code"] in ("unavailable", "quota_exceeded"):
            tally.asked_again += 1
            await anyio.sleep(0.2)
            continue
        tally.wrong.append(f"{tool}: {result['structuredContent']['error']}")
        return None
    return None


async def _look_over(home: Path, tally: Tally) -> None:
    settings = Settings.load(home)
    who = Principal(subject="check", tenant="acme", scopes=frozenset({"*"}))
    made = service(settings)
    tally.problems += (await made.state["verify"](who)).problems
    ledger = Ledger.open(Ledger.url(settings, NAME), chain=NAME, key=b"")
    tally.problems += (await ledger.audit.verify()).problems
    ledger.database.close()
    from sqlmodel import select

    from memory_snapshot.tables import Body

    texts = Counter(await made.state["memory"].read(lambda session: list(session.exec(select(Body.text)).all())))
    made.state["memory"].close()
    tally.lost += [text for text in tally.acknowledged if text not in texts]
    tally.doubled += [text for text, times in texts.items() if times > 1]
