"""A disk that ends, fills up or breaks: `tests/faults` holds programs that do this at every place in turn."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from disk import Kind, built, on_a_failing_disk

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None, reason="gcc is not installed here"
)


@pytest.mark.parametrize(
    ("kind", "path", "call", "at"),
    [
        ("kill", "memory.sqlite", "sync", 8),
        ("kill", "calls.sqlite", "write", 30),
        ("power", "memory.sqlite", "sync", 8),
        ("ENOSPC", "memory.sqlite", "write", 60),
        ("EIO", "calls.sqlite", "sync", 8),
    ],
)
async def test_what_was_acknowledged_is_there_when_the_disk_is_well_again(
    tmp_path: Path, kind: Kind, path: str, call: str, at: int
) -> None:
    outcome = await on_a_failing_disk(
        tmp_path / "home", built(tmp_path), path=path, call=call, at=at, kind=kind, writes=6
    )

    assert outcome.good, outcome
    assert outcome.gone if kind in ("kill", "power") else outcome.refused


def test_a_loss_of_power_takes_nothing_that_was_acknowledged_and_what_is_derived_is_made_again() -> None:
    program = Path(__file__).parents[1] / "faults" / "every_step.py"
    places = ["--first", "216", "--step", "95", "--most", "6"]
    done = subprocess.run([sys.executable, program, "power", *places], capture_output=True, text=True, timeout=200)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "power at 6 system calls" in done.stdout
