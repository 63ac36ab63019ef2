"""What is wrong with a tool, as any host would receive it.

The rules are what hosts really refuse, rename or drop. They look at the listing and not at our operations:
what counts is what went over the wire.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from usrland import tokens

__all__ = ["cost", "problems_of_text", "problems_of_tool"]

MAX_NAME = 56
MAX_DESCRIPTION = 1024
HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")

_PROPERTY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_REFUSED = frozenset(
    {"$ref", "$defs", "definitions", "anyOf", "oneOf", "allOf", "not", "if", "patternProperties", "prefixItems"}
)
_TYPES = frozenset({"string", "integer", "number", "boolean", "array", "object"})


def cost(tools: Sequence[Mapping[str, Any]]) -> int:
    """Tokens that a listing takes from every conversation."""
    return tokens.count(json.dumps(list(tools), ensure_ascii=False, separators=(",", ":")))


def problems_of_tool(tool: Mapping[str, Any]) -> Iterator[str]:
    """Every problem of one tool; nothing where a host can use it."""
    name = tool["name"]
    if len(name) > MAX_NAME:
        yield f"{name}: the name has {len(name)} characters; hosts put a prefix before it and stop at 64"
    if not tool.get("description", "").strip():
        yield f"{name}: it has no description, which is what a model chooses it by"
    if len(tool.get("description", "")) > MAX_DESCRIPTION:
        yield f"{name}: the description has more than {MAX_DESCRIPTION} characters"
    yield from problems_of_text(f"{name}: the description", tool.get("description", ""))
    missing = [hint for hint in HINTS if not isinstance((tool.get("annotations") or {}).get(hint), bool)]
    if missing:
        yield f"{name}: {', '.join(missing)} not stated; the default is the worst case"
    schema = tool["inputSchema"]
    if schema.get("type") != "object" or not isinstance(schema.get("required"), list):
        yield f"{name}: its schema must be an object with a list of required arguments, also an empty one"
    if schema.get("additionalProperties") is not False:
        yield f"{name}: its schema takes unknown arguments"
    yield from _problems_of_schema(name, schema)


def problems_of_text(where: str, text: str) -> Iterator[str]:
    """Characters that a person does not see and a model reads."""
    hidden = {
        f"U+{ord(character):04X}"
        for character in text
        if unicodedata.category(character) in ("Cf", "Co", "Cs")
        or (ord(character) < 32 and character not in "\n\t")
    }
    if hidden:
        yield f"{where} holds invisible characters: {', '.join(sorted(hidden))}"


def _problems_of_schema(where: str, schema: Mapping[str, Any]) -> Iterator[str]:
    for keyword in sorted(_REFUSED & schema.keys()):
        yield f"{where}: {keyword!r} in a schema is not understood by every host"
    kind = schema.get("type")
    if isinstance(kind, list):
        yield f"{where}: a list of types is not understood by every host"
    elif kind not in _TYPES and "enum" not in schema:
        yield f"{where}: type {kind!r} is not understood by every host"
    if kind == "array" and "items" not in schema:
        yield f"{where}: an array must say what its items are"
    yield from problems_of_text(f"{where}: its description", schema.get("description", ""))
    properties = schema.get("properties", {})
    unknown = [name for name in schema.get("required") or [] if name not in properties]
    if unknown:
        yield f"{where}: {', '.join(unknown)} required and not described"
    for name, inner in properties.items():
        if not _PROPERTY.fullmatch(name):
            yield f"{where}: the argument name {name!r} is not plain"
        yield from _problems_of_schema(f"{where}.{name}", inner)
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), Mapping):
            yield from _problems_of_schema(f"{where}.{keyword}", schema[keyword])
