"""How far this kernel reads reliably: questions about the user's own memory that have one right answer each.

The kernel is shown items of a snapshot in a row, as many as shall be tested, and asked which item a fragment is
from (looking up) and which item follows another (reasoning over places). Answers are ids, so that right and wrong
need no judge: the same snapshot and length make the same questions, and the score is counted when they come back.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session

from memory_snapshot import journal
from memory_snapshot.canonical import short
from memory_snapshot.items import Remembrance, load
from memory_snapshot.snapshots import find_snapshot
from memory_snapshot.state import States
from memory_snapshot.wire import Calibration, Probe
from usrland import InvalidInput, NotFound, Principal, tokens

__all__ = ["probe", "score"]

LEAST, MOST = 500, 200_000
A_PART = 16_000
"""Tokens of one answer."""
QUESTIONS = 12
FRAGMENT_WORDS = 6
GOOD_PERCENT = 85
FEWEST_ITEMS = QUESTIONS + 1

_ANSWER = re.compile(r"\s*(\d+)@([0-9a-fA-F]{8,64})\s*:?\s*(.*)", re.DOTALL)
_ID = re.compile(r"[0-9a-f]{8}|-")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Test:
    snapshot: str
    lines: Sequence[str]
    tokens: int
    questions: Sequence[str]
    answers: Sequence[str]


def probe(session: Session, states: States, principal: Principal, *, length: int, part: int, ref: str) -> Probe:
    """One part of the text; the questions stand after the last."""
    test = _test(session, states, principal, length, ref)
    parts = _parts(test.lines)
    if not 0 <= part < len(parts):
        raise InvalidInput(f"there is no part {part}.", fix=f"There are {len(parts)}, counted from 0.")
    last = part == len(parts) - 1
    return Probe(
        text=parts[part],
        parts=len(parts),
        tokens=test.tokens,
        name=f"{length}@{short(test.snapshot)}",
        questions=list(test.questions) if last else [],
    )


def score(session: Session, states: States, principal: Principal, *, answers: str) -> Calibration:
    """Count what is right in `LENGTH@SNAPSHOT: id id …`."""
    given = _ANSWER.fullmatch(answers)
    if given is None:
        raise InvalidInput("the answers do not say what they are for.", fix="Send them as the prompt says.")
    test = _test(session, states, principal, int(given[1]), given[2])
    said = _ID.findall(given[3].lower())
    if len(said) != len(test.answers):
        raise InvalidInput(
            f"{len(said)} answers came for {len(test.answers)} questions.",
            fix="Send one id for each, in their order, and - where you cannot tell.",
        )
    right = [one == other for one, other in zip(said, test.answers, strict=True)]
    good = 100 * sum(right) >= GOOD_PERCENT * len(right)
    return Calibration(
        tokens=test.tokens,
        asked=len(right),
        right=sum(right),
        right_lookup=sum(right[0::2]),
        right_reasoning=sum(right[1::2]),
        reliable=good,
        next=_next(int(given[1]), test.tokens, good=good),
    )


def _next(length: int, tested: int, *, good: bool) -> str:
    if not good:
        return f"Not reliable at {tested} tokens. Repeat calibrate with length={max(LEAST, length // 2)}."
    if tested < length // 2:
        return f"Reliable at {tested} tokens, and there is no more in memory to test with."
    return (
        f"Reliable at {tested} tokens. Repeat calibrate with length={min(MOST, length * 2)} to find where it ends."
    )


def _test(session: Session, states: States, principal: Principal, length: int, ref: str) -> _Test:
    if not LEAST <= length <= MOST:
        raise InvalidInput(f"length is {length}.", fix=f"Use {LEAST} to {MOST}.")
    space = journal.find_space(session, principal)
    if space is None or space.id is None:
        raise NotFound("nothing is remembered yet.", fix="Remember something first.")
    snapshot = find_snapshot(session, space.id, ref)
    standing = states.of_snapshot(session, snapshot).standing
    items = sorted(
        load(session, space.id, list(standing.values())).values(), key=lambda item: item.order, reverse=True
    )
    chosen: list[Remembrance] = []
    lines: list[str] = []
    total = 0
    for item in items:
        if item.text is None:
            continue
        line = f"[{short(item.item_id)}] {' '.join(item.text.split())}"
        cost = tokens.count(line) + 1
        if total + cost > length:
            break
        total += cost
        lines.append(line)
        chosen.append(item)
    if len(chosen) < FEWEST_ITEMS:
        raise NotFound(
            f"{len(chosen)} items are too few to ask about.",
            fix=f"It takes {FEWEST_ITEMS}: remember more, or more length.",
        )
    return _asked(snapshot.id, lines, chosen, total, random.Random(f"{snapshot.id} {length}"))


def _asked(
    snapshot: str, lines: Sequence[str], items: Sequence[Remembrance], total: int, chance: random.Random
) -> _Test:
    """Questions spread over the whole length: every other one looks up, the others go to the next line."""
    step = (len(items) - 1) / QUESTIONS
    places = [min(len(items) - 2, int(step * number + chance.random() * step)) for number in range(QUESTIONS)]
    chance.shuffle(places)
    questions, answers = [], []
    for number, place in enumerate(places):
        if number % 2 == 0:
            questions.append(f'Which id has the line with "{_fragment(items[place], chance)}"?')
            answers.append(short(items[place].item_id))
        else:
            questions.append(f"Which id has the line right after [{short(items[place].item_id)}]?")
            answers.append(short(items[place + 1].item_id))
    return _Test(snapshot=snapshot, lines=lines, tokens=total, questions=questions, answers=answers)


def _fragment(item: Remembrance, chance: random.Random) -> str:
    words = (item.text or "").split()
    start = chance.randint(0, max(0, len(words) - FRAGMENT_WORDS))
    return " ".join(words[start : start + FRAGMENT_WORDS])


def _parts(lines: Sequence[str]) -> list[str]:
    parts: list[str] = []
    room = 0
    for line in lines:
        cost = tokens.count(line) + 1
        if cost > room:
            parts.append(line)
            room = A_PART - cost
        else:
            parts[-1] += "\n" + line
            room -= cost
    return parts
