"""What the operations take and answer with.

Sizes are checked in `drafts`, not in these schemas: every limit in a schema is paid for by every
conversation that lists the tools, a sentence in an error only by the one that exceeds it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from usrland import Answer

__all__ = [
    "HistoryEntry",
    "Item",
    "Kind",
    "LeftOut",
    "Mode",
    "Origin",
    "Reason",
    "RecallHit",
    "Remembered",
    "RememberedItem",
    "Restored",
    "SnapshotTaken",
    "Source",
]

Kind = Literal["fact", "decision", "task", "instruction", "preference", "observation", "summary", "transcript"]
Reason = Literal["manual", "pre_compact", "handoff"]
Mode = Literal["pack", "keys", "full"]
Origin = Literal["direct_user", "model_inference", "tool_internal", "tool_external", "import"]
"""How far a text can be trusted, by who said it: from the person's own words down to a web page's."""


class Source(BaseModel):
    """Where an item came from."""

    model_config = ConfigDict(extra="forbid")

    origin: Origin = "model_inference"
    uri: str | None = None
    span: str | None = Field(default=None, description="Place in it: lines, page, turn.")


class Item(BaseModel):
    """One thing to remember."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(description="Self-contained: names, dates, units.")
    kind: Kind = "fact"
    key: str | None = Field(default=None, description="Stable name; the same key again supersedes.")
    valid_from: str | None = Field(default=None, description="ISO; true from then on.")
    valid_to: str | None = Field(default=None, description="ISO; no longer true from then on.")
    keep_until: str | None = Field(default=None, description="ISO; forgotten then.")
    supersedes: list[str] = Field(default=[], description="Item ids this replaces.")
    derived_from: list[str] = Field(default=[], description="Item ids it was made from.")
    speaker: str | None = None
    source: Source | None = None
    tags: list[str] = []
    pin: bool = Field(default=False, description="Restore it always.")


class RememberedItem(Answer):
    item_id: str
    oid: str = Field(description="This version.")
    new: bool = Field(description="False: it was there already, word for word.")


class Remembered(Answer):
    items: list[RememberedItem] = Field(description="In the order given.")
    duplicates: int
    head: str | None = Field(default=None, description="Newest snapshot; these items are not in it yet.")


class SnapshotTaken(Answer):
    id: str
    branch: str
    parent: str | None = None
    items: int
    tokens: int = Field(description="Of all items together.")
    remembered: list[RememberedItem] = Field(default=[], description="In the order given.")
    duplicates: int


class RecallHit(Answer):
    id: str
    kind: Kind
    text: str
    recorded_at: str
    actor: str
    source: Source
    trust: Origin
    confidence: float
    key: str | None = None
    valid_from: str | None = None
    valid_to: str | None = None
    speaker: str | None = None
    tags: list[str] | None = None


class LeftOut(Answer):
    items: int
    tokens: int
    ids: list[str] = Field(description="The strongest of them.")
    fetch: str = Field(description="The call that gets them.")


class Restored(Answer):
    text: str
    snapshot: str | None = None
    newer: int = Field(description="Items and changes remembered since that snapshot.")
    items: int = Field(description="How many are in the text.")
    used: int = Field(description="Tokens of the text.")
    reliable: int = Field(description="Tokens this kernel can be trusted with.")
    advertised: int = Field(description="Tokens this kernel claims.")
    left_out: LeftOut | None = None
    note: str | None = None
    degraded: str | None = None


class HistoryEntry(Answer):
    """A snapshot of the log, or one version of an item."""

    id: str = Field(description="Of the snapshot, or of the version.")
    at: str
    actor: str
    text: str | None = Field(default=None, description="The message, or what was remembered; absent if erased.")
    reason: str | None = None
    parents: list[str] | None = None
    items: int | None = None
    tokens: int | None = None
    item_id: str | None = None
    kind: Kind | None = None
    key: str | None = None
    source: Source | None = None
    trust: Origin | None = None
    valid_from: str | None = None
    valid_to: str | None = None
    supersedes: list[str] | None = None
    derived_from: list[str] | None = None
    current: bool | None = Field(default=None, description="Not superseded since.")
