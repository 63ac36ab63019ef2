"""Values for one statement, in batches of few lengths.

Each length is a statement of its own. The driver of SQLite keeps the last 128 of every connection, and one for
500 values takes 40 KB: asking about one item more each time would take memory for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["in_batches"]

AT_ONCE = 512
"""Short enough for one statement: both databases allow more, and neither is faster with it."""

ValueT = TypeVar("ValueT")


def in_batches(values: Iterable[ValueT], most: int = AT_ONCE) -> Iterator[list[ValueT]]:
    """Batches of at most so many, a power of two, each filled up to one with its last value."""
    whole = list(values)
    for start in range(0, len(whole), most):
        batch = whole[start : start + most]
        yield batch + batch[-1:] * ((1 << (len(batch) - 1).bit_length()) - len(batch))
