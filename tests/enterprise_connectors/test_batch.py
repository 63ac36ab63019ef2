"""Several calls in one, waited for or in the background, through the whole call path."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import pytest

from enterprise_connectors.jobs import Jobs
from enterprise_connectors.plan import Done
from usrland.errors import Denied, InvalidInput, NotFound, QuotaExceeded, Unavailable
from usrland.schemas.principal import Principal

Serve = Callable[..., AbstractAsyncContextManager[Any]]


def sql(file: Path, **keys: str) -> str:
    return f'[crm]\nkind = "sql"\nurl = "sqlite:///{file}"\n' + "".join(f"{k} = {v}\n" for k, v in keys.items())


def configured(home: Path, text: str) -> None:
    (home / "home").mkdir()
    (home / "home" / "connectors.toml").write_text(text, encoding="utf-8")


def named(file: Path) -> str:
    """With a query that writes and needs no consent."""
    return sql(file, write="true") + (
        '[crm.queries.note]\ndescription = "Add a city"\neffect = "write"\n'
        'sql = "INSERT INTO customers (name, city) VALUES (:name, :city)"\n'
        "parameters = {name = {}, city = {}}\n"
    )


def query(id: str, text: str, *parameters: Any, **keys: Any) -> dict[str, Any]:
    return {"id": id, "name": "crm_query", "arguments": {"sql": text, "parameters": list(parameters)}, **keys}


def note(id: str, name: str, city: str, **keys: Any) -> dict[str, Any]:
    return {"id": id, "name": "crm_note", "arguments": {"name": name, "city": city}, **keys}


def cities(file: Path) -> list[str]:
    with sqlite3.connect(file) as connection:
        found = [row[0] for row in connection.execute("SELECT city FROM customers WHERE id > 3 ORDER BY id")]
    connection.close()
    return found


async def test_one_call_feeds_the_next_and_only_what_is_wanted_comes_back(serve: Serve, crm: Path) -> None:
    async with serve(sql(crm)) as run:
        answer = await run(
            "sys_batch",
            steps=[
                query("who", "SELECT id, name FROM customers WHERE city = $1 ORDER BY id", "Paris", hide=True),
                query(
                    "theirs", "SELECT total FROM orders WHERE customer = $1", "${who.items.0.0}", pick=["items"]
                ),
                query("text", "SELECT $1 AS t", "first is ${who.items.0.1}, ids ${who.items.*.0}"),
            ],
        )

    assert answer["answers"]["theirs"] == {"items": [[12.5], [7.25]]}
    assert answer["answers"]["text"]["items"] == [["first is Ada, ids [1, 3]"]]
    assert (list(answer["answers"]), answer["made"], "failed" in answer) == (["theirs", "text"], 3, False)


async def test_a_list_is_gone_through_and_filtered(serve: Serve, crm: Path) -> None:
    async with serve(sql(crm)) as run:
        answer = await run(
            "sys_batch",
            steps=[
                query("all", "SELECT id, city FROM customers ORDER BY id"),
                query(
                    "orders", "SELECT count(*) FROM orders WHERE customer = $1", "${item.0}",
                    each="${all.items}", where={"1": "Paris"}, pick=["items"],
                ),
            ],
        )  # fmt: skip

    assert answer["answers"]["orders"] == [{"items": [[2]]}, {"items": [[0]]}]


async def test_it_stops_at_the_first_failure_and_keeps_what_was_done(serve: Serve, crm: Path) -> None:
    async with serve(named(crm)) as run:
        answer = await run(
            "sys_batch",
            steps=[
                note("first", "Dan", "Nice"),
                query("bad", "SELECT nothing FROM customers"),
                note("never", "Eve", "Metz"),
            ],
        )

    assert answer["failed"].startswith("bad: [invalid_input]")
    assert (list(answer["answers"]), answer["made"]) == (["first"], 1)
    assert cities(crm) == ["Nice"]


async def test_a_plan_is_resumed_without_doing_anything_twice(serve: Serve, crm: Path) -> None:
    async with serve(named(crm)) as run:
        steps = [note("first", "Dan", "Nice"), query("bad", "SELECT nothing")]
        await run("sys_batch", steps=steps, resume="plan-1")
        again = await run("sys_batch", steps=[steps[0], query("bad", "SELECT 1")], resume="plan-1")

    assert "failed" not in again
    assert cities(crm) == ["Nice"]


async def test_what_destroys_needs_its_own_consent_inside_a_plan(serve: Serve, crm: Path) -> None:
    delete = {"id": "gone", "name": "crm_execute", "arguments": {"sql": "DELETE FROM orders"}}
    async with serve(named(crm)) as run:
        refused = await run("sys_batch", steps=[note("first", "Dan", "Nice"), delete], resume="r")
        token = refused["failed"].partition("confirm_token='")[2].partition("'")[0]
        steps = [note("first", "Dan", "Nice"), {**delete, "confirm_token": token}]
        done = await run("sys_batch", steps=steps, resume="r")

    assert "[consent_needed]" in refused["failed"]
    assert done["answers"]["gone"]["affected"] == 3
    assert cities(crm) == ["Nice"]


async def test_a_dry_run_reads_and_changes_nothing(serve: Serve, crm: Path) -> None:
    async with serve(named(crm)) as run:
        preview = await run(
            "sys_batch",
            steps=[query("who", "SELECT name FROM customers"), note("add", "Dan", "Nice")],
            dry_run=True,
        )

    assert "Ada" in preview["examples"][0] and "note changes 1 rows" in preview["examples"][1]
    assert cities(crm) == []


async def test_every_call_of_a_plan_needs_its_own_scope_and_is_recorded(
    serve: Serve, crm: Path, tmp_path: Path
) -> None:
    async with serve(named(crm), scopes=frozenset({"sys:*", "crm:read"})) as run:
        answer = await run("sys_batch", steps=[query("a", "SELECT 1"), note("b", "Dan", "Nice")])

        assert "missing scope: crm:write" in answer["failed"]
        with pytest.raises(Denied):
            await run("sys_call", name="crm_note", arguments={"name": "Dan", "city": "Nice"})
        await run.host.path.ledger.flush()

    with sqlite3.connect(tmp_path / "home" / "enterprise-connectors" / "calls.sqlite") as log:
        operations = str([row[0] for row in log.execute("SELECT body FROM audit_entry ORDER BY seq")])
    log.close()
    assert operations.count('"crm_query"') == 1
    assert cities(crm) == []


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([query("a", "SELECT 1"), query("a", "SELECT 1")], "the id is taken"),
        ([query("a", "SELECT $1", "${b.items}"), query("b", "SELECT 1")], "nothing before it is called 'b'"),
        ([query("a", "SELECT $1", "${item}")], "nothing before it is called 'item'"),
        ([query("a", "SELECT 1", where={"x": 1})], "where and go_on go with each"),
        ([], "steps"),
        ([{"id": "Not an id", "name": "x"}], "id"),
    ],
)
async def test_a_plan_that_makes_no_sense_is_refused_before_anything_runs(
    serve: Serve, crm: Path, steps: list[Any], said: str
) -> None:
    async with serve(sql(crm)) as run:
        with pytest.raises(InvalidInput, match=said):
            await run("sys_batch", steps=steps)


async def test_a_reference_to_nothing_and_a_list_too_long_stop_the_plan(serve: Serve, crm: Path) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 51) SELECT i FROM n"
    async with serve(sql(crm)) as run:
        missing = await run("sys_batch", steps=[query("a", "SELECT 1"), query("b", "SELECT $1", "${a.rows}")])
        long = await run(
            "sys_batch",
            steps=[query("a", many, hide=True), query("b", "SELECT $1", "${item.0}", each="${a.items}")],
        )

    assert "there is nothing there" in missing["failed"]
    assert "51 items; at most 50" in long["failed"]


async def test_a_job_runs_while_its_caller_does_something_else(serve: Serve, crm: Path) -> None:
    async with serve(named(crm)) as run:
        steps = [query("who", "SELECT name FROM customers WHERE id = 1"), note("add", "Dan", "Nice", hide=True)]
        (begun,) = (await run("sys_jobs", action="start", steps=steps))["jobs"]
        (ended,) = (await run("sys_jobs", action="result", job=begun["job"]))["jobs"]
        (status,) = (await run("sys_jobs", action="status", job=begun["job"]))["jobs"]
        listed = (await run("sys_jobs", action="list"))["jobs"]
        stranger = Principal(subject="eve", scopes=frozenset({"*"}), source="test")
        with pytest.raises(NotFound):
            await run.host.path.run("sys_jobs", {"action": "result", "job": begun["job"]}, principal=stranger)

    assert (ended["state"], ended["steps"]) == ("done", "2 of 2") or ended["steps"] == "1 of 2"
    assert ended["answers"]["who"]["items"] == [["Ada"]] and list(ended["answers"]) == ["who"]
    assert status["job"] == listed[0]["job"] == begun["job"] and "answers" not in status
    assert cities(crm) == ["Nice"]


async def test_a_job_can_be_cancelled_and_its_failure_is_told(serve: Serve, crm: Path) -> None:
    many = ", ".join(f"customers c{number}" for number in range(24))
    endless = query("long", f"SELECT count(*) FROM {many}")
    async with serve(sql(crm, timeout_seconds="1")) as run:
        (begun,) = (await run("sys_jobs", action="start", steps=[endless]))["jobs"]
        (cancelled,) = (await run("sys_jobs", action="cancel", job=begun["job"]))["jobs"]
        (bad,) = (await run("sys_jobs", action="start", steps=[query("a", "SELECT nothing FROM orders")]))["jobs"]
        (failed,) = (await run("sys_jobs", action="result", job=bad["job"]))["jobs"]
        with pytest.raises(InvalidInput, match="at least one"):
            await run("sys_jobs", action="start")

    assert cancelled["state"] == "cancelled"
    assert failed["state"] == "failed" and failed["failed"].startswith("a: [invalid_input]")


async def test_only_so_many_jobs_of_one_caller_run_at_once(
    serve: Serve, crm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enterprise_connectors.jobs.MAX_RUNNING", 1)
    many = ", ".join(f"customers c{number}" for number in range(24))
    steps = [query("long", f"SELECT count(*) FROM {many}")]
    async with serve(sql(crm, timeout_seconds="1")) as run:
        (first,) = (await run("sys_jobs", action="start", steps=steps))["jobs"]
        with pytest.raises(QuotaExceeded):
            await run("sys_jobs", action="start", steps=steps)
        with anyio.fail_after(60):
            await run("sys_jobs", action="cancel", job=first["job"])


DYING = """
import asyncio, os, pathlib, sys
from enterprise_connectors import jobs
from enterprise_connectors.server import service
from usrland.host import running
from usrland.schemas.principal import Principal
from usrland.settings import Settings
import json

