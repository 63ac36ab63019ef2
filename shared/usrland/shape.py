"""Answers cut to what they may cost, and the cursor that gets the rest.

A `Page` is cut between items. Anything else that is too long is cut as text: the caller gets a part of the
answer's JSON, is told how much there is, and reads on with the cursor. No cursor holds state: the operation
runs again and the answer's hash tells whether it is still the one that was begun.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from usrland import tokens
from usrland.errors import Conflict, InvalidInput
from usrland.redact import redact
from usrland.schemas.wire import Page
from usrland.visible import visible

__all__ = ["Cursor", "Shaped", "shape"]

_PART_OVERHEAD_TOKENS = 120
_EXACT = 2**53
"""Beyond this JavaScript rounds whole numbers, and many a host is written in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where to go on. `call` binds it to one operation and its arguments."""

    call: str
    items: int = 0
    characters: int = 0
    answer: str = ""

    def encode(self) -> str:
        fields = [self.call, self.items, self.characters, self.answer]
        return base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str, *, call: str) -> Cursor:
        """Raises `InvalidInput` for a cursor that is not ours or belongs to another call."""
        try:
            padded = text + "=" * (-len(text) % 4)
            bound, items, characters, answer = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        except (ValueError, TypeError):
            raise InvalidInput(
                "cursor: not one of ours.", fix="Pass the cursor of the previous answer unchanged."
            ) from None
        if bound != call:
            raise InvalidInput(
                "cursor: it belongs to another call.",
                fix="Repeat the call with the same arguments and its own cursor.",
            )
        if type(items) is not int or type(characters) is not int or items < 0 or characters < 0:
            raise InvalidInput("cursor: not one of ours.", fix="Pass the cursor of the previous answer unchanged.")
        return cls(call=bound, items=items, characters=characters, answer=str(answer))


@dataclass(frozen=True, slots=True)
class Shaped:
    """An answer as it goes out: `structured` and `text` hold the same facts."""

    structured: Mapping[str, Any]
    text: str
    quotes: str = ""
    """Whose words it carries, if not only ours."""

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def shape(answer: BaseModel, *, cursor: Cursor, max_tokens: int) -> Shaped:
    """Redact, show what is hidden, cut to `max_tokens`, and say what was left out.

    Raises `Conflict` when the caller reads on in an answer that has changed since.
    """
    structured, hidden = visible(_exact(redact(answer.model_dump(mode="json", exclude_none=True))))
    if hidden:
        structured["hidden_characters"] = hidden
    if isinstance(answer, Page) and not cursor.characters:
        structured = _cut_page(structured, cursor=cursor, max_tokens=max_tokens)
    text = _dump(structured)
    if cursor.characters or not _fits(text, max_tokens):
        structured = _part(text, cursor=cursor, max_tokens=max_tokens)
        text = _dump(structured)
    return Shaped(structured, text)


def _exact(value: Any) -> Any:
    """The same answer for every host: whole numbers that some would round become text."""
    match value:
        case dict():
            return {key: _exact(inner) for key, inner in value.items()}
        case list():
            return [_exact(inner) for inner in value]
        case int() if not -_EXACT < value < _EXACT:
            return str(value)
        case _:
            return value


def _cut_page(page: dict[str, Any], *, cursor: Cursor, max_tokens: int) -> dict[str, Any]:
    items: list[Any] = page["items"]
    more = page.pop("more", False)
    if not _fits(_dump(page), max_tokens):
        room = max_tokens - tokens.count(_dump({**page, "items": []})) - 60
        kept = 0
        for item in items:
            room -= tokens.count(_dump(item)) + 1
            if room < 0:
                break
            kept += 1
        # an item that is too long alone is handed over whole and cut as text below
        page["items"], more = items[: max(kept, 1)], more or len(items) > max(kept, 1)
    if more:
        done = cursor.items + len(page["items"])
        page["more"] = True
        page["cursor"] = Cursor(call=cursor.call, items=done).encode()
    return page


def _part(text: str, *, cursor: Cursor, max_tokens: int) -> dict[str, Any]:
    answer = hashlib.sha256(text.encode()).hexdigest()[:16]
    if cursor.characters and cursor.answer != answer:
        raise Conflict(
            "the answer has changed since its first part was read.", fix="Repeat the call without a cursor."
        )
    first = cursor.characters
    room = max_tokens - _PART_OVERHEAD_TOKENS
    part = tokens.head(text[first:], room)
    while (cost := tokens.count(_dump(part))) > room:  # quoted inside JSON it costs more
        part = part[: len(part) * room // (cost + 1)]
    last = first + len(part)
    result: dict[str, Any] = {
        "partial": part,
        "note": f"Characters {first} to {last} of {len(text)} of the answer's JSON.",
    }
    if last < len(text):
        rest = Cursor(call=cursor.call, items=cursor.items, characters=last, answer=answer)
        result["cursor"] = rest.encode()
    return result


def _fits(text: str, max_tokens: int) -> bool:
    # a token is at least one byte, so short answers need no counting
    return len(text) * 4 <= max_tokens or tokens.count(text) <= max_tokens


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
