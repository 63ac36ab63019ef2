from __future__ import annotations

from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from enterprise_connectors.upstream import FAILURES, PAUSE_SECONDS, Upstream
from usrland.errors import Denied, Unavailable


class Said(BaseModel):
    text: str


class System:
    """One that does what it is told, and a clock to go with it."""

    def __init__(self, at_once: int = 8) -> None:
        self.now = 0.0
        self.mood: Exception | None = None
        self.asked = 0
        self.call = Upstream("crm", at_once=at_once, clock=lambda: self.now).guarded(self.answer)

    async def answer(self, *, text: str = "yes") -> Said:
        self.asked += 1
        if self.mood is not None:
            raise self.mood
        return Said(text=text)

    async def fail(self, times: int) -> None:
        for _ in range(times):
            with pytest.raises(Unavailable):
                await self.call()


async def test_after_failures_in_a_row_nobody_waits_any_more() -> None:
    system = System()
    system.mood = Unavailable("down.")
    await system.fail(FAILURES)
    with pytest.raises(Unavailable, match="left alone") as caught:
        await system.call()

    assert system.asked == FAILURES
    assert caught.value.fix == f"Try again in {int(PAUSE_SECONDS) + 1} seconds."


async def test_one_call_finds_out_whether_it_is_back() -> None:
    system = System()
    system.mood = Unavailable("down.")
    await system.fail(FAILURES)
    system.now += PAUSE_SECONDS
    await system.fail(3)
    asked_while_down = system.asked
    system.now += PAUSE_SECONDS
    system.mood = None

    assert [(await system.call()).model_dump() for _ in range(3)] == [{"text": "yes"}] * 3
    assert asked_while_down == FAILURES + 1


async def test_an_answer_that_refuses_is_an_answer() -> None:
    system = System()
    system.mood = Denied("no.")
    for _ in range(FAILURES + 2):
        with pytest.raises(Denied):
            await system.call()

    assert system.asked == FAILURES + 2


async def test_a_success_between_failures_begins_the_count_anew() -> None:
    system = System()
    for _ in range(3):
        system.mood = Unavailable("down.")
        await system.fail(FAILURES - 1)
        system.mood = None
        await system.call(text="back")


async def test_calls_take_turns_and_a_busy_system_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enterprise_connectors.upstream.WAIT_SECONDS", 0.01)
    inside, leave = anyio.Event(), anyio.Event()
    running = most = 0

    async def slow() -> Said:
        nonlocal running, most
        running += 1
        most = max(most, running)
        inside.set()
        await leave.wait()
        running -= 1
        return Said(text="done")

    call: Any = Upstream("crm", at_once=1).guarded(slow)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await inside.wait()
            with pytest.raises(Unavailable, match="busy"):
                await call()
            leave.set()
        assert (await call()).text == "done"

    assert most == 1
