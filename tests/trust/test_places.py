"""How much of one caller may be open at once: counted over all processes of a ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
import toy
from clock import Clock
from sqlmodel import Session, select

from usrland import Principal, QuotaExceeded
from usrland.audit.tables import PlacesHeld
from usrland.call import CallPath
from usrland.errors import Unavailable
from usrland.ledger import Ledger
from usrland.places import LEASE_SECONDS, Places
from usrland.settings import Settings

ADA, EVE = Principal(subject="ada"), Principal(subject="eve")
OWNER = Principal(subject="owner", scopes=frozenset({"*"}), source="test")


@pytest.fixture
def process(url: str) -> Iterator[Callable[..., Places]]:
    """The places of one process more."""
    made: list[Ledger] = []

    def make(clock: Clock, calls: int = 32) -> Places:
        made.append(Ledger.open(url, chain="toy", key=b""))
        return Places(made[-1].database, {"calls": calls, "streams": 2}, clock)

    yield make
    for ledger in made:
        ledger.database.close()


async def opened(places: Places, stack: AsyncExitStack, who: Principal, tries: int) -> int:
    """How many of so many got a place."""
    got = 0
    for _ in range(tries):
        try:
            await stack.enter_async_context(places.held(who, "calls"))
            got += 1
        except QuotaExceeded as error:
            assert error.retry_after_seconds == 1
            assert "32 calls of" in error.fact
    return got


async def test_processes_share_the_places_of_a_caller_and_others_have_their_own(
    process: Callable[..., Places],
) -> None:
    clock = Clock()
    first, second = process(clock), process(clock)
    async with AsyncExitStack() as stack:
        got = [await opened(first, stack, ADA, 20), await opened(second, stack, ADA, 20)]

        assert got == [20, 12]
        assert await opened(first, stack, ADA, 1) == 0
        assert await opened(second, stack, EVE, 20) == 20
        async with second.held(ADA, "streams"), second.held(ADA, "streams"):
            with pytest.raises(QuotaExceeded, match="2 streams"):
                await stack.enter_async_context(first.held(ADA, "streams"))


async def test_what_is_closed_can_be_opened_again_here_at_once_and_elsewhere_when_it_is_given_back(
    process: Callable[..., Places],
) -> None:
    clock = Clock()
    first, second = process(clock), process(clock)
    async with AsyncExitStack() as stack:
        assert await opened(first, stack, ADA, 40) == 32
    async with AsyncExitStack() as stack:
        assert await opened(first, stack, ADA, 32) == 32
    async with AsyncExitStack() as stack:
        assert await opened(second, stack, ADA, 32) == 0
        await first.renew()
        assert await opened(second, stack, ADA, 32) == 32


async def test_a_process_that_was_killed_keeps_its_places_for_half_a_minute(
    process: Callable[..., Places],
) -> None:
    clock = Clock()
    killed, living = process(clock), process(clock)
    async with AsyncExitStack() as stack:
        assert await opened(killed, stack, ADA, 30) == 30
        assert await opened(living, stack, ADA, 30) == 2
        clock.now += LEASE_SECONDS - 1
        await living.renew()
        assert await opened(living, stack, ADA, 30) == 0
        clock.now += 1
        assert await opened(living, stack, ADA, 40) == 30
        assert await opened(killed, stack, ADA, 1) == 0, "what it does not renew it has lost"


async def test_what_runs_for_long_keeps_its_place_and_the_end_gives_all_back(
    process: Callable[..., Places], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usrland.places.RENEW_SECONDS", 0.01)
    clock = Clock()
    first, second, stopping = process(clock), process(clock), anyio.Event()
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        assert await opened(first, stack, ADA, 32) == 32
        tasks.start_soon(first.run, stopping)
        with anyio.fail_after(60):
            for _ in range(4):
                clock.now += LEASE_SECONDS - 1
                renewed = int(clock.now) + LEASE_SECONDS
                while await first.database.read(_until) != renewed:
                    await anyio.lowlevel.checkpoint()
        assert await opened(second, stack, ADA, 1) == 0
        stopping.set()
    assert await first.database.read(_until) is None
    async with AsyncExitStack() as stack:
        assert await opened(second, stack, ADA, 1) == 1


def _until(session: Session) -> int | None:
    return session.exec(select(PlacesHeld.until)).first()


async def test_a_database_that_is_gone_renews_nothing_and_is_asked_again(
    process: Callable[..., Places], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("usrland.places.RENEW_SECONDS", 0.01)
    clock, stopping, failed = Clock(), anyio.Event(), anyio.Event()
    places = process(clock)

    async def gone(*_: object) -> None:
        failed.set()
        raise Unavailable("the database cannot be used now.")

    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        assert await opened(places, stack, ADA, 1) == 1
        with monkeypatch.context() as broken:
            broken.setattr("usrland.database.Database.write", gone)
            tasks.start_soon(places.run, stopping)
            with anyio.fail_after(60):
                await failed.wait()
            await anyio.lowlevel.checkpoint()
        assert "could not be renewed" in caplog.text
        stopping.set()
    assert await places.database.read(_until) is None


async def test_calls_over_http_are_counted_over_all_processes_and_a_persons_own_are_not(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, tables={"quotas": {"in_flight": 2}})
    service = toy.service(settings)
    ledgers = [Ledger.of(settings, service.name) for _ in range(2)]
    one, two = [CallPath.of(service, settings, ledger, remote=True) for ledger in ledgers]
    own = CallPath.of(service, settings, ledgers[0])
    assert own.places is None and one.places is not None
    async with ledgers[0].writing(), ledgers[1].writing():
        async with one.places.held(OWNER, "calls"), one.places.held(OWNER, "calls"):
            with pytest.raises(QuotaExceeded, match="2 calls of"):
                await two.run("add", {"left": 1}, principal=OWNER)
            assert (await own.run("add", {"left": 1}, principal=OWNER)).structured == {"value": 3}
        await one.places.renew()
        assert (await two.run("add", {"left": 1}, principal=OWNER)).structured == {"value": 3}
