"""Two ranked lists → one, with a confidence that means the same for every query.

Scores are added and not ranks: `cosine + 0.6 · bm25 / scale`. A rank knows nothing of relevance: the best of ten
useless passages is still first. The scale is the best BM25 of the query, so that its best match counts in full,
but it is not lower than 20, so that words which hardly match do not; and where the best cosine is high, meaning
has found what was asked for and words have to say more to be heard. The weights were chosen on four collections
of documents and code; on these and on a fifth the result ranks better than rank fusion.

A question without a single identifier, put to code, is the exception where it is short or names the language that
the code is written in, as nobody does who knows that code: what it shares with code is everyday words, and there
they weigh a third. This was chosen on one collection of such questions (cosqa-dev); of another with longer ones
about code, which name no language, it would meet one in eight.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["BM25_PER_WORD", "FLOOR", "Hit", "confidence", "fuse", "lexical_weight"]

LEXICAL_WEIGHT = 0.6
OF_EVERYDAY_WORDS = 0.2
"""Their weight in a question about code, without an identifier, that is short or names the language."""
SHORT_WORDS = 8
CODE_LOOKED_AT, CODE_SHARE = 20, 0.8
"""Of so many of the nearest rows this share is code, or the question is not taken to be about code."""
WORD = re.compile(r"\w+")
IDENTIFIER = re.compile(r"[a-z][A-Z]|_|[A-Za-z]\d|\d[A-Za-z]|\(\)|::|`|\w\.\w+\(|[A-Z]{2,}")
LEXICAL_SCALE = 20.0
BM25_PER_WORD = 4.0
"""What a matching word of middling rarity scores, where nobody has counted how rare it is."""
SURE_COSINE, SCALE_PER_COSINE = 0.6, 80.0
"""Above this best cosine the scale of words grows, so much for each 1.0 of it."""
NEIGHBOUR_WEIGHT = 0.3
"""What the better neighbour adds to a row, of its lead over the worst that was found."""
ALONE = 0.5
"""A row without neighbours counts as having one with this share of its own lead, or short documents would lose."""
FAR_BEHIND = 0.35
"""Share of the best hit's confidence below which others only take up room."""
CANDIDATES = 300
"""Of each list. Fewer loses what only the other list would have lifted."""
FLOOR = 0.1
"""Hits of less confidence are not answers. On four collections this kept every right passage, and left
nothing to four of ten questions that were put to a collection about something else. A higher floor would cost
paraphrases that share no word with their question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One row that was found. `score` orders the hits of one query; `confidence` compares across queries."""

    id: str
    score: float
    confidence: float
    lexical: float | None
    """BM25, where the words matched."""
    dense: float | None
    """Cosine, where the row has a vector."""
    extra: str
    group: str = ""


def confidence(cosine: float | None, bm25: float | None, words: int) -> float:
    """How sure we are that a hit answers the query, in 0..1; `None` is evidence that was not looked for.

    A logistic of the cosine and of BM25 per word. It rises with both and with nothing else, so it compares
    across queries and collections. The weights were fitted on four collections, to tell the right passage
    from the best of a collection without one. Words alone tell that badly, and BM25 is small where rows are
    few: without a cosine every match stays above the floor.
    """
    lexical = min((bm25 or 0.0) / max(words, 1), 6.0)
    if cosine is None:
        return _logistic(1.2 * lexical - 1.6)
    if bm25 is None:
        return _logistic(7.3 * cosine - 3.3)
    return _logistic(7.0 * cosine + 0.7 * lexical - 3.9)


def lexical_weight(
    query: str, words: int, dense: Mapping[str, float] | None, language: Callable[[str], str | None] | None
) -> float:
    """What words weigh against meaning, by how a question is put and what lies nearest to it.

    `language` is the programming language that the row of an id is written in.
    """
    if not dense or language is None:
        return LEXICAL_WEIGHT
    nearest = sorted(dense, key=lambda key: (-dense[key], key))[:CODE_LOOKED_AT]
    written_in = list(filter(None, map(language, nearest)))
    if len(written_in) < CODE_SHARE * len(nearest):
        return LEXICAL_WEIGHT
    rest = WORD.sub(lambda word: "" if word[0].rstrip("0123456789").lower() in written_in else word[0], query)
    if IDENTIFIER.search(rest) or (words > SHORT_WORDS and rest == query):
        return LEXICAL_WEIGHT
    return OF_EVERYDAY_WORDS


def fuse(
    lexical: Mapping[str, float] | None,
    dense: Mapping[str, float] | None,
    *,
    words: int,
    weight: float = LEXICAL_WEIGHT,
    floor: float = FLOOR,
    candidates: int = CANDIDATES,
    neighbours: Callable[[str], Sequence[str]] | None = None,
    most: int | None = None,
) -> Sequence[tuple[str, float, float]]:
    """(id, score, confidence) of the `most` best hits above the floor, or all; ties in the order of their ids.

    `None` is a side that was not asked. A row that only the words found counts with the worst cosine that
    was found: where the list of vectors is full (`candidates` long) its own cannot be higher, and where it is not
    full the row has no vector yet. With `neighbours` (ids by an id), rows are passages of documents: one that
    stands beside another good one is better, and what is far less sure than the best is left out.
    """
    by_words, by_meaning = lexical or {}, dense or {}
    surplus = max(max(by_meaning.values(), default=0.0) - SURE_COSINE, 0.0)
    scale = max(LEXICAL_SCALE + SCALE_PER_COSINE * surplus, *by_words.values(), 0.0)
    worst = min(by_meaning.values(), default=0.0)
    unseen = worst if len(by_meaning) >= candidates else None
    unmatched = None if lexical is None else 0.0
    scores = {
        key: by_meaning.get(key, worst) + weight * by_words.get(key, 0.0) / scale
        for key in by_words.keys() | by_meaning.keys()
    }
    if neighbours is not None:
        scores = _with_neighbours(scores, worst, neighbours)
    fused: list[tuple[str, float, float]] = []
    for key in sorted(scores, key=lambda key: (-scores[key], key)):
        if len(fused) == most:
            break
        sure = confidence(by_meaning.get(key, unseen), by_words.get(key, unmatched), words)
        if sure < floor or (neighbours is not None and fused and sure < FAR_BEHIND * fused[0][2]):
            continue
        fused.append((key, scores[key], sure))
    return fused


def _with_neighbours(
    scores: Mapping[str, float], worst: float, neighbours: Callable[[str], Sequence[str]]
) -> dict[str, float]:
    raised = {}
    for key, score in scores.items():
        most = ALONE * (score - worst)
        for other in neighbours(key):
            most = max(most, scores.get(other, worst) - worst)
        raised[key] = score + NEIGHBOUR_WEIGHT * most
    return raised


def _logistic(evidence: float) -> float:
    return 1.0 / (1.0 + math.exp(-evidence))
