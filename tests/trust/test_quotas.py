"""How often somebody may call: the same in every process of a home, and after a restart."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
import toy
from clock import Clock
from mcp import Client

from usrland import Principal, QuotaExceeded
from usrland.host import running
from usrland.ledger import Ledger
from usrland.quota import PERIOD_SECONDS, Quotas, QuotaTable
from usrland.settings import Settings

ADA, EVE = Principal(subject="ada"), Principal(subject="eve")


@pytest.fixture
def quotas(url: str) -> Iterator[Callable[..., Quotas]]:
    """Make the counts of one process more."""
    made: list[Ledger] = []

    def make(clock: Clock, **limits: int) -> Quotas:
        made.append(Ledger.open(url, chain="toy", key=b""))
        return Quotas(made[-1].database, QuotaTable(**limits).limits(remote=False), clock)

    yield make
    for ledger in made:
        ledger.database.close()


async def spent(counted: Quotas, who: Principal, tries: int) -> int:
    """How many of so many calls went through."""
    through = 0
    for _ in range(tries):
        try:
            await counted.take(who, "normal")
        except QuotaExceeded as error:
            assert 0 < (error.retry_after_seconds or 0) <= PERIOD_SECONDS
            return through
        through += 1
    return through


async def test_processes_share_the_count_and_a_restart_gives_nothing_back(quotas: Callable[..., Quotas]) -> None:
    clock = Clock()
    first, second = quotas(clock, normal=10), quotas(clock, normal=10)

    assert await spent(first, ADA, 6) == 6
    assert await spent(second, ADA, 6) == 4
    assert await spent(quotas(clock, normal=10), ADA, 1) == 0  # started anew
    assert await spent(second, EVE, 20) == 10
    clock.now += PERIOD_SECONDS
    assert await spent(first, ADA, 20) == 10
    clock.now -= 3_600  # somebody set the clock back: nobody waits for an hour
    assert await spent(first, ADA, 20) == 10


async def test_taken_shares_never_add_up_to_more_than_the_limit(quotas: Callable[..., Quotas]) -> None:
    clock = Clock()
    counted = [quotas(clock, normal=100) for _ in range(3)]
    through: list[int] = []

    async def call(each: Quotas) -> None:
        through.append(await spent(each, ADA, 60))

    async with anyio.create_task_group() as tasks:
        for each in counted:
            tasks.start_soon(call, each)
            tasks.start_soon(call, each)

    assert 90 <= sum(through) <= 100  # a share that a process took and did not use is nobody's


async def test_each_cost_is_counted_apart_and_the_refusal_says_when_to_come_again(settings: Settings) -> None:
    settings = Settings(home=settings.home, tables={"quotas": {"normal": 3}, "identity": {"subject": "ada"}})
    async with running(toy.service(settings), settings) as host, Client(host.server) as client:
        answers = [await client.call_tool("add", {"left": 1}) for _ in range(4)]

    assert [answer.is_error for answer in answers] == [False, False, False, True]
    error = answers[-1].structured_content["error"]
    assert error["code"] == "quota_exceeded"
    assert 0 < error["retry_after_seconds"] <= PERIOD_SECONDS


def test_a_person_counts_nothing_and_a_port_counts_by_default() -> None:
    assert set(QuotaTable().limits(remote=False).values()) == {0}
    assert all(QuotaTable().limits(remote=True).values())
    assert QuotaTable(high=0).limits(remote=True)["high"] == 0


def test_the_count_outlives_a_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import anyio, os, signal, sys\n"
        "from usrland import Principal\n"
        "from usrland.ledger import Ledger\n"
        "from usrland.quota import Quotas\n"
        "async def work():\n"
        "    ledger = Ledger.open(sys.argv[1], chain='toy', key=b'')\n"
        "    counted = Quotas(ledger.database, {'normal': 5})\n"
        "    for _ in range(3):\n"
        "        await counted.take(Principal(subject='ada'), 'normal')\n"
        "        print('took', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "anyio.run(work)\n"
    )
    url = f"sqlite:///{tmp_path / 'calls.sqlite'}"
    said = [
        subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=False).stdout
        for _ in range(2)
    ]

    assert "".join(said).count("took") in (5, 3 + 3)  # 6 only where a minute began between the two
