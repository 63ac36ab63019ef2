from __future__ import annotations

from typing import Any

import pytest

from memory_snapshot.ranking import Candidate, rank
from memory_snapshot.wire import Item, Source


def candidate(name: str, place: int, text: str = "", meaning: float = 0.3, **more: Any) -> Candidate:
    fields: dict[str, Any] = {"session": "one", "near_meaning": 0.3, **more}
    return Candidate(oid=name, order=(1, place), text=text, meaning=meaning, **fields)


def order(query: str, *candidates: Candidate) -> list[str]:
    return list(rank(query, candidates).scores)


def test_words_and_meaning_are_added_each_on_the_scale_of_the_query() -> None:
    assert order("red zebra", candidate("a", 0, "a zebra"), candidate("b", 2, "a red zebra"))[0] == "b"
    assert order("x", candidate("a", 0, meaning=0.31), candidate("b", 2, meaning=0.35))[0] == "b"
    assert (
        order("zebra", candidate("a", 0, "zebra", 0.1), candidate("b", 2, "zebra and more of it", 0.9))[0] == "b"
    )


def test_words_that_only_ask_do_not_count() -> None:
    assert (
        order("What did you buy?", candidate("a", 0, "what did you say?"), candidate("b", 3, "bought it"))[0]
        == "b"
    )


def test_what_stands_beside_a_good_answer_gains() -> None:
    near = [candidate("answer", 1, "zebra"), candidate("beside", 2), candidate("apart", 9)]
    ranked = rank("zebra", near)

    assert list(ranked.scores) == ["answer", "beside", "apart"]
    assert ranked.why("beside")["neighbours"] > 0
    assert "neighbours" not in ranked.why("apart")


def test_what_is_around_a_text_counts_less_the_longer_it_is() -> None:
    near = {"meaning": 0.3, "near_meaning": 0.9}
    found = rank(
        "zebra",
        [
            candidate("short", 0, "and then we went home", **near),
            candidate("long", 5, "and then we went home. " * 80, **near),
            candidate("far", 9, meaning=0.9, near_meaning=0.3),
        ],
    )

    assert found.why("short")["meaning around"] > found.why("long")["meaning around"]


def test_an_answer_gains_by_its_question() -> None:
    near = [candidate("before", 0), candidate("question", 1, "zebra?", asks=True), candidate("after", 2)]
    ranked = rank("zebra", near)

    assert ranked.why("after")["answer"] > 0
    assert "answer" not in ranked.why("before")


def test_the_session_of_the_best_answer_gains() -> None:
    found = [
        candidate("best", 1, meaning=0.9, session="a"),
        candidate("same", 5, session="a"),
        candidate("else", 9, session="b"),
    ]

    assert order("zebra", *found) == ["best", "same", "else"]


def test_a_session_gains_by_the_words_said_in_it() -> None:
    found = [
        candidate("best", 1, "a red zebra", 0.9, session="a"),
        candidate("some", 6, "a zebra", session="b"),
        candidate("same", 9, session="b"),
    ]

    assert rank("red zebra", found).why("same").get("session", 0.0) > 0


def test_who_is_named_in_the_query_gains_and_a_question_does_not() -> None:
    by_name = candidate("a", 0, speaker="Bob"), candidate("b", 3, speaker="Ann Lee")

    assert order("What did Ann say?", *by_name)[0] == "b"
    assert order("x", candidate("a", 0, asks=True), candidate("b", 3))[0] == "b"


def test_who_speaks_of_me_means_the_person() -> None:
    said = candidate("a", 0, speaker="assistant"), candidate("b", 3, speaker="user")

    assert order("What are my plans?", *said)[0] == "b"


def test_where_a_time_is_asked_for_what_tells_one_gains() -> None:
    told = candidate("a", 0, "we met"), candidate("b", 3, "we met last week")

    assert order("When did they meet?", *told)[0] == "b"
    assert order("Why did they meet?", *told)[0] == "a"


def test_what_waits_for_its_vector_is_ranked_by_its_words() -> None:
    found = [
        candidate("far", 0, meaning=0.1),
        candidate("near", 5, meaning=0.5),
        Candidate(oid="new", session="two", order=(2, 0), text="zebra"),
    ]

    assert next(iter(rank("zebra", found, complete=False).scores)) == "new"


def test_nothing_to_rank_is_no_error() -> None:
    assert order("x") == []


def test_a_score_is_the_sum_of_what_explains_it() -> None:
    found = [
        candidate("a", 0, "which zebra?", speaker="Ann", asks=True),
        candidate("b", 1, "last week", speaker="user", session="two", rule=True),
        candidate("c", 3, "a zebra", 0.5, speaker="user"),
    ]
    ranked = rank("When did my zebra and Ann meet?", found)

    for oid, score in ranked.scores.items():
        assert sum(ranked.why(oid).values()) == pytest.approx(score, abs=0.005)
    assert {"words", "question", "speaker"} <= ranked.why("a").keys()
    assert {"rule", "time"} <= ranked.why("b").keys()


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

    assert ("## Always" in restored) == always
    assert text in restored or not always


async def test_turns_of_a_session_stand_under_it(desk: Any) -> None:
    await desk.remember(
        turn("Which city?", valid_from="2023-05-08"), turn("Oslo.", "Bob", valid_from="2023-05-08")
    )
    lines = (await desk.restore(mode="full")).text.splitlines()

    assert lines[1] == "## 2023-05-08, talk 1"
    assert [line.split("] ")[1] for line in lines[2:]] == ["Ann: Which city?", "Bob: Oslo."]
