"""Which of many operations is meant by some plain words.

Measures are added up. *Words*: BM25 over fields (BM25F), where a word in an operation's name weighs more than
one in its description, and a word that often stands for another counts half. *Meaning*: the cosine of the
request and the operation in the embedding that the rest of usrland searches with, once it is there (see
`meaning`). Each is divided by its best, so that neither scale rules the other. *Cover*: how much of what an
operation says of itself in its name, its first line and the end of its path the request asks for, so that "list
issues" finds the issues and not the labels of the comments of issues. *System*: what the request calls by name
is looked for there. A preference follows for operations whose effect is what the request's verb asks for.

The weights were chosen on one half of three public collections and of the requests in
`tests/benchmarks/connectors`; the other halves are reported there.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import float32
from numpy.typing import NDArray

from enterprise_connectors.wording import asked, plain, spaced, synonyms, words
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
MEANING = 2.5
COVER: Mapping[str, float] = {"title": 0.67, "name": 0.5, "resource": 0.33}
SYSTEM = 1.67
RELATED = 0.3
"""Cosine. An operation that shares no word with the request and means less of it is no answer."""
EFFECT = 0.8
PASSAGE_CHARACTERS = 300
LOOKED_AT = 100
"""Of the best; more only where the caller may not use that many of them."""


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
    called: str = ""
    """The system's own name, where `system` says more."""

    @property
    def passage(self) -> str:
        """What is embedded."""
        return f"{self.summary}. {spaced(self.name)} {self.system}. {self.description}"[:PASSAGE_CHARACTERS]

    @property
    def title(self) -> str:
        """What it says of itself at a glance."""
        return f"{self.name} {self.summary}"

    @property
    def resource(self) -> str:
        """What its path ends in, parameters left out; without a path, its name."""
        path = re.split("[?#]", f"{self.place} ".split(" ")[1])[0]
        segments = [segment for segment in path.split("/") if segment and "{" not in segment]
        return segments[-1] if segments else self.name


class Index:
    """Built once, then only read: safe to share between threads."""

    def __init__(self, documents: Iterable[Document]) -> None:
        documents = list(documents)
        self._keys = [document.key for document in documents]
        self._effects = np.array([document.effect or "" for document in documents])
        self._postings = _postings(
            [{field: Counter(words(getattr(document, field))) for field in WEIGHTS} for document in documents]
        )
        self._cover = {
            field: _Cover([set(words(getattr(document, field))) for document in documents]) for field in COVER
        }
        systems = [document.called or document.system for document in documents]
        self._named = _Named(sorted(set(systems)))
        self._systems = np.array([self._named.systems.index(system) for system in systems], dtype=np.int32)

    def search(
        self, request: str, limit: int, allowed: Callable[[str], bool], meaning: Scores | None = None
    ) -> list[str]:
        """Up to `limit` keys, best first; ties in the order they were given.

        Without `meaning` only what shares a word with the request, or a synonym of one, is found.
        """
        by_words = self._by_words(request)
        found = by_words > 0
        total = _to_one(by_words)
        if meaning is not None:
            total += MEANING * _to_one(meaning)
            found |= meaning >= RELATED
        meant = _meant(request)
        for field, weight in COVER.items():
            total += weight * self._cover[field].share(meant)
        if self._keys:
            total += SYSTEM * self._named.shares(request)[self._systems]
        effect = asked(request)
        if effect is not None:
            total += EFFECT * (self._effects == effect)
        total[~found] = -np.inf
        kept: list[str] = []
        for number in _best_first(total):
            if len(kept) == limit or not found[number]:
                break
            if allowed(self._keys[number]):
                kept.append(self._keys[number])
        return kept

    def _by_words(self, request: str) -> Scores:
        scores = np.zeros(len(self._keys), dtype=float32)
        for word in set(words(request)):
            others = [other for other in synonyms(word) if other in self._postings]
            if not others:
                numbers, own = self._postings.get(word, _NOWHERE)
                scores[numbers] += own
                continue
            # the word or its synonym, not both: "list and show" is not twice as much of a listing
            best = np.zeros(len(self._keys), dtype=float32)
            for other in others:
                numbers, theirs = self._postings[other]
                best[numbers] = np.maximum(best[numbers], SYNONYM * theirs)
            numbers, own = self._postings.get(word, _NOWHERE)
            best[numbers] = np.maximum(best[numbers], own)
            scores += best
        return scores


_NOWHERE: tuple[NDArray[np.int32], Scores] = (np.empty(0, dtype=np.int32), np.empty(0, dtype=float32))


class _Cover:
    """How much of each document's own words a request names, the rare ones counting more."""

    def __init__(self, documents: Sequence[set[str]]) -> None:
        numbers: dict[str, list[int]] = defaultdict(list)
        for number, own in enumerate(documents):
            for word in own:
                numbers[word].append(number)
        self._size = len(documents)
        self._postings = {
            word: (np.array(those, dtype=np.int32), _rarity(len(documents), len(those)))
            for word, those in numbers.items()
        }
        weights = (sum(self._postings[word][1] for word in own) for own in documents)
        self._whole = np.fromiter((weight or 1.0 for weight in weights), dtype=float32, count=len(documents))

    def share(self, meant: Mapping[str, float]) -> Scores:
        scores = np.zeros(self._size, dtype=float32)
        for word, certainty in meant.items():
            if word in self._postings:
                numbers, rarity = self._postings[word]
                scores[numbers] += rarity * certainty
        shares: Scores = scores / self._whole
        return shares


class _Named:
    """Which systems a request calls by their name, or by the part of it that no other system has."""

    def __init__(self, systems: Sequence[str]) -> None:
        self.systems = list(systems)
        own = [{word for word in plain(system) if not word.isdigit()} for system in systems]
        having = Counter(word for words_ in own for word in words_)
        self._own = [{word: 1 / having[word] for word in words_} for words_ in own]

    def shares(self, request: str) -> Scores:
        said = set(plain(request))
        return np.array(
            [sum(w for word, w in own.items() if word in said) / (sum(own.values()) or 1) for own in self._own],
            dtype=float32,
        )


def _meant(request: str) -> dict[str, float]:
    """The request's words, and those that often stand for one of them, with how sure that is."""
    said = set(words(request))
    return dict.fromkeys((other for word in said for other in synonyms(word)), SYNONYM) | dict.fromkeys(said, 1.0)


def _best_first(total: Scores) -> Iterator[int]:
    """The numbers of the best first; all are put in order only where somebody asks for so many."""
    if len(total) > LOOKED_AT * 4:
        some = np.argpartition(-total, LOOKED_AT)[:LOOKED_AT]
        some.sort()
        order = some[np.argsort(-total[some], kind="stable")]
        # the last ones share their score with others that were not looked at
        order = order[total[order] > total[order[-1]]]
        yield from map(int, order)
        seen = len(order)
    else:
        seen = 0
    yield from map(int, np.argsort(-total, kind="stable")[seen:])


def _rarity(documents: int, having: int) -> float:
    return math.log(1 + (documents - having + 0.5) / (having + 0.5))


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
    return {word: _scored(posting, len(counts)) for word, posting in frequencies.items()}


def _scored(posting: Mapping[int, float], documents: int) -> tuple[NDArray[np.int32], Scores]:
    """Which documents have a word, and what it is worth in each."""
    numbers = np.fromiter(posting.keys(), dtype=np.int32, count=len(posting))
    weights = np.fromiter(posting.values(), dtype=float32, count=len(posting))
    return numbers, (_rarity(documents, len(posting)) * (K1 + 1) * weights / (weights + K1)).astype(float32)
