"""Wrecked documents for every parser: each is read, or refused with a reason, within its limits.

    python tests/faults/parsers.py --seconds 900 [--seed N] [--corpus FOLDER]

Begins with a small document of each kind, or with the files of FOLDER whose kinds are read; what was wrecked and
still read becomes a document to wreck again. Nothing but a text or a reason may come back, no process may take
more memory than it is given, and no temporary folder may stay. Not guided by coverage: the parsers are compiled.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from papers import every_kind
from wrecked_documents import hammered

from filesystem_retrieval import extract as limits


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("--corpus", type=Path)
    options = parser.parse_args()
    known = every_kind()
    if options.corpus is not None:
        kinds = {Path(name).suffix for name in known}
        known = {each.name: each.read_bytes() for each in options.corpus.iterdir() if each.suffix in kinds}
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        outcomes, wrong = anyio.run(
            hammered, options.seconds, options.seed, {name: [content] for name, content in known.items()}
        )
        wrong += [f"left behind: {each.name}" for each in Path(folder).iterdir()]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    if peak > limits.MEMORY_BYTES:
        wrong.append(f"a parser took {peak >> 20} MB")
    for line in wrong[:20]:
        sys.stdout.write(f"  {line}\n")
    for reason, number in outcomes.most_common(12):
        sys.stdout.write(f"  {number} × {reason}\n")
    sys.stdout.write(
        f"{sum(outcomes.values())} wrecked documents (seed {options.seed}): {outcomes['read']} read, the others "
        f"refused with a reason; {peak >> 20} MB at most; {len(wrong)} not as they should be\n"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
