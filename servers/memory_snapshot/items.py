"""Items as they are read: one version, its text where that is still there, and how to find it by its id."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlmodel import Session, col, select

from memory_snapshot.canonical import SHORT_ID, canonical, digest
from memory_snapshot.manifest import Manifest
from memory_snapshot.state import in_batches
from memory_snapshot.tables import Body, ItemVersion
from memory_snapshot.wire import Kind, Origin
from usrland import InvalidInput, NotFound

__all__ = ["Remembrance", "load", "load_texts", "matching_item", "version_oid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembrance:
    """One version of one item, `source` and `tags` in the JSON they are stored in.

    `text` is None where it was not asked for or was erased.
    """

    oid: str
    item_id: str
    key: str | None
    kind: Kind
    actor: str
    source: str
    trust: Origin
    valid_from: str | None
    valid_to: str | None
    recorded_at: str
    tags: str
    pinned: bool
    tokens: int
    seq: int
    place: int
    text: str | None = None

    @property
    def day(self) -> str:
        return self.recorded_at[:10]

    @property
    def order(self) -> tuple[int, int]:
        """Greater is newer."""
        return (self.seq, self.place)

    @property
    def findable(self) -> str:
        """The words it is found by: key and tags say what a short text leaves out."""
        return " ".join(part for part in (self.key, self.text, *self.tag_list) if part)

    @property
    def tag_list(self) -> list[str]:
        found: list[str] = json.loads(self.tags)
        return found


_COLUMNS = (
    ItemVersion.oid,
    ItemVersion.item_id,
    ItemVersion.key,
    ItemVersion.kind,
    ItemVersion.actor,
    ItemVersion.source,
    ItemVersion.trust,
    ItemVersion.valid_from,
    ItemVersion.valid_to,
    ItemVersion.recorded_at,
    ItemVersion.tags,
    ItemVersion.pinned,
    ItemVersion.tokens,
    ItemVersion.seq,
    ItemVersion.place,
)


def load(session: Session, space_id: int, oids: Collection[str], *, texts: bool = True) -> dict[str, Remembrance]:
    """oid → item, for those that exist. Without `texts` it costs a fraction."""
    found: dict[str, Remembrance] = {}
    bodies = load_texts(session, space_id, oids) if texts else {}
    for some in in_batches(oids):
        # sqlmodel has types for four columns at most
        query = select(*_COLUMNS).where(ItemVersion.space_id == space_id, col(ItemVersion.oid).in_(some))  # type: ignore[call-overload]
        for row in session.execute(query):
            found[row.oid] = Remembrance(**row._asdict(), text=bodies.get(row.oid))
    return found


def load_texts(session: Session, space_id: int, oids: Iterable[str]) -> dict[str, str]:
    """oid → text, for those that were not erased."""
    found: dict[str, str] = {}
    for some in in_batches(oids):
        query = select(Body.oid, Body.text).where(Body.space_id == space_id, col(Body.oid).in_(some))
        found.update(session.exec(query).all())
    return found


def version_oid(version: ItemVersion, supersedes: Iterable[str], derived_from: Iterable[str]) -> str:
    """The hash of all that a version says; neither where it stands in the journal nor its text is in it."""
    fields = version.model_dump(exclude={"space_id", "oid", "seq", "place"})
    fields["supersedes"] = sorted(supersedes) or None
    fields["derived_from"] = sorted(derived_from) or None
    return digest(canonical(fields))


def matching_item(standing: Manifest, prefix: str) -> str:
    """The one standing item whose id begins so. Raises `NotFound`, or `InvalidInput` for too short a beginning."""
    if len(prefix) < SHORT_ID:
        raise InvalidInput(f"item id {prefix!r} is too short.", fix=f"Give at least {SHORT_ID} characters.")
    found = [item_id for item_id in standing if item_id.startswith(prefix.lower())]
    if not found:
        raise NotFound(
            f"there is no item {prefix!r}, or it was superseded.", fix="Use memory_recall to find its id."
        )
    if len(found) > 1:
        raise InvalidInput(
            f"item id {prefix!r} fits {len(found)} items.", fix=f"Choose of {', '.join(found[:5])}."
        )
    return found[0]
