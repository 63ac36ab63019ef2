"""The tables (their indexes and triggers are in the migrations). Whoever imports this module loads SQLModel, so
it is imported where a database is first used.

Truth is the journal (`event`), the versions of items it names, and the snapshots over them. Rows of these
are written once and never changed; only `ref` and `seat` move, and only `body` can be emptied.

What people said (texts, keys, tags, sources, messages) is in `body` alone. Everything else holds a salted
commitment to it, so that a body can be deleted while every event, version and snapshot still verifies, and
what is left says nothing about it. Versions and snapshots are found by their place in the journal, (`seq`,
`place`), which is eight bytes where a hash would be thirty-two.
"""

from __future__ import annotations

import zlib
from typing import Any

from sqlalchemy import LargeBinary
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

__all__ = [
    "Body",
    "Event",
    "Exported",
    "Hex",
    "IndexPosition",
    "ItemVersion",
    "Lineage",
    "Page",
    "Ref",
    "Returned",
    "Seat",
    "Snapshot",
    "Space",
    "Tally",
]


class Hex(TypeDecorator[str]):
    """Hexadecimal in Python, half as many bytes in the database."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> bytes | None:
        return None if value is None else bytes.fromhex(value)

    def process_result_value(self, value: bytes | None, dialect: Any) -> str | None:
        return None if value is None else bytes(value).hex()


class Packed(TypeDecorator[str]):
    """A text, compressed where that makes it shorter: most of what a store holds is text."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> bytes | None:
        if value is None:
            return None
        plain = value.encode()
        packed = zlib.compress(plain, 9)
        return packed if len(packed) < len(plain) else _PLAIN + plain

    def process_result_value(self, value: bytes | None, dialect: Any) -> str | None:
        if value is None:
            return None
        kept = bytes(value)
        try:
            return (kept[1:] if kept[:1] == _PLAIN else zlib.decompress(kept)).decode()
        except (zlib.error, UnicodeDecodeError):
            return "\ufffd"  # somebody changed it: it is read as damaged, and `verify` says where


_PLAIN = b"\0"
"""Before a text that is not compressed; no compressed one begins so."""


class Space(SQLModel, table=True):
    """What a principal can reach: its tenant and namespace. Every write locks it: journals have no gaps."""

    __tablename__ = "memory_space"

    id: int | None = Field(default=None, primary_key=True)
    tenant: str
    name: str


class Event(SQLModel, table=True):
    """One entry of the journal. `hash` covers it and the hash before it. Triggers refuse any change.

    `payload` holds ids and hashes, never what people said, so that nothing in the chain has to be erased.
    """

    __tablename__ = "memory_event"

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    seq: int = Field(primary_key=True)
    hash: str = Field(sa_type=Hex)
    op: str
    branch: str
    actor: str
    payload: str
    at: str


class ItemVersion(SQLModel, table=True):
    """What was said about one item at one time. `oid` is the hash of everything but its place."""

    __tablename__ = "memory_item_version"

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    seq: int = Field(primary_key=True)
    place: int = Field(primary_key=True)
    oid: str = Field(sa_type=Hex)
    item_id: str = Field(sa_type=Hex)
    kind: str
    actor: str
    origin: str
    trust: str
    commitment: str = Field(sa_type=Hex)
    valid_from: str | None = None
    valid_to: str | None = None
    retention: str | None = None
    recorded_at: str
    pinned: bool
    core: bool
    tokens: int


class Lineage(SQLModel, table=True):
    """A version `supersedes` or is `derived_from` another; part of what its oid covers."""

    __tablename__ = "memory_lineage"

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    seq: int = Field(primary_key=True)
    place: int = Field(primary_key=True)
    relation: str = Field(primary_key=True)
    target_seq: int = Field(primary_key=True)
    target_place: int = Field(primary_key=True)


class Body(SQLModel, table=True):
    """What was said at one place of the journal: an item, or the message of a snapshot.

    `digest` finds exact duplicates; it is unsalted and therefore leaves together with the text.
    """

    __tablename__ = "memory_body"

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    seq: int = Field(primary_key=True)
    place: int = Field(primary_key=True)
    salt: str = Field(sa_type=Hex)
    digest: str = Field(sa_type=Hex)
    text: str = Field(sa_type=Packed)
    key: str | None = None
    tags: str | None = None
    speaker: str | None = None
    uri: str | None = None
    span: str | None = None


class Page(SQLModel, table=True):
    """A piece of a manifest, found by its hash and shared by all manifests that contain it."""

    __tablename__ = "memory_page"

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    hash: bytes = Field(primary_key=True)
    content: bytes


class Snapshot(SQLModel, table=True):
    """A committed state. `id` is the hash of what it says: root, parents, author, message, reason, moment, size.

    `seq` is its event in this journal, `branch` the line it was taken on; neither is part of the id, so the
    same snapshot in another store has the same one. `paged`: its manifest is stored as pages; that of others
    is the last such one with the events since folded in.
    """

    __tablename__ = "memory_snapshot"

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    id: str = Field(primary_key=True, sa_type=Hex)
    seq: int
    branch: str
    paged: bool
    root: str = Field(sa_type=Hex)
    parents: str
    author: str
    commitment: str = Field(sa_type=Hex)
    reason: str
    items: int
    tokens: int
    taken_at: str


class Ref(SQLModel, table=True):
    """A name for a snapshot: a branch, or a pin that keeps one. Moved by compare-and-swap alone."""

    __tablename__ = "memory_ref"

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    name: str = Field(primary_key=True)
    snapshot: str = Field(sa_type=Hex)
    generation: int


class Seat(SQLModel, table=True):
    """The branch that a subject works on, where it is not `main`."""

    __tablename__ = "memory_seat"

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    subject: str = Field(primary_key=True)
    branch: str


class Tally(SQLModel, table=True):
    """How much a space holds (`tokens`), and how often something was kept out of it."""

    __tablename__ = "memory_tally"

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    name: str = Field(primary_key=True)
    count: int


class Returned(SQLModel, table=True):
    """When an item was last given to a kernel."""

    __tablename__ = "memory_returned"

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    item_id: str = Field(primary_key=True, sa_type=Hex)
    at: str


class Exported(SQLModel, table=True):
    """A file or folder that was written from a space, and when it was last."""

    __tablename__ = "memory_exported"

    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    path: str = Field(primary_key=True)
    at: str


class IndexPosition(SQLModel, table=True):
    """How far one derived index has read the journal of one space.

    The journal is the outbox: within a space, `seq` order is commit order, so nothing behind a position can
    still appear. An index that is thrown away comes back under a new name and reads from the beginning.
    """

    __tablename__ = "memory_index_position"

    index_name: str = Field(primary_key=True)
    space_id: int = Field(primary_key=True, foreign_key="memory_space.id")
    seq: int
