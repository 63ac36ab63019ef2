"""Finding without an index: what was remembered a moment ago, and everything while the index is away.

Never silent about a match: what was acknowledged can be recalled at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from memory_snapshot.words import Asked
from usrland.search.fusion import BM25_PER_WORD, confidence

__all__ = ["scan"]

MOST = 400


def scan(query: str, texts: Mapping[str, str], cosines: Mapping[str, float] | None = None) -> dict[str, float]:
    """Id → confidence of the texts that share a word with the query, best first; of those with a cosine, all."""
    asked, near = Asked(query), cosines or {}
    matched = {name: len(asked.count(text).stems) for name, text in texts.items()}
    found = {
        name: confidence(near.get(name), BM25_PER_WORD * words, len(asked.stems))
        for name, words in matched.items()
        if words or name in near
    }
    return dict(sorted(found.items(), key=lambda hit: (-hit[1], hit[0]))[:MOST])
