"""What the tools return."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from usrland.schemas.wire import Answer, Citation, Page

__all__ = ["Entry", "FileText", "Found", "Line", "Lines", "Listing", "Passage", "RootStatus", "Status"]


class Passage(Citation):
    """A piece of a file."""

    also_at: list[str] | None = Field(default=None, description="Other paths in this root with the same content.")
    confidence: float = Field(description="0..1, comparable across queries.")
    score: float = Field(description="Orders this answer only.")
    text: str


class Found(Page[Passage]):
    """Passages, best first. None means that nothing relevant was found."""


class FileText(Answer):
    """A part of a file, or all of it."""

    root: str
    path: str
    kind: str
    sha256: str = Field(description="Of the whole file's bytes.")
    total_lines: int
    first_line: int
    last_line: int
    page: int | None = None
    pages: int | None = None
    text: str
    note: str | None = Field(default=None, description="What was left out, and how to get it.")


class Entry(BaseModel):
    """A file, a folder, or a root."""

    root: str
    path: str
    type: Literal["root", "folder", "file"]
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


class Status(Answer):
    """Whether search is complete, and what it lacks."""

    roots: list[RootStatus]
    embedding: str = Field(description="The generation in use, or why there is none.")
    degraded: str | None = None
