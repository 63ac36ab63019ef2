"""Change one table in a TOML text and leave every other byte as its owner wrote it.

An entry is a table of its own, `[container.name]` with its sub-tables: it goes to the end of the file, and is
taken out line by line. Where somebody wrote entries in another way (inline, or with dotted keys), the caller
sees that the result does not say what it should, and refuses.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from usrland.errors import InvalidInput

__all__ = ["TomlText"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}\n]|[^\[\]{}\n"\'#]+|.',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class TomlText:
    """TOML with one table for each entry."""

    def parse(self, text: str) -> dict[str, Any]:
        """Raises `InvalidInput` with the place of the mistake."""
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidInput(f"not valid TOML: {error}.") from error
        except RecursionError as error:
            raise InvalidInput("not usable TOML: nested too deeply.") from error

    def entries(self, content: dict[str, Any], container: str) -> dict[str, Any]:
        """The entries by name. Raises `InvalidInput` where the container holds something else."""
        entries = content.get(container, {})
        if not isinstance(entries, dict):
            raise InvalidInput(f"{container!r} holds no table.")
        return entries

    def put(self, text: str, container: str, name: str, entry: Any) -> str:
        """The text with this entry; `text` has passed `parse`."""
        newline = "\r\n" if "\r\n" in text else "\n"
        lines = [f"[{_key(container)}.{_key(name)}]", *(f"{_key(key)} = {_value(v)}" for key, v in entry.items())]
        written = "".join(line + newline for line in lines)
        places = _places(text, container, name)
        if places:
            at = places[0][0]
            for start, end in reversed(places):
                text = text[:start] + text[end:]
            return text[:at] + written + text[at:]
        if text and not text.endswith("\n"):
            text += newline
        return text + (newline if text.strip() else "") + written

    def remove(self, text: str, container: str, name: str) -> str:
        """The text without this entry."""
        for start, end in reversed(_places(text, container, name)):
            before = text[:start]
            if not text[end:].strip():  # the empty line before it was ours
                before = re.sub(r"(\A|\n)\r?\n\Z", r"\1", before)
            text = before + text[end:]
        return text


def _places(text: str, container: str, name: str) -> list[tuple[int, int]]:
    """From where to where the tables of one entry stand, without the comments of what follows."""
    headers = list(_headers(text))
    found = []
    for index, (path, start) in enumerate(headers):
        if path[:2] == (container, name):
            end = headers[index + 1][1] if index + 1 < len(headers) else len(text)
            found.append((start, start + _body(text[start:end])))
    return found


def _body(table: str) -> int:
    """How much of a table's text is the table, and not blank lines and comments after it."""
    lines = table.splitlines(keepends=True)
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    return sum(map(len, lines))


def _headers(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """The path of each table and where its line begins."""
    depth = line_start = 0
    blank = True
    header = -1
    for token in _TOKEN.finditer(text):
        found = token[0]
        if found == "\n":
            if header >= 0:
                yield _path(text[header : token.start()]), header
            if depth == 0 or header >= 0:
                line_start, blank, header, depth = token.end(), True, -1, 0
            continue
        if found == "[" and blank and depth == 0:
            header = line_start
        if found in "[{":
            depth += 1
        elif found in "]}":
            depth -= 1
        blank = blank and not found.strip()
    if header >= 0:
        yield _path(text[header:]), header


def _path(header: str) -> tuple[str, ...]:
    value: Any = tomllib.loads(header.rstrip())
    path = []
    while value:
        if isinstance(value, list):
            value = value[0]
            continue
        ((key, value),) = value.items()
        path.append(key)
    return tuple(path)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:
    match value:
        case dict():
            inner = ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case _:  # what JSON and TOML write alike
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
