"""Models that go over the wire from more than one server.

Keep them flat: every byte of a result is paid for in a context window.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Answer", "Citation", "Page", "Preview", "Suggestions"]


class Answer(BaseModel):
    """What an operation returns. Fields that are `None` are left out on the wire."""

    model_config = ConfigDict(extra="forbid")


ItemT = TypeVar("ItemT")


class Page(Answer, Generic[ItemT]):
    """A list that may be longer than the budget.

    The operation returns `items` from `Call.offset` on and says with `more` whether it has others behind
    them; the call path cuts `items` to the token budget and fills in `cursor`.
    """

    items: list[ItemT]
    total: int | None = Field(default=None, description="How many there are in all, where that is known.")
    more: bool = Field(default=False, description="There are items after these.")
    cursor: str | None = Field(default=None, description="Pass as `cursor` to get the next items.")
    note: str | None = Field(default=None, description="What the reader should know: left out, nothing found.")
    degraded: str | None = Field(
        default=None, description="Why this answer may lack something for now: ask again later for the rest."
    )


class Preview(Answer):
    """What a call would do, from a dry run. Nothing was changed."""

    would: str = Field(description="One sentence: what would happen.")
    affected: int = Field(description="How many things would change.")
    examples: list[str] = Field(default_factory=list, description="Some of them, at most ten.")


class Suggestions(Answer):
    """What a blank could be filled with, best first; a host shows at most a hundred."""

    values: list[str]
    total: int | None = Field(default=None, description="How many there are in all, where that is known.")


class Citation(Answer):
    """Where a passage stands, precisely enough to check it again later."""

    root: str
    path: str
    first_line: int | None = None
    last_line: int | None = None
    page: int | None = None
    heading: str | None = None
    sha256: str = Field(description="Of the passage's own bytes.")
