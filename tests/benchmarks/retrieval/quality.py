"""How well `fs_search` of a running server ranks, on collections with known answers.

    python tests/benchmarks/retrieval/quality.py DATA --work /tmp/quality techdocs codechunks

DATA holds one folder for each collection: `corpus.jsonl` ({_id, title, text}), `queries.jsonl` ({_id, text}) and
`qrels.tsv` (query, document, grade), as BEIR has them. Every document becomes a file in a root of its own server,
and every query one tool call; a document counts where its best passage stands. `--work` keeps the indexed homes,
so that a second run only searches.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

SERVER = "filesystem-retrieval"
DEPTH = 10
EXTENSIONS = {"cosqa": ".py", "cosqa-dev": ".py"}
MODES = ("hybrid", "lexical", "semantic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Documents by file name, queries, and the grades of the right answers."""

    name: str
    documents: Mapping[str, str]
    queries: Mapping[str, str]
    grades: Mapping[str, Mapping[str, int]]

    @classmethod
    def read(cls, folder: Path) -> Collection:
        extension = EXTENSIONS.get(folder.name, ".txt")
        names, documents = {}, {}
        for row in _rows(folder / "corpus.jsonl"):
            # a digest: ids may hold what no file name can
            names[row["_id"]] = hashlib.sha256(row["_id"].encode()).hexdigest()[:16] + extension
            title = row.get("title") or ""
            text = row["text"] if row["text"].startswith(title) else f"{title}\n\n{row['text']}"
            documents[names[row["_id"]]] = text or title
        grades: dict[str, dict[str, int]] = defaultdict(dict)
        with (folder / "qrels.tsv").open(encoding="utf-8") as file:
            for query, document, grade in list(csv.reader(file, delimiter="\t"))[1:]:
                if int(grade) > 0 and document in names:
                    grades[query][names[document]] = int(grade)
        queries = {row["_id"]: row["text"] for row in _rows(folder / "queries.jsonl") if row["_id"] in grades}
        return cls(name=folder.name, documents=documents, queries=queries, grades=grades)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


async def measure(collection: Collection, work: Path, modes: Sequence[str]) -> dict[str, dict[str, float]]:
    """nDCG@10 and recall@10 of each mode, and the time of a call."""
    home, folder = work / collection.name / "home", work / collection.name / "files"
    home.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    for name, text in collection.documents.items():
        file = folder / name
        if not file.exists():
            file.write_text(text, encoding="utf-8")
    (home / "usrland.toml").write_text(f'[{SERVER}]\nroots = {{ docs = "{folder}" }}\n', encoding="utf-8")
    figures = {}
    async with served(home) as client:
        await indexed(client)
        for mode in modes:
            ndcg, recall, times = [], [], []
            for query, text in collection.queries.items():
                begun = time.perf_counter()
                ranked = await search(client, text, mode)
                times.append(time.perf_counter() - begun)
                ndcg.append(_ndcg(ranked, collection.grades[query]))
                recall.append(_recall(ranked, collection.grades[query]))
            figures[mode] = {
                "ndcg": sum(ndcg) / len(ndcg),
                "recall": sum(recall) / len(recall),
                "p50_ms": 1000 * sorted(times)[len(times) // 2],
                "p95_ms": 1000 * sorted(times)[len(times) * 95 // 100],
            }
    return figures


async def search(client: Client, query: str, mode: str) -> list[str]:
    """Files in the order of their best passages."""
    arguments = {"query": query, "mode": mode, "limit": 50, "max_tokens": 25_000}
    result = await client.call_tool("fs_search", arguments)
    if result.is_error:
        raise SystemExit(str(result.content))
    items = (result.structured_content or {})["items"]
    paths = [path for item in items for path in (item["path"], *item.get("also_at", ()))]
    return list(dict.fromkeys(paths))


@asynccontextmanager
async def served(home: Path) -> AsyncIterator[Client]:
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", "filesystem_retrieval", "--home", str(home)]
    )
    async with Client(stdio_client(parameters), read_timeout_seconds=300) as client:
        yield client


async def indexed(client: Client) -> None:
    """Wait until everything can be found by its words and by its meaning."""
    while True:
        status = (await client.call_tool("fs_status", {})).structured_content or {}
        if not status.get("degraded") and status["roots"][0]["pending"] == 0 and status["roots"][0]["indexed"]:
            return
        await anyio.sleep(1)


def _ndcg(ranked: Sequence[str], grades: Mapping[str, int]) -> float:
    gain = sum(grades.get(name, 0) / math.log2(place + 2) for place, name in enumerate(ranked[:DEPTH]))
    best = sorted(grades.values(), reverse=True)[:DEPTH]
    return gain / sum(grade / math.log2(place + 2) for place, grade in enumerate(best))


def _recall(ranked: Sequence[str], grades: Mapping[str, int]) -> float:
    return len(set(ranked[:DEPTH]) & grades.keys()) / len(grades)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("collections", nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    options = parser.parse_args()
    for name in options.collections:
        figures = anyio.run(measure, Collection.read(options.data / name), options.work, options.modes)
        for mode, values in figures.items():
            print(
                f"{name:12} {mode:9}", " ".join(f"{key} {value:.4g}" for key, value in values.items()), flush=True
            )


if __name__ == "__main__":
    main()
