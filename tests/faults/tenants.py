"""Two tenants, 500 calls of each at once with the same ids: does anybody get an answer of the other's?

python tests/faults/tenants.py --calls 500
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from tenants import concurrently


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=500, help="of each tenant, at once")
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcome = anyio.run(lambda: concurrently(Path(folder), calls=options.calls))
    for problem in [*outcome.crossed, *outcome.failed][:20]:
        sys.stdout.write(f"{problem}\n")
    sys.stdout.write(
        f"2 tenants x {options.calls} calls at once in {time.monotonic() - begun:.0f} s: "
        f"{outcome.answered} answered, "
        f"{len(outcome.failed)} failed, {len(outcome.crossed)} crossed\n"
    )
    return 1 if outcome.crossed or outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
