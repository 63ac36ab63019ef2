"""The contract suite notices what an author can do wrong: a few of the mutations. The program runs all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("mutations.py")
FEW = (
    "a scope that readers have is enough to remove",
    "a write says that it reads",
    "it sleeps on the event loop",
    "it takes its cancellation for a failure",
    "a failure looks like nothing found",
    "a secret is in an error",
    "an export can be written anywhere",
    "an export is kept in its folder",
)


@pytest.mark.timeout(400)
def test_the_contract_suite_catches_mutations_and_lets_what_is_right_pass() -> None:
    asked = [word for name in FEW for word in ("--only", name)]
    done = subprocess.run([sys.executable, PROGRAM, *asked], capture_output=True, text=True, timeout=390)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 mutations, 1 controls, 0 not as they must be" in done.stdout
