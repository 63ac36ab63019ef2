"""Arguments are refused unless they are exactly what was declared, and schemas fit every host."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from usrland import Answer, Call, Operation, Page
from usrland.errors import InvalidInput
from usrland.parameters import Parameters, portable

READ = frozenset({"x:read"})


class Point(BaseModel, extra="forbid"):
    x: int
    label: str | None = None


class Found(Answer):
    name: str


async def find(
    call: Call,
    query: Annotated[str, Field(description="What to look for.")],
    points: list[Point] | None = None,
    order: Literal["up", "down"] = "up",
    since: datetime | None = None,
) -> Page[Found]:
    """Find things."""
    return Page[Found](items=[])


@pytest.fixture
def parameters() -> Parameters:
    return Parameters(Operation(call=find, effect="read", scopes=READ))


def walk(node: Any) -> list[dict[str, Any]]:
    match node:
        case dict():
            return [node, *(found for value in node.values() for found in walk(value))]
        case list():
            return [found for value in node for found in walk(value)]
    return []


def test_the_schema_holds_to_the_subset_that_every_host_takes(parameters: Parameters) -> None:
    schema = parameters.schema

    assert list(schema["properties"]) == ["query", "points", "order", "since", "cursor", "max_tokens"]
    assert schema["required"] == ["query"]
    for node in walk(schema):
        assert not {"$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "title"} & node.keys()
        assert not isinstance(node.get("type"), list)
        assert node.get("type") != "null"
        if node.get("type") == "object":
            assert isinstance(node["required"], list)
            assert node["additionalProperties"] is False


def test_good_arguments_become_typed_values_and_only_those_that_were_given(parameters: Parameters) -> None:
    values = parameters.check({"query": "q", "points": [{"x": 1}], "since": "2026-11-22T00:00:00Z"})

    assert values["points"] == [Point(x=1)]
    assert values["since"].year == 2026
    assert "order" not in values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"query": "q", "ordr": "up"}, "unknown argument 'ordr'.*Did you mean 'order'"),
        ({"query": 5}, "query: Input should be a valid string"),
        ({"query": "q", "points": '[{"x": 1}]'}, "points: Input should be a valid array"),
        ({"query": "q", "points": [{"x": "1"}]}, "points.0.x: Input should be a valid integer"),
        ({"query": "q", "points": [{"x": 1, "y": 2}]}, "points.0.y"),
        ({"query": "q", "order": "sideways"}, "order"),
        ({}, "query: Field required"),
    ],
)
def test_a_wrong_argument_is_named(parameters: Parameters, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parameters.check(arguments)


def test_a_refusal_never_repeats_the_value(parameters: Parameters) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parameters.check({"query": ["hunter2"]})

    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ({"cursor": 5}, "cursor: must be of type string"),
        ({"max_tokens": "many"}, "max_tokens: must be of type integer"),
        ({"max_tokens": True}, "max_tokens: must be of type integer"),
        ({"max_tokens": 26_000}, "from 200 to 25000"),
    ],
)
def test_the_call_paths_own_arguments_are_checked_as_strictly(
    parameters: Parameters, added: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        parameters.split({"query": "q", **added})


async def generated(**arguments: Any) -> Found:
    """Generated."""
    return Found(name="")


SCHEMA = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "state": {"enum": ["open", "closed"]}},
    "required": ["id"],
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"id": "7"}, "id: must be of type integer"),
        ({"state": "open"}, "missing 'id'"),
        ({"id": 7, "state": "hunter2"}, "state: must be one of"),
        ({"id": 7, "force": True}, "unknown argument 'force'"),
    ],
)
def test_generated_operations_are_checked_against_their_schema(arguments: dict[str, Any], message: str) -> None:
    parameters = Parameters(Operation(call=generated, effect="read", scopes=READ, parameters=SCHEMA))

    assert parameters.check({"id": 7}) == {"id": 7}
    with pytest.raises(InvalidInput, match=message) as refusal:
        parameters.check(arguments)
    assert "hunter2" not in str(refusal.value)


def test_what_hosts_cannot_take_is_refused_at_declaration() -> None:
    class Tree(BaseModel):
        children: list[Tree]

    with pytest.raises(TypeError, match="contains itself"):
        portable(Tree.model_json_schema())
    with pytest.raises(TypeError, match="several types"):
        portable({"properties": {"x": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}})


class Lax(BaseModel):
    x: int


async def takes_lax(point: Lax) -> Found:
    """Look."""
    return Found(name="")


def test_a_nested_model_that_ignores_unknown_fields_is_refused_at_declaration() -> None:
    with pytest.raises(TypeError, match="Lax must forbid unknown fields"):
        Parameters(Operation(call=takes_lax, effect="read", scopes=READ))


async def unannotated(name) -> Found:  # type: ignore[no-untyped-def]  # the missing annotation is the point
    """Look."""
    return Found(name="")


def test_a_parameter_without_a_type_is_refused_at_declaration() -> None:
    with pytest.raises(TypeError, match="'name' has no annotation"):
        Parameters(Operation(call=unannotated, effect="read", scopes=READ))


async def counted(numbers: list[int]) -> Found:
    """Look."""
    return Found(name="")


def test_a_whole_number_beyond_64_bits_is_refused_wherever_it_stands() -> None:
    parameters = Parameters(Operation(call=counted, effect="read", scopes=READ))

    assert parameters.check({"numbers": [2**63 - 1, -(2**63)]}) == {"numbers": [2**63 - 1, -(2**63)]}
    for number in (2**63, -(2**63) - 1, 10**30):
        with pytest.raises(InvalidInput, match="numbers: a whole number that does not fit 64 bits"):
            parameters.check({"numbers": [0, number]})
