"""What it takes to bring a folder of real files in, and to follow changes in it.

    python tests/benchmarks/retrieval/ingest.py --work /tmp/ingest --files 5000

Copies files of many kinds from what is installed here, starts the server on an empty home, and asks it as a client
does: seconds from the start of its process until a search has its first hits, and until every passage has its
vector, of which `words` is the time from the first hits until every file is found by its words; then changes one
file of a hundred and waits until all of that is found. CPU seconds count the server and its parsers, and depend
less on what else the machine does. `--embedding none` leaves vectors out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from material import mixed
from quality import SERVER, served

TICKS = os.sysconf("SC_CLK_TCK")
EVERY_SECONDS = 0.1
PLAIN = {".py", ".md", ".txt", ".h", ".c", ".rst", ".sh", ".toml"}
TIDIED_SECONDS = 200.0
"""When nothing has changed for a minute the server lets go of what many writes have left, and a minute later of
what that has replaced, until there is nothing more."""


class Watch:
    """CPU and memory of the server and what it starts; it is the only child of this process that runs Python."""

    def __init__(self) -> None:
        self.peak = 0
        self.cpu = 0.0
        self._gone = 0.0
        self._last: dict[int, float] = {}

    async def run(self) -> None:
        while True:
            self.look()
            await anyio.sleep(EVERY_SECONDS)

    def look(self) -> None:
        resident, now = 0, {}
        for pid in _below(os.getpid()):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
                now[pid] = (int(fields[11]) + int(fields[12])) / TICKS
                resident += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
            except (FileNotFoundError, ProcessLookupError):
                continue
        self._gone += sum(self._last[pid] for pid in self._last.keys() - now.keys())
        self._last = now
        self.peak = max(self.peak, resident)
        self.cpu = self._gone + sum(now.values())


def _below(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = (task / "children").read_text(encoding="ascii").split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in map(int, children):
            yield child
            try:
                yield from _below(child)
            except (FileNotFoundError, ProcessLookupError):
                continue


async def measure(
    work: Path,
    files: int,
    embedding: str,
    filled: Callable[[Path], Awaitable[None]] | None = None,
    *,
    tidied: bool = False,
) -> dict[str, Any]:
    """`filled` is called with the home once everything is in; `tidied` also tells the disk when that is tidied."""
    home, folder = work / "home", work / "files"
    shutil.rmtree(work, ignore_errors=True)
    home.mkdir(parents=True)
    size = mixed(folder, files)
    os.sync()  # or the first write of the server waits until the disk has all of that
    (home / "usrland.toml").write_text(
        f'[{SERVER}]\nroots = {{ docs = "{folder}" }}\nembedding = "{embedding}"\n', encoding="utf-8"
    )
    seen: dict[str, Any] = {"files": files, "megabytes": round(size / 1e6, 1), "embedding": embedding}
    watch = Watch()
    begun = time.perf_counter()

    @contextmanager
    def step(name: str, since: float | None = None) -> Iterator[None]:
        """From now, or from another moment, when nothing of it had run."""
        start, cpu = (time.perf_counter(), watch.cpu) if since is None else (since, 0.0)
        yield
        watch.look()
        seen[f"{name}_s"] = round(time.perf_counter() - start, 2)
        seen[f"{name}_cpu_s"] = round(watch.cpu - cpu, 2)
        print(f"{name}: {seen[f'{name}_s']} s, {seen[f'{name}_cpu_s']} CPU s", flush=True)

    async with served(home) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(watch.run)
        seen["started_s"] = round(time.perf_counter() - begun, 2)

        async def call(tool: str, **arguments: Any) -> dict[str, Any]:
            result = await client.call_tool(tool, arguments)
            return dict(result.structured_content or {})

        async def ready(*, vectors: bool) -> None:
            while True:
                status = await call("fs_status")
                (root,) = status["roots"]
                waits = status.get("degraded") or ""
                if not root["pending"] and "read" not in waits and not (vectors and waits):
                    seen["passages"] = root["passages"]
                    return
                await anyio.sleep(0.5)

        with step("full", begun):
            with step("first_hits", begun):
                found: dict[str, Any] = {}
                while not found.get("items"):
                    found = await call("fs_search", query="read a file", mode="lexical")
            with step("words"):
                await ready(vectors=False)
            if embedding != "none":
                await ready(vectors=True)
        seen["disk_megabytes"] = _disk(home)
        if filled is not None:
            await filled(home)
        plain = sorted(path for path in folder.rglob("*") if path.suffix in PLAIN)
        changed = plain[:: len(plain) // max(1, files // 100)][: max(1, files // 100)]
        await anyio.sleep(3)  # the clock of a file system is coarse
        with step("changed"):
            for path in changed:
                with path.open("ab") as file:
                    file.write(f"\n# zebrafish{len(changed)} follows\n".encode())
            wanted = {"query": f"zebrafish{len(changed)}", "mode": "lexical", "limit": 50, "max_tokens": 25_000}
            found = {}
            while len({item["path"] for item in found.get("items", ())}) < min(40, max(1, len(changed) * 9 // 10)):
                found = await call("fs_search", **wanted)
            await ready(vectors=embedding != "none")
        seen["changed_files"] = len(changed)
        watch.look()
        if tidied:
            await anyio.sleep(TIDIED_SECONDS)
            seen["disk_tidied_megabytes"] = _disk(home)
        tasks.cancel_scope.cancel()
    seen["start_to_end_s"] = round(time.perf_counter() - begun, 1)
    seen["peak_megabytes"] = round(watch.peak / 1e6)
    seen["changed_share_cpu"] = round(seen["changed_cpu_s"] / seen["full_cpu_s"], 4)
    return seen


def _disk(home: Path) -> float:
    return round(sum(path.stat().st_size for path in home.rglob("*") if path.is_file()) / 1e6, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--embedding", default="minilm")
    parser.add_argument("--tidied", action="store_true", help="also the disk once it is tidied up")
    options = parser.parse_args()
    run = partial(measure, options.work, options.files, options.embedding, tidied=options.tidied)
    print(json.dumps(anyio.run(run), indent=1))


if __name__ == "__main__":
    main()
