"""How long a question takes a warm server, by how much is indexed.

    python tests/benchmarks/retrieval/latency.py --work /tmp/latency --passages 10000 100000

Writes files of varied text and indexes them by their words. Vectors at this size would take an hour, and a search
does not know where they came from: so they are made of the words' hashes, and only the question goes through the
model. `--modes` chooses what is measured; the index stays in `--work`, so that a second run only searches.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import anyio
import numpy
from ingest import Watch
from material import cheap_vector, passages, questions, sentences
from quality import SERVER, served

from filesystem_retrieval.config import Table
from filesystem_retrieval.library import Library
from usrland.search import HybridIndex
from usrland.settings import Settings

QUESTIONS = 200
AT_ONCE = 5_000


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


async def measure(work: Path, count: int, modes: list[str], asked: list[str]) -> list[dict[str, Any]]:
    watch = Watch()
    rows = []
    async with served(work / "home") as client:
        for mode in modes:
            times = []
            for query in ["warm up", *asked]:
                begun = time.perf_counter()
                result = await client.call_tool("fs_search", {"query": query, "mode": mode})
                times.append(time.perf_counter() - begun)
                if result.is_error:
                    raise SystemExit(str(result.content))
                if query == "warm up":
                    watch.look()
                    cpu, times = watch.cpu, []
            watch.look()
            times.sort()
            rows.append(
                {
                    "passages": count,
                    "mode": mode,
                    "p50_ms": round(1000 * times[len(times) // 2], 1),
                    "p95_ms": round(1000 * times[len(times) * 95 // 100], 1),
                    "cpu_ms": round(1000 * (watch.cpu - cpu) / len(times), 1),
                    "resident_megabytes": round(watch.peak / 1e6),
                    "degraded": (result.structured_content or {}).get("degraded"),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--passages", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--modes", nargs="+", default=["hybrid", "lexical"])
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    options = parser.parse_args()
    pool = sentences()
    asked = questions(pool, options.questions)
    for count in options.passages:
        anyio.run(build, options.work / str(count), count, pool)
        anyio.run(measure, options.work / str(count), count, options.modes, asked)


if __name__ == "__main__":
    main()
