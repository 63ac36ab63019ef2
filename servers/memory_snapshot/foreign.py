"""Memories of other systems, and the plain formats people edit, as items; told apart by what they look like.

Read: JSON lines and Markdown of our own, `memory.jsonl` of the reference memory server, exports of mem0, of Claude
and of ChatGPT, transcripts of Claude Code. All of it is of the class `import`, whoever is said to have said it,
except where an export of our own names the class itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from memory_snapshot.drafts import MAX_NAME, MAX_TEXT
from memory_snapshot.items import Remembrance
from memory_snapshot.wire import Item, Source
from usrland import InvalidInput

__all__ = ["from_markdown", "items_in", "to_jsonl", "to_markdown"]

_FRONT = re.compile(r"\A---\n(.*?)\n---\n?(.*)\Z", re.DOTALL)
_FIELDS = ("kind", "key", "valid_from", "valid_to", "keep_until", "speaker", "tags", "pin", "source")


def to_jsonl(items: Sequence[Remembrance]) -> str:
    """One line for each item, as `memory_remember` takes them."""
    lines = (json.dumps(_plain(item), ensure_ascii=False, sort_keys=True) for item in items)
    return "".join(f"{line}\n" for line in lines)


def to_markdown(item: Remembrance) -> str:
    """Front matter, then the text."""
    fields = _plain(item)
    text = fields.pop("text")
    front = "\n".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in sorted(fields.items()))
    return f"---\ntype: memory\n{front}\n---\n{text}\n"


def _plain(item: Remembrance) -> dict[str, Any]:
    said = item.said
    assert said is not None
    fields = {
        "text": said.text,
        "kind": item.kind,
        "key": said.key,
        "valid_from": item.valid_from,
        "valid_to": item.valid_to,
        "keep_until": item.retention,
        "speaker": said.speaker,
        "tags": list(said.tags) or None,
        "pin": item.pinned or None,
        "source": item.source.model_dump(exclude_none=True),
    }
    return {name: value for name, value in fields.items() if value is not None}


def from_markdown(text: str, name: str) -> Item:
    """One note; without front matter it is a fact."""
    found = _FRONT.match(text.replace("\r\n", "\n"))
    front, body = (found[1], found[2]) if found else ("", text)
    fields: dict[str, Any] = {"source": {"origin": "import", "uri": name}}
    for line in front.splitlines():
        field, _, value = line.partition(":")
        if field.strip() in _FIELDS and value.strip():
            fields[field.strip()] = _scalar(value.strip())
    return _item({**fields, "text": body.strip()}, name)


def _scalar(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        if value.startswith("[") and value.endswith("]"):
            return [part.strip().strip("'\"") for part in value[1:-1].split(",") if part.strip()]
        return value.strip("'\"")


def items_in(text: str, name: str) -> list[Item]:
    """The items of a JSON or JSON lines file. Raises `InvalidInput` where it is none that is known."""
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    if whole is None or (isinstance(whole, Mapping) and "\n{" in text.strip()):
        try:
            return list(_lines([json.loads(line) for line in text.splitlines() if line.strip()], name))
        except ValueError as error:
            raise InvalidInput(f"{name!r} is neither JSON nor lines of JSON.") from error
    if isinstance(whole, Mapping):
        for field in ("results", "memories", "conversations"):
            if isinstance(whole.get(field), list):
                return list(_lines(whole[field], name))
        return list(_lines([whole], name))
    return list(_lines(whole, name))


def _lines(lines: Sequence[Any], name: str) -> Iterator[Item]:
    for place, line in enumerate(lines):
        where = f"{name}:{place + 1}"
        if not isinstance(line, Mapping):
            raise InvalidInput(f"{where} is no object.")
        if line.get("type") == "entity":
            yield from _entity(line, name)
        elif line.get("type") == "relation":
            yield _item(_fact(f"{line['from']} {line['relationType']} {line['to']}", name), where)
        elif "chat_messages" in line:
            yield from _claude(line)
        elif "mapping" in line:
            yield from _chatgpt(line)
        elif "sessionId" in line or line.get("type") in ("user", "assistant", "summary", "system"):
            yield from _claude_code(line, name)
        elif "memory" in line:
            yield _mem0(line, where)
        elif "text" in line:
            yield _item(dict(line), where)
        else:
            raise InvalidInput(
                f"{where} is of no format that is known.",
                fix="Use our own JSON lines, or an export of server-memory, mem0, Claude, ChatGPT or Claude Code.",
            )


def _fact(text: str, uri: str, **more: Any) -> dict[str, Any]:
    return {"text": text, "source": {"origin": "import", "uri": uri}, **more}


def _entity(line: Mapping[str, Any], name: str) -> Iterator[Item]:
    tags = [str(line.get("entityType", ""))[:MAX_NAME]]
    for observation in line.get("observations", []):
        text = observation if isinstance(observation, str) else str(observation.get("content", observation))
        yield _item(_fact(f"{line['name']}: {text}", name, tags=[tag for tag in tags if tag]), name)


def _mem0(line: Mapping[str, Any], where: str) -> Item:
    speaker = line.get("user_id") or line.get("agent_id")
    fields = _fact(str(line["memory"]), f"mem0:{line.get('id', '')}", speaker=speaker)
    fields["tags"] = [str(tag) for tag in line.get("categories") or []]
    return _item({**fields, "valid_from": _moment(line.get("created_at"))}, where)


def _claude(line: Mapping[str, Any]) -> Iterator[Item]:
    uri = f"claude:{line.get('uuid', '')} {line.get('name', '')}".strip()
    for place, said in enumerate(line["chat_messages"]):
        parts = [str(part.get("text", "")) for part in said.get("content") or [] if isinstance(part, Mapping)]
        text = str(said.get("text") or "\n".join(part for part in parts if part))
        yield from _turns(text, str(said.get("sender", "")), said.get("created_at"), uri, place)


def _chatgpt(line: Mapping[str, Any]) -> Iterator[Item]:
    uri = f"chatgpt:{line.get('conversation_id') or line.get('id') or ''} {line.get('title', '')}".strip()
    messages = [node.get("message") for node in line["mapping"].values() if node.get("message")]
    messages.sort(key=lambda message: message.get("create_time") or 0)
    for place, message in enumerate(messages):
        content = message.get("content") or {}
        text = "\n".join(part for part in content.get("parts") or [] if isinstance(part, str))
        role = str((message.get("author") or {}).get("role", ""))
        if role in ("user", "assistant"):
            yield from _turns(text, role, message.get("create_time"), uri, place)


def _claude_code(line: Mapping[str, Any], name: str) -> Iterator[Item]:
    if line.get("type") == "summary" and line.get("summary"):
        yield _item(_fact(str(line["summary"]), name, kind="summary"), name)
    message = line.get("message")
    if line.get("type") not in ("user", "assistant") or not isinstance(message, Mapping):
        return
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    text = "\n".join(str(part["text"]) for part in parts if isinstance(part, Mapping) and part.get("text"))
    uri = f"claude-code:{line.get('sessionId', name)}"
    yield from _turns(text, str(line["type"]), line.get("timestamp"), uri, str(line.get("uuid", ""))[:64])


def _turns(text: str, speaker: str, at: Any, uri: str, span: object) -> Iterator[Item]:
    """One turn; one that is too long in several."""
    text = text.replace("\0", "").strip()
    for start in range(0, len(text), MAX_TEXT):
        part = text[start : start + MAX_TEXT]
        source = {"origin": "import", "uri": uri[:2_000], "span": f"{span}" if not start else f"{span}+{start}"}
        fields = {"text": part, "kind": "transcript", "speaker": speaker or None, "source": source}
        yield _item({**fields, "valid_from": _moment(at)}, uri)


def _moment(at: Any) -> str | None:
    if isinstance(at, int | float) and at > 0:
        return datetime.fromtimestamp(at, UTC).isoformat()
    return at if isinstance(at, str) and at else None


def _item(fields: Mapping[str, Any], where: str) -> Item:
    try:
        item = Item.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    return item if item.source else item.model_copy(update={"source": Source(origin="import", uri=where)})
