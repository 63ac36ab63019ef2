"""What can be asked of the store, and what was found: plain values that need no database to be made."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from memory_snapshot.wire import Mode

__all__ = ["HEAD", "Asked", "Found", "Wanted"]

HEAD = "HEAD"
"""Everything that was acknowledged on the caller's branch, in a snapshot or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a recall may answer with. Moments are in the form of `canonical.moment`."""

    ref: str = HEAD
    kinds: Collection[str] = ()
    valid_at: str | None = None
    max_age_days: int | None = None
    explain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """oid → confidence, best first; `degraded` says why there might have been more. `why` is there where it was
    asked for: what each hit's score in this query is the sum of."""

    hits: Mapping[str, float]
    degraded: str | None = None
    why: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a restore shall pack. `found` takes the place of recency where there was a query."""

    ref: str = HEAD
    budget: int
    mode: Mode
    found: Found | None = None
