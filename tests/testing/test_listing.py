"""Each rule about a tool, by a tool that breaks it and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from usrland.testing.arguments import fitting, mistyped
from usrland.testing.listing import cost, problems_of_tool

HINTS = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}


def tool(**changes: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    schema |= changes.pop("schema", {})
    return {"name": "task_find", "description": "Find.", "annotations": HINTS, "inputSchema": schema, **changes}


def with_argument(schema: dict[str, Any], name: str = "text") -> dict[str, Any]:
    return tool(schema={"properties": {name: schema}})


def test_a_plain_tool_has_no_problems() -> None:
    assert list(problems_of_tool(with_argument({"type": "array", "items": {"enum": ["a", "b"]}}))) == []


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (tool(name="a" * 57), "57 characters"),
        (tool(description=" "), "no description"),
        (tool(description="a" * 1025), "more than 1024"),
        (tool(description="Find\u202e."), r"U\+202E"),
        (tool(description="Find\u200b."), r"U\+200B"),
        (tool(description="Find\U000e0041."), r"U\+E0041"),
        (tool(description="Find\x1b[0m."), r"U\+001B"),
        (tool(annotations=None), "readOnlyHint, destructiveHint, idempotentHint, openWorldHint not stated"),
        (tool(annotations={**HINTS, "openWorldHint": None}), "openWorldHint not stated"),
        (tool(schema={"required": None}), "list of required"),
        (tool(schema={"type": "string"}), "must be an object"),
        (tool(schema={"additionalProperties": True}), "takes unknown arguments"),
        (tool(schema={"required": ["ghost"]}), "ghost required and not described"),
        (with_argument({"$ref": "#/$defs/Text"}), r"'\$ref'"),
        (with_argument({"anyOf": [{"type": "string"}, {"type": "null"}]}), "'anyOf'"),
        (with_argument({"oneOf": [{"type": "string"}]}), "'oneOf'"),
        (with_argument({"type": ["string", "null"]}), "a list of types"),
        (with_argument({"type": "null"}), "type 'null'"),
        (with_argument({"type": "array"}), "what its items are"),
        (with_argument({"type": "array", "items": {"type": "null"}}), r"text.items: type 'null'"),
        (with_argument({"type": "string", "description": "a\u2066b"}), r"U\+2066"),
        (with_argument({"type": "string"}, name="two words"), "'two words' is not plain"),
        (with_argument({"type": "string"}, name="$filter"), "is not plain"),
    ],
)
def test_what_a_host_cannot_take_is_named(broken: dict[str, Any], problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        assert not list(problems_of_tool(broken)), list(problems_of_tool(broken))


def test_a_listing_costs_tokens() -> None:
    assert cost([tool(), tool()]) > cost([tool()]) > 30


def test_arguments_that_fit_are_only_the_required_ones() -> None:
    schema = {
        "properties": {
            "text": {"type": "string", "minLength": 3},
            "kind": {"enum": ["a", "b"]},
            "page": {"type": "integer", "minimum": 5},
            "share": {"type": "number", "exclusiveMinimum": 1},
            "flag": {"type": "boolean"},
            "list": {"type": "array", "minItems": 2, "items": {"type": "integer"}},
            "object": {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]},
            "optional": {"type": "string"},
        },
        "required": ["text", "kind", "page", "share", "flag", "list", "object"],
    }

    assert fitting(schema) == {
        "text": "aaa",
        "kind": "a",
        "page": 5,
        "share": 2,
        "flag": False,
        "list": [1, 1],
        "object": {"x": "a"},
    }


def test_each_argument_gets_a_value_of_another_type() -> None:
    schema = {"properties": {"page": {"type": "integer"}, "flag": {"type": "boolean"}, "any": {}}}

    assert dict(mistyped(schema)) == {"page": "1", "flag": 1}
