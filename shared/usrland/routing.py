"""Would a model find the right operation by its description? Asked of a small one that runs here.

A request is given to the operation after whose description it is least surprising. That is a weak judge of what a
large model would do, and a strict one of descriptions: what it mixes up is hard to tell apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from usrland.connector import Operation

__all__ = ["Figures", "Judge", "Routed", "figures", "routed"]


class Judge(Protocol):
    """Ranks texts by how well a request fits after each."""

    def ranked(self, texts: Sequence[str]) -> Callable[[str], Sequence[int]]: ...


@dataclass(frozen=True, slots=True)
class Routed:
    """One request, and the operations it was given to, the best first."""

    request: str
    meant: str
    ranked: tuple[str, ...]

    @property
    def place(self) -> int:
        return self.ranked.index(self.meant)


@dataclass(frozen=True, slots=True)
class Figures:
    requests: int
    first: float
    """Share of requests whose operation came first."""
    among_three: float
    confusions: tuple[tuple[str, str, int], ...]
    """The operation meant, the one that came first in its place, and how often."""


def routed(
    judge: Judge, operations: Sequence[Operation], requests: Mapping[str, Sequence[str]]
) -> Iterator[Routed]:
    """Each request, as it is answered."""
    names = [operation.name for operation in operations]
    rank = judge.ranked([text_of(operation) for operation in operations])
    for meant, asked in requests.items():
        for request in asked:
            yield Routed(request, meant, tuple(names[at] for at in rank(request)))


def text_of(operation: Operation) -> str:
    """What a model is told of an operation, on one line."""
    return f"{operation.name}: {' '.join(operation.description.split())}\n\nA request for this: "


def figures(found: Sequence[Routed]) -> Figures:
    """Raises `ValueError` where nothing was asked."""
    if not found:
        raise ValueError("there are no requests")
    missed = Counter((each.meant, each.ranked[0]) for each in found if each.place)
    return Figures(
        requests=len(found),
        first=sum(each.place == 0 for each in found) / len(found),
        among_three=sum(each.place < 3 for each in found) / len(found),
        confusions=tuple((meant, taken, times) for (meant, taken), times in missed.most_common()),
    )
