"""One spelling for what is hashed: canonical JSON, commitments, moments in time.

Objects have sorted keys, no spaces and no floats, and leave out what is absent, so that a field added later
changes no hash made before it. A commitment is salted, because what people remember is short enough to be
guessed from a plain hash, and a commitment stays in the journal after what it commits to was erased.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from usrland.errors import InvalidInput

__all__ = [
    "NO_HASH",
    "SHORT_ID",
    "canonical",
    "commitment",
    "digest",
    "hex_range",
    "moment",
    "parse_moment",
    "short",
]

NO_HASH = "0" * 64
"""Stands before the first event of a journal."""

SHORT_ID = 8
"""Characters of an id that are shown to a kernel, and the fewest that find it again."""

_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def canonical(value: Mapping[str, Any]) -> str:
    """The one JSON text for `value`; entries that are None are left out. Raises `TypeError` for a float."""
    present = {name: item for name, item in value.items() if item is not None}
    _refuse_floats(present)
    return json.dumps(present, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError("a float has more than one spelling and cannot be hashed")
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            _refuse_floats(item)


def digest(text: str | bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def commitment(salt: str, said: Mapping[str, Any]) -> str:
    """What the journal keeps of what was said: proves it while the salt is there, says nothing once it is gone."""
    return digest(bytes.fromhex(salt) + canonical(said).encode())


def short(identifier: str) -> str:
    return identifier[:SHORT_ID]


def hex_range(prefix: str, characters: int) -> tuple[str, str]:
    """The first and the last identifier that begin so."""
    return prefix.ljust(characters, "0"), prefix.ljust(characters, "f")


def moment(when: datetime) -> str:
    """A moment as it is stored: UTC, microseconds, of one width so that text order is time order."""
    return when.astimezone(UTC).strftime(_FORMAT)


def parse_moment(text: str, argument: str) -> str:
    """An ISO date or time, as it is stored; without a zone it is UTC. Raises `InvalidInput`."""
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidInput(
            f"{argument} {text!r} is not an ISO date or time.",
            fix="Write 2026-05-08 or 2026-05-08T14:30:00Z.",
        ) from error
    return moment(when if when.tzinfo else when.replace(tzinfo=UTC))
