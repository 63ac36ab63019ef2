from __future__ import annotations

from typing import Any

import pytest

from memory_snapshot.ranking import Candidate, Measured, rank
from memory_snapshot.wire import Item, Source


def candidate(name: str, place: int, words: float = 0.0, meaning: float = 0.3, **more: Any) -> Candidate:
    fields: dict[str, Any] = {
        "session": "one",
        "speaker": None,
        "asks": False,
        "window": Measured(0.0, 0.3),
        **more,
    }
    return Candidate(oid=name, order=(1, place), item=Measured(words, meaning), **fields)


def first(query: str, *candidates: Candidate) -> str:
    return next(iter(rank(query, candidates)))


def test_words_and_meaning_count_each_on_the_scale_of_the_query() -> None:
    assert first("x", candidate("a", 0, words=1), candidate("b", 2, words=9)) == "b"
    assert first("x", candidate("a", 0, meaning=0.31), candidate("b", 2, meaning=0.35)) == "b"
    assert first("x", candidate("a", 0, words=9, meaning=0.1), candidate("b", 2, words=8, meaning=0.9)) == "b"


def test_what_stands_beside_a_good_answer_gains() -> None:
    near = [candidate("answer", 1, words=9), candidate("beside", 2), candidate("apart", 9)]

    assert list(rank("x", near)) == ["answer", "beside", "apart"]


def test_the_session_of_the_best_answer_gains() -> None:
    found = [
        candidate("best", 1, words=9, session="a"),
        candidate("same", 5, session="a"),
        candidate("else", 9, session="b"),
    ]

    assert list(rank("x", found)) == ["best", "same", "else"]


def test_who_is_named_in_the_query_gains_and_a_question_does_not() -> None:
    assert (
        first("What did Ann say?", candidate("a", 0, speaker="Bob"), candidate("b", 3, speaker="Ann Lee")) == "b"
    )
    assert first("x", candidate("a", 0, asks=True), candidate("b", 3)) == "b"


def test_nothing_to_rank_is_no_error() -> None:
    assert rank("x", []) == {}


def turn(text: str, speaker: str = "Ann", session: str = "talk 1", **more: Any) -> Item:
    source = Source(uri=session)
    return Item(text=text, kind="transcript", speaker=speaker, source=source, **more)


async def test_an_answer_is_found_by_the_question_before_it(desk: Any) -> None:
    await desk.remember(turn("Which city did you move to?"))
    await desk.remember(turn("Oslo, last spring.", "Bob"), turn("The bus was late again.", session="talk 2"))

    assert set(await desk.recalled("which city")) == {"Which city did you move to?", "Oslo, last spring."}


async def test_a_turn_is_found_by_its_day(desk: Any) -> None:
    await desk.remember(
        turn("We met the mayor.", valid_from="2023-05-08"), turn("We slept.", valid_from="2023-06-09")
    )

    assert (await desk.recalled("what happened on 8 May 2023"))[0] == "We met the mayor."


async def test_a_neighbour_does_not_keep_what_was_erased(desk: Any) -> None:
    await desk.remember(turn("The zebra is called Quimby."), turn("I see.", "Bob"), turn("And it is old."))
    assert "I see." in await desk.recalled("Quimby")
    await desk.forget(containing="Quimby", mode="erase")

    assert await desk.recalled("Quimby") == []
    assert set(await desk.recalled("old")) == {"I see.", "And it is old."}


@pytest.mark.parametrize(
    ("text", "speaker", "always"),
    [
        ("Always answer in Italian when I ask about food.", "user", True),
        ("Please never use emoji.", "human", True),
        ("From now on, sign with my initials.", "user", True),
        ("Always answer in Italian.", "assistant", False),
        ("I always liked Italian.", "user", False),
    ],
)
async def test_a_standing_wish_in_a_transcript_is_in_every_restore(
    desk: Any, text: str, speaker: str, always: bool
) -> None:
    await desk.remember(turn(text, speaker), *[turn(f"Something else, number {number}.") for number in range(40)])
    restored = (await desk.restore(budget_tokens=300, query="number 7")).text

    assert (text in restored) == always
    assert ("## Always" in restored) == always


async def test_turns_of_a_session_stand_under_it(desk: Any) -> None:
    await desk.remember(
        turn("Which city?", valid_from="2023-05-08"), turn("Oslo.", "Bob", valid_from="2023-05-08")
    )
    lines = (await desk.restore(mode="full")).text.splitlines()

    assert lines[1] == "## 2023-05-08, talk 1"
    assert [line.split("] ")[1] for line in lines[2:]] == ["Ann: Which city?", "Bob: Oslo."]
