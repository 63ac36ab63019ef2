"""What the tools return."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from usrland.schemas.wire import Answer, Citation, Page

__all__ = [
    "Claim",
    "Entry",
    "FileText",
    "Found",
    "History",
    "Line",
    "Lines",
    "Listing",
    "Outline",
    "OutlineEntry",
    "Passage",
    "Revision",
    "RootStatus",
    "Status",
    "Verdict",
    "Verdicts",
    "Written",
]

How = Literal["found", "written", "edited", "restored", "moved", "left", "gone"]
"""`found` and `gone` were done by others; `moved` came from another path, `left` went to one."""


class Passage(Citation):
    """A piece of a file."""

    sheet: str | None = None
    first_row: int | None = Field(default=None, description="Of the sheet, or of a table in text form.")
    last_row: int | None = None
    version: int | None = Field(default=None, description="For fs_read, where as_of was asked for.")
    also_at: list[str] | None = Field(default=None, description="Other paths in this root with the same content.")
    confidence: float = Field(description="0..1, comparable across queries.")
    score: float = Field(description="Orders this answer only.")
    others: int | None = Field(default=None, description="Other good passages of this file, by_document.")
    why: str | None = None
    text: str


class Found(Page[Passage]):
    """Passages, best first. None means that nothing relevant was found."""


class FileText(Answer):
    """A part of a file, or all of it."""

    root: str
    path: str
    kind: str
    sha256: str = Field(description="Of the whole file's bytes.")
    version: int | None = Field(default=None, description="This state of the file, for fs_history and fs_undo.")
    total_lines: int
    first_line: int
    last_line: int
    page: int | None = None
    pages: int | None = None
    sheet: str | None = None
    text: str
    note: str | None = Field(default=None, description="What was left out, and how to get it.")


class OutlineEntry(BaseModel):
    """A heading with its section, or a definition."""

    title: str
    level: int
    first_line: int
    last_line: int


class Outline(Page[OutlineEntry]):
    """What a file is made of, in its order."""

    root: str
    path: str
    kind: str


class Revision(BaseModel):
    """What stood at a path from then on."""

    version: int
    at: str
    how: How
    path: str
    other_path: str | None = Field(default=None, description="Where it came from or went to.")
    by: str | None = None
    sha256: str | None = Field(default=None, description="None: nothing stood there.")
    size: int


class History(Page[Revision]):
    """Versions, newest first."""

    diff: str | None = None


class Written(Answer):
    """A change that has happened and has reached the disk."""

    root: str
    path: str
    moved_from: str | None = None
    changed: bool = Field(description="False: it was so already.")
    version: int | None = None
    version_before: int | None = Field(default=None, description="fs_undo with it restores what was there.")
    sha256: str | None = None
    lines_added: int
    lines_removed: int


class Claim(BaseModel):
    """A passage as it was cited."""

    model_config = ConfigDict(extra="forbid")

    path: str
    root: str | None = None
    sha256: str = Field(description="From fs_search, or from fs_read with the lines.")
    first_line: int | None = Field(default=None, ge=1)
    last_line: int | None = Field(default=None, ge=1)


class Verdict(BaseModel):
    """What has become of one citation."""

    state: Literal["same", "moved", "changed", "gone", "unknown"]
    root: str
    path: str = Field(description="Where it stands now; where it stood, if it is gone.")
    first_line: int | None = None
    last_line: int | None = None
    version: int | None = Field(default=None, description="The version it was cited from.")
    then: str | None = None
    now: str | None = Field(default=None, description="Left out where it is as it was then.")
    also_at: list[str] | None = Field(default=None, description="Where the old text still stands.")


class Verdicts(Page[Verdict]):
    """One for each citation, in their order."""


class Entry(BaseModel):
    """A file, a folder, a root, or an archive: it can be listed like a folder."""

    root: str
    path: str
    type: Literal["root", "folder", "file", "archive"]
    size: int | None = None


class Listing(Page[Entry]):
    """Files and folders, by path."""


class Line(BaseModel):
    """A line that matched, and its neighbours."""

    root: str
    path: str
    line: int
    text: str
    before: list[str] | None = None
    after: list[str] | None = None


class Lines(Page[Line]):
    """Lines that matched, by path and number."""


class Failure(BaseModel):
    """A file that is not searched, and why."""

    path: str
    reason: str


class RootStatus(BaseModel):
    """How far one root is."""

    root: str
    reachable: bool
    indexed: int
    pending: int
    failed: int
    passages: int
    failures: list[Failure] = Field(description="The first ten.")
    note: str | None = None


class Status(Answer):
    """Whether search is complete, and what it lacks."""

    roots: list[RootStatus]
    embedding: str = Field(description="The generation in use, or why there is none.")
    degraded: str | None = None
