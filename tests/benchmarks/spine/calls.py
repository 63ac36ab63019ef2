"""A governed read against the same function on the bare SDK, in one process, through the same client.

    python tests/benchmarks/spine/calls.py [--calls N]

Ours checks scopes and arguments, keeps to a deadline and a token budget, redacts, and writes an audit entry;
the peer calls the function. Calls alternate, so that both see the same noise. Reported: medians of wall time and
the processor time of all calls, and their ratios.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
from mcp import Client

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "support")]

import bare  # noqa: E402
import toy  # noqa: E402

from usrland.host import running  # noqa: E402
from usrland.settings import Settings  # noqa: E402

CASES: tuple[tuple[str, Mapping[str, Any]], ...] = (("add", {"left": 1}), ("lines", {"count": 20}))
WARM_UP = 50


async def measure(calls: int, home: Path) -> None:
    settings = Settings(home=home)
    async with (
        running(toy.service(settings), settings) as host,
        Client(host.server) as governed,
        Client(bare.server) as plain,
    ):
        print("| call | governed p50 ms | bare p50 ms | wall ratio | CPU ratio |\n|---|---|---|---|---|")
        for tool, arguments in CASES:
            wall: dict[str, list[float]] = {"governed": [], "bare": []}
            spent = dict.fromkeys(wall, 0.0)
            for count in range(calls + WARM_UP):
                for name, client in (("governed", governed), ("bare", plain)):
                    began, charged = time.perf_counter(), time.process_time()
                    result = await client.call_tool(tool, dict(arguments))
                    if count >= WARM_UP:
                        wall[name].append(time.perf_counter() - began)
                        spent[name] += time.process_time() - charged
                    assert not result.is_error
            ours, theirs = (statistics.median(times) * 1000 for times in wall.values())
            ratio = spent["governed"] / spent["bare"]
            print(f"| {tool} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} | {ratio:.2f} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=1_000)
    with tempfile.TemporaryDirectory() as home:
        anyio.run(measure, parser.parse_args().calls, Path(home))
    return 0


if __name__ == "__main__":
    sys.exit(main())
