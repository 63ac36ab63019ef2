"""Where each value of a SQLite database lies in its file, so that a test can flip any bit of any column.

Reads the file format itself (https://sqlite.org/fileformat.html), as far as values lie in one piece on a page.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cell", "cells", "flip"]

HEADER = "(header)"
"""Instead of a column: the bytes that say of what type and how long each value of the row is. Not that of a column
that is the number of the row: nothing is read from it."""
ROW_NUMBER = "(row)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    table: str
    column: str
    offset: int
    length: int


def cells(file: Path) -> list[Cell]:
    """Every value of every row that takes bytes of its own, and every row's header."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        roots = connection.execute(
            "SELECT name, rootpage FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        columns = {name: _columns(connection, name) for name, _ in roots}
    data = file.read_bytes()
    size = int.from_bytes(data[16:18], "big")
    size = 65_536 if size == 1 else size
    return [cell for name, root in roots for cell in _of_page(data, size, root, name, columns[name])]


def flip(file: Path, cell: Cell, chance: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[cell.offset + chance.randrange(cell.length)] ^= 1 << chance.randrange(8)
    file.write_bytes(data)


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Their names; ROW_NUMBER for one that is the row's number."""
    columns = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
    alone = sum(1 for column in columns if column[5]) == 1
    return [
        ROW_NUMBER if key and alone and kind.upper() == "INTEGER" else name for _, name, kind, _, _, key in columns
    ]


def _of_page(data: bytes, size: int, number: int, table: str, columns: list[str]) -> Iterator[Cell]:
    start = (number - 1) * size
    head = start + (100 if number == 1 else 0)
    kind, count = data[head], int.from_bytes(data[head + 3 : head + 5], "big")
    pointers = head + (12 if kind == 5 else 8)
    places = [start + int.from_bytes(data[at : at + 2], "big") for at in range(pointers, pointers + 2 * count, 2)]
    if kind == 5:
        children = [int.from_bytes(data[place : place + 4], "big") for place in places]
        for child in [*children, int.from_bytes(data[head + 8 : head + 12], "big")]:
            yield from _of_page(data, size, child, table, columns)
    if kind == 13:
        for place in places:
            yield from _of_row(data, size, place, table, columns)


def _of_row(data: bytes, size: int, place: int, table: str, columns: list[str]) -> Iterator[Cell]:
    payload, at = _varint(data, place)
    _, at = _varint(data, at)  # the row's number
    whole = payload <= size - 35
    length, types = _varint(data, at)
    yield Cell(table=table, column=HEADER, offset=at, length=types - at)
    value = at + length
    for column in columns:
        if types >= at + length:
            return
        begin = types
        kind, types = _varint(data, types)
        if column != ROW_NUMBER:
            yield Cell(table=table, column=HEADER, offset=begin, length=types - begin)
        width = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)[kind] if kind < 12 else (kind - 12) // 2
        if width and whole:
            yield Cell(table=table, column=column, offset=value, length=width)
        value += width


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place in range(at, at + 8):
        number = number << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return number, place + 1
    return number << 8 | data[at + 8], at + 9
