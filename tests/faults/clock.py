"""A wall clock that is set an hour and a month forward and back while a memory server works.

    python tests/faults/clock.py --writes 50

After each jump so many items are remembered, each twice with the same key. Every key must have one effect, what
was just said must be found, the journal must keep its order and not turn around, and every hash must fit. Needs
gcc.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from jumping_clock import JUMPS, built, through_jumps


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writes", type=int, default=50, help="after each jump")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        problems = anyio.run(partial(through_jumps, top / "home", built(top), writes=options.writes))
    for problem in problems[:20]:
        sys.stdout.write(f"  {problem}\n")
    sys.stdout.write(
        f"{len(JUMPS)} jumps, {len(JUMPS) * options.writes} items, each twice: {len(problems)} problems\n"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
