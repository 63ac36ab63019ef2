"""Replicas of all three servers on one PostgreSQL and one bucket, behind a balancer that remembers nothing.

Their callers do not care which of them answers, nor that one of them is killed now and then.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from object_store import ObjectStore
from processes import Served, cpu_seconds, free_port, limited, serving
from raw_calls import Lost, called

from memory_snapshot.server import service
from usrland import Principal
from usrland.identity import TokenFile
from usrland.ledger import Ledger
from usrland.settings import Settings

__all__ = ["Load", "Tally", "Turn", "alternated", "replicated"]

SERVERS = ("memory-snapshot", "filesystem-retrieval", "enterprise-connectors")
SERVICES = [f"{name.replace('-', '_')}.server:service" for name in SERVERS]
TRIES = 200


@dataclass
class Tally:
    acknowledged: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in SERVERS})
    answered: int = 0
    asked_again: int = 0
    kills: int = 0
    wrong: list[str] = field(default_factory=list)
    erased: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    spent_twice: int = 0
    by_replica: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not (self.wrong or self.lost or self.doubled or self.problems or self.spent_twice)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What was answered while so many replicas were open to callers."""

    replicas: int
    answered: int
    seconds: float
    server_cpu_seconds: float
    database_cpu_seconds: float
    own_cpu_seconds: float
    """Of the balancer and the callers, which are one process."""


@dataclass
class _Replica:
    home: Path
    port: int
    processors: float | None = None
    served: Served | None = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self) -> None:
        self.stack = AsyncExitStack()
        entered = serving(self.home, *SERVICES, port=self.port)
        self.served = await anyio.to_thread.run_sync(entered.__enter__)
        if self.processors is not None:
            self.stack.enter_context(limited(self.served.process.pid, self.processors))
        self.stack.push(entered)

    async def kill(self) -> None:
        assert self.served is not None
        os.kill(self.served.process.pid, signal.SIGKILL)
        await self.stack.aclose()

    def cpu_seconds(self) -> float:
        assert self.served is not None
        return cpu_seconds(Path(f"/proc/{self.served.process.pid}"))


async def replicated(
    top: Path,
    url: str,
    *,
    seconds: float,
    kill_every: float = 0.0,
    callers: int = 4,
    count: int = 2,
    store: ObjectStore | None = None,
    load: Load | None = None,
) -> Tally:
    """Let callers call for so long; what became of it. `load` is what a caller does over and over."""
    async with _standing(top, url, count, callers, store) as standing:
        tally, begun = standing.tally, time.monotonic()
        until = begun + seconds
        async with anyio.create_task_group() as tasks:
            if kill_every:
                tasks.start_soon(_kill, standing.replicas, kill_every, until, tally)
            for door in standing.doors:
                tasks.start_soon(_over_and_over, door, load or _mixed, until)
        tally.seconds = time.monotonic() - begun
    await _look_over(top, url, tally)
    return tally


async def alternated(
    top: Path,
    url: str,
    *,
    seconds: float,
    each: float = 5.0,
    callers: int = 4,
    store: ObjectStore | None = None,
    processors: float | None = None,
    load: Load,
) -> tuple[list[Turn], Tally]:
    """Open one replica to the callers, then both, in turns: what else the machine does meets both alike.

    `processors`: what each replica may have of them, as a container's limit says; without it, all there is.
    """
    turns = []
    async with _standing(top, url, 2, callers, store, processors) as standing:
        tally, every = standing.tally, list(standing.open_ports)
        until = time.monotonic() + seconds
        async with anyio.create_task_group() as tasks:
            for door in standing.doors:
                tasks.start_soon(_over_and_over, door, load, until)
            while time.monotonic() + each <= until:
                count = 1 + len(turns) % 2
                standing.open_ports[:] = every[:count]
                await anyio.sleep(each / 10)  # calls on their way end where they were sent
                begun, answered = time.monotonic(), tally.answered
                used, database, own = _cpu(standing.replicas), _database_cpu(), time.process_time()
                await anyio.sleep(each * 0.9)
                turn = Turn(
                    replicas=count,
                    answered=tally.answered - answered,
                    seconds=time.monotonic() - begun,
                    server_cpu_seconds=_cpu(standing.replicas) - used,
                    database_cpu_seconds=_database_cpu() - database,
                    own_cpu_seconds=time.process_time() - own,
                )
                turns.append(turn)
    await _look_over(top, url, tally)
    return turns, tally


@dataclass
class _Standing:
    replicas: list[_Replica]
    open_ports: list[int]
    """Where the balancer sends callers."""
    doors: list[_Door]
    tally: Tally


