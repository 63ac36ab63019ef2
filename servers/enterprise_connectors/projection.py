"""The part of an answer that is wanted, so that the rest never costs a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from usrland.errors import InvalidInput

__all__ = ["project"]

MAX_DEPTH = 20


def project(value: Any, paths: Sequence[str]) -> Any:
    """`value` with only what the dotted paths name; lists are gone through.

    `["items.name", "total"]` of `{"items": [{"name": 1, "id": 2}], "total": 3, "x": 4}` is
    `{"items": [{"name": 1}], "total": 3}`. `*` stands for every key. What a path does not meet is left out.
    Raises `InvalidInput` for a path that is empty or too long.
    """
    steps = [path.replace("[]", "").removeprefix("$").strip(".").split(".") for path in paths]
    if any(not all(path) or len(path) > MAX_DEPTH for path in steps):
        raise InvalidInput("pick: a path is keys with dots between them, like 'items.name'.")
    return _projected(value, steps)


def _projected(value: Any, paths: Sequence[Sequence[str]]) -> Any:
    if not all(paths):  # one of them ends here: all of it is wanted
        return value
    match value:
        case list():
            return [_projected(item, paths) for item in value]
        case dict():
            kept = {}
            for key, item in value.items():
                rest = [path[1:] for path in paths if path[0] in (key, "*")]
                if rest:
                    kept[key] = _projected(item, rest)
            return kept
        case _:
            return None
