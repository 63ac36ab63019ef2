"""What calls leave behind, and what they hold up: tests over the samples that an author gives."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

from usrland.schemas.principal import Principal
from usrland.settings import Settings
from usrland.testing.client import EVERYBODY, Connected, Json, Served, alike, assert_clean, error_of, text_of
from usrland.testing.watch import NETWORK, Watch

__all__ = ["EffectContract"]

OTHER = Principal(subject="other", tenant="other", namespace="other", scopes=frozenset({"*"}), source="test")
AT_ONCE = 4
NONSENSE = "qzxvwk"
FORESEEN = frozenset(
    {
        "invalid_input",
        "denied",
        "consent_needed",
        "not_found",
        "conflict",
        "quota_exceeded",
        "timeout",
        "unavailable",
    }
)


@pytest.mark.anyio
class EffectContract(Served):
    """Part of `ServerContract`."""

    volatile: ClassVar[Sequence[str]] = ()
    """Samples whose answers change by themselves, such as a status with the time in it."""
    private: ClassVar[bool] = False
    """Each tenant and namespace has things of its own, and no other sees them."""
    max_busy_seconds: ClassVar[float] = 0.25
    """Processor time that a call may take on the event loop before others get their turn."""
    max_idle_seconds: ClassVar[float] = 0.5
    """How long it may wait there for something else, which it never should."""

    async def test_what_only_reads_changes_nothing(self, settings: Settings) -> None:
        async with self.connected(settings) as server:
            await self.make(server)
            reads = self.reads(self.operations(settings), volatile=self.volatile)
            before = await server.answers(reads)
            for tool in await server.tools():
                if tool["annotations"]["readOnlyHint"]:
                    await server.call(tool["name"], self.arguments_for(tool))
            assert alike(await server.answers(reads), before), (
                "what calls itself reading answers differently each time"
            )

    async def test_a_dry_run_changes_nothing(self, settings: Settings) -> None:
        async with self.connected(settings) as server:
            await self.make(server)
            reads = self.reads(self.operations(settings), volatile=self.volatile)
            before = await server.answers(reads)
            for tool in await server.tools():
                if "dry_run" in tool["inputSchema"]["properties"]:
                    await _foreseen(server, tool["name"], {**self.arguments_for(tool), "dry_run": True})
                    assert alike(await server.answers(reads), before), f"{tool['name']}: its dry run was not dry"

    async def test_what_destroys_waits_for_a_person(self, settings: Settings) -> None:
        operations = self.operations(settings)
        async with self.connected(settings) as server:
            await self.make(server)
            reads = self.reads(operations, volatile=self.volatile)
            before = await server.answers(reads)
            for tool in await server.tools():
                if operations[tool["name"]].effect == "destroy" and operations[tool["name"]].delegate is None:
                    result = await server.call(tool["name"], self.arguments_for(tool))
                    assert error_of(result)["code"] in FORESEEN, tool["name"]
                    assert alike(await server.answers(reads), before), f"{tool['name']}: nobody had agreed to it"

    async def test_what_calls_itself_idempotent_may_be_repeated(self, settings: Settings) -> None:
        operations = self.operations(settings)
        async with self.connected(settings) as server:
            await self.make(server)
            reads = self.reads(operations, volatile=self.volatile)
            for name, arguments in self.samples.items():
                if operations[name].idempotent and operations[name].effect != "read":
                    await server.call(name, arguments)
                    before = await server.answers(reads)
                    await server.call(name, arguments)
                    assert alike(await server.answers(reads), before), (
                        f"{name}: the second call had an effect of its own"
                    )

    async def test_a_repeated_key_has_one_effect(self, settings: Settings) -> None:
        operations = self.operations(settings)
        async with self.connected(settings) as server:
            await self.make(server)
            reads = self.reads(operations, volatile=self.volatile)
            for name, arguments in self.samples.items():
                if operations[name].effect == "read" or operations[name].delegate is not None:
                    continue
                keyed = {**arguments, "idempotency_key": f"contract-{name}"}
                first = await server.call(name, keyed)
                before = await server.answers(reads)
                again = await server.call(name, keyed)
                assert text_of(first) == text_of(again), name
                assert alike(await server.answers(reads), before), f"{name}: a repeated key had a second effect"

    async def test_nobody_sees_what_is_of_another_tenant(self, settings: Settings) -> None:
        if not self.private:
            pytest.skip("this server does not say that each tenant has things of its own")
        reads = self.reads(self.operations(settings), volatile=self.volatile)
        strangers = [replace(EVERYBODY, tenant="other"), replace(EVERYBODY, namespace="other"), OTHER]
        async with self.connected(settings) as server:
            before = [await _as(server, stranger, reads) for stranger in strangers]
        async with self.connected(settings) as server:
            await self.make(server)
            await server.answers(reads)
            for stranger, seen in zip(strangers, before, strict=True):
                assert alike(await _as(server, stranger, reads), seen), "somebody else's things came back"

    async def test_calls_at_the_same_time_do_not_disturb_each_other(self, settings: Settings) -> None:
        operations, watch = self.operations(settings), Watch()
        async with self.connected(settings, watch=watch) as server:
            await self.make(server)
            calls = list(_varied(self.reads(operations, volatile=self.volatile)))
            alone = await server.answers(calls)
            together: dict[tuple[int, int], str] = {}
            watch.runs.clear()
            watch.at_once = AT_ONCE * len(calls)

            async def one(turn: int, at: int) -> None:
                (together[turn, at],) = await server.answers([calls[at]])

            async with anyio.create_task_group() as tasks:
                for turn in range(AT_ONCE):
                    for at in range(len(calls)):
                        tasks.start_soon(one, turn, at)
            for (_, at), said in together.items():
                assert alike([said], [alone[at]]), (
                    f"{calls[at][0]}: another answer when others call at the same time"
                )

    async def test_changes_at_the_same_time_all_happen(self, settings: Settings) -> None:
        operations, watch = self.operations(settings), Watch()
        async with self.connected(settings, watch=watch) as server:
            await self.make(server)
            for name, arguments in self.samples.items():
                if operations[name].effect == "write":
                    watch.runs.clear()
                    watch.at_once = AT_ONCE
                    async with anyio.create_task_group() as tasks:
                        for _ in range(AT_ONCE):
                            tasks.start_soon(_succeeds, server, name, dict(arguments))

    async def test_a_call_leaves_the_event_loop_to_others(self, settings: Settings) -> None:
        watch = Watch()
        async with self.connected(settings, watch=watch) as server:
            await self.make(server)  # what is loaded at the first use is loaded now
            watch.runs.clear()
            await self.make(server)
        for run in watch.runs:
            blocked = [f"{event.name} {event.target}" for event in run.blocked]
            assert not blocked, f"{run.operation} holds up every other call: {', '.join(blocked)}"
            assert run.busy_seconds <= self.max_busy_seconds, f"{run.operation} computes on the event loop"
            assert run.idle_seconds <= self.max_idle_seconds, f"{run.operation} waits on the event loop"

    async def test_the_authors_own_work_ends_at_its_deadline(self, settings: Settings) -> None:
        watch = Watch()
        reads = self.reads(self.operations(settings), volatile=self.volatile)
        async with self.connected(settings, watch=watch) as server:
            await self.make(server)
            before = await server.answers(reads)
            for watch.stop_at in (1, 2, 3):
                watch.runs.clear()
                await server.answers(reads)
                first = watch.runs if watch.stop_at == 1 else []  # later it may be in a thread, which goes on
                for run in first:
                    assert run.cancelled or not run.suspended, f"{run.operation} goes on after its deadline"
            watch.stop_at = 0
            assert alike(await server.answers(reads), before), "a call that was stopped has left something behind"

    async def test_it_reaches_out_only_where_it_says_so(self, settings: Settings) -> None:
        operations, watch = self.operations(settings), Watch()
        async with self.connected(settings, watch=watch) as server:
            await self.make(server)
        for run in watch.runs:
            reached = [event.target for event in run.events if event.name.startswith(NETWORK)]
            assert operations[run.operation].open_world or not reached, (
                f"{run.operation} connects to {reached[0]} and does not say open_world = True"
            )

    async def test_it_writes_nowhere_but_in_its_home(
        self, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        elsewhere, watch = tmp_path / "elsewhere", Watch()
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)  # a host starts a server wherever it stands itself
        async with self.connected(settings, watch=watch) as server:
            await self.make(server)
        written = [
            f"{run.operation}: {event.target}"
            for run in watch.runs
            for event in run.events
            if _strays(event, settings)
        ]
        assert not written and not list(elsewhere.iterdir()), written

    async def test_a_broken_file_is_an_error_and_not_an_empty_answer(self, settings: Settings) -> None:
        watch = Watch()
        async with self.connected(settings, watch=watch) as server:
            await self.make(server)
        files = {path for run in watch.runs for path in run.read_from(settings.home) if path.is_file()}
        for path in files:
            path.write_bytes(b"\0broken\0" * 512)
        await self._assert_failures_are_told(settings, lambda run: bool(run.read_from(settings.home) & files))

    async def test_a_network_that_is_down_is_an_error_and_not_an_empty_answer(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with self.connected(settings) as server:
            await self.make(server)
        with _no_network(monkeypatch):
            await self._assert_failures_are_told(
                settings, lambda run: any(event.name.startswith(NETWORK) for event in run.events)
            )

    async def _assert_failures_are_told(self, settings: Settings, concerned: Any) -> None:
        """Each sample that has to do with what is broken must answer with an error, and one that was foreseen."""
        watch = Watch()
        async with self.connected(settings, watch=watch) as server:
            for name, arguments in self.samples.items():
                watch.runs.clear()
                result = await server.call(name, arguments)
                if name in self.volatile or not any(concerned(run) for run in watch.runs):
                    continue  # what gets better while it learns rests on files that can be made anew
                if not (result.structured_content or {}).get("degraded"):
                    assert result.is_error, f"{name}: what it works with is broken, and it says {text_of(result)}"
                    assert error_of(result)["code"] in FORESEEN, f"{name}: {text_of(result)}"
                    assert_clean(result, str(settings.home))


async def _foreseen(server: Connected, name: str, arguments: Json) -> None:
    result = await server.call(name, arguments)
    if result.is_error:
        assert error_of(result)["code"] in FORESEEN, f"{name}: {text_of(result)}"


async def _succeeds(server: Connected, name: str, arguments: Json) -> None:
    result = await server.call(name, arguments)
    if result.is_error:
        assert error_of(result)["code"] == "conflict", f"{name}, {AT_ONCE} at once: {text_of(result)}"


async def _as(server: Connected, principal: Principal, calls: Sequence[tuple[str, Json]]) -> list[str]:
    """What another caller of the same process is told."""
    own, server.host.principal = server.host.principal, principal
    try:
        return await server.answers(calls)
    finally:
        server.host.principal = own


def _varied(calls: Sequence[tuple[str, Json]]) -> Iterator[tuple[str, Json]]:
    """Each call, and each with one text replaced by another."""
    for name, arguments in calls:
        yield name, arguments
        for key, value in arguments.items():
            if isinstance(value, str):
                yield name, {**arguments, key: NONSENSE}


def _strays(event: Any, settings: Settings) -> bool:
    path = Path(event.target)
    return bool(
        event.writes
        and path.name
        and not str(path).startswith(("/dev/", ":memory:"))
        and not path.absolute().is_relative_to(settings.home)
    )


@contextmanager
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Names resolve and nothing answers."""

    def refused(self: socket.socket, address: Any) -> None:
        sys.audit("socket.connect", self, address)  # it was tried, as the watch must know
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused by the contract suite")

    def resolved(host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("9.9.9.9", int(port or 0)))]

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", refused)
        patch.setattr(socket, "getaddrinfo", resolved)
        yield
