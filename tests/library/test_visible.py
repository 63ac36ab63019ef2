"""What nobody sees is written out; what people write stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usrland.schemas.wire import Answer
from usrland.shape import Cursor, shape
from usrland.visible import inert_text, visible, visible_text

HIDDEN = [
    *"\x00\x07\x08\x1b\x7f\x9b",
    *"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    *"\u200b\u2060\u2061\u2062\u2063\u2064\ufeff\u3164\u115f\u180e\ufff9",
    *"\ufe00\ufe0d\U000e0001\U000e0041\U000e007f\U000e0100\U000e01ef\U0001d173",
    *"\ud800\udfff",
]


@pytest.mark.parametrize("character", HIDDEN, ids=lambda character: f"U+{ord(character):04X}")
def test_a_character_that_does_not_show_is_written_out(character: str) -> None:
    assert visible_text(f"a{character}b") == f"a<U+{ord(character):04X}>b"


@pytest.mark.parametrize(
    "text",
    [
        "plain text\twith a tab\nand lines\r\nand\x0ca page",
        "naïve café, 日本語, עברית, العربية",
        "می\u200cخواهم",
        "क्\u200dष",
        "👨\u200d👩\u200d👧 ❤\ufe0f 1\ufe0f\u20e3 🏳\ufe0f\u200d🌈",
        "Donau\xaddampf\xadschiff",
    ],
)
def test_what_people_write_stays(text: str) -> None:
    assert visible_text(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ab\u200dcd", "ab<U+200D>cd"),
        ("می\u200c\u200cخ", "می\u200c<U+200C>خ"),
        ("x\ufe0f", "x<U+FE0F>"),
        ("❤\ufe0f\ufe0f\ufe0e", "❤\ufe0f<U+FE0F><U+FE0E>"),
    ],
)
def test_joiners_and_selectors_without_work_are_written_out(text: str, shown: str) -> None:
    assert visible_text(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no '<script>x</script>'", "no '<U+003C>script>x<U+003C>/script>'"),
        ("no '![x](https://a.example)'", "no '<U+0021>[x](https://a.example)'"),
        ("no '${jndi:x}'", "no '<U+0024>{jndi:x}'"),
        ("no '$(id)'", "no '<U+0024>(id)'"),
        ("no '`id`'", "no '<U+0060>id`'"),
        ("no '{{7*7}}'", "no '<U+007B>{7*7}}'"),
        ('no "\'; DROP TABLE x"', 'no "<U+0027>; DROP TABLE x"'),
        ("no '../../../etc/passwd'", "no '<U+002E>./../../etc/passwd'"),
        ("no 'a\u202eb'", "no 'a<U+202E>b'"),
    ],
)
def test_a_refusal_repeats_nothing_that_a_page_a_template_or_a_shell_would_act_on(text: str, shown: str) -> None:
    assert inert_text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "the head is 'ab', not ''; nothing was written.",
        "Ask the operator to run `usrland init FOLDER`, or (`usrland index`).",
        "pattern '^a{2,3}$' needs a < b, and $5 is too much!",
        "there is no '../../notes (final) [1].md' here.",
    ],
)
def test_a_refusal_reads_as_it_was_written(text: str) -> None:
    assert inert_text(text) == text


@given(st.text())
def test_whatever_comes_in_what_goes_out_shows_and_can_be_sent(text: str) -> None:
    shown = visible_text(text)

    assert shown.encode().decode() == shown
    assert not set(shown) & set(HIDDEN)
    assert visible_text(shown) == shown


def test_names_and_nested_texts_count_too() -> None:
    value = {"na\u202eme": ["x\u200b", {"deep": "\x1b[31m"}], "number": 1}

    assert visible(value) == ({"na<U+202E>me": ["x<U+200B>", {"deep": "<U+001B>[31m"}], "number": 1}, 3)


def test_an_answer_says_that_it_had_hidden_characters() -> None:
    class Text(Answer):
        text: str

    hidden = shape(Text(text="ignore \U000e0069\U000e0067"), cursor=Cursor(call="c"), max_tokens=1_000)
    plain = shape(Text(text="nothing hidden"), cursor=Cursor(call="c"), max_tokens=1_000)

    assert hidden.structured == {"text": "ignore <U+E0069><U+E0067>", "hidden_characters": 2}
    assert plain.structured == {"text": "nothing hidden"}
