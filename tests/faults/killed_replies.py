"""Connections killed between the effect and the reply, and the call made again with the same key: one effect.

    python tests/faults/killed_replies.py --times 1000
    python tests/faults/killed_replies.py --times 1000 --anywhere     cut at any moment, also before the effect

On a server of each kind that writes, over HTTP: memory, files (an edit that made twice adds two lines), and rows
of a database, which a person confirms. The answer of the second call must be that of the first.
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

from killed_replies import KINDS, killed_replies


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, action="append", help="default: all")
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--anywhere", action="store_true")
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    wrong = 0
    for kind in options.kind or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            work = partial(
                killed_replies,
                Path(folder),
                kind,
                times=options.times,
                anywhere=options.anywhere,
                seed=options.seed,
            )
            outcome = anyio.run(work)
        wrong += len(outcome.wrong)
        for line in outcome.wrong[:10]:
            sys.stdout.write(f"  {line[:400]}\n")
        said = f", {outcome.open} of unknown outcome" if options.anywhere else ""
        sys.stdout.write(
            f"{kind}: {outcome.once} of {options.times} with one effect and one answer{said}, "
            f"{len(outcome.wrong)} wrong\n"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
