"""One bit flips in a database, in each column of each table in turn: `usrland check --read-data` finds it.

python tests/faults/bit_rot.py --flips 400
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from bit_rot import rotten


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=400)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = anyio.run(partial(rotten, Path(folder), flips=options.flips, seed=options.seed))
    for line in outcome.missed[:20]:
        sys.stdout.write(f"  not found: {line}\n")
    for line in outcome.idle[:20]:
        sys.stdout.write(f"  changes nothing that is read: {line}\n")
    sys.stdout.write(
        f"seed {options.seed}: {sum(outcome.found.values())} of {options.flips} flipped bits found, "
        f"in {len(outcome.found)} of {outcome.columns} columns, {len(outcome.idle)} change nothing that is read\n"
    )
    return 1 if outcome.missed else 0


if __name__ == "__main__":
    sys.exit(main())
