"""Replicas behind a balancer that remembers nothing; `tests/faults/replicas.py` does this for longer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from object_store import object_store
from replicas import SERVERS, replicated


@pytest.mark.timeout(180)
async def test_whichever_replica_answers_the_answer_is_right_and_nothing_is_lost(
    tmp_path: Path, postgresql: Callable[[], str]
) -> None:
    with object_store(tmp_path / "store") as store:
        tally = await replicated(tmp_path / "homes", postgresql(), seconds=8, kill_every=4, callers=2, store=store)
        with store.client() as client:
            keys = [each["Key"] for each in client.list_objects_v2(Bucket=store.bucket)["Contents"]]

    assert tally.good, tally
    assert all(tally.acknowledged.values())
    assert set(tally.by_replica) == {0, 1}
    assert any(key.startswith("memory-snapshot/lexical.lance/") for key in keys)
    assert "memory-snapshot/notes/name" in keys
    assert not [each async for each in anyio.Path(tmp_path).rglob("*.lance")], "nothing is indexed on this machine"
    assert set(tally.acknowledged) == set(SERVERS)
