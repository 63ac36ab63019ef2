from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from memory_snapshot.canonical import canonical, commitment, moment, parse_moment
from usrland import InvalidInput


def test_the_order_of_keys_and_what_is_absent_make_no_difference() -> None:
    assert canonical({"b": 1, "a": {"d": 2, "c": "é"}, "e": None}) == '{"a":{"c":"é","d":2},"b":1}'


@pytest.mark.parametrize("value", [1.5, [1.0], {"deep": {"er": (0.1,)}}])
def test_a_float_is_refused_wherever_it_stands(value: object) -> None:
    with pytest.raises(TypeError):
        canonical({"value": value})


def test_a_commitment_needs_its_salt() -> None:
    assert commitment("01", {"text": "yes"}) == commitment("01", {"text": "yes", "key": None})
    assert commitment("01", {"text": "yes"}) != commitment("02", {"text": "yes"})


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("2026-05-08", "2026-05-08T00:00:00.000000Z"),
        ("2026-05-08T14:30:00Z", "2026-05-08T14:30:00.000000Z"),
        ("2026-05-08T14:30:00+02:00", "2026-05-08T12:30:00.000000Z"),
    ],
)
def test_a_moment_is_stored_in_utc_at_one_width(text: str, stored: str) -> None:
    assert parse_moment(text, "when") == stored


def test_moments_sort_as_text_like_they_do_as_time() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    moments = [
        start,
        start + timedelta(microseconds=1),
        datetime(2026, 1, 1, 0, 30, tzinfo=timezone(-timedelta(hours=1))),
    ]

    assert sorted(moment(when) for when in moments) == [moment(when) for when in sorted(moments)]


def test_what_is_no_moment_is_refused_by_the_name_of_the_argument() -> None:
    with pytest.raises(InvalidInput, match=r"valid_at 'next week'"):
        parse_moment("next week", "valid_at")
