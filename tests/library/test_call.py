"""The one path: who may, who is asked, what is run, what is cut and what is written down."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import pytest
import toy

from usrland import Call, Operation, Principal
from usrland.audit import Entry
from usrland.call import CallPath, Consent
from usrland.errors import (
    Conflict,
    ConsentNeeded,
    Denied,
    InvalidInput,
    NotFound,
    QuotaExceeded,
    Timeout,
    Unavailable,
    UsrlandError,
)
from usrland.host import Host
from usrland.ledger import Ledger
from usrland.redact import keep_secret

Run = Callable[..., Any]

OWNER = Principal(subject="owner", scopes=frozenset({"*"}), source="test")


@pytest.fixture
def path(host: Host) -> CallPath:
    return host.path


@pytest.fixture
def notes(host: Host) -> toy.Toy:
    made = host.service.state["toy"]
    assert isinstance(made, toy.Toy)
    return made


@pytest.fixture
def run(path: CallPath) -> Run:
    async def call(operation: str, principal: Principal = OWNER, /, channel: Any = None, **arguments: Any) -> Any:
        return (await path.run(operation, arguments, principal=principal, channel=channel)).structured

    return call


class Person:
    """Somebody at a host that can ask."""

    def __init__(self, answer: Consent) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.heard: list[str] = []

    async def ask(self, question: str, schema: Mapping[str, Any], /) -> Mapping[str, Any] | None:
        raise AssertionError("only consent is asked for here")

    async def confirm(self, question: str, token: str) -> tuple[Consent, str]:
        self.asked.append(question)
        return self.answer, token

    async def progress(self, done: float, total: float | None, message: str) -> None:
        self.heard.append(f"{done}/{total} {message}")


async def entries(path: CallPath) -> list[dict[str, Any]]:
    await path.ledger.flush()
    return await path.ledger.audit.last(100)


# -- admit


async def test_a_call_without_its_scope_names_the_scope_and_is_recorded(
    path: CallPath, run: Run, someone: Callable[..., Principal]
) -> None:
    with pytest.raises(Denied, match="missing scope: toy:write"):
        await run("put", someone("toy:read"), name="a", text="b")

    refused = (await entries(path))[-1]
    assert (refused["phase"], refused["operation"], refused["outcome"]) == ("refused", "put", "denied")


async def test_only_what_the_caller_may_use_is_listed(path: CallPath, someone: Callable[..., Principal]) -> None:
    assert [op.name for op in path.listed(someone())] == []
    assert "put" not in [op.name for op in path.listed(someone("toy:read"))]
    assert "put" in [op.name for op in path.listed(someone("toy:*"))]
    assert "hidden.put" not in [op.name for op in path.listed(OWNER)]


@pytest.mark.parametrize("name", ["ad", "hidden.put", ""])
async def test_an_operation_that_is_not_listed_cannot_be_called(run: Run, name: str) -> None:
    with pytest.raises(InvalidInput, match="there is no operation"):
        await run(name)


async def test_a_delegate_is_admitted_as_the_operation_meant(
    path: CallPath, run: Run, someone: Callable[..., Principal]
) -> None:
    assert (await run("pass_on", name="add", arguments={"left": 1}))["value"] == 3
    with pytest.raises(Denied, match="toy:write"):
        await run("pass_on", someone("toy:read"), name="put", arguments={"name": "a", "text": "b"})
    with pytest.raises(InvalidInput, match="unknown argument 'lef'"):
        await run("pass_on", name="add", arguments={"lef": 1})
    with pytest.raises(ConsentNeeded):
        await run("put", name="a", text="b")
        await run("pass_on", name="drop", arguments={"name": "a"})

    recorded = [(entry["operation"], entry.get("via"), entry["phase"]) for entry in await entries(path)]
    assert ("add", "pass_on", "read") in recorded


async def test_others_are_answered_while_a_delegate_looks_its_operation_up(path: CallPath, notes: toy.Toy) -> None:
    (add,) = (operation for operation in notes.operations() if operation.name == "add")
    looked_up = threading.Event()

    def meant(arguments: Mapping[str, Any]) -> tuple[Operation, Mapping[str, Any]]:
        assert looked_up.wait(30)
        return add, {"left": 1}

    slow = Operation(call=notes.pass_on, effect="read", scopes=toy.READ, delegate=meant)
    path = CallPath([slow, add], path.ledger)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: path.run("pass_on", {"name": "add"}, principal=OWNER))
        await anyio.wait_all_tasks_blocked()
        assert (await path.run("add", {"left": 1}, principal=OWNER)).structured == {"value": 3}
        looked_up.set()


async def test_one_principal_cannot_take_all_the_places(path: CallPath, run: Run, notes: toy.Toy) -> None:
    path.max_in_flight = 2
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(lambda: run("wait", seconds=30.0))
        with anyio.fail_after(60):
            await notes.started.wait()
            await anyio.wait_all_tasks_blocked()

        with pytest.raises(QuotaExceeded, match="2 calls of 'owner'"):
            await run("add", left=1)
        assert (await run("add", Principal(subject="other", scopes=frozenset({"*"})), left=1))["value"] == 3
        tasks.cancel_scope.cancel()


# -- consent and dry run


async def test_a_dry_run_says_what_would_happen_and_changes_nothing(run: Run, notes: toy.Toy) -> None:
    await run("put", name="a", text="b")

    answer = await run("drop", name="a", dry_run=True)

    assert answer["would"] == "forget 'a'"
    assert "a" in notes.notes()


async def test_an_operation_without_a_dry_run_refuses_the_argument(run: Run, notes: toy.Toy) -> None:
    with pytest.raises(InvalidInput, match="unknown argument 'dry_run'"):
        await run("put", name="a", text="b", dry_run=True)
    with pytest.raises(InvalidInput, match="put has no dry run"):
        await run("pass_on", name="put", arguments={"name": "a", "text": "b"}, dry_run=True)
    assert notes.notes() == {}


async def test_a_person_who_agrees_is_obeyed_and_one_who_declines_too(run: Run, notes: toy.Toy) -> None:
    await run("put", name="a", text="b")
    declining, agreeing = Person("declined"), Person("accepted")

    with pytest.raises(Denied, match="the user declined"):
        await run("drop", channel=declining, name="a")
    assert "a" in notes.notes()
    await run("drop", channel=agreeing, name="a")

    assert "a" not in notes.notes()
    assert declining.asked == agreeing.asked == ["drop: forget 'a'"]


async def test_where_nobody_can_be_asked_a_token_is_good_once_for_this_call_only(run: Run, notes: toy.Toy) -> None:
    for name in ("a", "b"):
        await run("put", name=name, text="x")
    with pytest.raises(ConsentNeeded, match="forget 'a'") as needed:
        await run("drop", name="a")
    token = needed.value.token

    stranger = Principal(subject="stranger", scopes=frozenset({"*"}))
    for principal, arguments in [
        (OWNER, {"name": "b", "confirm_token": token}),
        (stranger, {"name": "a", "confirm_token": token}),
        (OWNER, {"name": "a", "confirm_token": token[:-2] + "AA"}),
        (OWNER, {"name": "a", "confirm_token": "!"}),
        (OWNER, {"name": "a", "confirm_token": ""}),
    ]:
        with pytest.raises(Denied, match="confirm_token: not valid"):
            await run("drop", principal, **arguments)
    await run("drop", name="a", confirm_token=token)
    await run("put", name="a", text="again")
    with pytest.raises(Denied, match="confirm_token: not valid"):
        await run("drop", name="a", confirm_token=token)

    assert {"a", "b"} <= notes.notes().keys()


async def test_a_confirmation_expires(path: CallPath, run: Run, notes: toy.Toy) -> None:
    from usrland.ledger import Binding

    await run("put", name="a", text="x")
    binding = Binding(principal=OWNER, operation="drop", arguments={"name": "a"})
    old = path.ledger.confirmation(binding, now=1_000_000_000)

    with pytest.raises(Denied, match="confirm_token: not valid"):
        await run("drop", name="a", confirm_token=old)


async def test_a_question_that_takes_too_long_to_put_is_a_timeout_and_is_recorded(
    path: CallPath, run: Run, notes: toy.Toy
) -> None:
    operation = path._by_name["drop"]
    object.__setattr__(operation, "timeout_seconds", 0.05)
    object.__setattr__(operation, "preview", lambda name: notes.wait(Call(id="", principal=OWNER, operation="")))

    with pytest.raises(Timeout, match="drop was stopped"):
        await run("drop", name="a")

    assert (await entries(path))[-1]["outcome"] == "timeout"


# -- run


async def test_a_retried_write_with_the_same_key_has_one_effect_and_one_answer(run: Run, notes: toy.Toy) -> None:
    first = await run("put", name="a", text="b", idempotency_key="k")
    await run("put", name="c", text="d")
    second = await run("put", name="a", text="b", idempotency_key="k")

    assert first == second
    assert notes.notes()["writes"] == "2"
    with pytest.raises(Conflict, match="used for other arguments"):
        await run("put", name="a", text="other", idempotency_key="k")
    other = Principal(subject="other", scopes=frozenset({"*"}))
    await run("put", other, name="a", text="b", idempotency_key="k")
    assert notes.notes()["writes"] == "3"


async def test_a_write_that_surely_failed_gives_its_key_back_and_one_in_doubt_does_not(
    path: CallPath, run: Run, notes: toy.Toy
) -> None:
    with pytest.raises(NotFound):
        await run("drop", channel=Person("accepted"), name="none", idempotency_key="k1")
    with pytest.raises(Timeout):
        await run("slow_put", name="a", text="b", idempotency_key="k2")

    with pytest.raises(NotFound):
        await run("drop", channel=Person("accepted"), name="none", idempotency_key="k1")
    with pytest.raises(Conflict, match="its outcome is unknown"):
        await run("slow_put", name="a", text="b", idempotency_key="k2")


async def test_the_deadline_stops_the_work(run: Run, notes: toy.Toy) -> None:
    with pytest.raises(Timeout, match=r"slow_put was stopped after 0\.2 seconds"):
        await run("slow_put", name="a", text="b")
    assert notes.notes() == {}


async def test_a_cancelled_call_stops_and_is_recorded(path: CallPath, run: Run, notes: toy.Toy) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: run("wait"))
        with anyio.fail_after(60):
            await notes.started.wait()
        tasks.cancel_scope.cancel()

    assert notes.stopped
    assert (await entries(path))[-1]["outcome"] == "cancelled"


async def test_a_harmless_call_to_a_system_outside_is_tried_again(run: Run) -> None:
    assert (await run("flaky"))["value"] == 3


async def test_progress_reaches_the_person(run: Run) -> None:
    person = Person("accepted")

    await run("wait", channel=person, seconds=0.0)

    assert person.heard == ["1/2 waiting"]


async def test_idle_waits_for_the_calls_that_run(path: CallPath, run: Run, notes: toy.Toy) -> None:
    with anyio.fail_after(60):
        await path.idle()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: run("wait", seconds=0.05))
            await notes.started.wait()
            await path.idle()
            assert notes.stopped


# -- record


async def test_a_write_is_on_record_before_it_takes_effect(
    path: CallPath, run: Run, notes: toy.Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[dict[str, Any]]] = []
    put = notes.put

    async def watched(name: str, text: str) -> toy.Number:
        """Keep a note."""
        seen.append(await path.ledger.audit.last(10))
        return await put(name, text)

    operation = path._by_name["put"]
    object.__setattr__(operation, "call", watched)
    await run("put", name="a", text="b")

    assert [entry["phase"] for entry in seen[0]] == ["intent"]
    assert [entry["phase"] for entry in await entries(path)] == ["intent", "outcome"]
    assert (await entries(path))[0]["call_arguments"] == {"name": "a", "text": "b"}


async def test_what_cannot_be_recorded_does_not_happen(path: CallPath, run: Run, notes: toy.Toy) -> None:
    await run("add", left=1)
    await path.ledger.flush()
    _forbid_inserts(path.ledger)

    with pytest.raises(Exception, match="full"):
        await run("put", name="a", text="b")

    assert notes.notes() == {}
    path.durable_reads = True
    with pytest.raises(Unavailable, match="audit log cannot be written"):
        await run("add", left=1)


def _forbid_inserts(ledger: Ledger) -> None:
    from sqlalchemy import text

    trigger = (
        "CREATE TRIGGER full BEFORE INSERT ON audit_entry "
        "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
    )
    ledger.database.write_now(lambda session: session.execute(text(trigger)))


async def test_failures_are_recorded_too(path: CallPath, run: Run) -> None:
    with pytest.raises(RuntimeError):
        await run("crash")
    with pytest.raises(UsrlandError):
        await run("reject")

    assert [entry["outcome"] for entry in await entries(path)] == ["failed", "invalid_input"]


async def test_a_declared_secret_is_neither_answered_nor_recorded(path: CallPath, run: Run) -> None:
    secret = "s3cret-that-was-declared"
    keep_secret(secret)

    await run("put", name="note", text=f"the password is {secret}")

    kept = json.dumps(await entries(path))
    assert secret not in kept
    assert "[redacted]" in kept


async def test_several_processes_share_one_chain(settings: Any, tmp_path: Any) -> None:
    from usrland.audit.entry import commit

    url = f"sqlite:///{tmp_path}/shared.sqlite"
    first, second = (Ledger.open(url, chain="toy", key=b"k" * 32) for _ in range(2))
    entry = Entry(
        at_ms=1, call="c", phase="read", operation="o", effect="read", principal="p",
        tenant="t", namespace="n", source="test", arguments=commit({}),
    )  # fmt: skip

    async def append(ledger: Ledger) -> None:
        for _ in range(10):
            await ledger.database.write(lambda session: ledger.audit.append(session, [_fresh(entry)]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(append, first)
        tasks.start_soon(append, second)

    verdict = await first.audit.verify()
    assert (verdict.ok, verdict.entries) == (True, 20)
    for ledger in (first, second):
        ledger.database.close()


def _fresh(entry: Entry) -> Entry:
    from dataclasses import replace

    from usrland.audit.entry import commit

    return replace(entry, arguments=commit({}))
