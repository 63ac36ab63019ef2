"""How two lists become one, and what confidence promises."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from usrland.search.fusion import CANDIDATES, FLOOR, LEXICAL_WEIGHT, confidence, fuse, lexical_weight


def test_confidence_rises_with_every_kind_of_evidence() -> None:
    steps = [step / 10 for step in range(11)]

    for low, high in pairwise(steps):
        assert confidence(high, 3.0, 2) > confidence(low, 3.0, 2)
        assert confidence(0.3, high, 2) > confidence(0.3, low, 2)
        assert confidence(None, high, 2) > confidence(None, low, 2)
        assert confidence(high, None, 2) > confidence(low, None, 2)


def test_words_alone_are_never_below_the_floor() -> None:
    assert confidence(None, 0.001, 30) > FLOOR


def test_weak_evidence_of_both_kinds_is_no_answer() -> None:
    assert fuse({"a": 0.3}, {"a": 0.1, "b": 0.12}, words=8) == []


def test_equal_scores_keep_the_order_of_their_ids() -> None:
    fused = fuse({"b": 9.0, "a": 9.0, "c": 9.0}, {"c": 0.5, "b": 0.5, "a": 0.5}, words=2)

    assert [key for key, _, _ in fused] == ["a", "b", "c"]


def test_a_row_found_by_both_sides_precedes_the_best_of_each() -> None:
    fused = fuse({"words": 12.0, "both": 11.0}, {"meaning": 0.55, "both": 0.5, "else": 0.3}, words=3)

    assert fused[0][0] == "both"


def test_a_row_that_only_words_found_counts_with_the_worst_cosine_of_a_full_list() -> None:
    dense = {f"{number:03}": 0.9 - number / 1000 for number in range(CANDIDATES)}

    (best, score, _), *_ = fuse({"words": 60.0}, dense, words=2)

    assert best == "words"
    assert score == min(dense.values()) + LEXICAL_WEIGHT


def test_words_count_for_less_where_meaning_has_found_what_was_asked_for() -> None:
    unsure = fuse({"words": 20.0}, {"meaning": 0.59, "words": 0.3}, words=3)
    sure = fuse({"words": 20.0}, {"meaning": 0.89, "words": 0.6}, words=3)

    assert [key for key, _, _ in unsure] == ["words", "meaning"]
    assert [key for key, _, _ in sure] == ["meaning", "words"]


CODE = {f"code:{number}": 0.5 for number in range(9)} | {"text:0": 0.5}


def test_everyday_words_weigh_less_in_a_question_about_code_that_is_short_or_names_the_language() -> None:
    def weight(query: str, words: int = 4, dense: dict[str, float] = CODE, prefix: str = "code") -> float:
        return lexical_weight(query, words, dense, lambda key: "python" if key.startswith(prefix) else None)

    assert weight("sort a list of numbers") < LEXICAL_WEIGHT
    assert weight("sort a list of numbers", words=9) == LEXICAL_WEIGHT
    assert weight("sort a list of numbers", prefix="text") == LEXICAL_WEIGHT
    assert weight("sort a list of numbers", dense={}) == LEXICAL_WEIGHT
    assert lexical_weight("sort a list of numbers", 4, CODE, None) == LEXICAL_WEIGHT
    assert lexical_weight("sort a list of numbers", 4, None, lambda _: "python") == LEXICAL_WEIGHT
    for named in ("sortList", "sort_list", "sort()", "list::sort", "utf8", "`list`", "os.walk(path)", "JSON"):
        assert weight(f"what does {named} take") == LEXICAL_WEIGHT

    for named in ("python", "Python3"):
        assert weight(f"what is the quickest way to sort a list in {named}?", words=9) < LEXICAL_WEIGHT
    assert weight("what is the quickest way to sort a list in rust?", words=9) == LEXICAL_WEIGHT
    assert weight("what does sort_list return in python for a list?", words=9) == LEXICAL_WEIGHT


def test_with_less_weight_meaning_leads() -> None:
    words, meaning = {"words": 20.0}, {"meaning": 0.55, "words": 0.3}

    assert [key for key, _, _ in fuse(words, meaning, words=3)] == ["words", "meaning"]
    assert [key for key, _, _ in fuse(words, meaning, words=3, weight=0.2)] == ["meaning", "words"]


def test_a_passage_beside_another_good_one_precedes_a_better_one_alone() -> None:
    dense = {"a:1": 0.7, "b:1": 0.68, "b:2": 0.67, "c:1": 0.1}

    def beside(key: str) -> list[str]:
        return [f"{key[0]}:{int(key[2]) - 1}", f"{key[0]}:{int(key[2]) + 1}"]

    apart, together = fuse({}, dense, words=3), fuse({}, dense, words=3, neighbours=beside)

    assert [key for key, _, _ in apart] == ["a:1", "b:1", "b:2"]
    assert [key for key, _, _ in together] == ["b:1", "b:2", "a:1"]


def test_of_passages_those_that_are_far_less_sure_than_the_best_are_left_out() -> None:
    dense = {"a": 0.8, "b": 0.75, "c": 0.3}

    assert len(fuse(None, dense, words=3)) == 3
    assert [key for key, _, _ in fuse(None, dense, words=3, neighbours=lambda _: [])] == ["a", "b"]


@pytest.mark.parametrize("seed", range(20))
def test_the_first_few_are_the_first_of_all(seed: int) -> None:
    chance = random.Random(seed)
    keys = [str(number) for number in range(60)]
    words = {key: chance.uniform(0, 30) for key in chance.sample(keys, 40)}
    meaning = {key: chance.uniform(-0.1, 0.9) for key in chance.sample(keys, 40)}

    def beside(key: str) -> list[str]:
        return [str(int(key) - 1), str(int(key) + 1)]

    for neighbours in (None, beside):
        every = fuse(words, meaning, words=5, neighbours=neighbours)
        assert len(every) > 5
        assert fuse(words, meaning, words=5, neighbours=neighbours, most=5) == every[:5]
        assert [score for _, score, _ in every] == sorted((score for _, score, _ in every), reverse=True)
        assert all(sure >= FLOOR for _, _, sure in every)
