"""The table of threats and requirements: every row has a test, and every test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
ROW = re.compile(r"^\| ([TAS]\d+) \|.*\| ([^|]*) \|$", re.MULTILINE)
NAMED = re.compile(r"(tests/[\w/]+\.py)::(test_\w+)")
THREATS = [f"T{number:02}" for number in range(1, 45)]
REQUIREMENTS = [
    f"{kind}{number}" for kind, most in (("A", 8), ("T", 6), ("S", 10)) for number in range(1, most + 1)
]


def test_every_threat_and_requirement_has_tests_and_they_exist() -> None:
    text = (ROOT / "docs" / "reference" / "threats.md").read_text(encoding="utf-8")
    rows = dict(ROW.findall(text))

    assert list(rows) == THREATS + REQUIREMENTS
    for row, cell in rows.items():
        named = NAMED.findall(cell)
        assert named, f"{row} names no test"
        assert NAMED.sub("", cell).strip(" ,") == "", f"{row}: {cell}"
        for file, test in named:
            source = (ROOT / file).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {test}\(", source, re.MULTILINE), (
                f"{row}: there is no {file}::{test}"
            )


def test_every_fault_has_tests_and_they_exist() -> None:
    text = (ROOT / "docs" / "reference" / "faults.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (R\d+) \|[^|]*\|([^|]*)\|[^|]*\|$", text, re.MULTILINE))
    there = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
    }

    assert list(rows) == [f"R{number}" for number in range(1, 22)]
    for row, cell in rows.items():
        named = re.findall(r"`(test_\w+)`", cell)
        assert named, f"{row} names no test"
        assert set(named) <= there, f"{row}: {set(named) - there}"
    for program in re.findall(r"`(tests/faults/\w+\.py)", text):
        assert (ROOT / program).exists(), program
