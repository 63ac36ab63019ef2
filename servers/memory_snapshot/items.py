"""Items as they are read: one version, what it says where that is still there, and how to find it by its id."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Select, select
from sqlmodel import Session, and_, bindparam, col

from memory_snapshot.canonical import SHORT_ID, canonical, digest
from memory_snapshot.manifest import Manifest
from memory_snapshot.said import Said
from memory_snapshot.tables import Body, ItemVersion
from memory_snapshot.wire import Kind, Origin, Source
from usrland import InvalidInput, NotFound
from usrland.database import in_batches

__all__ = [
    "CORE_KINDS",
    "LOG_KINDS",
    "Remembrance",
    "always_applies",
    "load",
    "matching_item",
    "said_in",
    "version_oid",
]

CORE_KINDS = ("instruction", "preference")
"""What always applies; no question's words would find it, so every restore brings it."""

LOG_KINDS = ("observation", "transcript", "summary")
"""What records that something happened: two of these cannot contradict each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembrance:
    """One version of one item. `said` is None where it was not asked for or was erased."""

    oid: str
    item_id: str
    kind: Kind
    actor: str
    origin: Origin
    trust: Origin
    valid_from: str | None
    valid_to: str | None
    retention: str | None
    recorded_at: str
    pinned: bool
    core: bool
    tokens: int
    seq: int
    place: int
    said: Said | None = None

    @property
    def text(self) -> str | None:
        return self.said.text if self.said else None

    @property
    def key(self) -> str | None:
        return self.said.key if self.said else None

    @property
    def source(self) -> Source:
        said = self.said
        return Source(origin=self.origin, uri=said.uri if said else None, span=said.span if said else None)

    @property
    def occasion(self) -> str | None:
        """What it was said on, where it was a part of something: its source, or else the day."""
        if self.said is None:
            return None
        if self.said.uri is not None:
            return self.said.uri
        return self.day if self.kind in LOG_KINDS or self.said.speaker else None

    @property
    def day(self) -> str:
        """When it was so, as far as that is known."""
        return (self.valid_from or self.recorded_at)[:10]

    @property
    def date(self) -> str:
        """The day it speaks of, in words people ask with."""
        if self.valid_from is None:
            return ""
        return f"{datetime.fromisoformat(self.valid_from):%d %B %Y}".lstrip("0")

    @property
    def order(self) -> tuple[int, int]:
        """Greater is newer."""
        return (self.seq, self.place)


_FACTS = tuple(getattr(ItemVersion, field.name) for field in fields(Remembrance) if field.name != "said")
_SAID = (Body.text, Body.key, Body.tags, Body.speaker, Body.uri, Body.span)


def load(session: Session, space_id: int, oids: Collection[str], *, said: bool = True) -> dict[str, Remembrance]:
    """oid → item, for those that exist, in the order given. Without `said` it costs a fraction."""
    found: dict[str, Remembrance] = {}
    for some in in_batches(oids):
        for row in session.execute(_loaded(said=said), {"space": space_id, "oids": some}):
            found[row.oid] = _remembrance(row._asdict())
    return {oid: found[oid] for oid in oids if oid in found}


@cache
def _loaded(*, said: bool) -> Select[Any]:
    query = select(*_FACTS, *(_SAID if said else ())).where(
        col(ItemVersion.space_id) == bindparam("space"),
        col(ItemVersion.oid).in_(bindparam("oids", expanding=True)),
    )
    if not said:
        return query
    place = and_(
        col(Body.space_id) == ItemVersion.space_id,
        col(Body.seq) == ItemVersion.seq,
        col(Body.place) == ItemVersion.place,
    )
    return query.outerjoin(Body, place)


def _remembrance(row: dict[str, Any]) -> Remembrance:
    said = {name: row.pop(name, None) for name in ("text", "key", "tags", "speaker", "uri", "span")}
    if said["text"] is None:
        return Remembrance(**row)
    return Remembrance(
        **row, said=Said(**{**said, "tags": tuple(json.loads(said["tags"])) if said["tags"] else ()})
    )


def always_applies(kind: str, pinned: bool, said: Said | None) -> bool:
    """Whether every restore brings it: what is pinned, an instruction or a preference, and a person's standing
    wish in a transcript, which no question's words would find."""
    return pinned or kind in CORE_KINDS or (kind == "transcript" and said is not None and said.standing)


def said_in(body: Body) -> Said:
    """A body as it was given."""
    tags = tuple(json.loads(body.tags or "[]"))
    return Said(text=body.text, key=body.key, tags=tags, speaker=body.speaker, uri=body.uri, span=body.span)


def version_oid(version: ItemVersion, supersedes: Iterable[str], derived_from: Iterable[str]) -> str:
    """The hash of all that a version says; where it stands in the journal is not in it."""
    said = version.model_dump(exclude={"space_id", "oid", "seq", "place", "core"})
    said["supersedes"] = sorted(supersedes) or None
    said["derived_from"] = sorted(derived_from) or None
    return digest(canonical(said))


def matching_item(standing: Manifest, prefix: str) -> str:
    """The one standing item whose id begins so. Raises `NotFound`, or `InvalidInput` for too short a beginning."""
    if len(prefix) < SHORT_ID:
        raise InvalidInput(f"item id {prefix!r} is too short.", fix=f"Give at least {SHORT_ID} characters.")
    try:
        found = standing.beginning_with(prefix.lower())
    except ValueError:
        found = []  # not hexadecimal
    if not found:
        raise NotFound(
            f"there is no item {prefix!r}, or it was superseded.", fix="Use memory_recall to find its id."
        )
    if len(found) > 1:
        raise InvalidInput(
            f"item id {prefix!r} fits {len(found)} items.", fix=f"Choose of {', '.join(found[:5])}."
        )
    return found[0]