jobs.ALIVE_SECONDS, jobs.BEAT_SECONDS = 1.0, 0.2

async def main():
    settings = Settings(home=pathlib.Path(sys.argv[1]) / "home")
    caller = Principal(subject="ann", scopes=frozenset({"*"}), source="test")
    async with running(service(settings), settings, principal=caller) as host:
        host.first_contact.set()
        arguments = {"action": "start", "steps": json.loads(sys.argv[2])}
        started = await host.path.run("sys_jobs", arguments, principal=caller)
        job = started.structured["jobs"][0]["job"]
        print(job, flush=True)
        while True:
            asked = await host.path.run("sys_jobs", {"action": "status", "job": job}, principal=caller)
            if asked.structured["jobs"][0]["steps"].startswith("1 of"):
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.6)  # it says so in the database every now and then
        os._exit(9)

asyncio.run(main())
"""
"""A server whose process dies while a job of its runs."""

ENDLESS = "SELECT count(*) FROM " + ", ".join(f"customers c{number}" for number in range(24))


def died_with_a_job(home: Path, steps: list[dict[str, Any]]) -> str:
    """A job whose first step is answered, of a process that is no more."""
    done = subprocess.run(
        [sys.executable, "-c", DYING, home, json.dumps(steps)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 9, done.stderr
    return done.stdout.strip()


async def eventually(run: Any, job: str, state: str) -> dict[str, Any]:
    with anyio.fail_after(60):
        while True:
            (found,) = (await run("sys_jobs", action="result", job=job))["jobs"]
            if found["state"] == state:
                return dict(found)
            await anyio.sleep(0.2)


async def test_what_a_job_gave_is_there_after_its_process(serve: Serve, crm: Path, tmp_path: Path) -> None:
    configured(tmp_path, sql(crm))
    job = died_with_a_job(tmp_path, [query("who", "SELECT name FROM customers WHERE id = 1")])

    async with serve(sql(crm)) as run:
        (found,) = (await run("sys_jobs", action="result", job=job))["jobs"]

    assert (found["state"], found["answers"]["who"]["items"]) == ("done", [["Ada"]])


async def test_a_job_of_reads_whose_process_died_is_run_again_for_its_owner(
    serve: Serve, crm: Path, tmp_path: Path
) -> None:
    configured(tmp_path, sql(crm, timeout_seconds="40"))
    steps = [query("who", "SELECT name FROM customers WHERE id = 1", hide=True), query("all", ENDLESS)]
    job = died_with_a_job(tmp_path, steps)

    async with serve(sql(crm, timeout_seconds="0.3")) as run:  # here its long step is given up soon
        found = await eventually(run, job, "failed")
        (listed,) = (await run("sys_jobs", action="list"))["jobs"]

    assert "stopped after 0.3 seconds" in found["failed"] and found["answers"] == {}
    assert listed["job"] == job


async def test_a_job_that_writes_is_interrupted_and_not_run_again(serve: Serve, crm: Path, tmp_path: Path) -> None:
    text = named(crm).replace("write = true", "write = true\ntimeout_seconds = 40")
    configured(tmp_path, text)
    job = died_with_a_job(tmp_path, [note("add", "Dan", "Nice"), query("all", ENDLESS)])

    async with serve(text) as run:
        found = await eventually(run, job, "interrupted")
        again = await eventually(run, job, "interrupted")
        (gone,) = (await run("sys_jobs", action="cancel", job=job))["jobs"]

    assert "same resume" in found["failed"] and found["answers"]["add"]["affected"] == 1
    assert again["seconds"] == found["seconds"] and gone["state"] == "cancelled"
    assert cities(crm) == ["Nice"]


async def test_a_job_is_interrupted_by_an_orderly_end_too(serve: Serve, crm: Path) -> None:
    text = named(crm).replace("write = true", "write = true\ntimeout_seconds = 2")
    async with serve(text) as run:
        steps = [note("add", "Dan", "Nice"), query("all", ENDLESS)]
        (begun,) = (await run("sys_jobs", action="start", steps=steps))["jobs"]
        with anyio.fail_after(60):
            while not cities(crm):  # noqa: ASYNC110 - seen in the database alone
                await anyio.sleep(0.05)
    async with serve(text) as run:
        found = await eventually(run, begun["job"], "interrupted")

    assert found["answers"]["add"]["affected"] == 1


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_job_of_another_process_is_cancelled_and_waited_for(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enterprise_connectors.jobs.BEAT_SECONDS", 0.1)
    owner = Principal(subject="t", scopes=frozenset(), source="test")
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    if kind == "postgres":
        url = request.getfixturevalue("postgres").superuser_url
    here, there = Jobs(url), Jobs(url)

    async def endless(done: Done) -> None:
        done.answers["a"] = 1
        await anyio.sleep_forever()

    async with here.running(), there.running():
        begun = await there.start(owner, [{}], None, endless, again=False)
        await here.cancel(begun.id, owner)
        with anyio.fail_after(60):
            ended = await here.ended(begun.id, owner, 9)

    assert (ended.state, ended.answers) == ("cancelled", {"a": 1})


async def test_answers_that_are_too_large_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enterprise_connectors.jobs.MAX_ANSWER_BYTES", 100)
    owner = Principal(subject="t", scopes=frozenset(), source="test")
    jobs = Jobs(f"sqlite:///{tmp_path / 'jobs.sqlite'}")

    async def large(done: Done) -> None:
        done.answers["a"] = "x" * 200

    async def broken(done: Done) -> None:
        raise RuntimeError("a detail of ours")

    async with jobs.running():
        first = await jobs.start(owner, [{}], None, large, again=True)
        second = await jobs.start(owner, [{}], None, broken, again=True)
        ended, failed = [await jobs.ended(job.id, owner, 9) for job in (first, second)]

    assert (ended.state, ended.answers) == ("failed", {}) and "at most 100" in ended.failed
    assert (failed.state, failed.failed) == ("failed", "it failed; the log tells why.")


async def test_jobs_need_a_server_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enterprise_connectors.jobs.READY_SECONDS", 0.01)
    owner = Principal(subject="t", scopes=frozenset(), source="test")

    async def nothing(done: Done) -> None:
        """Never begun."""

    with pytest.raises(Unavailable, match="one by one"):
        await Jobs(f"sqlite:///{tmp_path / 'jobs.sqlite'}").start(owner, [{}], None, nothing, again=False)


@pytest.mark.parametrize("go_on", [False, True])
async def test_of_many_calls_each_says_what_became_of_it(serve: Serve, crm: Path, go_on: bool) -> None:
    names = query("names", "SELECT 'Eve' UNION ALL SELECT 'Ada' UNION ALL SELECT 'Fay'")  # there is an Ada already
    async with serve(named(crm)) as run:
        answer = await run(
            "sys_batch",
            steps=[names, note("add", "${item.0}", "Oslo", each="${names.items}", go_on=go_on, pick=["affected"])],
        )

    made = answer["answers"]["add"]
    assert made[0] == {"affected": 1} and "UNIQUE" in made[1]["error"]
    assert made[2:] == ([{"affected": 1}] if go_on else [])
    assert ("failed" in answer, cities(crm)) == (not go_on, ["Oslo"] * (2 if go_on else 1))
