"""Nothing is cut silently, and the parts joined are the whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usrland import Answer, Page, tokens
from usrland.errors import Conflict, InvalidInput
from usrland.redact import keep_secret
from usrland.shape import Cursor, Shaped, shape
from usrland.visible import visible_text


class Text(Answer):
    text: str
    left_out: str | None = None


START = Cursor(call="c")


def pages(items: list[str], max_tokens: int) -> list[Shaped]:
    """Read a list of items as a caller does, cursor by cursor."""
    answers: list[Shaped] = []
    cursor = START
    while True:
        rest = items[cursor.items :]
        answers.append(shape(Page[str](items=rest, total=len(items)), cursor=cursor, max_tokens=max_tokens))
        following = answers[-1].structured.get("cursor")
        if following is None:
            return answers
        cursor = Cursor.decode(following, call="c")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=120), max_size=60), st.integers(200, 900))
def test_the_pages_of_a_list_joined_are_the_list_and_each_fits_its_budget(items: list[str], budget: int) -> None:
    answers = pages(items, budget)

    assert [item for answer in answers for item in answer.structured["items"]] == [*map(visible_text, items)]
    assert all(tokens.count(answer.text) <= budget for answer in answers)
    assert all(answer.structured.get("more", False) == ("cursor" in answer.structured) for answer in answers)


@settings(max_examples=30, deadline=None)
@given(st.text(alphabet='ab"\\\n é漢', min_size=1, max_size=4000), st.integers(200, 600))
def test_the_parts_of_a_long_answer_joined_are_its_json_and_each_fits_its_budget(text: str, budget: int) -> None:
    cursor, parts = START, ""
    while True:
        answer = shape(Text(text=text), cursor=cursor, max_tokens=budget)
        assert tokens.count(answer.text) <= budget
        assert json.loads(answer.text) == answer.structured
        if "partial" not in answer.structured:
            assert answer.structured == {"text": text}
            return
        parts += answer.structured["partial"]
        if "cursor" not in answer.structured:
            break
        cursor = Cursor.decode(answer.structured["cursor"], call="c")

    assert json.loads(parts) == {"text": text}


def test_whole_numbers_that_javascript_would_round_go_out_as_text() -> None:
    class Numbers(Answer):
        values: list[int]

    answer = shape(Numbers(values=[2**53 - 1, 2**53, -(2**53), 1]), cursor=START, max_tokens=300)

    assert answer.structured == {"values": [2**53 - 1, str(2**53), str(-(2**53)), 1]}
    assert json.loads(answer.text) == answer.structured


def test_an_item_that_is_too_long_alone_is_handed_over_in_parts() -> None:
    page = Page[str](items=["word " * 2_000, "next"], total=2)

    answer = shape(page, cursor=START, max_tokens=400)

    assert answer.structured["partial"].startswith('{"items":["word word')
    assert "of the answer's JSON" in answer.structured["note"]


def test_an_answer_that_changed_between_two_parts_is_a_conflict() -> None:
    first = shape(Text(text="a " * 3_000), cursor=START, max_tokens=300)
    cursor = Cursor.decode(first.structured["cursor"], call="c")

    with pytest.raises(Conflict, match="changed since its first part"):
        shape(Text(text="b " * 3_000), cursor=cursor, max_tokens=300)


def test_absent_fields_cost_nothing_and_text_and_structure_agree() -> None:
    answer = shape(Text(text="é"), cursor=START, max_tokens=300)

    assert answer.text == '{"text":"é"}'
    assert json.loads(answer.text) == answer.structured


@pytest.mark.parametrize(
    "text", ["", "x", "!!", Cursor(call="other").encode(), "WyJjIiwtMSwwLCIiXQ", "WyJjIiwiMSIsMCwiIl0", "WyJjIl0"]
)
def test_a_cursor_that_is_not_from_this_call_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="cursor:"):
        Cursor.decode(text, call="c")


def test_a_declared_secret_is_redacted_wherever_it_stands() -> None:
    keep_secret("pa55word-declared")

    class Nested(Answer):
        rows: list[dict[str, str]]

    answer = shape(Nested(rows=[{"pa55word-declared": "is pa55word-declared."}]), cursor=START, max_tokens=300)

    assert answer.structured == {"rows": [{"[redacted]": "is [redacted]."}]}
