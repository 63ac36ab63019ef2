"""Database values as JSON values, without losing what a number or a moment says."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

__all__ = ["plain"]

MAX_TEXT = 2_000
"""Characters of one value. A document in a column is read with substr(), not by accident."""
MAX_SAFE_INTEGER = 2**53


def plain(row: Sequence[Any]) -> tuple[list[Any], int]:
    """The row's values, and how many of them were shortened."""
    values = [_plain(value) for value in row]
    shortened = 0
    for number, value in enumerate(values):
        if isinstance(value, str) and len(value) > MAX_TEXT:
            values[number] = f"{value[:MAX_TEXT]}… ({len(value)} characters)"
            shortened += 1
    return values, shortened


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | str():
            return value
        case int():
            # beyond this, JSON readers that use floating point would change the number
            return value if abs(value) <= MAX_SAFE_INTEGER else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case Decimal():
            return str(value)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            data = bytes(value)
            return f"\\x{data.hex()}" if len(data) <= 64 else f"(binary, {len(data)} bytes)"
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case _:
            return str(value)
