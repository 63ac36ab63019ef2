"""How long a question takes a warm server, by how much is indexed.

    python tests/benchmarks/retrieval/latency.py --work /tmp/latency --passages 10000 100000

Writes files of varied text and indexes them by their words. Vectors at this size would take an hour, and a search
does not know where they came from: so they are made of the words' hashes, and only the question goes through the
model. `--modes` chooses what is measured; the index stays in `--work`, so that a second run only searches.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import lancedb
import numpy
from ingest import Watch
from material import cheap_vector, passages, questions, sentences
from peers import PEERS, started
from quality import SERVER, served

from filesystem_retrieval.config import Table
from filesystem_retrieval.library import Library
from usrland.search import HybridIndex
from usrland.settings import Settings

QUESTIONS = 200
WARM, WARM_SECONDS = 5, 8.0
"""Questions that do not count, asked over and over for so long: large tables are held once they are quiet."""


async def build(work: Path, count: int, pool: list[str]) -> None:
    home, folder = work / "home", work / "files"
    done = work / "done"
    if done.exists():
        return
    home.mkdir(parents=True, exist_ok=True)
    passages(folder, count, pool)
    table = {"roots": {"docs": str(folder)}, "embedding": "minilm"}
    settings = Settings(home=home, tables={SERVER: table})
    library = Library.of(settings, Table.model_validate(table))
    begun = time.perf_counter()
    await library.indexer.scan()
    print(f"{count}: words indexed in {time.perf_counter() - begun:.1f} s", flush=True)
    await fill(library.index)
    await library.index.optimise()
    (home / "usrland.toml").write_text(
        f'[{SERVER}]\nroots = {{ docs = "{folder}" }}\nembedding = "minilm"\n', encoding="utf-8"
    )
    done.touch()


async def fill(index: HybridIndex) -> None:
    """Give every row a cheap vector."""

    class Cheap:
        def __init__(self, model: Any) -> None:
            self.generation, self.dimensions, self.ready = model.generation, model.dimensions, True

        def load(self) -> None: ...

        def documents(self, texts: list[str]) -> Any:
            return numpy.array([cheap_vector(text, self.dimensions) for text in texts], dtype=numpy.float32)

        query = documents

    index._embedder = Cheap(index._embedder)
    await index.embed_pending()


async def ours(work: Path, count: int, modes: list[str], asked: list[str]) -> None:
    async with served(work / "home") as client:
        for mode in modes:

            async def ask(query: str, mode: str = mode) -> str | None:
                arguments = {"query": query, "mode": mode, "limit": 10, "max_tokens": 8_000}
                result = await client.call_tool("fs_search", arguments)
                if result.is_error:
                    raise SystemExit(str(result.content))
                return (result.structured_content or {}).get("degraded")

            await measured({"passages": count, "server": "ours", "mode": mode}, ask, asked)


async def theirs(
    work: Path, count: int, name: str, program: Mapping[str, Any], asked: list[str], timeout: float
) -> None:
    folder = work / name
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        given = await exported(work)
        filling = Path(__file__).with_name("filling.py")
        await anyio.run_process([program["python"], str(filling), name, str(folder), str(given)], stderr=None)
        (folder / "done").touch()
    other = PEERS[name](folder)
    async with started(other, program, timeout) as client:
        await measured({"passages": count, "server": name}, lambda query: other.ask(client, query), asked)


async def exported(work: Path) -> Path:
    """The passages and vectors of our index, for the libraries of others."""
    target = work / "passages.npz"
    if not target.exists():
        database = await lancedb.connect_async(work / "home" / SERVER / "index")
        names = (await database.list_tables()).tables
        vectors = await database.open_table(next(name for name in names if name.startswith("vectors")))
        lexical = await database.open_table("lexical")
        found = await vectors.query().select(["id", "vector"]).to_arrow()
        rows = await lexical.query().select(["id", "text"]).to_arrow()
        texts = dict(zip(rows["id"].to_pylist(), rows["text"].to_pylist(), strict=True))
        flat = found["vector"].combine_chunks().flatten().to_numpy()
        ordered = [texts[key] for key in found["id"].to_pylist()]
        numpy.savez(target, texts=numpy.array(ordered), vectors=flat.reshape(len(ordered), -1))
    return target


async def measured(about: dict[str, Any], ask: Callable[[str], Awaitable[Any]], asked: list[str]) -> None:
    watch, times, degraded = Watch(), [], None
    await ask(asked[0])
    begun = time.perf_counter()
    while time.perf_counter() - begun < WARM_SECONDS:
        for query in asked[:WARM]:
            await ask(query)
    watch.look()
    cpu = watch.cpu
    for query in asked[WARM:]:
        begun = time.perf_counter()
        degraded = await ask(query)
        times.append(time.perf_counter() - begun)
    watch.look()
    times.sort()
    figures = {
        "p50_ms": round(1000 * times[len(times) // 2], 1),
        "p95_ms": round(1000 * times[len(times) * 95 // 100], 1),
        "cpu_ms": round(1000 * (watch.cpu - cpu) / len(times), 1),
        "resident_megabytes": round(watch.peak / 1e6),
    }
    if isinstance(degraded, str):
        figures["degraded"] = degraded
    print(json.dumps({**about, **figures}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--passages", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--modes", nargs="+", default=["hybrid", "lexical"])
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    parser.add_argument("--programs", type=Path)
    parser.add_argument("--timeout", type=float, default=1_800, help="seconds for an answer of the others")
    options = parser.parse_args()
    programs = json.loads(options.programs.read_text(encoding="utf-8")) if options.programs else {}
    pool = sentences()
    asked = questions(pool, options.questions + WARM)
    for count in options.passages:
        work = options.work / str(count)
        anyio.run(build, work, count, pool)
        anyio.run(ours, work, count, options.modes, asked)
        for name, program in programs.items():
            anyio.run(theirs, work, count, name, program, asked, options.timeout)


if __name__ == "__main__":
    main()
