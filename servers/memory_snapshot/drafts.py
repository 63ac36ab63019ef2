"""Items as they were given, checked and counted, before they meet the store.

All that takes time (counting tokens) or can be refused without looking at the store happens here, outside
the transaction that every other writer of the space waits for.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from memory_snapshot.canonical import canonical, commitment, digest, parse_moment
from memory_snapshot.hygiene import Policy, without_secrets
from memory_snapshot.said import Said
from memory_snapshot.wire import Item, Origin, Source
from usrland import InvalidInput, tokens

__all__ = ["Draft", "draft", "drafts", "message", "new_salt", "words"]

MAX_ITEMS = 100
MAX_TEXT = 20_000
MAX_MESSAGE = 2_000
MAX_NAME = 200
"""Characters of a key, a speaker or a tag."""
MAX_TAGS = 16
MAX_NAMED = 100
"""Items that one can supersede or be derived from."""
MAX_URI = 2_000
SALT_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An item that can be stored."""

    said: Said
    kind: str
    origin: Origin
    valid_from: str | None
    valid_to: str | None
    retention: str | None
    supersedes: tuple[str, ...]
    derived_from: tuple[str, ...]
    pin: bool
    tokens: int
    salt: str
    commitment: str

    @property
    def words(self) -> str:
        return words(self.kind, self.said.text)


def drafts(items: Sequence[Item], policy: Policy = "refuse") -> list[Draft]:
    """Check and count; `policy` is for what looks like a secret. Raises `InvalidInput` naming the item by its
    place in the list."""
    if len(items) > MAX_ITEMS:
        raise InvalidInput(
            f"{len(items)} items are too many for one call.", fix=f"Send at most {MAX_ITEMS} a call."
        )
    return [draft(item, f"items[{place}]", policy) for place, item in enumerate(items)]


def draft(item: Item, where: str, policy: Policy = "refuse") -> Draft:
    """One item, named `where` in what is refused."""
    text = item.text.strip()
    if not text:
        raise InvalidInput(f"{where}.text is empty.", fix="Leave the item out.")
    _check(text, f"{where}.text", MAX_TEXT, "Split it into several items.")
    tags = tuple(sorted({_name(tag, f"{where}.tags") for tag in item.tags}))
    if len(tags) > MAX_TAGS:
        raise InvalidInput(f"{where} has {len(tags)} tags.", fix=f"Use at most {MAX_TAGS}.")
    for field in ("supersedes", "derived_from"):
        if len(getattr(item, field)) > MAX_NAMED:
            raise InvalidInput(f"{where}.{field} names too many items.", fix=f"Name at most {MAX_NAMED}.")
    valid_from, valid_to, retention = (
        None if moment is None else parse_moment(moment, f"{where}.{name}")
        for name, moment in (
            ("valid_from", item.valid_from),
            ("valid_to", item.valid_to),
            ("keep_until", item.keep_until),
        )
    )
    if valid_from and valid_to and valid_to <= valid_from:
        raise InvalidInput(f"{where}.valid_to is not after valid_from, so it would never be true.")
    source = item.source or Source()
    for field in ("uri", "span"):
        _check(getattr(source, field) or "", f"{where}.source.{field}", MAX_URI, "Shorten it.")
    said = Said(
        text=text,
        key=None if item.key is None else _name(item.key, f"{where}.key"),
        tags=tags,
        speaker=None if item.speaker is None else _name(item.speaker, f"{where}.speaker"),
        uri=source.uri,
        span=source.span,
    )
    said = without_secrets(said, policy, where)
    salt = new_salt()
    return Draft(
        said=said,
        kind=item.kind,
        origin=source.origin,
        valid_from=valid_from,
        valid_to=valid_to,
        retention=retention,
        supersedes=tuple(item.supersedes),
        derived_from=tuple(item.derived_from),
        pin=item.pin,
        tokens=tokens.count(said.text),
        salt=salt,
        commitment=commitment(salt, said.committed),
    )


def message(text: str, policy: Policy = "keep") -> Said:
    """A snapshot's message, checked; `policy` is for one that somebody else wrote."""
    text = text.strip()
    if not 0 < len(text) <= MAX_MESSAGE:
        raise InvalidInput(f"message has {len(text)} characters.", fix=f"Write 1 to {MAX_MESSAGE}.")
    _check(text, "message", MAX_MESSAGE, "Shorten it.")
    return without_secrets(Said(text=text), policy, "message")


def new_salt() -> str:
    return secrets.token_hex(SALT_BYTES)


def words(kind: str, text: str) -> str:
    """The same for the same words of the same kind, and only then: exact duplicates are found by it."""
    return digest(canonical({"kind": kind, "text": text}))[:32]


def _name(name: str, where: str) -> str:
    name = name.strip()
    if not name:
        raise InvalidInput(f"{where} is empty.", fix="Leave it out.")
    _check(name, where, MAX_NAME, "Shorten it.")
    return name


def _check(text: str, where: str, longest: int, fix: str) -> None:
    if len(text) > longest:
        raise InvalidInput(f"{where} is {len(text)} characters, at most {longest} are kept.", fix=fix)
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput(f"{where} holds NUL or half a surrogate pair, which cannot be stored.")
