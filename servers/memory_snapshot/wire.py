"""What the operations take and answer with.

Sizes are checked in `drafts`, not in these schemas: every limit in a schema is paid for by every
conversation that lists the tools, a sentence in an error only by the one that exceeds it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from usrland import Answer, Page

__all__ = [
    "Branch",
    "Branches",
    "Calibration",
    "Change",
    "Clash",
    "Compacted",
    "Diff",
    "Fold",
    "Forgotten",
    "HistoryEntry",
    "Item",
    "Kind",
    "LeftOut",
    "Merged",
    "Mode",
    "NotNew",
    "Note",
    "Origin",
    "Probe",
    "Reason",
    "RecallHit",
    "Remembered",
    "RememberedItem",
    "Resolution",
    "Restored",
    "RolledBack",
    "Rot",
    "SnapshotTaken",
    "Source",
    "Status",
    "Strategy",
    "Summary",
    "Take",
    "Task",
    "Transferred",
    "Why",
]

Kind = Literal["fact", "decision", "task", "instruction", "preference", "observation", "summary", "transcript"]
Reason = Literal["manual", "pre_compact", "handoff"]
Strategy = Literal["ask", "ours", "theirs", "both", "newest"]
Task = Literal["lookup", "reasoning", "association"]
Take = Literal["ours", "theirs", "both"]
Why = Literal["changed on both sides", "removed on one side", "same key on both sides"]
NotNew = Literal["duplicate", "echo"]
Mode = Literal["pack", "keys", "full"]
Origin = Literal["direct_user", "model_inference", "tool_internal", "tool_external", "import"]
"""How far a text can be trusted, by who said it: from the person's own words down to a web page's."""


class Source(BaseModel):
    model_config = ConfigDict(extra="forbid")

    origin: Origin = "model_inference"
    uri: str | None = None
    span: str | None = None


class Item(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str = Field(description="Self-contained: names, dates, units.")
    kind: Kind = "fact"
    key: str | None = Field(default=None, description="Same key again: supersedes.")
    valid_from: str | None = Field(default=None, description="ISO")
    valid_to: str | None = Field(default=None, description="ISO")
    keep_until: str | None = Field(default=None, description="ISO")
    supersedes: list[str] = Field(default=[], description="Item ids")
    derived_from: list[str] = Field(default=[], description="Item ids")
    speaker: str | None = None
    source: Source | None = None
    tags: list[str] = []
    pin: bool = Field(default=False, description="Restore it always.")


class Note(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str
    kind: Kind = "fact"
    key: str | None = None


class RememberedItem(Answer):
    item_id: str
    oid: str = Field(description="This version.")
    new: bool
    why: NotNew | None = Field(default=None, description="Not new: it stood there, or was returned from there.")
    similar: list[str] | None = Field(
        default=None, description="Say almost the same: if this corrects one, remember it with supersedes."
    )


class Remembered(Answer):
    items: list[RememberedItem] = Field(description="In the order given.")
    duplicates: int
    echoes: int | None = Field(default=None, description="Only said what was recalled or restored before.")
    head: str | None = Field(default=None, description="Newest snapshot; these items are not in it yet.")


class SnapshotTaken(Answer):
    id: str
    branch: str
    parent: str | None = None
    items: int
    tokens: int = Field(description="Of all items together.")
    remembered: list[RememberedItem] = Field(default=[], description="In the order given.")
    duplicates: int
    echoes: int | None = None


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
    why: dict[str, float] | None = None


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
    basis: str = Field(description="Where these two figures come from.")
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
    keep_until: str | None = None
    pin: bool | None = None
    speaker: str | None = None
    tags: list[str] | None = None
    supersedes: list[str] | None = None
    derived_from: list[str] | None = None
    current: bool | None = Field(default=None, description="Not superseded since.")


class Branch(Answer):
    name: str
    head: str | None = Field(default=None, description="Its newest snapshot.")
    items: int
    newer: int = Field(description="Changes since that snapshot.")


class Branches(Answer):
    current: str = Field(description="The one you work on.")
    branches: list[Branch]


class Change(Answer):
    """One item that differs."""

    change: Literal["added", "changed", "removed"]
    item_id: str
    kind: Kind
    key: str | None = None
    before: str | None = None
    after: str | None = None


class Diff(Page[Change]):
    added: int
    changed: int
    removed: int
    text: str | None = None


class Resolution(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    take: Take


class Clash(Answer):
    """A conflict: one item (or key) that the two sides say different things about; absent where removed."""

    id: str
    why: Why
    kind: Kind
    key: str | None = None
    base: str | None = None
    ours: str | None = None
    theirs: str | None = None


class Merged(Answer):
    source: str
    into: str
    snapshot: str | None = Field(default=None, description="Absent: nothing was written.")
    changes: int = Field(description="Items of `into` that change.")
    conflicts: list[Clash] = Field(default=[], description="Still to be decided.")


class RolledBack(Answer):
    branch: str
    changes: int
    snapshot: str | None = Field(default=None, description="Absent: nothing was written.")
    rescue: str | None = Field(default=None, description="Branch that keeps what was left.")


class Forgotten(Answer):
    """The receipt. `event` and `hash` are the entry of the journal that says so."""

    mode: Literal["retract", "erase"]
    items: int
    versions: int
    ids: list[str]
    event: int
    hash: str
    at: str
    files: int | None = Field(default=None, description="Exports and backups that were written anew without it.")
    moved: list[str] | None = Field(
        default=None, description="Exports that may hold it and are not where they were written."
    )
    copies: list[str] | None = Field(
        default=None, description="Backups that may still hold it: make a new one and delete these."
    )
    degraded: str | None = None


class Summary(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str
    derived_from: list[str]


class Fold(Answer):
    """Items that could be told together."""

    ids: list[str]
    tokens: int
    budget: int = Field(description="Tokens the summary may take.")
    extract: str = Field(description="Their most telling sentences.")


class Compacted(Answer):
    tokens: int = Field(description="Of all that stands now.")
    folds: list[Fold] | None = None
    folded: int = 0
    snapshot: str | None = None
    note: str | None = None


class Transferred(Answer):
    format: str
    path: str
    items: int
    new: int | None = None
    snapshots: int | None = None
    branch: str | None = None
    sha256: str | None = None
    note: str | None = None


class Rot(Answer):
    """What spoils a memory, counted."""

    duplicates: int = Field(description="Kept out: said before, word for word.")
    echoes: int = Field(description="Kept out: came back from here.")
    secrets: int = Field(description="Kept out: looked like a credential.")
    similar: int = Field(description="Stand, and say almost what another says.")
    never_returned: int = Field(description="Stand, and no recall or restore gave them.")


class Probe(Answer):
    """A part of what a kernel is tested with."""

    text: str
    parts: int
    tokens: int = Field(description="Of all parts together.")
    name: str = Field(description="What the answers are sent back under.")
    questions: list[str] = Field(default=[], description="After the last part.")


class Calibration(Answer):
    """How a kernel did, counted."""

    tokens: int = Field(description="That it had before it.")
    asked: int
    right: int
    right_lookup: int = Field(description="Of the half that looks something up.")
    right_reasoning: int = Field(description="Of the half that goes by places.")
    reliable: bool
    next: str


class Status(Answer):
    branch: str
    head: str | None = None
    newer: int
    items: int
    tokens: int
    branches: int
    snapshots: int
    versions: int
    erased: int
    events: int
    journal: str = Field(description="Hash of its last event: keep it elsewhere to detect a cut.")
    indexed: int = Field(description="Events the search index has read.")
    advertised: int
    reliable: int
    basis: str = Field(description="Where the figures of the window come from.")
    rot: Rot | None = None
    quota: str | None = Field(default=None, description="What may be held, and how much of it is.")
    calibration: Calibration | None = None
    problems: list[str] | None = Field(default=None, description="Of a verification; empty: all is well.")
