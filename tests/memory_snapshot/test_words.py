from __future__ import annotations

import pytest

from memory_snapshot.words import Asked, asks_when, bm25, spelled, tells_when


def scores(query: str, *texts: str) -> list[float]:
    asked = Asked(query)
    return bm25([asked.count(text) for text in texts])


@pytest.mark.parametrize(
    ("query", "text", "times"),
    [
        ("Which zebras?", "a zebra and two Zebras", 2),
        ("What did he buy?", "He bought it.", 1),
        ("children's books", "a child with a book", 2),
        ("What is it?", "It is what it is.", 0),
        ("max_file_bytes", "set max_file_bytes", 4),
        ("file bytes", "set max_file_bytes", 2),
        ("in May 2023", "8 May 2023", 2),
        ("東京", "東京は晴れ", 1),
    ],
)
def test_what_is_asked_for_is_counted_in_all_its_forms(query: str, text: str, times: int) -> None:
    assert sum(Asked(query).count(text).stems.values()) == times


def test_a_rare_word_counts_more_than_a_common_one() -> None:
    common, rare, _ = scores("tea zebra", "tea", "zebra", "tea")

    assert rare > common


def test_a_word_said_again_counts_less_and_in_a_long_text_too() -> None:
    once, twice, long = scores("zebra", "zebra", "zebra zebra", "zebra " + "and so on " * 9)

    assert long < once < twice < 1.6 * once


def test_nothing_matches_nothing() -> None:
    assert scores("zebra") == []
    assert scores("zebra", "", "tea") == [0.0, 0.0]


def test_known_names_are_left_out_unless_nothing_else_is_asked_for() -> None:
    assert Asked("What does Ann paint?", {"ann"}).stems == {"paint"}
    assert Asked("Who is Ann?", {"ann"}).stems == {"ann"}


def test_an_index_is_asked_for_every_form_a_stemmer_does_not_know() -> None:
    assert spelled("What did she buy?") == "buy bought"
    assert spelled("What is it?") == "What is it"


@pytest.mark.parametrize("query", ["When did it start?", "how long was it", "In which year?"])
def test_a_question_for_a_time_is_known_by_its_words(query: str) -> None:
    assert asks_when(query)


def test_other_questions_and_other_texts_have_no_time() -> None:
    assert not asks_when("Who whenever?")
    assert tells_when("last week")
    assert tells_when("on 8 May 2023")
    assert not tells_when("may I come")
