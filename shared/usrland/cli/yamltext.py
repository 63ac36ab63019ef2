"""Change one entry in a YAML text and leave every other byte as its owner wrote it.

The parser tells where each node begins and ends; a new entry goes directly below its container's own line,
with the values in flow style, which is JSON. What it comes to is compared by the caller with what it should
be, since there are more ways to write YAML than are foreseen here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import yaml

from usrland.errors import InvalidInput

__all__ = ["YamlText"]


@dataclass(frozen=True, slots=True)
class YamlText:
    """YAML whose container maps names to entries, or lists entries that have a `name`."""

    listed: bool = False

    def parse(self, text: str) -> dict[str, Any]:
        """Raises `InvalidInput` with the place of the mistake, also where a key is there twice."""
        try:
            _refuse_twice(yaml.compose(text, yaml.SafeLoader))
            value = yaml.safe_load(text)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            place = f", line {mark.line + 1} column {mark.column + 1}" if mark else ""
            raise InvalidInput(f"not valid YAML: {error.problem}{place}.") from error
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise InvalidInput("not usable YAML.") from error
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise InvalidInput(f"not a YAML mapping but {type(value).__name__}.")
        return value

    def entries(self, content: dict[str, Any], container: str) -> dict[str, Any]:
        """The entries by name. Raises `InvalidInput` where the container holds something else."""
        entries = content.get(container)
        if entries is None:
            return {}
        if not isinstance(entries, list if self.listed else dict):
            raise InvalidInput(f"{container!r} holds no {'list' if self.listed else 'mapping'}.")
        if not self.listed:
            return dict(entries)
        named: dict[str, Any] = {}
        for item in entries:
            name = item.get("name") if isinstance(item, dict) else None
            # what has no name is counted among its like: it stays the same one wherever we add and remove
            key = name if isinstance(name, str) else f"#{sum(key.startswith('#') for key in named)}"
            if key in named:
                raise InvalidInput(f"the name {key!r} is there twice in {container!r}.")
            named[key] = item
        return named

    def put(self, text: str, container: str, name: str, entry: Any) -> str:
        """The text with this entry; `text` has passed `parse` and `entries`."""
        newline = "\r\n" if "\r\n" in text else "\n"
        root: Any = yaml.compose(text, yaml.SafeLoader)
        if root is None:
            text = text if not text or text.endswith("\n") else text + newline
            return f"{text}{container}:{newline}{self._block(name, entry, 2, newline)}"
        found = _pair(root, container)
        if found is None:
            if root.flow_style:
                return _into_flow(text, root, f"{_flow(container)}: {self._alone(name, entry)}")
            text = text if text.endswith("\n") else text + newline
            indent = " " * root.start_mark.column
            return f"{text}{indent}{container}:{newline}{self._block(name, entry, len(indent) + 2, newline)}"
        key, value = found
        known = self._find(value, name)
        if known is not None:
            return self.put(self._cut(text, value, known), container, name, entry)
        filled = isinstance(value, yaml.CollectionNode) and bool(value.value)
        if not filled and not root.flow_style:
            block = self._block(name, entry, key.start_mark.column + 2, newline).rstrip()
            kept = (
                text[value.end_mark.index :]
                if isinstance(value, yaml.CollectionNode)
                else text[key.end_mark.index + 1 :]
            )
            return text[: key.end_mark.index + 1] + newline + block + kept
        if not isinstance(value, yaml.CollectionNode):
            return text[: value.start_mark.index] + self._alone(name, entry) + text[value.end_mark.index :]
        if value.flow_style:
            return _into_flow(text, value, _flow(entry) if self.listed else f"{_flow(name)}: {_flow(entry)}")
        at = text.index("\n", key.end_mark.index) + 1
        return text[:at] + self._block(name, entry, value.start_mark.column, newline) + text[at:]

    def remove(self, text: str, container: str, name: str) -> str:
        """The text without this entry, which is in it."""
        found = _pair(yaml.compose(text, yaml.SafeLoader), container)
        assert found is not None
        known = self._find(found[1], name)
        assert known is not None
        return self._cut(text, found[1], known)

    def _find(self, node: Any, name: str) -> int | None:
        """Which of the container's values it is."""
        for index, inner in enumerate(node.value if isinstance(node, yaml.CollectionNode) else []):
            key = (_pair(inner, "name") or (None, None))[1] if self.listed else inner[0]
            if isinstance(key, yaml.ScalarNode) and key.value == name:
                return index
        return None

    def _cut(self, text: str, container: Any, index: int) -> str:
        spans = [
            (inner.start_mark.index, inner.end_mark.index)
            if self.listed
            else (inner[0].start_mark.index, inner[1].end_mark.index)
            for inner in container.value
        ]
        start, end = spans[index]
        if container.flow_style:
            if index + 1 < len(spans):
                return text[:start] + text[spans[index + 1][0] :]
            return text[: spans[index - 1][1] if index else start] + text[end:]
        start = text.rfind("\n", 0, start) + 1
        end = len(text[:end].rstrip())  # a block ends where the next thing begins
        lines = text[start:end].splitlines(keepends=True)
        while len(lines) > 1 and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
            end -= len(lines.pop())
        end = (text.find("\n", end - 1 if text[end - 1] == "\n" else end) + 1) or len(text)
        if len(spans) == 1:
            at = text.rfind(":", 0, start) + 1
            return text[:at] + (" []" if self.listed else " {}") + text[at:start] + text[end:]
        return text[:start] + text[end:]

    def _block(self, name: str, entry: dict[str, Any], column: int, newline: str) -> str:
        lines = [f"{_word(key)}: {_flow(value)}" for key, value in entry.items()]
        if self.listed:
            lines = [("- " if at == 0 else "  ") + line for at, line in enumerate(lines)]
        else:
            lines = [f"{_word(name)}:", *("  " + line for line in lines)]
        return "".join(" " * column + line + newline for line in lines)

    def _alone(self, name: str, entry: dict[str, Any]) -> str:
        return _flow([entry] if self.listed else {name: entry})


def _pair(node: Any, key: str) -> tuple[Any, Any] | None:
    """The nodes of a key and its value."""
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((pair for pair in node.value if getattr(pair[0], "value", None) == key), None)


def _into_flow(text: str, node: Any, written: str) -> str:
    at = node.start_mark.index + 1
    return text[:at] + written + (", " if node.value else "") + text[at:]


def _refuse_twice(node: Any) -> None:
    for pair in node.value if isinstance(node, yaml.CollectionNode) else []:
        for inner in pair if isinstance(pair, tuple) else (pair,):
            _refuse_twice(inner)
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise InvalidInput(f"the key {twice[0]!r} is there twice in one mapping.")


def _word(text: str) -> str:
    """A key as a person would write it, where it needs no quotes."""
    return text if text.replace("-", "").replace("_", "").isalnum() and text[0].isalpha() else _flow(text)


def _flow(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
