"""A schema of arguments as far as there is room: its upper levels, and what was left out by name.

A few operations take more than a context window should hold. Their schemas are not cut through in the middle but
shown less deep, each object that is left out with a way to see it; calls are checked against the whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from usrland.errors import NotFound

__all__ = ["outlined", "part_of"]

_STEPS = ((99, 60), (6, 60), (5, 60), (4, 60), (3, 60), (2, 60), (1, 60), (1, 0))
"""How many levels of objects are shown, and how many characters of each description, from much to little."""


def outlined(schema: Mapping[str, Any], room: int) -> tuple[dict[str, Any], list[str]]:
    """The schema in about `room` characters of JSON, and the places whose inner fields were left out."""
    shown = dict(schema)
    left: list[str] = []
    for levels, characters in _STEPS:
        if len(json.dumps(shown, ensure_ascii=False, separators=(",", ":"))) <= room:
            break
        left = []
        shown = _shown(schema, levels, characters, "", left)
    return shown, left


def part_of(schema: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    """The schema at a place as `outlined` names it: fields with dots between them, a list as its items."""
    here = schema
    for name in place.split("."):
        while "items" in here and "properties" not in here:
            here = here["items"]
        known = here.get("properties", {})
        if name not in known:
            raise NotFound(f"part: there is no {name!r} there.", fix=f"Known: {', '.join(known) or 'none'}.")
        here = known[name]
    return here


def _shown(node: Mapping[str, Any], levels: int, characters: int, place: str, left: list[str]) -> dict[str, Any]:
    result = dict(node)
    if place and "description" in node and len(node["description"]) > characters:
        result.pop("description")
        if characters:
            result["description"] = f"{node['description'][: characters - 1]}…"
    if isinstance(node.get("items"), Mapping):
        result["items"] = _shown(node["items"], levels, characters, place, left)
    if isinstance(node.get("properties"), Mapping):
        if levels == 0:
            left.append(place)
            result["properties"] = {}
        else:
            result["properties"] = {
                name: _shown(inner, levels - 1, characters, f"{place}.{name}" if place else name, left)
                for name, inner in node["properties"].items()
            }
    return result
