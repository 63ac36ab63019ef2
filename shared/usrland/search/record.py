"""What passes between the index and its tables."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

__all__ = ["Filter", "Match", "Record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A row as it is stored. `digest` names the text: rows of the same text share one embedding."""

    id: str
    scope: str
    group: str
    digest: str
    extra: str
    terms: str = ""
    text: str = ""

    def keys(self) -> Record:
        """The row without what is only in its text."""
        return replace(self, terms="", text="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a search may return; applied before ranking."""

    scopes: Collection[str]
    groups: Collection[str] | None = None


class Match(NamedTuple):
    """What is read of a row that was found."""

    id: str
    group: str
    extra: str
