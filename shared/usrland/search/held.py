"""Rows that wait for the tables, found by their words meanwhile.

Opening the tables imports LanceDB, which takes longer than reading the first files of a folder. What is wanted
then is that something is found: a row is found where a stem of the query is one of its own, and counts by how many
are. How rare a word is, which the tables know, is not asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from usrland.search.fusion import BM25_PER_WORD
from usrland.search.record import Filter, Match, Record

__all__ = ["Held"]

MOST = 5_000
"""Rows; the first batch of a folder has some hundred."""
HEAD = 2
"""Letters that words of one stem share, but for a few such as "dying" and "die"; all others need no stemmer."""
_STOP = """
a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to
was will with
"""
_STOP_WORDS = frozenset(_STOP.split())


class Held:
    """The rows of one index that its tables have not taken yet."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    def __len__(self) -> int:
        return len(self._records)

    def add(self, records: Sequence[Record]) -> bool:
        """Hold these as well, or in place of those with the same id; False where that would be too many."""
        if len(self._records) + len(records) > MOST:
            return False
        self._records |= {record.id: record for record in records}
        return True

    def clear(self) -> None:
        self._records.clear()

    def match(self, terms: str, where: Filter, limit: int) -> list[tuple[Match, float]]:
        """Rows that share a word with `terms`, and what the tables would score about; best first."""
        import snowballstemmer  # it brings forty languages, and an index that has tables needs none of them

        stemmer = snowballstemmer.stemmer("english")  # for this thread: it keeps the word it works on in itself
        stems: dict[str, str] = {}

        def stem(word: str) -> str:
            if word not in stems:
                stems[word] = stemmer.stemWord(word)
            return stems[word]

        asked = {stem(word) for word in terms.lower().split() if word not in _STOP_WORDS}
        heads = tuple({each[:HEAD] for each in asked})
        found = []
        for record in list(self._records.values()):
            if record.scope not in where.scopes or (where.groups is not None and record.group not in where.groups):
                continue
            shared = asked & {stem(word) for word in record.terms.lower().split() if word.startswith(heads)}
            if shared:
                found.append((Match(record.id, record.group, record.extra), BM25_PER_WORD * len(shared)))
        return sorted(found, key=lambda hit: (-hit[1], hit[0].id))[:limit]
