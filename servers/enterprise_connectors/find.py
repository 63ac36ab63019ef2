"""Which of many operations is meant by some plain words.

BM25 over fields (BM25F): a word in an operation's name weighs more than one in its description. Text is
split where people read a boundary (camelCase, punctuation, letters against digits) and stemmed, so that
`createIssue`, "issues/create" and "create an issue" meet. Lexical only, pure Python, and fast because only
the postings of the query's own words are read: about a millisecond at ten thousand operations.
"""

from __future__ import annotations

import heapq
import math
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import snowballstemmer

__all__ = ["Document", "Index", "words"]

K1 = 1.2
B = 0.6
WEIGHTS: Mapping[str, float] = {"name": 3.0, "summary": 2.0, "system": 1.5, "description": 1.0, "arguments": 0.4}

_BOUNDARY = re.compile(
    r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])"
)
_WORD = re.compile(r"[^\W_]+")
_STOP_WORDS = (
    "a an and are as at be by can do for from get has have how i in into is it its me my of on or our please "
    "that the their them then this to use was we what when where which who will with you your"
)
_STOP = frozenset(_STOP_WORDS.split())

# what APIs call by their method and people by what it does; only verbs that mean one thing in both
_SAME: Mapping[str, str] = {
    "post": "create",
    "add": "create",
    "insert": "create",
    "remove": "delete",
    "edit": "update",
    "modify": "update",
    "patch": "update",
    "put": "update",
}

_stemmer = snowballstemmer.stemmer("english")
_stemming = threading.Lock()  # a stemmer keeps the word it works on in itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One operation as it is searched; the fields are named in `WEIGHTS`."""

    key: str
    name: str
    summary: str
    system: str
    description: str
    arguments: str


class Index:
    """Built once, then only read: safe to share between threads."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._keys: list[str] = []
        self._postings: dict[str, dict[int, float]] = defaultdict(dict)
        counts: list[dict[str, Counter[str]]] = []
        for document in documents:
            self._keys.append(document.key)
            counts.append({field: Counter(words(getattr(document, field))) for field in WEIGHTS})
        self._weigh(counts)

    def _weigh(self, counts: Sequence[Mapping[str, Counter[str]]]) -> None:
        for field, weight in WEIGHTS.items():
            lengths = [count[field].total() for count in counts]
            average = sum(lengths) / max(len(lengths), 1) or 1.0
            for number, count in enumerate(counts):
                norm = weight / (1 - B + B * lengths[number] / average)
                for word, times in count[field].items():
                    posting = self._postings[word]
                    # a name that says "customer" twice is not twice as much about customers
                    posting[number] = posting.get(number, 0.0) + norm * (times if field == "description" else 1)

    def search(self, request: str, limit: int, allowed: Callable[[str], bool]) -> list[str]:
        """The keys that share a word with `request`, best first; ties in the order they were given."""
        scores: dict[int, float] = defaultdict(float)
        for word in set(words(request)):
            posting = self._postings.get(word, {})
            rarity = math.log(1 + (len(self._keys) - len(posting) + 0.5) / (len(posting) + 0.5))
            for number, frequency in posting.items():
                scores[number] += rarity * frequency * (K1 + 1) / (frequency + K1)
        candidates = ((-score, number) for number, score in scores.items() if allowed(self._keys[number]))
        return [self._keys[number] for _, number in heapq.nsmallest(limit, candidates)]


def words(text: str) -> list[str]:
    """Stems in the order they stand, without the words that say nothing."""
    found = (word.lower() for word in _WORD.findall(_BOUNDARY.sub(" ", text)))
    return [_stem(_SAME.get(word, word)) for word in found if word not in _STOP]


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    with _stemming:
        return str(_stemmer.stemWord(word))
