"""What a query gave beyond the answer, kept for whoever reads on.

A cut result goes on where it ended: the same query is not run again, so no row is given twice or left out because
somebody changed the table in between. The rows are copied, up to a limit, and the database is let go of at once:
a cursor left open would hold locks that a change of the schema waits for, or keep writers out. A copy belongs to
whoever asked, for exactly that question, and for two minutes.

Nothing relies on it: beyond a copy the query runs again from there, and its answer says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from enterprise_connectors.sql.engine import Limits, Reading, Result, collect

__all__ = ["MAX_ROWS", "Copies", "Copy", "copied"]

KEEP_SECONDS = 120.0
MAX_ROWS = 10_000
MAX_CHARACTERS = 4_000_000
COPY_SECONDS = 1.0
"""How long is read ahead of what was asked for."""
MAX_KEPT = 8
"""Of one system, in one process. The oldest one makes room."""
MAX_KEPT_BY_ONE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Rows of one question, from `first` on."""

    columns: list[str]
    first: int
    rows: list[Sequence[Any]]
    cut: bool
    """Whether the database has more than was copied."""

    def holds(self, offset: int) -> bool:
        return self.first <= offset < self.first + len(self.rows)

    def page(self, limits: Limits) -> Result:
        """The rows that the caller has not had yet."""
        result = collect(self.columns, self.rows[limits.offset - self.first :], limits)
        result.more = result.more or self.cut
        return result


def copied(reading: Reading, limits: Limits) -> Copy:
    """Run a query and copy its rows, those asked for and some more."""
    with reading as (columns, rows):
        kept: list[Sequence[Any]] = []
        characters, until = 0, 0.0
        for row in rows:
            if until == 0.0 and len(kept) > limits.max_rows:
                until = time.monotonic() + COPY_SECONDS
            if kept and (
                len(kept) >= max(MAX_ROWS, limits.max_rows)
                or characters > MAX_CHARACTERS
                or (until and time.monotonic() > until)
            ):
                return Copy(columns=columns, first=limits.offset, rows=kept, cut=True)
            kept.append(row)
            characters += sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
        return Copy(columns=columns, first=limits.offset, rows=kept, cut=False)


class Copies:
    """Copies that wait for whoever reads on. Safe to use from threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._kept: dict[tuple[Hashable, Hashable], tuple[float, Copy]] = {}

    def get(self, who: Hashable, what: Hashable, offset: int) -> Copy | None:
        """The copy of this very question that has the row at `offset`."""
        with self._guard:
            until, copy = self._kept.get((who, what), (0.0, None))
        return copy if copy is not None and self._clock() < until and copy.holds(offset) else None

    def keep(self, who: Hashable, what: Hashable, copy: Copy) -> None:
        with self._guard:
            self._kept.pop((who, what), None)
            own = [key for key in self._kept if key[0] == who]
            if len(own) >= MAX_KEPT_BY_ONE:
                del self._kept[own[0]]
            elif len(self._kept) >= MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[who, what] = (self._clock() + KEEP_SECONDS, copy)

    def expire(self) -> None:
        """Forget what nobody came back for."""
        now = self._clock()
        with self._guard:
            for key in [key for key, (until, _) in self._kept.items() if until <= now]:
                del self._kept[key]
