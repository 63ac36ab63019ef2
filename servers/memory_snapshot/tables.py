"""The tables. Whoever imports this module loads SQLModel, so it is imported where a database is first used.

Truth is the journal (`event`), the versions of items it names, and the snapshots over them. Rows of these
are written once and never changed; only `ref` moves, and only `body` can be emptied. Every hash that a row
is found by covers the whole row, so an edit anywhere is found by `verify`. Lists and objects are stored as
canonical JSON text: what was hashed is what is stored.
"""

from __future__ import annotations

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field, SQLModel

__all__ = ["Body", "Event", "IndexPosition", "ItemVersion", "Lineage", "Page", "Ref", "Snapshot", "Space"]


class Space(SQLModel, table=True):
    """What a principal can reach: its tenant and namespace. Every write locks it: journals have no gaps."""

    __tablename__ = "memory_space"
    __table_args__ = (UniqueConstraint("tenant", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    tenant: str
    name: str


class Event(SQLModel, table=True):
    """One entry of the journal, chained by hash to the one before it. Triggers refuse any change.

    `payload` holds ids and hashes, never text, so that nothing in the chain ever has to be erased.
    """

    __tablename__ = "memory_event"

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    seq: int = Field(primary_key=True)
    prev_hash: str
    hash: str
    op: str
    branch: str
    actor: str
    payload: str
    payload_hash: str
    at: str


class ItemVersion(SQLModel, table=True):
    """What was said about one item at one time. `oid` is the hash of everything but where the journal has it:
    in event `seq`, in the `place`th place."""

    __tablename__ = "memory_item_version"
    __table_args__ = (
        Index("memory_item_version_item", "space_id", "item_id"),
        Index("memory_item_version_key", "space_id", "key"),
        Index("memory_item_version_seq", "space_id", "seq"),
    )

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    oid: str = Field(primary_key=True)
    item_id: str
    key: str | None = None
    kind: str
    actor: str
    host: str | None = None
    model: str | None = None
    source: str
    trust: str
    body_commitment: str
    valid_from: str | None = None
    valid_to: str | None = None
    recorded_at: str
    tags: str
    pinned: bool
    retention: str | None = None
    tokens: int
    seq: int
    place: int


class Lineage(SQLModel, table=True):
    """A version `supersedes` or is `derived_from` another; part of what its oid covers."""

    __tablename__ = "memory_lineage"
    __table_args__ = (Index("memory_lineage_target", "space_id", "target"),)

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    oid: str = Field(primary_key=True)
    relation: str = Field(primary_key=True)
    target: str = Field(primary_key=True)


class Body(SQLModel, table=True):
    """The text of a version, apart from it, so that it can be erased while every hash still verifies.

    `digest` finds exact duplicates; it is unsalted and therefore leaves together with the text.
    """

    __tablename__ = "memory_body"
    __table_args__ = (Index("memory_body_digest", "space_id", "digest"),)

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    oid: str = Field(primary_key=True)
    salt: bytes
    text: str
    digest: str


class Page(SQLModel, table=True):
    """A piece of a manifest, found by its hash and shared by all snapshots that contain it."""

    __tablename__ = "memory_page"

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    hash: bytes = Field(primary_key=True)
    entries: bytes


class Snapshot(SQLModel, table=True):
    """A committed state. `id` is the hash of everything but `log_seq`, which is where this journal stood."""

    __tablename__ = "memory_snapshot"
    __table_args__ = (Index("memory_snapshot_taken", "space_id", "taken_at"),)

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    id: str = Field(primary_key=True)
    root: str
    parents: str
    author: str
    message: str
    reason: str
    working_set: str
    log_seq: int
    taken_at: str


class Ref(SQLModel, table=True):
    """A name for a snapshot: a branch, or a pin that keeps one. Moved by compare-and-swap alone."""

    __tablename__ = "memory_ref"

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    name: str = Field(primary_key=True)
    snapshot: str
    generation: int


class IndexPosition(SQLModel, table=True):
    """How far one derived index has read the journal of one space.

    The journal is the outbox: within a space, `seq` order is commit order, so nothing behind a position can
    still appear. An index that is thrown away comes back under a new name and reads from the beginning.
    """

    __tablename__ = "memory_index_position"

    index_name: str = Field(primary_key=True)
    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    seq: int
