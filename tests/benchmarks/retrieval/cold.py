"""What the first search of a new process costs, beside importing LanceDB.

    python tests/benchmarks/retrieval/cold.py --home /tmp/ingest/home

Starts the server on a home that is indexed already, as a host does that starts one for each conversation, and asks
for one search by words. CPU seconds of the whole process until the answer is there; the lowest of several rounds
each, taken in turns.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path

import anyio
from ingest import Watch
from quality import served


async def first_search(home: Path, mode: str) -> float:
    watch = Watch()
    async with served(home) as client:
        result = await client.call_tool("fs_search", {"query": "read a file", "mode": mode})
        watch.look()
        if not (result.structured_content or {}).get("items"):
            raise SystemExit("nothing was found: index the home first")
    return watch.cpu


def importing(module: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ.pop("PYTHONPATH", None)
    imports, lexical, hybrid = [], [], []
    for _ in range(options.rounds):
        imports.append(importing("lancedb"))
        lexical.append(anyio.run(first_search, options.home, "lexical"))
        hybrid.append(anyio.run(first_search, options.home, "hybrid"))
    for name, seconds in (("import lancedb", imports), ("lexical", lexical), ("hybrid", hybrid)):
        print(f"{name:15} {min(seconds):.2f} CPU s, {min(seconds) / min(imports):.2f} times the import")


if __name__ == "__main__":
    main()
