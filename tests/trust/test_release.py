"""The command that tries every fault before a release tries every one there is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_fault_and_promise_is_tried_before_a_release_by_what_is_there() -> None:
    spec = importlib.util.spec_from_file_location("release", ROOT / "tests" / "faults" / "release.py")
    assert spec is not None and spec.loader is not None
    release = importlib.util.module_from_spec(spec)
    sys.modules["release"] = release  # where its dataclasses look for their module
    spec.loader.exec_module(release)

    assert {row.id for row in release.ROWS} == {f"R{number}" for number in range(1, 22)}
    assert {word for row in release.ROWS for word in row.promises.split()} == {f"P{n}" for n in range(1, 8)}
    named = [word for row in release.ROWS for word in row.command if word.endswith(".py")]
    assert all((ROOT / word).is_file() for word in named)
    matrix = (ROOT / "docs" / "reference" / "faults.md").read_text(encoding="utf-8")
    scripts = {path.name for path in (ROOT / "tests" / "faults").glob("*.py")}
    assert scripts - {"release.py", "labels.py", "paths.py"} == {
        Path(word).name for word in named if Path(word).parent.name == "faults"
    }
    assert "tests/faults/release.py" in matrix
