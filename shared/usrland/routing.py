"""Would a model find the right operation by its description? Asked of two small ones that run here.

One knows how sentences go on: a request fits an operation after whose description it is least surprising. The
other knows what sentences mean: a request fits the operation whose description is nearest. Each goes astray where
the other does not, so their judgements are added up, each on its own scale. Both are told an operation's title and
the first sentence of its description, where a reader decides whether to read on. They are weak judges of what a
large model would do, and strict ones of descriptions: what they mix up is hard to tell apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from usrland.connector import Operation

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    from usrland.embedding import Embedder

    Scores = NDArray[float64]

__all__ = [
    "FIRST_WORDS",
    "Figures",
    "Foreteller",
    "Judge",
    "Routed",
    "by_likelihood",
    "by_meaning",
    "figures",
    "routed",
]

SURPRISE = 3.0
"""How much one word of a request, as a natural logarithm, can speak for or against an operation. What a request is
about (a file called retry.py) would else outweigh what it asks for."""
FADING = 6
FIRST_WORDS = 6
"""A request says first what is wanted and then of what: tokens weigh less from about here on, and the first words
are judged once more alone."""

Judge = Callable[[Sequence[Operation]], Callable[[str], "Scores"]]
"""Operations → a request → how well each of them fits it, on any scale."""


class Foreteller(Protocol):
    """A language model that can say how likely a text is after others."""

    def read(self, texts: Sequence[str]) -> Any: ...

    def likelihoods(self, texts: Any, continuation: str) -> Any:
        """For each text a row with the log probability of each token of the continuation."""
        ...


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
    judges: Sequence[Judge], operations: Sequence[Operation], requests: Mapping[str, Sequence[str]]
) -> Iterator[Routed]:
    """Each request, as it is answered."""
    import numpy as np

    ready = [judge(operations) for judge in judges]
    for meant, asked in requests.items():
        for request in asked:
            total = np.sum([_scaled(fits(request)) for fits in ready], axis=0)
            ranked = np.argsort(-total, kind="stable")
            yield Routed(request, meant, tuple(operations[at].name for at in ranked))


def by_likelihood(model: Foreteller) -> Judge:
    """An operation fits where the request is no surprise after it."""
    import numpy as np

    def judge(operations: Sequence[Operation]) -> Callable[[str], Scores]:
        # the quote is part of it: after a space at the end, no word would begin as it does elsewhere
        texts = model.read([f'{told(each)} For example, somebody says: "' for each in operations])

        def fits(request: str) -> Scores:
            found = np.asarray(model.likelihoods(texts, request), dtype=np.float64)
            beyond_others = np.clip(found - found.mean(axis=0), -SURPRISE, SURPRISE)
            return np.average(beyond_others, axis=1, weights=1 / (1 + np.arange(found.shape[1]) / FADING))

        return fits

    return judge


def by_meaning(model: Embedder, words: int | None = None) -> Judge:
    """An operation fits where it means what the request means, or what its first words mean."""
    import numpy as np

    def judge(operations: Sequence[Operation]) -> Callable[[str], Scores]:
        vectors = model.documents([told(each) for each in operations]) + model.documents(
            [first_sentence(each) for each in operations]
        )

        def fits(request: str) -> Scores:
            return np.asarray(vectors @ model.query(" ".join(request.split()[:words])), dtype=np.float64)

        return fits

    return judge


def told(operation: Operation) -> str:
    return f"{operation.title}: {first_sentence(operation)}"


def first_sentence(operation: Operation) -> str:
    return re.split(r"(?<=[.!?])\s", " ".join(operation.description.split()), maxsplit=1)[0]


def _scaled(scores: Scores) -> Scores:
    """In standard deviations, so that judges can be added up."""
    spread = scores.std()
    return (scores - scores.mean()) / spread if spread else scores * 0


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
