"""`usrland lock`: each class of change, and the command over a server that changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from usrland.contracts import compare

CONTRACT: dict[str, Any] = {
    "title": "Add",
    "description": "Add one.",
    "effect": "write",
    "scopes": ["a:write"],
    "consent": False,
    "idempotent": True,
    "open_world": False,
    "undo": "drop",
    "timeout_seconds": 60.0,
    "listed": True,
    "arguments": {
        "type": "object",
        "required": ["title"],
        "additionalProperties": False,
        "properties": {
            "title": {"type": "string", "minLength": 2, "maxLength": 9, "description": "What."},
            "kind": {"type": "string", "enum": ["a", "b"], "default": "a"},
            "page": {"type": "integer", "minimum": 1, "maximum": 9},
            "tags": {"type": "array", "maxItems": 5, "items": {"type": "string", "pattern": "^a"}},
            "who": {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}},
        },
    },
}
Edit = Callable[[dict[str, Any]], Any]


def argument(name: str) -> Callable[..., Edit]:
    return lambda **changes: lambda contract: contract["arguments"]["properties"][name].update(changes)


def changed(edit: Edit) -> list[tuple[bool, str]]:
    before, after = CONTRACT, json.loads(json.dumps(CONTRACT))
    edit(after)
    return [(each.breaking, each.what) for each in compare({"s/add": before}, {"s/add": after})]


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda c: c.update(effect="destroy"), "effect write → destroy"),
        (lambda c: c.update(effect="read"), "effect write → read"),
        (lambda c: c["scopes"].append("a:admin"), "scope a:admin is needed"),
        (lambda c: c.update(scopes=["a:other"]), "scope a:other is needed"),
        (lambda c: c["scopes"].clear(), "scope a:write is no longer needed"),
        (lambda c: c.update(consent=True), "a person is asked first"),
        (lambda c: c.update(idempotent=False), "it may no longer be repeated"),
        (lambda c: c.update(open_world=True), "it reaches other systems"),
        (lambda c: c.update(undo=""), "undo drop → none"),
        (lambda c: c.update(timeout_seconds=5), "deadline 60 → 5 seconds"),
        (lambda c: c.update(listed=False), "it is no longer a tool of its own"),
        (lambda c: c["arguments"]["properties"].pop("page"), "argument page is gone"),
        (lambda c: c["arguments"]["required"].append("page"), "argument page is required"),
        (argument("title")(type="integer"), "argument title: type string → integer"),
        (argument("title")(minLength=3), "argument title: minLength 2 → 3"),
        (argument("title")(maxLength=8), "argument title: maxLength 9 → 8"),
        (argument("title")(pattern="^x"), 'argument title: pattern none → "^x"'),
        (argument("kind")(enum=["a"]), 'argument kind: enum ["a", "b"] → ["a"]'),
        (argument("kind")(default="b"), 'argument kind: default "a" → "b"'),
        (argument("page")(maximum=8), "argument page: maximum 9 → 8"),
        (argument("tags")(items={"type": "string", "pattern": "^b"}), 'argument tags[]: pattern "^a" → "^b"'),
        (argument("who")(properties={"id": {"type": "string"}}), "argument who.id: type integer → string"),
    ],
)
def test_what_breaks_a_caller_or_a_decision_is_breaking(edit: Edit, what: str) -> None:
    assert (True, what) in changed(edit)


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda c: c.update(description="Add another."), "its description says something else"),
        (lambda c: c.update(timeout_seconds=90), "deadline 60 → 90 seconds"),
        (lambda c: c["arguments"]["required"].clear(), "argument title is no longer required"),
        (
            lambda c: c["arguments"]["properties"].update(new={"type": "string"}),
            "argument new is new and optional",
        ),
        (argument("title")(minLength=1), "argument title: minLength 2 → 1"),
        (argument("title")(description="That."), "argument title: its description says something else"),
        (argument("kind")(enum=["c", "b", "a"]), 'argument kind: enum ["a", "b"] → ["c", "b", "a"]'),
        (argument("page")(type="number"), "argument page: type integer → number"),
        (argument("page")(maximum=10), "argument page: maximum 9 → 10"),
        (argument("tags")(items={"type": "string"}), 'argument tags[]: pattern "^a" → none'),
    ],
)
def test_what_accepts_all_that_was_accepted_is_compatible(edit: Edit, what: str) -> None:
    assert changed(edit) == [(False, what)]


def test_what_is_gone_breaks_and_what_is_new_does_not() -> None:
    (gone,) = compare({"s/add": CONTRACT}, {})
    (new,) = compare({}, {"s/add": CONTRACT})

    assert (gone.breaking, gone.why) == (True, "calls of it fail")
    assert not new.breaking
    assert compare({"s/add": CONTRACT}, {"s/add": CONTRACT}) == []


def test_a_required_argument_that_is_new_breaks() -> None:
    def add(contract: dict[str, Any]) -> None:
        contract["arguments"]["properties"]["must"] = {"type": "string"}
        contract["arguments"]["required"].append("must")

    assert changed(add) == [(True, "argument must is new and required")]


def test_a_lock_is_written_and_a_changed_server_is_told_apart_by_exit_code(installation: Any) -> None:
    code = (
        "from dataclasses import replace\n"
        "from example_connector.server import service as whole\n"
        "def service(settings):\n"
        "    made = whole(settings)\n"
        "    return replace(made, operations=[replace(each, {change}) for each in made.operations])\n"
    )
    installation.plant("planted", {}, "[usrland.servers]\nexample-connector = planted.server:service\n")
    program = installation.packages / "planted" / "server.py"
    run = ("lock", "--server", "example-connector")
    program.write_text(code.format(change="title=each.title"), encoding="utf-8")

    assert "3 operations" in installation.run(*run)
    assert "all as they were" in installation.run(*run, "--check")

    program.write_text(code.format(change="description='Do it.'"), encoding="utf-8")
    assert "0 breaking, 3 compatible" in installation.run(*run, "--check")

    program.write_text(code.format(change="scopes=frozenset({'other:all'})"), encoding="utf-8")
    said = installation.run(*run, "--check", exit_code=1)
    assert "callers that were kept out may call it" in said and "6 breaking" in said
    machine = installation.run_json(*run, "--check", "--json", exit_code=1)
    assert {each["breaking"] for each in machine} == {True}

    lock = installation.project / "usrland.lock.json"
    lock.write_text("{}", encoding="utf-8")
    assert "cannot be read as a lock file" in installation.run(*run, "--check", exit_code=1)
    lock.unlink()
    assert "usrland lock" in installation.run(*run, "--check", exit_code=1)
