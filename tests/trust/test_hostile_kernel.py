"""A caller with few grants tries everything: nothing foreign is seen, nothing is changed, nothing breaks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile import SERVERS, attack, world

CALLS = 200


@pytest.mark.parametrize("server", SERVERS)
async def test_a_hostile_kernel_sees_nothing_of_others_and_changes_nothing(tmp_path: Path, server: str) -> None:
    async with world(tmp_path) as made:
        findings = await attack(made, server, CALLS, seed=11)

    assert findings.problems == []
    assert findings.answered > CALLS / 20, "the calls must be good enough to be answered now and then"
