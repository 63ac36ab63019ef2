"""Who loses the answer asks again with the same key; `tests/faults/killed_replies.py` does this for longer."""

from __future__ import annotations

from pathlib import Path

import pytest
from killed_replies import KINDS, killed_replies


@pytest.mark.parametrize("kind", KINDS)
async def test_a_write_whose_answer_was_lost_has_one_effect_and_the_second_call_its_answer(
    tmp_path: Path, kind: str
) -> None:
    outcome = await killed_replies(tmp_path, kind, times=6)

    assert outcome.wrong == []
    assert outcome.once == 6


async def test_a_write_that_is_cut_off_at_any_moment_has_one_effect_or_none_and_says_which(tmp_path: Path) -> None:
    outcome = await killed_replies(tmp_path, "files", times=12, anywhere=True)

    assert outcome.wrong == []
    assert outcome.once + outcome.open == 12
