"""Items as they were given, checked and counted, before they meet the store.

All that takes time (counting tokens) or can be refused without looking at the store happens here, outside
the transaction that every other writer of the space waits for.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from memory_snapshot.canonical import canonical, commitment, digest, parse_moment
from memory_snapshot.wire import Item, Source
from usrland import InvalidInput, tokens

__all__ = ["Draft", "drafts", "words"]

MAX_ITEMS = 100
MAX_TEXT = 20_000
MAX_NAME = 200
"""Characters of a key or a tag."""
MAX_TAGS = 16
MAX_SUPERSEDES = 32
MAX_URI = 2_000
SALT_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An item that can be stored."""

    text: str
    kind: str
    key: str | None
    valid_from: str | None
    valid_to: str | None
    supersedes: tuple[str, ...]
    source: Source
    tags: tuple[str, ...]
    pin: bool
    tokens: int
    salt: bytes
    commitment: str


def drafts(items: Sequence[Item]) -> list[Draft]:
    """Check and count. Raises `InvalidInput` naming the item by its place in the list."""
    if len(items) > MAX_ITEMS:
        raise InvalidInput(
            f"{len(items)} items are too many for one call.", fix=f"Send at most {MAX_ITEMS} a call."
        )
    return [_draft(item, f"items[{place}]") for place, item in enumerate(items)]


def _draft(item: Item, where: str) -> Draft:
    text = item.text.strip()
    if not text:
        raise InvalidInput(f"{where}.text is empty.", fix="Leave the item out.")
    _check(text, f"{where}.text", MAX_TEXT, "Split it into several items.")
    key = None if item.key is None else _name(item.key, f"{where}.key")
    tags = tuple(sorted({_name(tag, f"{where}.tags") for tag in item.tags}))
    if len(tags) > MAX_TAGS:
        raise InvalidInput(f"{where} has {len(tags)} tags.", fix=f"Use at most {MAX_TAGS}.")
    if len(item.supersedes) > MAX_SUPERSEDES:
        raise InvalidInput(f"{where} supersedes too many items.", fix=f"Name at most {MAX_SUPERSEDES}.")
    valid_from = None if item.valid_from is None else parse_moment(item.valid_from, f"{where}.valid_from")
    valid_to = None if item.valid_to is None else parse_moment(item.valid_to, f"{where}.valid_to")
    if valid_from and valid_to and valid_to <= valid_from:
        raise InvalidInput(f"{where}.valid_to is not after valid_from, so it would never be true.")
    salt = secrets.token_bytes(SALT_BYTES)
    return Draft(
        text=text,
        kind=item.kind,
        key=key,
        valid_from=valid_from,
        valid_to=valid_to,
        supersedes=tuple(item.supersedes),
        source=_source(item.source or Source(), where),
        tags=tags,
        pin=item.pin,
        tokens=tokens.count(text),
        salt=salt,
        commitment=commitment(salt, text),
    )


def words(kind: str, text: str) -> str:
    """The same for the same words of the same kind, and only then: exact duplicates are found by it."""
    return digest(canonical({"kind": kind, "text": text}))


def _name(name: str, where: str) -> str:
    name = name.strip()
    if not name:
        raise InvalidInput(f"{where} is empty.", fix="Leave it out.")
    _check(name, where, MAX_NAME, "Shorten it.")
    return name


def _source(source: Source, where: str) -> Source:
    for field in ("uri", "span"):
        _check(getattr(source, field) or "", f"{where}.source.{field}", MAX_URI, "Shorten it.")
    return source


def _check(text: str, where: str, longest: int, fix: str) -> None:
    if len(text) > longest:
        raise InvalidInput(f"{where} is {len(text)} characters, at most {longest} are kept.", fix=fix)
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput(f"{where} holds NUL or half a surrogate pair, which cannot be stored.")
