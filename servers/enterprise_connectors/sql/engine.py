"""What the connector asks of a database, whichever it is.

Engines are plain blocking code. Where opening a connection is dear, connections wait in a pool that makes them
forget everything between two calls; elsewhere each call opens its own. Either way nothing of one caller's session
reaches the next one's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from enterprise_connectors.sql.values import plain
from usrland.errors import Denied, InvalidInput

__all__ = [
    "Column",
    "Description",
    "Engine",
    "Limits",
    "Reading",
    "Result",
    "Table",
    "collect",
    "quoted",
    "refuse_too_many",
    "shown",
]

MAX_ANSWER_CHARACTERS = 1_000_000
SAMPLE_ROWS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one statement may cost."""

    max_rows: int
    offset: int = 0
    seconds: float
    max_changed: int


@dataclass(slots=True, kw_only=True)
class Result:
    """Rows as JSON values."""

    columns: list[str] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    more: bool = False
    shortened: int = 0
    """How many values were too long to give whole."""
    affected: int = 0


Reading = AbstractContextManager[tuple[list[str], Iterable[Sequence[Any]]]]
"""An open query: its columns, and its rows as they come. Failures inside it become ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    name: str
    schema: str = ""
    kind: str
    rows: int | None = None
    comment: str | None = None


def shown(table: Table) -> str:
    """What a table is called in the operations."""
    return table.name if table.schema in ("", "public") else f"{table.schema}.{table.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    name: str
    type: str
    nullable: bool
    default: str | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    columns: list[Column]
    keys: list[str]
    """Primary, unique and foreign keys, as SQL says them."""
    sample: Result


class Engine(ABC):
    """One database. Every method blocks, and raises only errors of ours."""

    def as_role(self, role: str) -> Engine:
        """The same database, asked in the name of one of its roles."""
        raise InvalidInput("only PostgreSQL takes on roles.")

    def close(self) -> None:
        """Let go of what is held between calls."""
        return

    @abstractmethod
    def reading(self, sql: str, parameters: Sequence[Any], limits: Limits) -> Reading:
        """Run one query that was checked, with no way to change anything, and read it from `limits.offset` on."""

    def query(self, sql: str, parameters: Sequence[Any], limits: Limits) -> Result:
        """Some rows of such a query."""
        with self.reading(sql, parameters, limits) as (columns, rows):
            return collect(columns, rows, limits)

    @abstractmethod
    def plan(self, sql: str, limits: Limits) -> list[str]:
        """How the database would run a query; it is not run."""

    @abstractmethod
    def execute(self, sql: str, parameters: Sequence[Any], limits: Limits, *, commit: bool) -> Result:
        """Run one change that was checked. Without `commit` it is run and taken back."""

    @abstractmethod
    def tables(self, part: str = "") -> Iterator[Table]:
        """Tables and views the role may read with `part` in what `shown` calls them, in whatever case; sorted.

        Read as far as it is asked for, so that a database with very many of them can be looked into. What it holds
        is let go of when it is closed.
        """

    @abstractmethod
    def describe(self, table: Table, limits: Limits) -> Description:
        """Columns, keys and some rows of one of `tables()`."""

    def can_take_back(self, table: str, schema: str) -> bool:
        """Whether a change of this table is undone by a rollback."""
        return True

    def warning(self) -> str | None:
        """What the operator should change about this database, in one sentence."""
        return None


def collect(columns: list[str], rows: Iterable[Sequence[Any]], limits: Limits) -> Result:
    """Rows up to the limits, and whether there are more."""
    kept: list[list[Any]] = []
    characters = shortened = 0
    for row in rows:
        values, cut = plain(row)
        characters += sum(len(str(value)) for value in values)
        if len(kept) == limits.max_rows or (kept and characters > MAX_ANSWER_CHARACTERS):
            return Result(columns=columns, rows=kept, more=True, shortened=shortened)
        kept.append(values)
        shortened += cut
    return Result(columns=columns, rows=kept, shortened=shortened)


def refuse_too_many(affected: int, limits: Limits) -> None:
    """Raises `Denied` where a change that was made meets more rows than it may; it is to be taken back."""
    if affected > limits.max_changed:
        raise Denied(
            f"it would change {affected} rows; at most {limits.max_changed} are allowed at once.",
            fix="Narrow the WHERE.",
        )


def quoted(*names: str) -> str:
    """Names as SQL identifiers that mean exactly these names."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names if name)
