"""Bits that flip in the databases of a home, one at a time, and whether anybody notices."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from bits import cells, flip
from lived_in import live

from filesystem_retrieval.server import service as files
from memory_snapshot.server import service as memory
from usrland.keeping import check
from usrland.settings import Settings

__all__ = ["Outcome", "rotten"]

DATABASES = ("filesystem-retrieval/catalogue", "filesystem-retrieval/calls", "memory-snapshot/memory")
DATABASES += ("memory-snapshot/calls",)


@dataclass
class Outcome:
    found: Counter[str] = field(default_factory=Counter)
    """By table and column."""
    missed: list[str] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)
    """Bits that change nothing that is read, as that which makes one long zero of two short ones."""
    columns: int = 0
    """Of all tables together, that hold anything."""


async def rotten(top: Path, *, flips: int, seed: int) -> Outcome:
    """Flip so many bits, each in another column as long as there are any, and look the home over each time."""
    await live(top)
    home, chance, outcome = top / "home", random.Random(seed), Outcome()
    places = []
    for name in DATABASES:
        file = home / f"{name}.sqlite"
        by_column: dict[tuple[str, str], list[int]] = {}
        known = cells(file)
        for number, cell in enumerate(known):
            by_column.setdefault((cell.table, cell.column), []).append(number)
        places += [(file, column, [known[number] for number in each]) for column, each in by_column.items()]
    outcome.columns = len(places)
    assert await _problems(home) == []
    chance.shuffle(places)
    for number in range(flips):
        file, (table, column), held = places[number % len(places)]
        cell, original, before = chance.choice(held), file.read_bytes(), _rows(file, table)
        flip(file, cell, chance)
        where = f"{file.parent.name} {table}.{column}"
        if await _problems(home):
            outcome.found[where] += 1
        else:
            unread = _rows(file, table) == before
            (outcome.idle if unread else outcome.missed).append(f"{where} at {cell.offset}")
        for each in file.parent.glob(f"{file.name}*"):
            each.unlink()  # what was read from the damaged file goes with it
        file.write_bytes(original)
    return outcome


def _rows(file: Path, table: str) -> list[str]:
    """Every value with its type."""
    with closing(sqlite3.connect(file)) as connection:
        return [repr(row) for row in connection.execute(f'SELECT * FROM "{table}"')]


async def _problems(home: Path) -> list[str]:
    settings = Settings.load(home, {})
    return [
        f"{problem.place}: {problem.fact}"
        for service in (files(settings), memory(settings))
        async for problem in check(settings, service, read_data=True)
    ]
