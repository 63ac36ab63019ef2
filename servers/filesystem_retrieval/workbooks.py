"""Workbooks → rows, one line each. Runs in the parser's process."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta

from python_calamine import CalamineError, CalamineWorkbook

from filesystem_retrieval.containers import Refused

__all__ = ["sheets"]

Cell = int | float | str | bool | time | date | datetime | timedelta


def sheets(content: bytes) -> Iterator[tuple[str, str]]:
    """Name and text of each sheet: its name as a heading, then line by line what its rows say."""
    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(content))
        for name in workbook.sheet_names:
            sheet = workbook.get_sheet_by_name(name)
            above = sheet.start[0] if sheet.start is not None else 0
            lines = [f"## {' '.join(name.split())}", *[""] * above]
            lines += [_line(row) for row in sheet.to_python(skip_empty_area=True)]
            yield name, "\n".join(lines)
    except CalamineError as error:
        raise Refused(f"its parser refused it: {type(error).__name__}") from error


def _line(row: Sequence[Cell]) -> str:
    cells = [_text(cell) for cell in row]
    return f"| {' | '.join(cells)} |" if any(cells) else ""


def _text(cell: Cell) -> str:
    match cell:
        case bool():
            return "TRUE" if cell else "FALSE"
        case float() if cell.is_integer():
            return str(int(cell))
        case datetime() if (cell.hour, cell.minute, cell.second) == (0, 0, 0):
            return cell.date().isoformat()
        case datetime():
            return cell.isoformat(sep=" ", timespec="seconds")
        case _:
            return " ".join(str(cell).split()).replace("|", "\\|")
