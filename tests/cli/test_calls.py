"""What was called: `trace`, `audit`, `syscalls` and `man`, after a real server has really been called."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from usrland.audit import VerifyingKey, opened
from usrland.audit.merkle import leaf_hash, proves_inclusion
from usrland.probe import Launch, ServerProcess

TASKS = "example-connector"


@pytest.fixture(scope="module")
def called(shared_installation: Any) -> Any:
    """An installation whose server was called: one write, one read, one refusal. Not to be changed."""
    installation = shared_installation
    code = {"server.py": "from example_connector.server import service\n"}
    installation.plant("planted", code, f"[usrland.servers]\n{TASKS} = planted.server:service\n")
    launch = Launch(
        command=str(installation.python),
        arguments=("-m", "example_connector"),
        environment={"USRLAND_HOME": str(installation.home)},
    )
    with ServerProcess(launch) as server:
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        server.request("initialize", hello)
        server.notify("notifications/initialized")
        for name, arguments in (
            ("task_add", {"title": "Write the offer"}),
            ("task_find", {}),
            ("task_find", {"texxt": "x"}),
        ):
            server.request("tools/call", {"name": name, "arguments": arguments})
    return installation


@pytest.fixture
def copied(called: Any, tmp_path: Path) -> Any:
    """The same with a home of its own, to be damaged."""
    return replace(called, user=shutil.copytree(called.user, tmp_path / "user"))


def test_the_trace_shows_each_call_on_a_line(called: Any) -> None:
    lines = called.run("trace", "--server", TASKS).splitlines()

    assert len(lines) == 3
    assert 'task_add(title="Write the offer") = ok  <write, allowed, ' in lines[0]
    assert "task_find() = ok  <read, allowed, " in lines[1] and "answer " in lines[1]
    assert 'task_find(texxt="x") = invalid_input  <read, invalid_input, ' in lines[2]


def test_the_last_calls_can_be_had_as_json(called: Any) -> None:
    (call,) = called.run_json("trace", "--last", "1", "--json")

    assert (call["server"], call["operation"], call["outcome"]) == (TASKS, "task_find", "invalid_input")


def test_an_unbroken_log_is_verified_also_against_a_head_kept_elsewhere(called: Any) -> None:
    head = called.run("audit", "head")
    assert head.splitlines()[0].endswith(f"/{TASKS}")
    key = called.home / "key"
    key.write_text(called.run("audit", "key"), encoding="utf-8")

    assert f"{TASKS}: 4 entries, unbroken" in called.run("audit", "verify", "--head", "-", text=head)
    said = called.run("audit", "verify", "--head", "-", "--key", str(key), text=head)
    assert f"{TASKS}: 4 entries, unbroken" in said
    key.write_text("somebody+00000000+AAAA\n", encoding="utf-8")
    called.run("audit", "verify", "--head", "-", "--key", str(key), exit_code=1, text=head)


def test_one_call_is_proven_to_somebody_who_has_only_the_key(called: Any) -> None:
    proof = called.run_json("audit", "prove", TASKS, "1")

    (checkpoint,) = opened(proof["checkpoint"], [VerifyingKey.parse(called.run("audit", "key"))])
    path = [base64.b64decode(each) for each in proof["path"]]
    entry = proof["entry"].encode()
    assert json.loads(entry)["operation"] == "task_add"
    assert proves_inclusion(leaf_hash(entry), proof["index"], checkpoint.size, path, checkpoint.root)


def test_an_edited_log_is_found(copied: Any) -> None:
    with sqlite3.connect(copied.home / TASKS / "calls.sqlite") as connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")  # whoever can write the file can do this too
        connection.execute("UPDATE audit_entry SET body = CAST(replace(body, 'task_add', 'task_odd') AS BLOB)")
    connection.close()

    assert "NOT what was written" in copied.run("audit", "verify", exit_code=1)


def test_a_log_that_vanished_is_found_by_its_head(copied: Any) -> None:
    head = copied.run("audit", "head")
    for file in (copied.home / TASKS).glob("calls.sqlite*"):
        file.unlink()

    assert "there is no log" in copied.run("audit", "verify", "--head", "-", exit_code=1, text=head)
    assert not (copied.home / TASKS / "calls.sqlite").exists(), "looking makes nothing"


def test_syscalls_tell_the_risk_of_every_operation(called: Any) -> None:
    facts = {each["name"]: each for each in called.run_json("syscalls", "--server", TASKS, "--json")}

    assert facts["task_find"]["hints"] == ["read-only", "idempotent"]
    assert facts["task_add"]["undo"] == "task_remove"
    assert facts["task_remove"] == {
        "name": "task_remove",
        "server": TASKS,
        "system": None,
        "effect": "destroy",
        "scopes": ["example:write"],
        "hints": ["destructive"],
        "consent": True,
        "dry_run": True,
        "undo": None,
        "timeout_seconds": 60.0,
        "cost": "normal",
        "listed": True,
    }
    assert "task_remove" in called.run("syscalls", "--server", TASKS)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["--effect", "read"], ["task_find"]),
        (["--effect", "write", "--effect", "destroy"], ["task_add", "task_remove"]),
        (["--scope", "example:read"], ["task_find"]),
        (["--scope", "example:*", "--effect", "destroy"], ["task_remove"]),
        (["--system", "fleet"], []),
    ],
)
def test_syscalls_can_be_filtered(called: Any, filters: list[str], names: list[str]) -> None:
    found = called.run_json("syscalls", "--server", TASKS, "--json", *filters)

    assert [each["name"] for each in found] == names


def test_syscalls_are_a_table_for_a_document(called: Any) -> None:
    lines = called.run("syscalls", "--server", TASKS, "--markdown").splitlines()

    assert lines[0].startswith("| name | effect | scopes |") and len(lines) == 5
    assert lines[2].startswith("| task_find | read | example:read |") and "Find tasks" in lines[2]
    assert "there is no effect 'erase'" in called.run("syscalls", "--effect", "erase", exit_code=1)


def test_man_is_the_page_of_one_operation(called: Any) -> None:
    page = called.run("man", "task_remove")

    for words in (
        "Remove one task for good",
        "task ",
        "integer",
        "example:write",
        "a person is asked first",
        "dry_run",
    ):
        assert words in page
    assert "Did you mean task_remove" in called.run("man", "task_remov", exit_code=1)


def test_a_server_that_cannot_be_loaded_does_not_hide_the_others(installation: Any) -> None:
    installation.plant("broken", {"server.py": "1 / 0\n"}, "[usrland.servers]\nbroken = broken.server:service\n")
    code = {"server.py": "from example_connector.server import service\n"}
    installation.plant("planted", code, f"[usrland.servers]\n{TASKS} = planted.server:service\n")

    said = installation.run("syscalls")

    assert "'broken' cannot be loaded: ZeroDivisionError" in said and "task_find" in said


def test_a_review_of_generated_operations_is_shown_and_taken(installation: Any) -> None:
    installation.home.mkdir(parents=True, exist_ok=True)
    toml = '[crm]\nkind = "sql"\nurl = "sqlite:////nowhere/crm.sqlite"\n'
    (installation.home / "connectors.toml").write_text(toml, encoding="utf-8")

    before = installation.run("syscalls", "--diff")
    assert "new" in before and "crm_query" in before and "4 differences" in before
    assert "4 operations are reviewed" in installation.run("syscalls", "--accept")
    assert "0 differences" in installation.run("syscalls", "--diff")

    (installation.home / "connectors.toml").write_text(f"{toml}write = true\n", encoding="utf-8")
    after = installation.run("syscalls", "--diff")
    assert "crm_execute" in after and "destroy" in after and "1 differences" in after
    assert "\ncrm_execute" not in installation.run("syscalls")


def test_the_top_tells_for_each_operation_how_often_it_was_called_and_failed(called: Any) -> None:
    rows = {row["operation"]: row for row in called.run_json("top", "--server", TASKS, "--json")}

    assert [(name, rows[name]["calls"], rows[name]["errors"]) for name in ("task_add", "task_find")] == [
        ("task_add", 1, 0),
        ("task_find", 2, 1),
    ]
    assert rows["task_find"]["worst"] == "invalid_input"
    assert "task_find" in called.run("top", "--server", TASKS) and "50.0%" in called.run("top", "--server", TASKS)
    assert called.run("top", "--server", TASKS, "--minutes", "0.000001") == "Nothing was called in that time.\n"
