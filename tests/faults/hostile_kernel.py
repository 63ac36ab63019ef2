"""Thousands of random and adversarial calls by a caller with few grants (see `tests/support/hostile.py`).

python tests/faults/hostile_kernel.py --calls 10000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from hostile import SERVERS, attack, world


async def run(calls: int, seed: int) -> int:
    problems = 0
    for server in SERVERS:
        with tempfile.TemporaryDirectory() as folder:
            async with world(Path(folder)) as made:
                findings = await attack(made, server, calls // len(SERVERS), seed)
        problems += len(findings.problems)
        sys.stdout.write(
            f"{server}: {findings.calls} calls, {findings.answered} answered, refused {dict(findings.refused)}, "
            f"{len(findings.leaked)} leaks, {len(findings.changed)} changes, "
            f"{len(findings.unforeseen)} unforeseen\n"
        )
        for problem in findings.problems[:20]:
            sys.stdout.write(f"  {problem}\n")
    return 1 if problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    return anyio.run(run, options.calls, options.seed)


if __name__ == "__main__":
    sys.exit(main())
