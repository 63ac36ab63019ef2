"""Rows of tables: records of CSV, and rows joined to passages without ever cutting one."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Row", "packed_rows", "rows_of"]

DELIMITERS = ",;\t|"
MAX_RECORD_CHARS = 50_000
"""A longer one comes from a quotation mark that was never closed: then every line is a row."""


@dataclass(frozen=True, slots=True)
class Row:
    """A record as it is written, with its line ends. `start` counts characters."""

    start: int
    text: str


def rows_of(text: str) -> Sequence[Row]:
    """The records of a table in text form. One may hold line ends, between quotation marks."""
    # not splitlines, which also ends lines where nobody counts one
    lines = [line + "\n" for line in text.split("\n")[:-1]] + text.split("\n")[-1:]
    lines = lines if lines[-1] else lines[:-1]
    return list(_joined(lines, _spans(lines)))


def _spans(lines: Sequence[str]) -> Sequence[int]:
    """How many lines each record takes."""
    if not any('"' in line for line in lines):
        return [1] * len(lines)
    first = lines[0] if lines else ""
    delimiter = max(DELIMITERS, key=first.count)
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(iter(lines), delimiter=delimiter)
    spans, before = [], 0
    try:
        for _ in reader:
            span = reader.line_num - before
            if span > 1 and sum(map(len, lines[before : before + span])) > MAX_RECORD_CHARS:
                return [1] * len(lines)
            spans.append(span)
            before = reader.line_num
    except csv.Error:
        return [1] * len(lines)
    return spans


def _joined(lines: Sequence[str], spans: Sequence[int]) -> Iterator[Row]:
    line = start = 0
    for span in spans:
        text = "".join(lines[line : line + span])
        yield Row(start, text)
        line, start = line + span, start + len(text)


def packed_rows(rows: Sequence[str], most_chars: int) -> Sequence[tuple[int, int]]:
    """From which row up to which, so that each passage fits; empty rows at its ends are left out."""
    spans: list[tuple[int, int]] = []
    first: int | None = None
    last = size = 0
    for number, row in enumerate(rows):
        if not row.strip():
            continue
        size_with = sum(len(between) for between in rows[last:number]) + len(row) if first is not None else 0
        if first is not None and size + size_with > most_chars:
            spans.append((first, last))
            first = None
        if first is None:
            first, size = number, len(row)
        else:
            size += size_with
        last = number + 1
    if first is not None:
        spans.append((first, last))
    return spans
