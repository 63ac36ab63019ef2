"""A short session killed at each of its system calls that commit something, one after the other, alone or with
everything that was not synced, or on a disk that is full or broken from there on.

    python tests/faults/every_step.py kill
    python tests/faults/every_step.py ENOSPC --step 3

Counted are writes, syncs, renames, links and removals of the files of two servers and of the folder they write to.
Afterwards what was acknowledged must be there and what was erased not, once, every hash and sum must fit, and the
servers must go on. Needs gcc.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["kill", "power", "ENOSPC", "EIO"])
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--most", type=int, default=10_000, help="places to try")
    parser.add_argument("--loaded", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not options.loaded:
            from disk import built

            library = str(built(Path(folder)))
            again = [sys.executable, __file__, *sys.argv[1:], "--loaded"]
            return subprocess.run(again, env={**os.environ, "LD_PRELOAD": library}, check=False).returncode
        return _all(options, Path(folder))


def _all(options: argparse.Namespace, folder: Path) -> int:
    from steps import prepare, session

    prepare(folder / "fresh")
    tried = acknowledged = refused = wrong = 0
    for number in range(options.most):
        at = options.first + number * options.step
        outcome = session(folder / str(at), folder / "fresh", kind=options.kind, at=at)
        if outcome.ended and not outcome.refused and not outcome.problems:
            break  # there are not so many
        tried += 1
        acknowledged += outcome.acknowledged
        refused += len(outcome.refused)
        bad = [*outcome.problems, *(code for code in outcome.refused if code != "unavailable")]
        wrong += bool(bad)
        if bad:
            sys.stdout.write(f"at {at}: {bad}\n")
    sys.stdout.write(
        f"{options.kind} at {tried} system calls: {acknowledged} steps acknowledged, {refused} refused, "
        f"{wrong} places not as they should be\n"
    )
    return 1 if wrong or not tried else 0


if __name__ == "__main__":
    sys.exit(main())
