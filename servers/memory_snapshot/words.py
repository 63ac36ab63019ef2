"""What a query asks for in words, and how well texts answer it: BM25 over the candidates themselves.

The search index proposes candidates by words too, but its score cannot be told which words of a question ask and
which are asked for, that "bought" is "buy", or that a long answer is not a lesser one. Texts are English here
where they are compared with lists; all others are compared as they are.
"""

from __future__ import annotations

import math
import re
import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import snowballstemmer

from usrland.search import terms

__all__ = ["Asked", "Counted", "asks_when", "bm25", "spelled", "tells_when"]

SATURATION, LENGTH = 0.9, 0.4
"""BM25's k1 and b. What people say is short, and the longer turns say more."""

_WORD = re.compile(r"\S+")
_ASKING = """
a about am an and any are as at be been being but by can could d did do does done for from had has have he her
hers him his how i if in into is it its ll m me might mine my no not of on or our ours re s shall she should
so some such t than that the their them then there these they this those to us ve was we were what when where
which who whom whose why will with would you your yours
"""
_EMPTY = frozenset(_ASKING.split())
"""Words that ask, join or point, and are not what is asked for."""

_IRREGULAR = """
become became|begin began begun|bite bit bitten|blow blew blown|break broke broken|bring brought|build built
buy bought|catch caught|child children|choose chose chosen|come came|deal dealt|dig dug|draw drew drawn
drink drank drunk|drive drove driven|eat ate eaten|fall fell fallen|feed fed|feel felt|fight fought|find found
fly flew flown|foot feet|forget forgot forgotten|forgive forgave forgiven|freeze froze frozen|get got gotten
give gave given|go went gone goes|grow grew grown|hang hung|hear heard|hide hid hidden|hold held|keep kept
know knew known|lay laid|lead led|learn learnt|leave left|lend lent|life lives|light lit|lose lost|make made
man men|mean meant|meet met|mouse mice|pay paid|person people|ride rode ridden|ring rang rung|rise rose risen
run ran|say said|see saw seen|sell sold|send sent|shake shook shaken|shine shone|shoot shot|show shown
sing sang sung|sink sank sunk|sit sat|sleep slept|speak spoke spoken|spend spent|stand stood|steal stole stolen
stick stuck|swear swore sworn|swim swam swum|swing swung|take took taken|teach taught|tear tore torn|tell told
think thought|throw threw thrown|tooth teeth|understand understood|wake woke woken|wear wore worn
wife wives|win won|woman women|write wrote written
"""
_FORMS = [line.split() for line in re.split(r"[|\n]", _IRREGULAR.strip())]
_PLAIN = {form: plain for plain, *forms in _FORMS for form in forms}
_SPELLED = {plain: " ".join([plain, *forms]) for plain, *forms in _FORMS}

_WHEN = re.compile(r"\b(?:when|how long|(?:what|which) (?:date|day|month|time|year))\b", re.I)
_TIMES = """
yesterday today tonight last next ago since recently morning day week weekend month year monday tuesday wednesday
thursday friday saturday sunday january february march april june july august september october november december
"""
_TIME = re.compile(rf"\b(?:{'|'.join(_TIMES.split())}|may \d+|\d{{4}})\b", re.I)

_stemmer = snowballstemmer.stemmer("english")
_stemming = threading.Lock()  # a stemmer keeps the word it works on in itself


@dataclass(frozen=True, slots=True)
class Counted:
    """How often each stem that was asked for stands in a text, and how many words there are."""

    stems: Mapping[str, int] = field(default_factory=dict)
    length: int = 0

    def __add__(self, other: Counted) -> Counted:
        both = dict(self.stems)
        for stem, times in other.stems.items():
            both[stem] = both.get(stem, 0) + times
        return Counted(both, self.length + other.length)


class Asked:
    """The stems of what a query asks for, to be counted in many texts."""

    def __init__(self, query: str, known: Collection[str] = ()) -> None:
        """Without the `known` words (names, which count otherwise), unless there are no others."""
        words = [word for word in terms(query).lower().split() if word not in _EMPTY]
        self.stems = frozenset(map(_stem, [word for word in words if word not in known] or words))
        self._within: dict[str, tuple[str, ...]] = {}

    def count(self, text: str) -> Counted:
        found: dict[str, int] = {}
        chunks = _WORD.findall(text)
        for chunk in chunks:
            within = self._within.get(chunk)
            if within is None:
                within = self._within[chunk] = tuple(stem for stem in _stems(chunk) if stem in self.stems)
            for stem in within:
                found[stem] = found.get(stem, 0) + 1
        return Counted(found, len(chunks))


def spelled(query: str) -> str:
    """What is asked for as an index looks it up: with the other forms that a stemmer does not know."""
    words = terms(query).split()
    telling = [word for word in words if word.lower() not in _EMPTY] or words
    return " ".join(_SPELLED.get(_PLAIN.get(word.lower(), word.lower()), word) for word in telling)


def bm25(texts: Sequence[Counted]) -> list[float]:
    """One score a text; how rare a word is, is counted among these texts."""
    average = sum(text.length for text in texts) / len(texts) if texts else 0.0
    having = Counter(stem for text in texts for stem in text.stems)
    rarity = {stem: math.log(1 + (len(texts) - some + 0.5) / (some + 0.5)) for stem, some in having.items()}
    scores = []
    for text in texts:
        room = SATURATION * (1 - LENGTH + LENGTH * text.length / average) if average else 1.0
        scores.append(
            sum(rarity[stem] * times * (SATURATION + 1) / (times + room) for stem, times in text.stems.items())
        )
    return scores


def asks_when(query: str) -> bool:
    return _WHEN.search(query) is not None


def tells_when(text: str) -> bool:
    return _TIME.search(text) is not None


@lru_cache(maxsize=65_536)
def _stems(chunk: str) -> tuple[str, ...]:
    """Of a piece of text without spaces: `"bought,"` → `("buy",)`, and an identifier also in its parts."""
    return tuple(_stem(word) for word in terms(chunk).lower().split())


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    with _stemming:
        return str(_stemmer.stemWord(_PLAIN.get(word, word)))
