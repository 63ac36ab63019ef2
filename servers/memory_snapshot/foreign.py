"""Memories of other systems, and the plain formats people edit, as items; told apart by what they look like.

Read: JSON lines and Markdown of our own and of others, `memory.jsonl` of the reference memory server, exports of
mem0, of Claude and of ChatGPT, transcripts of Claude Code and of Codex. All of it is of the class `import`,
whoever is said to have said it, except where an export of our own names the class itself.

Files of others are taken as they are found: entries without a text are left out, what is too long comes in parts,
half characters are replaced. What is broken is refused with its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, get_args

from pydantic import ValidationError

from memory_snapshot.drafts import MAX_NAME, MAX_TAGS, MAX_TEXT, MAX_URI
from memory_snapshot.items import Remembrance
from memory_snapshot.wire import Item, Kind, Source
from usrland import InvalidInput

__all__ = ["from_markdown", "items_in", "to_jsonl", "to_markdown"]

_FRONT = re.compile(r"\A---[ \t]*\n(?:(.*?)\n)?---[ \t]*(?:\n(.*))?\Z", re.DOTALL)
_FIELDS = ("kind", "key", "valid_from", "valid_to", "keep_until", "speaker", "tags", "pin", "source")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_CODEX_CONTEXT = ("<environment_context", "<user_instructions", "# AGENTS.md")
"""How turns begin that Codex itself puts in a person's mouth."""


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


def from_markdown(text: str, name: str) -> list[Item]:
    """The items of one note: a long one is several, an empty one none. Without front matter it is a fact."""
    text = _UNSTORABLE.sub("\ufffd", text.replace("\r\n", "\n").removeprefix("\ufeff"))
    found = _FRONT.match(text)
    front, body = (_front(found[1] or "", name), found[2] or "") if found else ({}, text)
    fields: dict[str, Any] = {"source": {"origin": "import", "uri": name}}
    fields |= {field: _plain_value(front[field]) for field in _FIELDS if front.get(field) is not None}
    if fields.get("kind", "fact") not in get_args(Kind):
        del fields["kind"]  # of somebody else's scheme
    if "tags" in fields:
        fields["tags"] = _tags(fields["tags"])
    return [_item({**fields, **part}, name) for part in _parts(body, fields["source"])]


def _front(text: str, name: str) -> dict[str, Any]:
    """Front matter as YAML, of which what we write is a part. Nothing of it runs."""
    import yaml

    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 2}" if where else ""
        raise InvalidInput(
            f"{name}{line}: its front matter is no YAML.", fix="Correct it or take it out."
        ) from None
    return found if isinstance(found, dict) else {}


