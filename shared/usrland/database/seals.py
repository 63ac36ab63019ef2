"""One sum over all rows of a table, so that a bit that flips on the disk is found.

SQLite does not notice a changed value, and most columns are covered by no hash of ours. So for every table that
has none of its own there is one number: the sum of a hash of each of its rows, kept by triggers in the transaction
that changes them. To look over a table is to add it up again. It costs no space and one write to the same page.

This is against disks and not against people: who can write the table can write its sum. The triggers call
functions that only this process has, so that no other program changes such a table by mistake.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["broken", "register", "seal"]

SUMS = "table_sum"
_BYTES = 16
_NOTHING = bytes(_BYTES)


def register(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that the triggers call."""
    connection.create_function("usrland_row", -1, _row, deterministic=True)
    connection.create_function("usrland_moved", 3, _moved, deterministic=True)


def seal(engine: Engine, hashed: Collection[str]) -> None:
    """Have a sum kept of every table but the `hashed` ones. A table that has one is left as it is."""
    with engine.connect().execution_options(usrland_write=False) as looked:
        if not _missing(looked.connection.driver_connection, hashed):
            return
    with engine.connect().execution_options(usrland_write=True) as connection, connection.begin():
        raw: Any = connection.connection.driver_connection
        raw.execute(f"CREATE TABLE IF NOT EXISTS {SUMS} (name TEXT PRIMARY KEY, sum BLOB NOT NULL)")
        for table, triggers in _missing(raw, hashed).items():
            for name, text in triggers.items():
                raw.execute(f'DROP TRIGGER IF EXISTS "{name}"')
                raw.execute(text)
            raw.execute(f"INSERT OR REPLACE INTO {SUMS} VALUES (?, ?)", (table, _added_up(raw, table)))  # nosec B608 # a constant


def broken(connection: sqlite3.Connection) -> Iterator[str]:
    """The tables that do not add up to what was written."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (SUMS,)).fetchone():
        return
    register(connection)
    for table, expected in connection.execute(f"SELECT CAST(name AS TEXT), sum FROM {SUMS}").fetchall():  # nosec B608 # a constant
        try:
            if _added_up(connection, table) == expected:
                continue
        except sqlite3.Error:
            pass
        yield f"a row of {table} is not what was written"


def _missing(connection: Any, hashed: Collection[str]) -> dict[str, dict[str, str]]:
    """Tables without their triggers, or with those of an earlier schema."""
    there = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall())
    wanted = {table: _triggers(connection, table) for table in _tables(connection) if table not in hashed}
    return {
        table: triggers
        for table, triggers in wanted.items()
        if any(there.get(name) != text for name, text in triggers.items())
    }


def _tables(connection: Any) -> list[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    return [name for (name,) in rows if name != SUMS and not name.startswith("sqlite_")]


def _triggers(connection: Any, table: str) -> dict[str, str]:
    new, old = (_values(connection, table, f"{which}.") for which in ("NEW", "OLD"))
    moves = {"insert": (new, "NULL"), "update": (new, old), "delete": ("NULL", old)}
    triggers = {}
    for event, (more, less) in moves.items():
        name, moved = f"sum_{table}_{event}", f"usrland_moved(sum, {more}, {less})"
        update = f"UPDATE {SUMS} SET sum = {moved} WHERE name = '{table}'"  # nosec B608 # of its own schema
        triggers[name] = f'CREATE TRIGGER "{name}" AFTER {event.upper()} ON "{table}" BEGIN {update}; END'
    return triggers


def _values(connection: Any, table: str, prefix: str = "") -> str:
    columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")').fetchall()]
    types = " || ".join(f'typeof({prefix}"{name}")' for name in columns)
    # as bytes: a text with a flipped bit need not be one any more
    values = ", ".join(f'CAST({prefix}"{name}" AS BLOB)' for name in columns)
    return f"usrland_row({types}, {values})"


def _added_up(connection: Any, table: str) -> bytes:
    total = _NOTHING
    for (row,) in connection.execute(f'SELECT {_values(connection, table)} FROM "{table}"'):  # nosec B608 # of its own schema
        total = _moved(total, row, None)
    return total


def _row(types: str, *values: bytes | None) -> bytes:
    digest = hashlib.blake2b(types.encode(), digest_size=_BYTES)
    for value in _framed(values):
        digest.update(value)
    return digest.digest()


def _framed(values: Iterable[bytes | None]) -> Iterator[bytes]:
    """So that no two rows are told as the same bytes."""
    for value in values:
        if value is None:
            yield b"\xff" * 8
        else:
            yield len(value).to_bytes(8, "big")
            yield value


def _moved(total: bytes, more: bytes | None, less: bytes | None) -> bytes:
    number = int.from_bytes(total, "big") + int.from_bytes(more or b"", "big") - int.from_bytes(less or b"", "big")
    return (number % (1 << 8 * _BYTES)).to_bytes(_BYTES, "big")
