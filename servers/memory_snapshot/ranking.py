"""From what the index measured to an order: which of the candidates answer the query best.

Four measures of each candidate (words and meaning, of the item itself and of a window over it and its neighbours)
are brought to the range 0..1 and added. Then an item gains by what it stands beside: its neighbours in the
session, the best of its session, and whether the query names who said it; a question gains nothing by being
asked once more. All of this came out ahead of rank fusion on conversations it was not chosen on (the figures are
in tests/benchmarks/memory).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Candidate", "Measured", "rank"]

ITEM_WORDS, ITEM_MEANING = 0.25, 0.25
WINDOW_WORDS, WINDOW_MEANING = 0.25, 0.1
NEIGHBOUR = 0.05
SESSION = 0.4
SPEAKER = 0.2
QUESTION = 0.06


@dataclass(frozen=True, slots=True)
class Measured:
    """BM25 and cosine; None where that list did not have it."""

    words: float | None = None
    meaning: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """`session` groups what was said on one occasion; `order` is its place there."""

    oid: str
    session: str
    order: tuple[int, int]
    speaker: str | None
    asks: bool
    item: Measured
    window: Measured


def rank(query: str, candidates: Sequence[Candidate]) -> dict[str, float]:
    """oid → score, best first. Scores compare within one query only."""
    scores = _legs(candidates)
    by_session: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda candidate: candidate.order):
        by_session.setdefault(candidate.session, []).append(candidate)
    scores = _smoothed(scores, by_session.values())
    bests = {session: max(scores[said.oid] for said in line) for session, line in by_session.items()}
    prior = _spread(bests) if len(bests) > 1 else dict.fromkeys(bests, 0.0)
    named = {word.lower() for word in re.findall(r"\w+", query)}
    for candidate in candidates:
        score = scores[candidate.oid] + SESSION * prior[candidate.session]
        if candidate.speaker and named.intersection(candidate.speaker.lower().split()):
            score += SPEAKER
        scores[candidate.oid] = score - QUESTION * candidate.asks
    return dict(sorted(scores.items(), key=lambda found: (-found[1], found[0])))


def _legs(candidates: Sequence[Candidate]) -> dict[str, float]:
    words = {candidate.oid: candidate.item.words or 0.0 for candidate in candidates}
    near_words = {candidate.oid: candidate.window.words or 0.0 for candidate in candidates}
    meaning = _filled({candidate.oid: candidate.item.meaning for candidate in candidates})
    near_meaning = _filled({candidate.oid: candidate.window.meaning for candidate in candidates})
    scores = dict.fromkeys(words, 0.0)
    for leg, weight in (
        (_spread(words | {"": 0.0}), ITEM_WORDS),
        (_spread(near_words | {"": 0.0}), WINDOW_WORDS),
        (_spread(meaning), ITEM_MEANING),
        (_spread(near_meaning), WINDOW_MEANING),
    ):
        for oid in scores:
            scores[oid] += weight * leg[oid]
    return scores


def _filled(leg: Mapping[str, float | None]) -> dict[str, float]:
    """What was not in the list counts as the last that was."""
    worst = min((value for value in leg.values() if value is not None), default=0.0)
    return {oid: worst if value is None else value for oid, value in leg.items()}


def _spread(leg: Mapping[str, float]) -> dict[str, float]:
    """The range 0..1."""
    least, most = min(leg.values(), default=0.0), max(leg.values(), default=0.0)
    return {oid: (value - least) / (most - least) if most > least else 0.0 for oid, value in leg.items()}


def _smoothed(scores: Mapping[str, float], sessions: Iterable[Sequence[Candidate]]) -> dict[str, float]:
    smoothed = dict(scores)
    for line in sessions:
        for before, after in pairwise(line):
            if _adjacent(before, after):
                smoothed[before.oid] += NEIGHBOUR * scores[after.oid]
                smoothed[after.oid] += NEIGHBOUR * scores[before.oid]
    return smoothed


def _adjacent(before: Candidate, after: Candidate) -> bool:
    """Nothing was said between them."""
    (seq, place), (next_seq, next_place) = before.order, after.order
    return (next_seq, next_place) == (seq, place + 1) or (next_seq == seq + 1 and next_place == 0)
