"""What the operator knows better than the description.

A description says what a method is, not what it does: a POST that only searches, a GET that sends mail, a DELETE
that another call takes back. The overlay says so, one table for each operation, by the name that
`usrland syscalls` shows without the system's prefix:

    [search_orders]
    effect = "read"               # read, write or destroy
    scopes = ["orders"]           # beside the effect's own: becomes <system>:orders
    undo = "restore_order"        # the operation that takes it back
    consent = true                # ask a person first
    idempotent = true             # calling twice is as good as once
    cache_seconds = 60            # a read's answer may be given again to the same caller, until something changes
    summary = "Find orders"       # replaces the first line of the description
    hidden = true                 # not offered at all

A table for an operation that is not there is an error: a correction that silently stops applying is worse than
none.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from usrland.connector import Effect, Operation
from usrland.errors import InvalidInput
from usrland.settings import explain

__all__ = ["Correction", "corrected", "read_overlay"]


class Correction(BaseModel):
    """One table of an overlay; what is not given stays as the description says."""

    model_config = ConfigDict(extra="forbid", strict=True)

    effect: Effect | None = None
    scopes: list[str] = Field(default_factory=list)
    undo: str | None = None
    consent: bool | None = None
    idempotent: bool | None = None
    summary: str | None = Field(default=None, max_length=200)
    hidden: bool = False
    cache_seconds: float = Field(default=0.0, ge=0, le=86_400)


def read_overlay(file: Path, known: Collection[str]) -> dict[str, Correction]:
    """The corrections by operation; raises `InvalidInput` naming what is wrong with the file."""
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"overlay: {file.name!r} cannot be read: {error}.") from error
    corrections: dict[str, Correction] = {}
    for name, table in tables.items():
        if name not in known:
            raise InvalidInput(f"overlay: there is no operation {name!r}.", fix="See: usrland syscalls.")
        try:
            corrections[name] = Correction.model_validate(table)
        except ValidationError as error:
            raise InvalidInput(f"overlay: [{name}]: {explain(error)}.") from None
        undo = corrections[name].undo
        if undo and undo not in known:
            raise InvalidInput(f"overlay: [{name}] undo: there is no operation {undo!r}.")
    return corrections


def corrected(operation: Operation, correction: Correction) -> Operation:
    """The operation with everything the correction says but its effect, which was there before it was made."""
    description = operation.description
    if correction.summary:
        description = "\n".join([correction.summary, *description.split("\n")[1:]])
    return replace(
        operation,
        scopes=operation.scopes | {f"sys:{scope}" for scope in correction.scopes},
        description=description,
        undo=operation.undo if correction.undo is None else correction.undo,
        consent=operation.consent if correction.consent is None else correction.consent,
        cache_seconds=correction.cache_seconds,
        idempotent=operation.idempotent if correction.idempotent is None else correction.idempotent,
    )
