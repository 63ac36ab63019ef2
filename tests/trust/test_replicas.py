"""Replicas behind a balancer that remembers nothing; `tests/faults/replicas.py` does this for longer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from replicas import replicated


async def test_whichever_replica_answers_the_answer_is_right_and_nothing_is_lost(
    tmp_path: Path, postgresql: Callable[[], str]
) -> None:
    tally = await replicated(tmp_path, postgresql(), seconds=8, kill_every=4, callers=2)

    assert tally.good, tally
    assert tally.answered and tally.acknowledged
    assert set(tally.by_replica) == {0, 1}
