"""From candidates to an order: which of them answer the query best.

Four measures of each candidate (words and meaning, of the item itself and of a window over it and its neighbours)
are brought to the range 0..1 and added, the window's counting less the longer the item is. Then an item gains by
what it stands beside: the question it answers, its neighbours, the best of its session and all of it. It gains
where the query names who said it, and where it tells a time that was asked for; a question gains nothing by being
asked once more. All of this came out ahead of rank fusion on conversations it was not chosen on (the figures are
in tests/benchmarks/memory).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from memory_snapshot.words import Asked, Counted, asks_when, bm25, tells_when

__all__ = ["Candidate", "Ranked", "rank"]

ITEM_WORDS, ITEM_MEANING = 0.08, 0.35
WINDOW_WORDS, WINDOW_MEANING = 0.33, 0.2
ANSWER = 0.12
"""To what follows a question, of the question's share of the words."""
NEIGHBOUR = 0.04
SESSION, SESSION_WORDS = 0.3, 0.1
SPEAKER, SELF = 0.2, 0.35
TIME = 0.15
QUESTION = 0.12
RULE = 0.2
"""To a standing instruction: it bears on more than its own words."""
NEAR_CHARS = 400
"""Of each neighbour in a window; an answer of many pages is not one line of a talk."""

FIRST_PERSON = frozenset(("i", "me", "my", "mine", "we", "us", "our"))
PERSON = frozenset(("user", "human"))
"""Who speaks to a kernel in the first person: `my` in a query means what they said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """`session` groups what was said on one occasion; `order` is its place there. It is found by the words of
    its text and its date."""

    oid: str
    session: str
    order: tuple[int, int]
    speaker: str | None = None
    text: str = ""
    date: str = ""
    asks: bool = False
    rule: bool = False
    meaning: float | None = None
    """Cosine, of the item and of its window; None where that list did not have it."""
    near_meaning: float | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """oid → score, best first, and what each score is the sum of. Scores compare within one query only."""

    scores: Mapping[str, float]
    parts: Mapping[str, Mapping[str, float]]

    def why(self, oid: str) -> dict[str, float]:
        """The parts of one score that count."""
        found = {name: round(part.get(oid, 0.0), 3) for name, part in self.parts.items()}
        return {name: value for name, value in found.items() if value}


def rank(query: str, candidates: Sequence[Candidate], *, complete: bool = True) -> Ranked:
    """`complete` says that what has no cosine was too far from the query to be listed, and not that it waits for
    its vector."""
    sessions: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda candidate: candidate.order):
        sessions.setdefault(candidate.session, []).append(candidate)
    names = {name for said in candidates if said.speaker for name in said.speaker.lower().split()}
    asked = Asked(query, names)
    openings = {said.oid: asked.count(said.text[:NEAR_CHARS]) for said in candidates}
    whole = {
        said.oid: openings[said.oid] + asked.count(f"{said.text[NEAR_CHARS:]} {said.date}") for said in candidates
    }
    parts = _legs(candidates, sessions.values(), whole, openings, complete)
    parts["neighbours"] = _lent(_sum(parts, whole), sessions.values())
    parts["session"] = _prior(_sum(parts, whole), sessions, whole)
    named, timely = _named(query), asks_when(query)
    parts["speaker"] = {
        said.oid: max((named.get(name, 0.0) for name in (said.speaker or "").lower().split()), default=0.0)
        for said in candidates
    }
    parts["time"] = {said.oid: TIME for said in candidates if timely and tells_when(said.text)}
    parts["question"] = {said.oid: -QUESTION for said in candidates if said.asks}
    parts["rule"] = {said.oid: RULE for said in candidates if said.rule}
    scores = _sum(parts, whole)
    return Ranked(dict(sorted(scores.items(), key=lambda found: (-found[1], found[0]))), parts)


def _sum(parts: Mapping[str, Mapping[str, float]], oids: Iterable[str]) -> dict[str, float]:
    return {oid: sum(part.get(oid, 0.0) for part in parts.values()) for oid in oids}


def _weighed(weight: float, leg: Mapping[str, float]) -> dict[str, float]:
    return {oid: weight * value for oid, value in leg.items()}


def _legs(
    candidates: Sequence[Candidate],
    sessions: Iterable[Sequence[Candidate]],
    whole: Mapping[str, Counted],
    openings: Mapping[str, Counted],
    complete: bool,
) -> dict[str, Mapping[str, float]]:
    words = _words(whole)
    near_words = _words(_windows(whole, openings, sessions))
    meaning = _filled({said.oid: said.meaning for said in candidates}, words, complete)
    near_meaning = _filled({said.oid: said.near_meaning for said in candidates}, near_words, complete)
    shares = {said.oid: min(1.0, NEAR_CHARS / max(1, len(said.text))) for said in candidates}
    return {
        "words": _weighed(ITEM_WORDS, words),
        "meaning": _weighed(ITEM_MEANING, meaning),
        "words around": _weighed(WINDOW_WORDS, _around(words, near_words, shares)),
        "meaning around": _weighed(WINDOW_MEANING, _around(meaning, near_meaning, shares)),
        "answer": {
            after.oid: ANSWER * words[before.oid] for before, after in _neighbours(sessions) if before.asks
        },
    }


def _around(
    itself: Mapping[str, float], window: Mapping[str, float], shares: Mapping[str, float]
) -> dict[str, float]:
    """A short line is understood by what was said around it; a long text stands the more for itself."""
    return {oid: share * window[oid] + (1 - share) * itself[oid] for oid, share in shares.items()}


def _prior(
    scores: Mapping[str, float], sessions: Mapping[str, Sequence[Candidate]], whole: Mapping[str, Counted]
) -> dict[str, float]:
    """What a session adds to all that was said in it; nothing where there is only one."""
    if len(sessions) < 2:
        return {}
    best = _spread({session: max(scores[said.oid] for said in line) for session, line in sessions.items()})
    words = _words(
        {session: sum((whole[said.oid] for said in line), Counted()) for session, line in sessions.items()}
    )
    return {
        said.oid: SESSION * best[session] + SESSION_WORDS * words[session]
        for session, line in sessions.items()
        for said in line
    }


def _windows(
    whole: Mapping[str, Counted], openings: Mapping[str, Counted], sessions: Iterable[Sequence[Candidate]]
) -> dict[str, Counted]:
    """Each candidate's words and its neighbours'. A neighbour that is no candidate adds none."""
    near = dict(whole)
    for before, after in _neighbours(sessions):
        near[before.oid] += openings[after.oid]
        near[after.oid] += openings[before.oid]
    return near


def _words(texts: Mapping[str, Counted]) -> dict[str, float]:
    """Shares of the best."""
    scores = bm25(list(texts.values()))
    most = max(scores, default=0.0) or 1.0
    return {name: score / most for name, score in zip(texts, scores, strict=True)}


def _filled(leg: Mapping[str, float | None], words: Mapping[str, float], complete: bool) -> dict[str, float]:
    """The range 0..1. What was too far to be listed counts as the last that was; what waits for its vector, by its
    words."""
    spread = _spread({oid: value for oid, value in leg.items() if value is not None})
    return {oid: spread.get(oid, 0.0 if complete and spread else words[oid]) for oid in leg}


def _spread(leg: Mapping[str, float]) -> dict[str, float]:
    """The range 0..1."""
    least, most = min(leg.values(), default=0.0), max(leg.values(), default=0.0)
    return {oid: (value - least) / (most - least) if most > least else 0.0 for oid, value in leg.items()}


def _named(query: str) -> dict[str, float]:
    """Whom the query speaks of, by name or as the one who asks, and what they gain by it."""
    named = dict.fromkeys((word.lower() for word in re.findall(r"\w+", query)), SPEAKER)
    return {**named, **dict.fromkeys(PERSON, SELF)} if named.keys() & FIRST_PERSON else named


def _lent(scores: Mapping[str, float], sessions: Iterable[Sequence[Candidate]]) -> dict[str, float]:
    """What neighbours give each other."""
    lent: dict[str, float] = {}
    for before, after in _neighbours(sessions):
        lent[before.oid] = lent.get(before.oid, 0.0) + NEIGHBOUR * scores[after.oid]
        lent[after.oid] = lent.get(after.oid, 0.0) + NEIGHBOUR * scores[before.oid]
    return lent


def _neighbours(sessions: Iterable[Sequence[Candidate]]) -> Iterator[tuple[Candidate, Candidate]]:
    """Two of a session between which nothing was said."""
    for line in sessions:
        for before, after in pairwise(line):
            (seq, place), (next_seq, next_place) = before.order, after.order
            if (next_seq, next_place) == (seq, place + 1) or (next_seq == seq + 1 and next_place == 0):
                yield before, after
