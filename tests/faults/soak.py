"""Two tenants who use the three servers for half an hour: memory, descriptors, answers.

    python tests/faults/soak.py --minutes 30 [--callers 4]

Each caller reads, greps, recalls, restores, queries a database, and now and then says anew what was remembered.
Printed are calls and latencies of each tenth of the run, and how memory and open files went. Exits with 1 where an
answer failed or crossed to the other tenant, or where, after the first third, open files grow by more than
MOST_FILES_GROWN, or memory in ten minutes by more than MOST_GROWN_MB and KB_OF_A_VERSION for each one written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from long_use import used

MOST_GROWN_MB = 1.0
KB_OF_A_VERSION = 8.0
"""Its vector and that of what stands around it, 1.5 KB each, with their names; twice while they are read anew."""
MOST_FILES_GROWN = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--callers", type=int, default=4, help="of each tenant")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        use = anyio.run(partial(used, Path(folder), seconds=options.minutes * 60, callers=options.callers))
    for tenth in use.tenths():
        sys.stdout.write(f"{tenth}\n")
    wrong = [*use.failed, *use.crossed]
    most = MOST_GROWN_MB + KB_OF_A_VERSION / 1024 * use.written / options.minutes * 10
    if options.minutes >= 10 and use.megabytes_in_ten_minutes > most:
        wrong.append(f"memory grew by {use.megabytes_in_ten_minutes:.1f} MB in ten minutes")
    if use.files_grown > MOST_FILES_GROWN:
        wrong.append(f"{use.files_grown} more files are open than after a third")
    for line in wrong[:20]:
        sys.stdout.write(f"  {line}\n")
    sys.stdout.write(
        f"{use.calls} calls in {options.minutes:g} minutes, {len(use.failed)} failed, {len(use.crossed)} crossed; "
        f"{use.written} written; memory {use.megabytes_in_ten_minutes:+.1f} MB in ten minutes (may {most:.1f}), "
        f"{use.files_grown:+} open files\n"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
