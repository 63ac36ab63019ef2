"""Change one entry in a JSON text and leave every other byte as its owner wrote it.

Parsing and writing the whole file again would be shorter, and would reformat a person's own configuration:
the diff that `connect --dry-run` shows would then hide the three lines that matter.

Comments and commas before a closing bracket are read where the host reads them too. They are found by
blanking them out: what is left is plain JSON of the same length, so that every position in it is one in the
text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from usrland.errors import InvalidInput

__all__ = ["JsonText"]

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_LINE_START = re.compile(r"(?:^|\n)([ \t]*)[^\n]*\Z")
_STRING = r'"(?:[^"\\\n]|\\.)*"'
_COMMENT = re.compile(rf"{_STRING}|//[^\n]*|/\*.*?\*/", re.DOTALL)
_LAST_COMMA = re.compile(rf"{_STRING}|,(?=\s*[}}\]])")
_REST_OF_LINE = re.compile(r"(?:[ \t]*(?:,|/\*[^\n]*?\*/|//[^\r\n]*))*")


@dataclass(frozen=True, slots=True)
class JsonText:
    """JSON as a host reads it: strictly, with comments, or with commas before a closing bracket as well."""

    comments: bool = False
    last_commas: bool = False

    def parse(self, text: str) -> dict[str, Any]:
        """The object that the text holds; an empty text is an empty object.

        Raises `InvalidInput` with the place of the mistake. A key that is there twice counts as one: a host
        would use either, and an edit could not say which.
        """
        plain = self._plain(text)
        if not plain.strip():
            return {}
        try:
            value = json.loads(plain, object_pairs_hook=_once)
        except json.JSONDecodeError as error:
            place = f"line {error.lineno} column {error.colno}"
            raise InvalidInput(f"not valid JSON: {error.msg}, {place}.") from error
        except RecursionError as error:
            raise InvalidInput("not usable JSON: nested too deeply.") from error
        if not isinstance(value, dict):
            raise InvalidInput(f"not a JSON object but {type(value).__name__}.")
        return value

    def entries(self, content: dict[str, Any], container: str) -> dict[str, Any]:
        """The entries by name. Raises `InvalidInput` where the container holds something else."""
        entries = content.get(container, {})
        if not isinstance(entries, dict):
            raise InvalidInput(f"{container!r} holds no object.")
        return entries

    def put(self, text: str, container: str, name: str, entry: Any) -> str:
        """The text with this entry; `text` has passed `parse` and `entries`."""
        if not self._plain(text).strip():
            text += "{}\n"
        at = _skip(self._plain(text), 0)
        member = self._member(text, at, container)
        if member is None:
            return self._insert(text, at, container, {name: entry})
        known = self._member(text, member.value_start, name)
        if known is None:
            return self._insert(text, member.value_start, name, entry)
        written = _write(entry, text, _indent(text, known.start))
        return text[: known.value_start] + written + text[known.end :]

    def remove(self, text: str, container: str, name: str) -> str:
        """The text without this entry, which is in it."""
        plain = self._plain(text)
        outer = self._member(text, _skip(plain, 0), container)
        assert outer is not None
        members, closing = _members(plain, outer.value_start)
        index = next(index for index, member in enumerate(members) if member.key == name)
        member = members[index]
        before, after = text[outer.value_start + 1 : member.start], text[member.end : closing]
        if len(members) == 1 and not (before + after).replace(",", "").strip():
            return text[: outer.value_start + 1] + text[closing:]
        start, end = member.start, member.end
        comma = self._comma(text, end)
        if comma is not None:
            end = comma + 1
            if index < len(members) - 1:
                return text[:start] + text[_skip(text, end) :]
        start = len(text[:start].rstrip())
        text = text[:start] + text[end:]
        between = self._comma(text, members[index - 1].end) if index and comma is None else None
        return text if between is None else text[:between] + text[between + 1 :]

    def _plain(self, text: str) -> str:
        """The same text, with blanks for what is no JSON. An error is found in it at its own place."""
        plain = self._without_comments(text)
        return _LAST_COMMA.sub(_blank, plain) if self.last_commas else plain

    def _without_comments(self, text: str) -> str:
        return _COMMENT.sub(_blank, text) if self.comments else text

    def _member(self, text: str, at: int, key: str) -> _Member | None:
        return next((member for member in _members(self._plain(text), at)[0] if member.key == key), None)

    def _comma(self, text: str, at: int) -> int | None:
        """Where the comma after a value stands, if there is one."""
        plain = self._without_comments(text)
        at = _skip(plain, at)
        return at if plain[at] == "," else None

    def _insert(self, text: str, at: int, key: str, value: Any) -> str:
        members, closing = _members(self._plain(text), at)
        on_lines = "\n" in text[at:closing] if members else "\n" in text.strip() or text.strip() == "{}"
        outer = _indent(text, at)
        inner = _indent(text, members[-1].start) if members else outer + _unit(text)
        newline = _newline(text)
        line = f"{newline}{inner}{_compact(key)}: {_write(value, text, inner)}"
        if not on_lines:
            line = f"{' ' if members else ''}{_compact(key)}: {_compact(value)}"
        if not members:
            if text[at + 1 : closing].strip():  # a comment
                return text[: at + 1] + line + text[at + 1 :]
            return text[: at + 1] + line + (newline + outer if on_lines else "") + text[closing:]
        end = members[-1].end
        comma = self._comma(text, end)
        if comma is not None:
            line += ","  # as its owner writes
            end = comma
        else:
            text = text[:end] + "," + text[end:]
        place = _REST_OF_LINE.match(text, end)  # a comment on that line belongs to what stands before it
        assert place is not None
        return text[: place.end()] + line + text[place.end() :]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    key: str
    start: int
    value_start: int
    end: int


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise InvalidInput(f"the key {twice[0]!r} is there twice in one object.")
    return dict(pairs)


def _blank(match: re.Match[str]) -> str:
    found = match[0]
    return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)


def _members(plain: str, at: int) -> tuple[list[_Member], int]:
    """The members of the object that begins at `at`, and where its closing brace stands."""
    members = []
    position = _skip(plain, at + 1)
    while plain[position] != "}":
        if plain[position] == ",":
            position = _skip(plain, position + 1)
        key, after_key = _DECODER.raw_decode(plain, position)
        value_start = _skip(plain, _skip(plain, after_key) + 1)
        _, end = _DECODER.raw_decode(plain, value_start)
        members.append(_Member(key=key, start=position, value_start=value_start, end=end))
        position = _skip(plain, end)
    return members, position


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
