"""Wrecked JSON-RPC on standard input: the server stays, says nothing but protocol, and answers what is whole.

    python tests/faults/lines.py --lines 20000 [--seed N] [--server filesystem_retrieval]

Lines are mutations of an initialization, lists and calls, sent to a process of each server. After every fifty a
whole `ping` must be answered; every line that comes back must be JSON-RPC; memory must not grow; at the end of the
input the process ends with 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from lines_of_rpc import SERVERS, hammered


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=20_000, help="to each server")
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("--server", choices=SERVERS, action="append")
    options = parser.parse_args()
    bad = 0
    for server in options.server or SERVERS:
        problems, said = hammered(server, options.lines, options.seed)
        for problem in problems[:10]:
            sys.stdout.write(f"  {problem}\n")
        sys.stdout.write(
            f"{server}, {options.lines} lines (seed {options.seed}): {said}, {len(problems)} problems\n"
        )
        bad += len(problems)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