@asynccontextmanager
async def _standing(
    top: Path,
    url: str,
    count: int,
    callers: int,
    store: ObjectStore | None,
    processors: float | None = None,
) -> AsyncIterator[_Standing]:
    """Replicas that have answered each caller once: what a process does once is not part of what is measured."""
    tally = Tally()
    token = _prepare(top, url, count, store)
    replicas = [_Replica(top / f"home{number}", free_port(), processors) for number in range(count)]
    for replica in replicas:
        await replica.start()
    ports = [replica.port for replica in replicas]
    try:
        async with _balanced(ports, tally) as port:
            doors = [_Door(number, port, token, tally) for number in range(callers)]
            for door in doors:
                for name, tool in (("memory-snapshot", "memory_status"), ("filesystem-retrieval", "fs_list")):
                    for _ in replicas:
                        await door.call(name, tool, {}, whole=True)
            tally.answered = 0
            yield _Standing(replicas, ports, doors, tally)
    finally:
        with anyio.CancelScope(shield=True):
            for replica in replicas:
                await replica.stack.aclose()


def _cpu(replicas: list[_Replica]) -> float:
    return sum(replica.cpu_seconds() for replica in replicas)


def _database_cpu() -> float:
    """Of PostgreSQL on this machine, whoever asks it."""
    found = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "comm").read_text().strip() == "postgres":
                found += cpu_seconds(process)
    return found


def _prepare(top: Path, url: str, count: int, store: ObjectStore | None) -> str:
    """A home for each, alike: in a cluster the same secret and the same settings are mounted into all."""
    import psycopg

    first, documents = top / "home0", top / "documents"
    first.mkdir(parents=True)
    documents.mkdir()
    (first / "usrland.toml").write_text(
        f'[server]\ndatabase = "env:LEDGER"\nallowed_hosts = ["usrland.test"]\n'
        f'[memory-snapshot]\nembedding = "none"\ndatabase = "env:LEDGER"\n'
        f'[filesystem-retrieval]\nembedding = "none"\ndatabase = "env:LEDGER"\n'
        f"[quotas]\nnormal = 1_000_000\n"  # counted as ever; by default one caller gets 50 calls a second
        f"[filesystem-retrieval.roots]\n"
        f'docs = {{ folder = {json.dumps(str(documents))}, tenant = "acme", writable = true }}\n'
        + ("" if store is None else store.settings()),
        encoding="utf-8",
    )
    (first / "connectors.toml").write_text(
        '[orders]\nkind = "sql"\nwrite = true\nurl = "env:LEDGER"\n', encoding="utf-8"
    )
    os.environ["LEDGER"] = url
    if store is not None:
        os.environ["INDEX_SECRET"] = store.secret
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id text NOT NULL)")  # no key: what comes twice is there twice
    settings = Settings.load(first)
    for key in ("calls", "audit"):
        settings.key(key)
    token = TokenFile.of(first).add("team", ["*"], tenant="acme")
    for number in range(1, count):
        shutil.copytree(first, top / f"home{number}")
    return token


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
    turn = itertools.count()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = next(turn)
        for number in [(first + more) % len(ports) for more in range(min(2, len(ports)))]:
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


@dataclass
class _Door:
    """One caller, through the balancer. Each try is a connection of its own, and so may reach any replica."""

    number: int
    port: int
    token: str
    tally: Tally

    async def call(
        self, server: str, tool: str, arguments: dict[str, Any], *, whole: bool = False
    ) -> dict[str, Any] | None:
        """Call until somebody answers: the facts, or with `whole` the answer even if it is a refusal."""
        for _ in range(TRIES):
            try:
                result = await called(
                    self.port, f"/{server}/mcp", self.token, tool, arguments, host="usrland.test"
                )
            except Lost:
                self.tally.asked_again += 1
                await anyio.sleep(0.05)
                continue
            self.tally.answered += 1
            if not result.get("isError"):
                return result if whole else dict(result["structuredContent"])
            error = result["structuredContent"]["error"]
            if error["code"] in ("unavailable", "quota_exceeded"):
                self.tally.asked_again += 1
                await anyio.sleep(0.2)
                continue
            if whole:
                return result
            self.tally.wrong.append(f"{tool}: {error}")
            return None
        self.tally.wrong.append(f"{tool}: nobody answered")
        return None


Load = Callable[[_Door, int], Awaitable[None]]


async def _over_and_over(door: _Door, load: Load, until: float) -> None:
    for place in itertools.count():
        if time.monotonic() > until:
            return
        await load(door, place)


async def _mixed(door: _Door, place: int) -> None:
    """A memory, a file and a row, each written and looked for."""
    await remembered(door, place)
    if place % 3 == 0:
        await filed(door, place)
    if place % 3 == 1:
        await ordered(door, place)


async def remembered(door: _Door, place: int) -> None:
    tally, key = door.tally, f"{door.number}-{place}"
    text = f"caller {door.number} said item {place} at the quay"
    said = await _written(door, "memory-snapshot", "memory_remember", {"items": [{"text": text}]}, key)
    if said is None:
        return
    tally.acknowledged["memory-snapshot"].append(text)
    found = await door.call("memory-snapshot", "memory_recall", {"query": text, "limit": 5})
    if found is None or text not in [item["text"] for item in found.get("items", [])]:
        tally.wrong.append(f"{text}: not recalled: {str(found)[:200]}")
    if place % 5 == 4:
        await _forget(door, text)


