"""Change one value in a JSON text and leave every other byte as its owner wrote it.

Parsing and writing the whole file again would be shorter, and would reformat a person's own configuration:
the diff that `connect --dry-run` shows would then hide the three lines that matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from usrland.errors import InvalidInput

__all__ = ["parse", "remove", "set_value"]

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_LINE_START = re.compile(r"(?:^|\n)([ \t]*)[^\n]*\Z")


def parse(text: str) -> dict[str, Any]:
    """The object that the text holds; an empty text is an empty object.

    Raises `InvalidInput` with the place of the mistake. A key that is there twice counts as one: a host
    would use either, and an edit could not say which.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise InvalidInput(f"the key {twice[0]!r} is there twice in one object.")
        return dict(pairs)

    if not text.strip():
        return {}
    try:
        value = json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"not valid JSON: {error.msg}, line {error.lineno} column {error.colno}.") from error
    except RecursionError as error:
        raise InvalidInput("not usable JSON: nested too deeply.") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"not a JSON object but {type(value).__name__}.")
    return value


def set_value(text: str, keys: Sequence[str], value: Any) -> str:
    """The text with `value` under the path `keys`; objects on the way are made. `text` has passed `parse`."""
    if not text.strip():
        text = "{}\n"
    at = _skip(text, 0)
    for depth, key in enumerate(keys):
        members, closing = _members(text, at)
        member = next((member for member in members if member.key == key), None)
        if member is None:
            for missing in reversed(keys[depth + 1 :]):
                value = {missing: value}
            return _insert(text, at, members, closing, key, value)
        if depth == len(keys) - 1:
            written = _write(value, text, _indent(text, member.start))
            return text[: member.value_start] + written + text[member.end :]
        at = member.value_start
        if text[at] != "{":
            raise InvalidInput(f"{key!r} holds no object.")
    raise AssertionError("a path has at least one key")


def remove(text: str, keys: Sequence[str]) -> str:
    """The text without the value under `keys`. `text` has passed `parse` and has that value."""
    at = _skip(text, 0)
    for key in keys[:-1]:
        at = next(member for member in _members(text, at)[0] if member.key == key).value_start
    members, closing = _members(text, at)
    index = next(index for index, member in enumerate(members) if member.key == keys[-1])
    if len(members) == 1:
        return text[: at + 1] + text[closing:]
    if index == len(members) - 1:
        return text[: members[index - 1].end] + text[members[index].end :]
    return text[: members[index].start] + text[members[index + 1].start :]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    key: str
    start: int
    value_start: int
    end: int


def _members(text: str, at: int) -> tuple[list[_Member], int]:
    """The members of the object that begins at `at`, and where its closing brace stands."""
    members = []
    position = _skip(text, at + 1)
    while text[position] != "}":
        if text[position] == ",":
            position = _skip(text, position + 1)
        key, after_key = _DECODER.raw_decode(text, position)
        value_start = _skip(text, _skip(text, after_key) + 1)
        _, end = _DECODER.raw_decode(text, value_start)
        members.append(_Member(key=key, start=position, value_start=value_start, end=end))
        position = _skip(text, end)
    return members, position


def _insert(text: str, at: int, members: list[_Member], closing: int, key: str, value: Any) -> str:
    on_lines = "\n" in text[at:closing] if members else "\n" in text.strip() or text.strip() == "{}"
    if members and not on_lines:
        return f"{text[: members[-1].end]}, {_compact(key)}: {_compact(value)}{text[members[-1].end :]}"
    if not on_lines:
        return f"{text[: at + 1]}{_compact(key)}: {_compact(value)}{text[closing:]}"
    outer = _indent(text, at)
    inner = _indent(text, members[-1].start) if members else outer + _unit(text)
    newline = _newline(text)
    line = f"{newline}{inner}{_compact(key)}: {_write(value, text, inner)}"
    if members:
        return f"{text[: members[-1].end]},{line}{text[members[-1].end :]}"
    return f"{text[: at + 1]}{line}{newline}{outer}{text[closing:]}"


def _write(value: Any, text: str, indent: str) -> str:
    if "\n" not in text.strip() and text.strip() != "{}":
        return _compact(value)
    lines = json.dumps(value, indent=_unit(text), ensure_ascii=False).split("\n")
    return (_newline(text) + indent).join(lines)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _indent(text: str, at: int) -> str:
    """The white space that the line of this position begins with."""
    match = _LINE_START.search(text[:at])
    return match.group(1) if match else ""


def _unit(text: str) -> str:
    """One step of indentation: that of the first indented line."""
    match = re.search(r"\n([ \t]+)\S", text)
    return match.group(1) if match else "  "


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
