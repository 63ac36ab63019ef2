"""Four servers on one home, killed at random: is every acknowledged write there afterwards?

    python tests/faults/acknowledged_writes.py --runs 20 --writes 50
    python tests/faults/acknowledged_writes.py --runs 20 --writes 50 --postgresql postgresql://root@127.0.0.1/test

With `--postgresql` each run is in a schema of its own, dropped afterwards.

Each run starts four `memory-snapshot` processes over stdio on one home. Every client has all its writes in
flight at once; after a random number of answers its server is killed with SIGKILL, a new one is started, and what
was not acknowledged is sent again, under a new idempotency key: the outcome of the old one is unknown. At the end
a new server must list every item that was acknowledged, none of them twice, and the journal must verify.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import re
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from memory_snapshot.server import service
from usrland import Principal
from usrland.settings import Settings

logger = logging.getLogger(__name__)

PROCESSES = 4
SPACE = Principal(subject="check")


@dataclass(slots=True)
class Tally:
    acknowledged: list[str] = field(default_factory=list)
    sent: int = 0
    kills: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    tally: Tally
    lost: list[str]
    doubled: list[str]
    problems: list[str]

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.problems)


async def run(home: Path, writes: int, embedding: str, database: str, chance: random.Random) -> Outcome:
    settings = anyio.Path(home / "usrland.toml")
    table = f'[memory-snapshot]\nembedding = "{embedding}"\ndatabase = "{database}"\n'
    await settings.write_text(table, encoding="utf-8")
    tally = Tally()
    async with anyio.create_task_group() as tasks:
        for number in range(PROCESSES):
            tasks.start_soon(_client, home, number, writes, random.Random(chance.random()), tally)
    found = Counter(await _listed(home))
    checked = await service(Settings.load(home, {})).state["verify"](SPACE)
    return Outcome(
        tally=tally,
        lost=[text for text in tally.acknowledged if text not in found],
        doubled=[text for text, times in found.items() if times > 1],
        problems=checked.problems,
    )


async def _client(home: Path, number: int, writes: int, chance: random.Random, tally: Tally) -> None:
    waiting = [f"process {number} wrote item {place}" for place in range(writes)]
    while waiting:
        try:
            await _one_life(home, number, waiting, chance, tally)
        except Exception as error:  # the server was killed, and there are many ways to notice it
            logger.debug("server %s is gone: %s", number, error)


async def _one_life(home: Path, number: int, waiting: list[str], chance: random.Random, tally: Tally) -> None:
    """Have everything in flight until the server is killed, which raises, or until all is acknowledged."""
    pid_file = home / f"{number}.pid"
    answers_to_live = chance.randint(0, 2 * len(waiting))

    async def write(text: str) -> None:
        nonlocal answers_to_live
        tally.sent += 1
        arguments = {"items": [{"text": text}], "idempotency_key": f"{text}, life {tally.kills}"}
        result = await client.call_tool("memory_remember", arguments)
        if not result.is_error:
            tally.acknowledged.append(text)
            waiting.remove(text)
        answers_to_live -= 1
        if answers_to_live == 0:
            await _kill(pid_file, chance.uniform(0, 0.03), tally)

    async with _server(home, pid_file) as client, anyio.create_task_group() as tasks:
        for text in list(waiting):
            tasks.start_soon(write, text)
        if answers_to_live == 0:
            tasks.start_soon(_kill, pid_file, chance.uniform(0, 0.5), tally)


async def _kill(pid_file: Path, after_seconds: float, tally: Tally) -> None:
    await anyio.sleep(after_seconds)
    os.kill(int(await anyio.Path(pid_file).read_text(encoding="ascii")), signal.SIGKILL)
    tally.kills += 1


@asynccontextmanager
async def _server(home: Path, pid_file: Path) -> AsyncIterator[Client]:
    script = f'echo $$ > "{pid_file}"; exec "{sys.executable}" -m memory_snapshot --home "{home}" 2> /dev/null'
    transport = stdio_client(StdioServerParameters(command="sh", args=["-c", script]))
    async with Client(transport, read_timeout_seconds=60) as client:
        yield client


async def _listed(home: Path) -> list[str]:
    """Every item that a new server restores."""
    async with _server(home, home / "reader.pid") as client:
        result = await client.call_tool("memory_restore", {"mode": "full", "budget_tokens": 20_000})
    answer = result.structured_content or {}
    if "left_out" in answer:
        raise SystemExit("too many items to list: ask for fewer writes")
    return re.findall(r"process \d+ wrote item \d+$", answer["text"], re.MULTILINE)


@contextmanager
def _schema(url: str) -> Iterator[str]:
    """An empty schema in the database at `url`, for as long as the block lasts."""
    if not url:
        yield ""
        return
    import psycopg

    name = f"usrland_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"'.encode())
    try:
        yield f"{url}?options=-csearch_path%3D{name}"
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f'DROP SCHEMA "{name}" CASCADE'.encode())


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument(
        "--writes", type=int, default=50, help="of each process in each run, all in flight at once"
    )
    parser.add_argument("--embedding", default="minilm", help="none: lighter servers")
    parser.add_argument("--postgresql", default="", help="the URL of a database; default: SQLite in the home")
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    chance = random.Random(options.seed)
    outcomes: list[Outcome] = []
    for number in range(options.runs):
        with tempfile.TemporaryDirectory() as folder, _schema(options.postgresql) as database:
            outcome = anyio.run(run, Path(folder), options.writes, options.embedding, database, chance)
        outcomes.append(outcome)
        if not outcome.good:
            _say(f"run {number}: lost {outcome.lost}, doubled {outcome.doubled}, {outcome.problems}")
    _say(
        f"{len(outcomes)} runs on {'PostgreSQL' if options.postgresql else 'SQLite'}, "
        f"{PROCESSES} processes on one home, seed {options.seed}: "
        f"{sum(o.tally.sent for o in outcomes)} writes sent, {sum(o.tally.kills for o in outcomes)} kills, "
        f"{sum(len(o.tally.acknowledged) for o in outcomes)} acknowledged, "
        f"{sum(len(o.lost) for o in outcomes)} lost, {sum(len(o.doubled) for o in outcomes)} doubled, "
        f"{sum(bool(o.problems) for o in outcomes)} journals broken"
    )
    return 0 if all(outcome.good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
