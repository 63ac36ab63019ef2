"""Arguments made from a schema: some that fit, and some that do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["fitting", "mistyped"]


def fitting(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The required arguments, each of the right type. They need not name anything that exists."""
    properties = schema.get("properties", {})
    return {name: _value(properties[name]) for name in schema.get("required", [])}


def mistyped(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """For each argument a value of another type that a careless reader would let pass: `"1"` for 1, 1 for true."""
    wrong = {"string": 1, "integer": "1", "number": "1", "boolean": 1, "array": "a", "object": "a"}
    for name, inner in schema.get("properties", {}).items():
        if inner.get("type") in wrong:
            yield name, wrong[inner["type"]]


def _value(schema: Mapping[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return False
        case "array":
            return [_value(schema.get("items", {})) for _ in range(schema.get("minItems", 0))]
        case "object":
            return fitting(schema)
        case _:
            return "a" * max(1, schema.get("minLength", 1))