async def filed(door: _Door, place: int) -> None:
    tally, path = door.tally, f"docs/{door.number}-{place}.md"
    text = f"Caller {door.number} wrote page {place} at the quay.\n"
    arguments = {"path": path, "content": text}
    if await _written(door, "filesystem-retrieval", "fs_write", arguments, f"{door.number}-{place}") is None:
        return
    tally.acknowledged["filesystem-retrieval"].append(path)
    read = await door.call("filesystem-retrieval", "fs_read", {"path": path})
    if read is None or text.strip() not in json.dumps(read):
        tally.wrong.append(f"{path}: read {str(read)[:200]}")


async def ordered(door: _Door, place: int) -> None:
    """A row that a person agreed to; whoever is asked may not be who is answered."""
    tally, name = door.tally, f"{door.number}-{place}"
    row = {"name": "orders_execute", "arguments": {"sql": "INSERT INTO orders VALUES ($1)", "parameters": [name]}}
    if await _confirmed(door, "enterprise-connectors", "sys_call", row, name) is None:
        return
    tally.acknowledged["enterprise-connectors"].append(name)
    asked = {"sql": "SELECT count(*) AS n FROM orders WHERE id = $1", "parameters": [name]}
    found = await door.call("enterprise-connectors", "sys_call", {"name": "orders_query", "arguments": asked})
    if found is None or found.get("items") != [[1]]:
        tally.wrong.append(f"order {name}: {str(found)[:200]}")


async def _written(
    door: _Door, server: str, tool: str, arguments: dict[str, Any], key: str
) -> dict[str, Any] | None:
    """Write once, whatever happens on the way. None where a kill left open whether it took effect."""
    answer = await door.call(server, tool, {**arguments, "idempotency_key": key}, whole=True)
    if answer is None:
        return None
    if not answer.get("isError"):
        return dict(answer["structuredContent"])
    error = answer["structuredContent"]["error"]
    if error["code"] == "conflict":  # begun by one that was killed: in doubt, and said so
        door.tally.asked_again += 1
        return None
    door.tally.wrong.append(f"{tool}: {error}")
    return None


async def _confirmed(
    door: _Door, server: str, tool: str, arguments: dict[str, Any], key: str
) -> dict[str, Any] | None:
    asked = await door.call(server, tool, arguments, whole=True)
    token = re.search(r"confirm_token='([^']+)'", json.dumps(asked))
    if token is None:
        door.tally.wrong.append(f"{tool}: no token: {str(asked)[:300]}")
        return None
    answer = await door.call(
        server, tool, {**arguments, "confirm_token": token[1], "idempotency_key": key}, whole=True
    )
    if answer is None or not answer.get("isError"):
        return answer
    if answer["structuredContent"]["error"]["code"] not in ("conflict", "denied"):  # spent by one that was killed
        door.tally.wrong.append(f"{tool}: {answer['structuredContent']['error']}")
    door.tally.asked_again += 1
    return None


async def _forget(door: _Door, text: str) -> None:
    """What one replica asks may be answered to the other; and only one of two that answer at once is heard."""
    tally, kept = door.tally, door.tally.acknowledged["memory-snapshot"]
    wish = {"containing": text, "mode": "erase", "reason": "test"}
    asked = await door.call("memory-snapshot", "memory_forget", wish, whole=True)
    confirm = re.search(r"confirm_token='([^']+)'", json.dumps(asked))
    if confirm is None:
        tally.wrong.append(f"no token: {str(asked)[:300]}")
        return
    answers: list[Any] = []

    async def answer() -> None:
        given = {**wish, "confirm_token": confirm[1]}
        answers.append(await door.call("memory-snapshot", "memory_forget", given, whole=True))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        tasks.start_soon(answer)
    done = [each for each in answers if each and not each.get("isError")]
    tally.spent_twice += len(done) > 1
    kept.remove(text)  # where nobody could answer, it may or may not be gone
    if done:
        tally.erased.append(text)


async def _look_over(top: Path, url: str, tally: Tally) -> None:
    """What is there afterwards, against what was acknowledged."""
    import psycopg
    from sqlmodel import select

    from memory_snapshot.tables import Body

    settings = Settings.load(top / "home0")
    who = Principal(subject="check", tenant="acme", scopes=frozenset({"*"}))
    made = service(settings)
    tally.problems += (await made.state["verify"](who)).problems
    texts = Counter(await made.state["memory"].read(lambda session: list(session.exec(select(Body.text)).all())))
    made.state["memory"].close()
    for name in SERVERS:
        ledger = Ledger.of(settings, name)
        tally.problems += (await ledger.audit.verify()).problems
        ledger.database.close()
    with psycopg.connect(url) as connection:
        rows = Counter(row[0] for row in connection.execute("SELECT id FROM orders").fetchall())
    tally.problems += [f"{text}: it was erased and is there" for text in tally.erased if text in texts]
    for kept, there in (("memory-snapshot", texts), ("enterprise-connectors", rows)):
        tally.lost += [each for each in tally.acknowledged[kept] if each not in there]
        tally.doubled += [each for each, times in there.items() if times > 1]
    for path in tally.acknowledged["filesystem-retrieval"]:
        if not await anyio.Path(top / "documents" / path.removeprefix("docs/")).is_file():
            tally.lost.append(path)
