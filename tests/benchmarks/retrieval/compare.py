"""Bringing a folder in and following it, beside other servers: the same files, one server after the other.

    python tests/benchmarks/retrieval/compare.py --work /tmp/compare --programs programs.json --files 500

`programs.json` is that of `peers.py`. Files are those of `ingest.py`. Ours is given the folder. The others read no
such files, so they are given what ours found in them: those that store passages each passage that ours made, as a
client would that has cut them up; basic-memory one note for each file. Then one file of a hundred is changed;
those that store passages are given the passages that are new, and so need not find out which those are.

For each: seconds and CPU seconds from the start of its process until a search has its first hits and until
everything is found by meaning, and what the changes take; megabytes at most in memory, and on the disk, for ours
also a minute later, when it has tidied up. Whoever has not taken everything in after `--patience` times the
seconds that ours took is stopped: then the figures are of the part that is in, which is said (`taken`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import lancedb
from ingest import Watch, _disk, measure
from peers import AT_ONCE, PEERS, once, started
from quality import SERVER

QUESTION = "read a file"


async def passages(home: Path) -> dict[str, str]:
    """What our index holds, by the names of passages."""
    database = await lancedb.connect_async(home / SERVER / "index")
    table = await database.open_table("lexical")
    rows = await table.query().select(["id", "text"]).to_arrow()
    return dict(sorted(zip(rows["id"].to_pylist(), rows["text"].to_pylist(), strict=True)))


def notes(found: Mapping[str, str]) -> dict[str, str]:
    """The passages of each file, joined."""
    joined: dict[str, list[str]] = {}
    for name, text in found.items():
        group = name.rpartition(":")[0].rpartition(":")[2][:24]
        joined.setdefault(group, []).append(text)
    return {name: "\n\n".join(texts) for name, texts in joined.items()}


async def theirs(
    name: str,
    program: Mapping[str, Any],
    before: dict[str, str],
    after: dict[str, str],
    work: Path,
    most_seconds: float,
) -> dict[str, Any]:
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    other = PEERS[name](folder)
    of_files = name == "basic-memory"
    documents = notes(before) if of_files else before
    if of_files:  # a file that changed keeps its name
        changed = {key: f"{documents[key]}\n\n# zebrafish follows\n" for key in list(documents)[::100]}
    else:
        changed = {key: text for key, text in after.items() if key not in before}
    seen: dict[str, Any] = {"documents": len(documents)}
    await other.prepare(documents)
    os.sync()
    watch = Watch()
    start = time.perf_counter()

    @contextmanager
    def until(what: str, since: float, cpu: float) -> Iterator[None]:
        yield
        watch.look()
        seen[f"{what}_s"], seen[f"{what}_cpu_s"] = time.perf_counter() - since, watch.cpu - cpu

    async with started(other, program, 3_600) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(watch.run)
        with until("full", start, 0.0):
            with until("first_hits", start, 0.0):
                await other.open(client)
                if not of_files:
                    await other.add(client, dict(list(documents.items())[:AT_ONCE]))
                await once(lambda: other.ask(client, QUESTION), 0.1)
            left = documents if of_files else dict(list(documents.items())[AT_ONCE:])
            seen["taken"] = len(documents) - len(left)
            seen["taken"] += await other.add_until(client, left, start + most_seconds)
        seen["disk_mb"] = _disk(folder)
        if seen["taken"] >= len(documents):
            with until("changed", time.perf_counter(), watch.cpu):
                await other.change(client, changed)
        watch.look()
        tasks.cancel_scope.cancel()
    return {**seen, "peak_mb": watch.peak / 1e6}


async def ours(work: Path, files: int) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    before: dict[str, str] = {}

    async def filled(home: Path) -> None:
        before.update(await passages(home))

    seen = await measure(work, files, "minilm", filled, tidied=True)
    return seen, before, await passages(work / "home")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--programs", type=Path, required=True)
    parser.add_argument("--patience", type=float, default=20)
    options = parser.parse_args()
    programs = json.loads(options.programs.read_text(encoding="utf-8"))
    figures, before, after = anyio.run(ours, options.work / "ours", options.files)
    report(SERVER, figures)
    for name, program in programs.items():
        most = options.patience * figures["full_s"]
        report(name, anyio.run(theirs, name, program, before, after, options.work, most))


def report(name: str, figures: Mapping[str, Any]) -> None:
    rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in figures.items()}
    print(json.dumps({"server": name, **rounded}), flush=True)


if __name__ == "__main__":
    main()
