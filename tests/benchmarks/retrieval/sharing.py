"""What `usrland model` saves: the memory of servers that each hold the model, and of those that share one.

    python tests/benchmarks/retrieval/sharing.py --home HOME --servers 2

HOME is indexed already. Each server answers hybrid searches first. Megabytes are proportional shares (PSS), so
that what processes have in common counts once, and resident ones (RSS); then the median time of a search.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
from ingest import _below
from quality import indexed, served

QUESTIONS = ["read a file", "how are dates parsed", "close a connection", "sort a list", "raise an error"] * 8


async def measure(home: Path, servers: int) -> tuple[int, int, float]:
    """Megabytes by shares and resident, and the median of a search in milliseconds."""
    times = []
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(served(home)) for _ in range(servers)]
        for client in clients:
            await indexed(client)
            for question in QUESTIONS:
                begun = time.perf_counter()
                found = await client.call_tool("fs_search", {"query": question})
                times.append(1000 * (time.perf_counter() - begun))
                answer = found.structured_content or {}
                if answer.get("degraded") or not answer.get("items"):
                    raise SystemExit(f"it does not search by meaning: {answer.get('degraded')}")
        shares, resident = memory()
    return shares, resident, sorted(times)[len(times) // 2]


def memory() -> tuple[int, int]:
    """Of all processes that this one has started."""
    import os

    totals = {"Pss:": 0, "Rss:": 0}
    for pid in _below(os.getpid()):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            name, *rest = line.split()
            if name in totals:
                totals[name] += int(rest[0]) * 1024
    return totals["Pss:"] // 1_000_000, totals["Rss:"] // 1_000_000


def report(what: str, figures: Sequence[float]) -> None:
    print("{:28} {:5.0f} MB by shares, {:5.0f} MB resident, {:5.1f} ms".format(what, *figures), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--servers", type=int, default=2)
    options = parser.parse_args()
    report(f"{options.servers} servers", anyio.run(measure, options.home, options.servers))
    command = [sys.executable, "-m", "usrland.cli", "model"]
    environment = {"USRLAND_HOME": str(options.home), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as model:
        assert model.stdout is not None
        model.stdout.readline()
        report(f"{options.servers} servers and the model", anyio.run(measure, options.home, options.servers))
        model.terminate()


if __name__ == "__main__":
    main()
