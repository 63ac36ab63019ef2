"""Operations as a person reviewed them, pinned by hash.

What a generated operation is comes from somebody else's description: a new version of it may turn a read into
something that deletes, or put instructions into a text that a kernel reads. So a review can be written down:
`syscalls.lock` in the usrland home holds a hash of everything about an operation that a kernel sees or that
decides what it may do. From then on whoever serves operations withholds those that are not the reviewed ones.
Without the file nothing is withheld.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from usrland.audit.entry import canonical
from usrland.connector import Effect, Operation
from usrland.errors import InvalidInput
from usrland.parameters import Parameters

__all__ = ["FILE_NAME", "Change", "Pin", "changes", "read_pins", "write_pins"]

FILE_NAME = "syscalls.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One operation as it was reviewed."""

    hash: str
    effect: Effect
    scopes: tuple[str, ...]

    @classmethod
    def of(cls, operation: Operation) -> Pin:
        shown = {
            "name": operation.name,
            "title": operation.title,
            "description": operation.description,
            "effect": operation.effect,
            "scopes": sorted(operation.scopes),
            "consent": operation.consent,
            "idempotent": operation.idempotent,
            "undo": operation.undo,
            "arguments": Parameters(operation).own,
            **({"origin": operation.origin} if operation.origin else {}),
        }
        digest = hashlib.sha256(canonical(shown)).hexdigest()
        return cls(hash=digest, effect=operation.effect, scopes=tuple(sorted(operation.scopes)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference from what was reviewed."""

    kind: Literal["new", "gone", "changed"]
    name: str
    before: Pin | None
    after: Pin | None


def read_pins(home: Path) -> dict[str, Pin] | None:
    """The reviewed operations by name; None where nothing was ever reviewed.

    Raises `InvalidInput` where the file is there and cannot be understood: then nothing counts as reviewed.
    """
    try:
        content = json.loads((home / FILE_NAME).read_text(encoding="utf-8"))
        return {
            name: Pin(hash=pin["hash"], effect=pin["effect"], scopes=tuple(pin["scopes"]))
            for name, pin in content.items()
        }
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput(
            f"{FILE_NAME}: cannot be read.", fix="Write it anew: usrland syscalls --accept."
        ) from error


def write_pins(home: Path, operations: Iterable[Operation]) -> int:
    """Take these operations as reviewed; how many they are."""
    pins = {operation.name: Pin.of(operation) for operation in operations}
    content = {name: {"hash": p.hash, "effect": p.effect, "scopes": list(p.scopes)} for name, p in pins.items()}
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = home / f".{FILE_NAME}.{os.getpid()}"
    draft.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")
    draft.replace(home / FILE_NAME)
    return len(pins)


def changes(before: Mapping[str, Pin], operations: Iterable[Operation]) -> list[Change]:
    """What is different from the review, by name."""
    after = {operation.name: Pin.of(operation) for operation in operations}
    found = []
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was is None or now is None or was.hash != now.hash:
            kind: Literal["new", "gone", "changed"] = (
                "new" if was is None else "gone" if now is None else "changed"
            )
            found.append(Change(kind=kind, name=name, before=was, after=now))
    return found
