"""Finding by words without an index: for what was remembered a moment ago, and for when the index is away.

Cruder than the index (no statistics of the collection, endings cut instead of stemmed) and never silent about
a match: what was acknowledged can be recalled at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from usrland.search import terms
from usrland.search.fusion import confidence

__all__ = ["scan"]

MOST = 100
BM25_PER_WORD = 4.0
"""What a matching word of middling rarity scores in the index."""

_COMMON_WORDS = (
    "a about all an and any are as at be been but by can did do does for from had has have he her his how i if in "
    "is it its me my no not of on or our she so than that the their them then there they this to us was we were "
    "what when where which who whom why will with would you your"
)
_COMMON = frozenset(_COMMON_WORDS.split())
_ENDING = re.compile(r"(?:ing|ed|es|e|s)$")


def scan(query: str, texts: Mapping[str, str]) -> dict[str, float]:
    """Id → confidence of the texts that share a word with the query, best first."""
    words = sorted({word for word in terms(query).lower().split() if word not in _COMMON})
    patterns = [re.compile(_pattern(word)) for word in words]
    found: dict[str, float] = {}
    for name, text in texts.items():
        matched = _matched(patterns, text.lower())
        if matched:
            found[name] = confidence(None, BM25_PER_WORD * matched, len(words))
    return dict(sorted(found.items(), key=lambda hit: (-hit[1], hit[0]))[:MOST])


def _matched(patterns: Iterable[re.Pattern[str]], text: str) -> int:
    return sum(1 for pattern in patterns if pattern.search(text))


def _pattern(word: str) -> str:
    if not word.isascii() or len(word) < 4:
        return re.escape(word) if not word.isascii() else rf"\b{re.escape(word)}\b"
    return rf"\b{re.escape(_ENDING.sub('', word))}\w{{0,3}}\b"
