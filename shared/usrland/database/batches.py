"""Values for `IN`, in batches of few lengths.

Each length is a statement of its own. The driver of SQLite keeps the last 128 of every connection, and one for
500 values takes 40 KB: asking about one item more each time would take memory for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["in_batches"]

AT_ONCE = 512

ValueT = TypeVar("ValueT")


def in_batches(values: Iterable[ValueT]) -> Iterator[list[ValueT]]:
    """Batches short enough for one statement, each filled up to a power of two with its last value."""
    whole = list(values)
    for start in range(0, len(whole), AT_ONCE):
        batch = whole[start : start + AT_ONCE]
        yield batch + batch[-1:] * ((1 << (len(batch) - 1).bit_length()) - len(batch))
