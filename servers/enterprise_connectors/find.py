"""Which of many operations is meant by some plain words.

Two measures are added up. *Words*: BM25 over fields (BM25F), where a word in an operation's name weighs more
than one in its description, and a word that often stands for another counts half. *Meaning*: the cosine of the
request and the operation in the embedding that the rest of usrland searches with, once it is there (see
`meaning`). Each is divided by its best, so that neither scale rules the other. A mild preference follows for
operations whose effect is what the request's verb asks for.

The weights were chosen on one half of three public collections and of the requests in
`tests/benchmarks/connectors`; the other halves are reported there.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import float32
from numpy.typing import NDArray

from enterprise_connectors.wording import asked, spaced, synonyms, words
from usrland.connector import Effect

__all__ = ["Document", "Index", "Scores"]

Scores = NDArray[float32]
"""One number for each document, in the order they were given."""

K1 = 1.2
B = 0.6
WEIGHTS: Mapping[str, float] = {
    "name": 3.0,
    "summary": 2.0,
    "system": 1.5,
    "description": 1.0,
    "place": 1.0,
    "arguments": 0.4,
}
SYNONYM = 0.5
MEANING = 1.2
RELATED = 0.3
"""Cosine. An operation that shares no word with the request and means less of it is no answer."""
EFFECT = 0.1
PASSAGE_CHARACTERS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One operation as it is searched; the fields of text are named in `WEIGHTS`."""

    key: str
    name: str
    summary: str
    system: str
    description: str
    place: str
    """Where it is in its system: method, path, tags. Words alone; as part of a passage they would mislead."""
    arguments: str
    effect: Effect | None = None

    @property
    def passage(self) -> str:
        """What is embedded."""
        return f"{self.system} {spaced(self.name)}. {self.summary} {self.description}"[:PASSAGE_CHARACTERS]


class Index:
    """Built once, then only read: safe to share between threads."""

    def __init__(self, documents: Iterable[Document]) -> None:
        documents = list(documents)
        self._keys = [document.key for document in documents]
        self._effects = np.array([document.effect or "" for document in documents])
        self._postings = _postings(
            [{field: Counter(words(getattr(document, field))) for field in WEIGHTS} for document in documents]
        )

    def search(
        self, request: str, limit: int, allowed: Callable[[str], bool], meaning: Scores | None = None
    ) -> list[str]:
        """Up to `limit` keys, best first; ties in the order they were given.

        Without `meaning` only what shares a word with the request, or a synonym of one, is found.
        """
        by_words = self._by_words(request)
        if meaning is None:
            total = _to_one(by_words)
            found = by_words > 0
        else:
            total = _to_one(by_words) + MEANING * _to_one(meaning)
            found = (by_words > 0) | (meaning >= RELATED)
        effect = asked(request)
        if effect is not None:
            total = total + EFFECT * (self._effects == effect)
        kept: list[str] = []
        for number in np.argsort(-total, kind="stable"):
            if len(kept) == limit:
                break
            if found[number] and allowed(self._keys[number]):
                kept.append(self._keys[number])
        return kept

    def _by_words(self, request: str) -> Scores:
        scores = np.zeros(len(self._keys), dtype=float32)
        for word in set(words(request)):
            score = self._of_word(word)
            for other in synonyms(word):
                # the word or its synonym, not both: "list and show" is not twice as much of a listing
                score = np.maximum(score, SYNONYM * self._of_word(other))
            scores += score
        return scores

    def _of_word(self, word: str) -> Scores:
        scores = np.zeros(len(self._keys), dtype=float32)
        if word in self._postings:
            numbers, frequencies = self._postings[word]
            rarity = math.log(1 + (len(self._keys) - len(numbers) + 0.5) / (len(numbers) + 0.5))
            scores[numbers] = rarity * frequencies * (K1 + 1) / (frequencies + K1)
        return scores


def _to_one(scores: Scores) -> Scores:
    best = float(scores.max(initial=0.0))
    return scores / best if best > 0 else scores


def _postings(counts: Sequence[Mapping[str, Counter[str]]]) -> dict[str, tuple[NDArray[np.int32], Scores]]:
    frequencies: dict[str, dict[int, float]] = defaultdict(dict)
    for field, weight in WEIGHTS.items():
        lengths = [count[field].total() for count in counts]
        average = sum(lengths) / max(len(lengths), 1) or 1.0
        for number, count in enumerate(counts):
            norm = weight / (1 - B + B * lengths[number] / average)
            for word, times in count[field].items():
                posting = frequencies[word]
                # a name that says "customer" twice is not twice as much about customers
                posting[number] = posting.get(number, 0.0) + norm * (times if field == "description" else 1)
    return {
        word: (
            np.fromiter(posting.keys(), dtype=np.int32, count=len(posting)),
            np.fromiter(posting.values(), dtype=float32, count=len(posting)),
        )
        for word, posting in frequencies.items()
    }
