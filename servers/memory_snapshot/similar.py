"""Texts that say the same in almost the same words, and texts that only come back: found without a model.

Nothing of this is on a disk. A process reads the texts of a space once, keeps hashes of their words that mean
nothing in another process, and goes on from there with the journal; what was erased is in no text that is read.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from threading import Lock

from sqlmodel import Session, and_, col, select

from memory_snapshot.items import LOG_KINDS
from memory_snapshot.tables import Body, ItemVersion

__all__ = ["Similar", "alike", "echoes", "normal", "shingles"]

ALIKE_PERCENT = 80
"""Of the words of two texts together, those that both have."""
FEWEST_WORDS = 4
KEPT_TEXTS = 20_000
"""Of a space, the newest: what is almost the same is mostly said soon after."""
NEWEST = 1_000
"""Texts with one word that are compared: templates share most of theirs."""
COMPARISONS = 200_000
"""For one count."""
KEPT_SHINGLES = 2_000
LONG = 3
"""Words in a shingle."""

_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"[^.!?\n]+")
_OURS = re.compile(r"^\W*\[[0-9a-f]{8}\].*?: ", re.MULTILINE)
"""What stands before an item where we return it."""
_HEADINGS = re.compile(r"^(?:## |Remembered, quoted).*$", re.MULTILINE)
"""What stands above items where we return them."""

_Words = frozenset[int]


def normal(text: str) -> str:
    """Without what does not change what is said: case, spaces, the last full stop."""
    return " ".join(text.casefold().split()).rstrip(".!?")


def alike(one: _Words, other: _Words) -> float:
    """The share of their words that both have."""
    return len(one & other) / len(one | other) if one or other else 1.0


def words(text: str) -> _Words:
    return frozenset(map(hash, _WORD.findall(text.casefold())))


def shingles(text: str) -> frozenset[int]:
    """All runs of three words in each sentence; of a shorter one, its words together."""
    return frozenset(found for sentence in _sentences(text) for found in _runs(sentence))


def echoes(text: str, returned: Iterable[frozenset[int]]) -> bool:
    """Whether every sentence of it stands in a text that was returned; a single new word makes it new."""
    texts = list(returned)
    text, items = _OURS.subn("", text)
    if items:
        text = _HEADINGS.sub("", text)
    sentences = [_runs(sentence) for sentence in _sentences(text)]
    return bool(sentences) and all(any(each <= there for there in texts) for each in sentences)


def _sentences(text: str) -> Iterator[list[str]]:
    for sentence in _SENTENCE.findall(text.casefold()):
        if found := _WORD.findall(sentence):
            yield found


def _runs(sentence: list[str]) -> frozenset[int]:
    if len(sentence) < LONG:
        return frozenset((hash(tuple(sentence)),))
    return frozenset(hash(tuple(sentence[start : start + LONG])) for start in range(len(sentence) - LONG + 1))


@dataclass(slots=True)
class _Known:
    """What was read of one space up to event `seq`."""

    seq: int = 0
    texts: list[tuple[str, str, _Words]] = field(default_factory=list)
    by_word: dict[int, list[int]] = field(default_factory=dict)

    def candidates(self, asked: _Words) -> set[int]:
        """The texts that have one of its rarest words; of these so many that what is alike has one of them. Of a
        word that half of the texts have, only the newest are looked at."""
        rarest = sorted(asked, key=lambda word: len(self.by_word.get(word, ())))
        enough = len(asked) - -(-ALIKE_PERCENT * len(asked) // 100) + 1
        return {place for word in rarest[:enough] for place in self.by_word.get(word, ())[-NEWEST:]}


class Similar:
    """The texts of one database that can contradict each other, as far as this process has seen them."""

    def __init__(self) -> None:
        self._spaces: dict[int, _Known] = {}
        self._shingles: OrderedDict[str, frozenset[int]] = OrderedDict()
        self._lock = Lock()

    def find(self, session: Session, space_id: int, text: str, *, until: int) -> list[tuple[str, str]]:
        """Item and version of what says almost the same, the closest first; whether it stands is not looked at.

        `until` is the last event that was committed when the caller's transaction began.
        """
        asked = words(text)
        if len(asked) < FEWEST_WORDS:
            return []
        with self._lock:
            known = self._spaces.setdefault(space_id, _Known())
            _read_on(session, space_id, known, until)
            places = known.candidates(asked)
            found = [(alike(asked, known.texts[place][2]), place) for place in places]
        close = sorted((pair for pair in found if 100 * pair[0] >= ALIKE_PERCENT), key=lambda pair: -pair[0])
        return [known.texts[place][:2] for _, place in close]

    def pairs(self, session: Session, space_id: int, standing: Iterable[str], *, until: int) -> int:
        """How many of the standing versions (oids) say almost the same as another that stands; the newest first,
        as far as `COMPARISONS` go."""
        stands = set(standing)
        with self._lock:
            known = self._spaces.setdefault(space_id, _Known())
            _read_on(session, space_id, known, until)
            there = [place for place, (_, oid, _) in enumerate(known.texts) if oid in stands]
            count, left = 0, COMPARISONS
            for place in reversed(there):
                mine = known.texts[place][2]
                near = known.candidates(mine) if len(mine) >= FEWEST_WORDS else set()
                left -= len(near)
                if left < 0:
                    break
                count += any(
                    other != place
                    and known.texts[other][1] in stands
                    and 100 * alike(mine, known.texts[other][2]) >= ALIKE_PERCENT
                    for other in near
                )
            return count

    def shingles(self, oid: str, text: str) -> frozenset[int]:
        """Those of a version, remembered."""
        with self._lock:
            found = self._shingles.get(oid)
            if found is None:
                found = self._shingles[oid] = shingles(text)
            self._shingles.move_to_end(oid)
            while len(self._shingles) > KEPT_SHINGLES:
                self._shingles.popitem(last=False)
            return found


def _read_on(session: Session, space_id: int, known: _Known, until: int) -> None:
    place = and_(
        col(Body.space_id) == ItemVersion.space_id,
        col(Body.seq) == ItemVersion.seq,
        col(Body.place) == ItemVersion.place,
    )
    query = (
        select(ItemVersion.item_id, ItemVersion.oid, Body.text)
        .join(Body, place)
        .where(
            ItemVersion.space_id == space_id,
            col(ItemVersion.kind).not_in(LOG_KINDS),
            col(ItemVersion.seq) > known.seq,
            col(ItemVersion.seq) <= until,
        )
        .order_by(col(ItemVersion.seq).desc(), col(ItemVersion.place).desc())
        .limit(KEPT_TEXTS)
    )
    for item_id, oid, text in reversed(session.exec(query).all()):
        found = words(text)
        for word in found:
            known.by_word.setdefault(word, []).append(len(known.texts))
        known.texts.append((item_id, oid, found))
    known.seq = max(known.seq, until)
