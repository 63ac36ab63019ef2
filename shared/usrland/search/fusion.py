"""Two ranked lists → one, with a confidence that means the same for every query.

Scores are added and not ranks: `cosine + 0.5 · bm25 / max(best bm25, 15)`. On eight test collections that ranked
better than reciprocal rank fusion on every one, and a rank knows nothing of relevance: the best of ten useless
passages is still first. The 15 keeps a query whose words hardly match from having its best match count in full.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["FLOOR", "Hit", "confidence", "fuse"]

LEXICAL_WEIGHT = 0.5
LEXICAL_SCALE = 15.0
FLOOR = 0.1
"""Hits of less confidence are not answers."""


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
    """How sure we are that a hit answers the query, in 0..1: a logistic of both kinds of evidence.

    Rises with the cosine and with BM25 per word of the query; nothing else enters, so it compares across
    queries and collections.
    """
    lexical = min((bm25 or 0.0) / max(words, 1), 6.0)
    if cosine is None:
        return _logistic(0.9 * lexical - 1.6)
    return _logistic(9.0 * cosine + 0.5 * lexical - 4.6)


def fuse(
    lexical: Mapping[str, float], dense: Mapping[str, float], *, words: int, floor: float = FLOOR
) -> Sequence[tuple[str, float, float]]:
    """(id, score, confidence) of all hits above the floor, best first; equal scores in the order of their ids.

    A row that only the words found counts with the worst cosine that was found: its own cannot be higher, or
    it would be among them.
    """
    scale = max(LEXICAL_SCALE, *lexical.values()) if lexical else LEXICAL_SCALE
    worst = min(dense.values(), default=0.0)
    fused = []
    for key in lexical.keys() | dense.keys():
        sure = confidence(dense.get(key), lexical.get(key), words)
        if sure >= floor:
            score = dense.get(key, worst) + LEXICAL_WEIGHT * lexical.get(key, 0.0) / scale
            fused.append((key, score, sure))
    return sorted(fused, key=lambda hit: (-hit[1], hit[0]))


def _logistic(evidence: float) -> float:
    return 1.0 / (1.0 + math.exp(-evidence))