def _plain_value(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def _tags(tags: Any) -> list[str]:
    """As many as one item may have, from a list or from words with commas between."""
    listed = tags if isinstance(tags, list) else str(tags).split(",")
    named = (str(tag).strip().lstrip("#")[:MAX_NAME] for tag in listed)
    return list(dict.fromkeys(tag for tag in named if tag))[:MAX_TAGS]


def items_in(text: str, name: str) -> list[Item]:
    """The items of a JSON or JSON lines file. Raises `InvalidInput` where it is none that is known."""
    try:
        whole = _storable(json.loads(text))
    except (ValueError, RecursionError):
        whole = None
    if whole is None:
        return list(_lines(_storable(_json_lines(text, name)), name))
    if isinstance(whole, Mapping):
        if isinstance(whole.get("entities"), list):  # a graph as the reference server returns it
            return list(_graph(whole, name))
        for field in ("results", "memories", "conversations"):
            if isinstance(whole.get(field), list):
                return list(_lines(whole[field], name))
        return list(_lines([whole], name))
    if not isinstance(whole, list):
        raise InvalidInput(f"{name!r} holds neither an object nor a list.")
    return list(_lines(whole, name))


def _storable(value: Any) -> Any:
    """The same without NUL and half surrogate pairs, which files of others hold and no database takes."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_storable(each) for each in value]
    if isinstance(value, dict):
        return {name: _storable(each) for name, each in value.items()}
    return value


def _json_lines(text: str, name: str) -> list[Any]:
    """One value a line; a last line that breaks off, in a file that is still written to, is not there yet."""
    lines = text.splitlines()
    found = []
    for place, line in enumerate(lines, start=1):
        try:
            if line.strip():
                found.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            if place == len(lines) and found and not text.endswith("\n"):
                break
            raise InvalidInput(f"{name}:{place} is no JSON.") from error
    return found


def _graph(graph: Mapping[str, Any], name: str) -> Iterator[Item]:
    for kind, field in (("entity", "entities"), ("relation", "relations")):
        for line in graph.get(field) or []:
            if isinstance(line, Mapping):
                yield from _lines([{"type": kind, **line}], name)


def _lines(lines: Sequence[Any], name: str) -> Iterator[Item]:
    transcript = any(isinstance(line, Mapping) and "sessionId" in line and "type" in line for line in lines)
    rollout = any(isinstance(line, Mapping) and line.get("type") == "session_meta" for line in lines)
    session = next((_session(line) for line in lines if rollout and line.get("type") == "session_meta"), name)
    for place, line in enumerate(lines, start=1):
        where = f"{name}:{place}"
        if not isinstance(line, Mapping):
            raise InvalidInput(f"{where} is no object.")
        if transcript or line.get("type") in ("user", "assistant", "summary", "system"):
            yield from _claude_code(line, name)
        elif rollout:
            yield from _codex(line, session, place)
        elif line.get("type") == "entity":
            yield from _entity(line, name, where)
        elif line.get("type") == "relation":
            yield from _relation(line, name, where)
        elif isinstance(line.get("chat_messages"), list):
            yield from _claude(line)
        elif isinstance(line.get("mapping"), Mapping):
            yield from _chatgpt(line)
        elif "conversations_memory" in line:
            yield from _claude_memory(line, name)
        elif "memory" in line:
            yield from _mem0(line, where)
        elif "text" in line:
            yield _item(dict(line), where)
        else:
            raise InvalidInput(
                f"{where} is of no format that is known.",
                fix="Use our own JSON lines, or an export of server-memory, mem0, Claude, ChatGPT, Claude Code "
                "or Codex.",
            )


def _fact(text: str, uri: str, **more: Any) -> Iterator[dict[str, Any]]:
    """As many items as it takes; none where there is no text."""
    for part in _parts(text, {"origin": "import", "uri": uri[:MAX_URI]}):
        yield {**part, **more}


def _parts(text: str, source: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A text in pieces that can be stored, each with its place in the whole where there are several."""
    text = text.strip()
    start = 0
    while start < len(text):
        end = len(text)
        if end - start > MAX_TEXT:
            end = start + MAX_TEXT
            end = next((at for mark in ("\n\n", "\n", " ") if (at := text.rfind(mark, start + 1, end)) > 0), end)
        if part := text[start:end].strip():
            span = str(source.get("span") or "")
            place = {"span": f"{span}+{start}"} if start else {}
            yield {"text": part, "source": {**source, **place}}
        start = end


def _entity(line: Mapping[str, Any], name: str, where: str) -> Iterator[Item]:
    kind = str(line.get("entityType") or "")
    called = _named(line, "name", where)
    observations = line.get("observations") or []
    for observation in observations if isinstance(observations, list) else [observations]:
        text = observation if isinstance(observation, str) else ""
        if isinstance(observation, Mapping):
            text = str(observation.get("content") or observation.get("text") or "")
        for fields in _fact(f"{called}: {text}" if text.strip() else "", name, tags=_tags([kind])):
            yield _item(fields, where)
    if not observations and kind:
        yield from (_item(fields, where) for fields in _fact(f"{called} is of type {kind}", name))


def _relation(line: Mapping[str, Any], name: str, where: str) -> Iterator[Item]:
    words = (_named(line, part, where) for part in ("from", "relationType", "to"))
    yield from (_item(fields, where) for fields in _fact(" ".join(words), name))


def _named(line: Mapping[str, Any], field: str, where: str) -> str:
    value = line.get(field)
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{where}: it has no {field!r}.", fix="Correct the line or take it out.")
    return value.strip()


def _mem0(line: Mapping[str, Any], where: str) -> Iterator[Item]:
    speaker = line.get("user_id") or line.get("agent_id") or line.get("run_id")
    more = {
        "tags": _tags(line.get("categories") or []),
        "speaker": str(speaker)[:MAX_NAME] if speaker else None,
        "valid_from": _moment(line.get("created_at")),
        "keep_until": _moment(line.get("expiration_date")),
    }
    for fields in _fact(str(line.get("memory") or ""), f"mem0:{line.get('id', '')}", **more):
        yield _item(fields, where)


def _claude(line: Mapping[str, Any]) -> Iterator[Item]:
    uri = f"claude:{line.get('uuid', '')} {line.get('name') or ''}".strip()
    for place, said in enumerate(line["chat_messages"]):
        if not isinstance(said, Mapping):
            continue
        text = _texts(said.get("content")) or str(said.get("text") or "")
        attached = [
            f"[{each.get('file_name') or 'attachment'}]\n{each['extracted_content']}"
            for each in said.get("attachments") or []
            if isinstance(each, Mapping) and each.get("extracted_content")
        ]
        whole = "\n\n".join([text, *attached])
        yield from _turns(whole, str(said.get("sender") or ""), said.get("created_at"), uri, str(place))


def _claude_memory(line: Mapping[str, Any], name: str) -> Iterator[Item]:
    """What Claude itself had noted about a person and their projects."""
    projects = line.get("project_memories")
    for text in (line.get("conversations_memory"), *(projects.values() if isinstance(projects, Mapping) else ())):
        yield from (_item(fields, name) for fields in _fact(str(text or ""), name, kind="summary"))


def _chatgpt(line: Mapping[str, Any]) -> Iterator[Item]:
    uri = f"chatgpt:{line.get('conversation_id') or line.get('id') or ''} {line.get('title') or ''}".strip()
    for place, message in enumerate(_shown(line)):
        content = message.get("content")
        content = content if isinstance(content, Mapping) else {}
        text = "\n".join(_strings(content.get("parts"))) or str(content.get("text") or "")
        author = message.get("author")
        role = str(author.get("role", "")) if isinstance(author, Mapping) else ""
        metadata = message.get("metadata")
        hidden = isinstance(metadata, Mapping) and metadata.get("is_visually_hidden_from_conversation")
        if role in ("user", "assistant") and not hidden:
            yield from _turns(text, role, message.get("create_time"), uri, str(place))


def _shown(line: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The messages that a person saw last, in their order: answers that were asked for anew are other branches."""
    nodes = {name: node for name, node in line["mapping"].items() if isinstance(node, Mapping)}
    chain: list[Mapping[str, Any]] = []
    name = line.get("current_node")
    seen: set[Any] = set()
    while name in nodes and name not in seen:
        seen.add(name)
        chain.append(nodes[name])
        name = nodes[name].get("parent")
    if not chain:
        chain = sorted(nodes.values(), key=lambda node: -_created(node))
    return [node["message"] for node in reversed(chain) if isinstance(node.get("message"), Mapping)]


def _created(node: Mapping[str, Any]) -> float:
    message = node.get("message")
    at = message.get("create_time") if isinstance(message, Mapping) else None
    return float(at) if isinstance(at, int | float) else 0.0


def _strings(parts: Any) -> list[str]:
    """The texts among the parts; pictures and the like are objects."""
    found = []
    for part in parts if isinstance(parts, list) else []:
        text = part.get("text") if isinstance(part, Mapping) else part
        if isinstance(text, str) and text.strip():
            found.append(text)
    return found


def _texts(content: Any) -> str:
    """What a person would read of a message's parts; what tools were given and returned is left out."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(
        str(part["text"])
        for part in parts
        if isinstance(part, Mapping)
        and part.get("type", "text") in ("text", "input_text", "output_text")
        and part.get("text")
    )


def _claude_code(line: Mapping[str, Any], name: str) -> Iterator[Item]:
    """A turn of a transcript, but not what the program itself says in between, nor its helpers to each other."""
    if line.get("type") == "summary" and line.get("summary"):
        yield from (_item(fields, name) for fields in _fact(str(line["summary"]), name, kind="summary"))
    message = line.get("message")
    if line.get("type") not in ("user", "assistant") or not isinstance(message, Mapping):
        return
    if line.get("isMeta") or line.get("isSidechain"):
        return
    text = _texts(message.get("content"))
    uri = f"claude-code:{line.get('sessionId', name)}"
    if line.get("isCompactSummary"):
        yield from (_item(fields, name) for fields in _fact(text, uri, kind="summary"))
        return
    yield from _turns(text, str(line["type"]), line.get("timestamp"), uri, str(line.get("uuid", ""))[:64])


def _session(line: Mapping[str, Any]) -> str:
    payload = line.get("payload")
    return str(payload.get("id", "")) if isinstance(payload, Mapping) else ""


def _codex(line: Mapping[str, Any], session: str, place: int) -> Iterator[Item]:
    payload = line.get("payload")
    if line.get("type") != "response_item" or not isinstance(payload, Mapping):
        return
    role, text = payload.get("role"), _texts(payload.get("content"))
    if payload.get("type") != "message" or role not in ("user", "assistant"):
        return
    if not text.lstrip().startswith(_CODEX_CONTEXT):
        yield from _turns(text, str(role), line.get("timestamp"), f"codex:{session}", str(place))


def _turns(text: str, speaker: str, at: Any, uri: str, span: str) -> Iterator[Item]:
    """One turn; one that is too long in several."""
    more = {"kind": "transcript", "speaker": speaker[:MAX_NAME] or None, "valid_from": _moment(at)}
    for part in _parts(text, {"origin": "import", "uri": uri[:MAX_URI], "span": span}):
        yield _item({**part, **more}, uri)


def _moment(at: Any) -> str | None:
    """As far as it is one: a date that cannot be read is not worth refusing a text for."""
    try:
        if isinstance(at, int | float) and not isinstance(at, bool) and at > 0:
            return datetime.fromtimestamp(at, UTC).isoformat()
        return datetime.fromisoformat(at).isoformat() if isinstance(at, str) and at.strip() else None
    except (ValueError, OverflowError, OSError):
        return None


def _item(fields: Mapping[str, Any], where: str) -> Item:
    try:
        item = Item.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    return item if item.source else item.model_copy(update={"source": Source(origin="import", uri=where)})
