"""Lines, documents and clocks that are not what they should be. Longer runs are in tests/faults."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from jumping_clock import built, through_jumps
from lines_of_rpc import SERVERS
from lines_of_rpc import hammered as with_lines
from papers import every_kind
from wrecked_documents import hammered as with_documents


@pytest.mark.parametrize("server", SERVERS)
def test_wrecked_lines_are_answered_with_protocol_alone_and_the_next_whole_one_is_too(server: str) -> None:
    problems, said = with_lines(server, 400, seed=7)

    assert problems == [], said


async def test_a_wrecked_document_is_read_or_refused_with_a_reason() -> None:
    outcomes, wrong = await with_documents(6, 7, {name: [content] for name, content in every_kind().items()})

    assert wrong == []
    assert 0 < outcomes["read"] < outcomes.total()


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("gcc") is None, reason="gcc is not installed here")
async def test_a_clock_that_jumps_turns_nothing_around_and_doubles_nothing(tmp_path: Path) -> None:
    assert await through_jumps(tmp_path / "home", built(tmp_path), writes=2) == []
