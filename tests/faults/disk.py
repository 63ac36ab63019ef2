"""A memory server on a disk that fails at every place in turn: killed there, full, or broken.

    python tests/faults/disk.py kill --points 12
    python tests/faults/disk.py ENOSPC --points 6
    python tests/faults/disk.py EIO --points 6

A point is the so-many-th write or sync to the files of the memory or of the log of calls. Afterwards every
acknowledged item must be there, once, the journal and the log must verify, and the server must go on. Needs gcc.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import cast

import anyio

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from disk import Kind, Outcome, built, on_a_failing_disk


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["kill", "ENOSPC", "EIO"])
    parser.add_argument("--points", type=int, default=12, help="of each file and kind of call")
    parser.add_argument("--step", type=int, default=3)
    parser.add_argument("--writes", type=int, default=8)
    options = parser.parse_args()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        library = built(Path(folder))
        places = itertools.product(("memory.sqlite", "calls.sqlite"), ("write", "sync"), range(options.points))
        for number, (path, call, place) in enumerate(places):
            work = partial(
                on_a_failing_disk,
                Path(folder) / f"home{number}",
                library,
                path=path,
                call=call,
                at=1 + place * options.step,
                kind=cast("Kind", options.kind),
                writes=options.writes,
            )
            outcome = anyio.run(work)
            outcomes.append(outcome)
            if not outcome.good:
                sys.stdout.write(f"{path} {call} {1 + place * options.step}: {outcome}\n")
    facts = {
        "reached": sum(outcome.gone or bool(outcome.refused) for outcome in outcomes),
        "writes acknowledged": sum(len(outcome.acknowledged) for outcome in outcomes),
        "refused": sum(len(outcome.refused) for outcome in outcomes),
        "lost": sum(len(outcome.lost) for outcome in outcomes),
        "points not as they should be": sum(not outcome.good for outcome in outcomes),
    }
    said = ", ".join(f"{name} {value}" for name, value in facts.items())
    sys.stdout.write(f"{len(outcomes)} points of {options.kind}: {said}\n")
    return 0 if all(outcome.good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
