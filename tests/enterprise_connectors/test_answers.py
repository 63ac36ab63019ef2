"""What happens to a system's answers before they go out: kept for a while, or freed of what is personal."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from enterprise_connectors.personal import Personal
from enterprise_connectors.reads import Reads
from usrland.connector import Call, Operation
from usrland.errors import Conflict, UsrlandError
from usrland.schemas.principal import Principal
from usrland.schemas.wire import Answer

Serve = Callable[..., AbstractAsyncContextManager[Any]]

SPEC = {
    "openapi": "3.1.0",
    "paths": {
        "/people": {
            "get": {
                "operationId": "listPeople",
                "parameters": [{"name": "city", "in": "query", "schema": {"type": "string"}}],
            },
            "post": {"operationId": "addPerson"},
        }
    },
}


@pytest.fixture
def table(tmp_path: Path, tickets: Any) -> Callable[[str], str]:
    (tmp_path / "people.json").write_text(json.dumps(SPEC), encoding="utf-8")
    (tmp_path / "overlay.toml").write_text("[list_people]\ncache_seconds = 60\n", encoding="utf-8")

    def written(more: str) -> str:
        return (
            f'[hr]\nkind = "openapi"\nspec = "{tmp_path / "people.json"}"\nbase_url = "{tickets.url}"\n'
            f"allow_private = true\nwrite = true\n{more}\n"
        )

    return written


async def test_an_answer_is_given_again_to_the_same_caller_until_something_is_changed(
    serve: Serve, table: Any, tickets: Any, tmp_path: Path
) -> None:
    tickets.answer("/people", ["Ada"])
    async with serve(table(f'overlay = "{tmp_path / "overlay.toml"}"')) as run:

        async def ask(who: str = "ann", scopes: str = "*", **arguments: Any) -> int:
            caller = Principal(subject=who, scopes=frozenset({scopes}), source="test")
            await run.host.path.run("hr_list_people", arguments, principal=caller)
            return len(tickets.seen)

        asked = [await ask(), await ask(), await ask(city="Paris"), await ask("bob"), await ask("ann", "hr:*")]
        tickets.answer("/people", {}, status=500)
        with pytest.raises(Exception, match="500"):
            await run("hr_add_person")
        tickets.answer("/people", ["Ada", "Bob"])
        before = len(tickets.seen)

        assert asked == [1, 1, 2, 3, 4]
        assert [await ask() - before, await ask() - before] == [1, 1]


async def test_an_answer_is_not_kept_for_longer_than_its_operation_says(call: Call) -> None:
    times, asked = iter((0.0, 0.0, 9.0, 11.0, 11.0, 12.0)), 0

    async def count(step: int = 1) -> Answer:
        """Count."""
        nonlocal asked
        asked += step
        return Answer()

    operation = Operation(call=count, effect="read", scopes=frozenset({"a:read"}), cache_seconds=10)
    kept: Any = Reads(clock=lambda: next(times)).around(operation, count)
    for _ in range(4):  # at 0, 9, 11 and 12; a new answer reads the clock again
        await kept(caller_=call)

    assert asked == 2


async def test_fields_and_kinds_that_are_personal_leave_no_answer_and_no_failure(
    serve: Serve, table: Any, tickets: Any
) -> None:
    person = {
        "id": 7,
        "Email": "ada@example.org",
        "contact": {"phone": 33123456789, "note": "write to ada@example.org or +33 1 23 45 67 89"},
        "phone": None,
        "cards": ["4111 1111 1111 1111", "4111 1111 1111 1112"],
        "seen_from": "203.0.113.9 at 12:30:59, build 1.2.3.4000",
    }
    tickets.answer("/people", [person])
    rules = 'redact = {fields = ["email", "contact.phone"], kinds = ["email", "phone", "card", "ip"]}'
    async with serve(table(rules)) as run:
        (shown,) = (await run("hr_list_people"))["body"]
        tickets.answer("/people", {"taken": "ada@example.org"}, status=409)
        with pytest.raises(Conflict) as caught:
            await run("hr_add_person")

    assert shown == {
        "id": 7,
        "Email": "[personal]",
        "contact": {"phone": "[personal]", "note": "write to [email] or [phone]"},
        "cards": ["[card]", "4111 1111 1111 1112"],
        "seen_from": "[ip] at 12:30:59, build 1.2.3.4000",
    } | ({"phone": None} if "phone" in shown else {})
    assert "ada@" not in str(caught.value) and "[email]" in str(caught.value)


async def test_columns_that_are_personal_are_blotted_out_in_rows_samples_and_dry_runs(
    serve: Serve, crm: Path
) -> None:
    toml = f'[crm]\nkind = "sql"\nurl = "sqlite:///{crm}"\nwrite = true\nredact = {{fields = ["name"]}}\n'
    async with serve(toml) as run:
        rows = await run(
            "crm_query", sql="SELECT id, name, upper(name) AS loud FROM customers ORDER BY id LIMIT 1"
        )
        described = await run("crm_describe", table="customers")
        dry = await run("crm_execute", sql="UPDATE customers SET city = 'Nice' WHERE id = 1", dry_run=True)

    assert rows["items"] == [[1, "[personal]", "ADA"]]
    assert {row[1] for row in described["sample"]} == {"[personal]"}
    assert "Ada" not in json.dumps(dry) and "[personal]" in json.dumps(dry)


async def test_what_is_personal_in_arguments_reaches_the_system_and_not_the_log(
    serve: Serve, crm: Path, tmp_path: Path
) -> None:
    toml = (
        f'[crm]\nkind = "sql"\nurl = "sqlite:///{crm}"\nwrite = true\n'
        'redact = {fields = ["name"], kinds = ["email"]}\n'
        '[crm.queries.add]\ndescription = "Add a customer"\neffect = "write"\n'
        'sql = "INSERT INTO customers (name, city) VALUES (:name, :city)"\nparameters = {name = {}, city = {}}\n'
    )
    ada, bob = {"name": "Ada Byron", "city": "ada@example.org"}, {"name": "Bob Doe", "city": "bob@example.org"}
    step = {"id": "a", "name": "crm_add", "arguments": {"name": "Cyd Roe", "city": "cyd@example.org"}}
    async with serve(toml) as run:
        await run("sys_call", name="crm_add", arguments=ada, idempotency_key="k")
        again = await run("sys_call", name="crm_add", arguments=ada, idempotency_key="k")
        with pytest.raises(Conflict, match="other arguments"):
            await run("sys_call", name="crm_add", arguments=bob, idempotency_key="k")
        with pytest.raises(UsrlandError):
            await run("sys_call", name="crm_add", arguments=bob, nonsense=1)
        with pytest.raises(UsrlandError):
            await run("sys_call", name="crm_addd", arguments=bob)
        with pytest.raises(UsrlandError):
            await run("sys_call", name="crm_add", arguments="not an object")
        await run("sys_batch", steps=[step])
        with pytest.raises(UsrlandError):
            await run("sys_batch", steps=[step, "no step"])
        with pytest.raises(UsrlandError):
            await run("sys_batch", steps="none")
        await run("sys_find", request="add the customer fay@example.org")
    with sqlite3.connect(tmp_path / "home" / "enterprise-connectors" / "calls.sqlite") as log:
        kept = [json.loads(row[0]) for row in log.execute("SELECT value FROM audit_argument")]
    log.close()
    with sqlite3.connect(crm) as database:
        names = [row[0] for row in database.execute("SELECT name FROM customers WHERE id > 3 ORDER BY id")]
    database.close()

    written = json.dumps(kept)
    assert again["affected"] == 1 and names == ["Ada Byron", "Cyd Roe"]
    assert not any(word in written for word in ("Byron", "Doe", "Roe", "@example"))
    of_ada, of_bob = [each for each in kept if set(each) == {"name", "city"}][:2]
    assert of_ada["name"].startswith("[personal ") and of_ada["city"].startswith("[email ")
    assert of_ada["name"] != of_bob["name"]


def test_a_mark_is_of_the_value_and_of_the_key() -> None:
    rules = Personal(fields=("name",))
    given: list[tuple[Any, bytes]] = [("A", b"1"), ("A", b"1"), ("A", b"2"), (7, b"1")]
    marks = [rules.recorded({"name": name}, key)["name"] for name, key in given]

    assert marks[0] == marks[1] and len(set(marks)) == 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GB82 WEST 1234 5698 7654 32", "[iban]"),
        ("GB83 WEST 1234 5698 7654 32", "GB83 WEST 1234 5698 7654 32"),
        ("078-05-1120 is no phone", "[ssn] is no phone"),
        ("call (030) 1234567 or 555-123-4567", "call [phone] or [phone]"),
        ("order 20261125123456 at 2026-11-25T10:00:00 took 1234567890 ms", None),
        ("2001:db8::1 and ::1 and a::b text", "[ip] and [ip] and [ip] text"),
        ("1.2.3 and 999.1.1.1", None),
    ],
)
def test_a_kind_is_what_has_its_form_and_passes_its_check(text: str, shown: str | None) -> None:
    everything = Personal(kinds=("email", "phone", "iban", "card", "ssn", "ip"))

    assert everything.text(text) == (text if shown is None else shown)
