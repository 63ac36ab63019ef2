"""Does `sys_find` name the right operation, and how fast? Against fastmcp's search over the same tools.

    python tests/benchmarks/connectors/find.py DATA [--fastmcp FOLDER] [--vectors FOLDER] [--only COLLECTION]

DATA holds `restbench-in-catalogue`, `metatool` and `livemcp`, each with `tools.jsonl` ({id, name, description,
summary?, group?, tags?, parameters?}) and `queries.jsonl` ({id, query, relevant}). FOLDER is where fastmcp is
installed (`pip install --target FOLDER fastmcp`); it is no dependency of ours. With `--vectors`, vectors are kept
there for the next run.

The half of each set whose query hashes to an even byte was looked at while weights were chosen; the other half
was not, and is reported apart.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from enterprise_connectors.find import Document, Index
from enterprise_connectors.meaning import Meaning
from usrland.connector import Effect
from usrland.embedding import embedder

EFFECTS: dict[str, Effect] = {
    "GET": "read", "HEAD": "read", "POST": "write", "PUT": "write", "PATCH": "write", "DELETE": "destroy",
}  # fmt: skip
COLLECTIONS = ("livemcp", "metatool", "restbench-in-catalogue")
METATOOL_QUERIES = 3_000
RACED = 157
RANKED = 20

Rank = Callable[[str], list[str]]
Query = dict[str, Any]


def document(tool: dict[str, Any]) -> Document:
    """A tool of the collections as the catalogue would have made a document of the operation."""
    method, _, path = tool["id"].rpartition(":")[2].partition(" ")
    arguments = tool.get("parameters", {})
    summary = tool.get("summary") or tool.get("description", "").partition("\n")[0]
    rest = tool.get("description", "").removeprefix(summary).lstrip(". ")
    return Document(
        key=tool["id"],
        name=tool["name"],
        summary=summary[:200],
        system=tool.get("group", ""),
        description=rest[:600],
        place=f"{method} {path} {' '.join(map(str, tool.get('tags', ())))}",
        arguments=" ".join(arguments.get("properties", {})),
        effect=EFFECTS.get(method),
    )


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def halves(queries: Sequence[Query]) -> tuple[list[Query], list[Query]]:
    seen = [query for query in queries if hashlib.md5(query["query"].encode()).digest()[0] % 2 == 0]
    return seen, [query for query in queries if query not in seen]


def recall(rank: Rank, queries: Sequence[Query], k: int = 5) -> float:
    """The share of the right operations that are among the first k, averaged over queries."""
    shares = [len(set(rank(q["query"])[:k]) & set(q["relevant"])) / len(q["relevant"]) for q in queries]
    return sum(shares) / len(shares)


def success(rank: Rank, queries: Sequence[Query], k: int = 5) -> float:
    """The share of queries with any of the right operations among the first k."""
    return sum(bool(set(rank(q["query"])[:k]) & set(q["relevant"])) for q in queries) / len(queries)


def ours(tools: Sequence[dict[str, Any]], *, by_meaning: bool, vectors: Path | None = None) -> Rank:
    documents = [document(tool) for tool in tools]
    begun = time.perf_counter()
    index = Index(documents)
    print(f"    words of {len(tools)} tools indexed in {time.perf_counter() - begun:.2f} s")
    if not by_meaning:
        return lambda request: index.search(request, RANKED, lambda _: True)
    model = embedder()
    assert model is not None
    model.load()
    with tempfile.TemporaryDirectory() as name:
        folder = vectors or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        passages = [document.passage for document in documents]
        begun = time.perf_counter()
        meaning = Meaning(passages, model, folder)
        meaning.learn(lambda: False)
        print(f"    their meaning learned in {time.perf_counter() - begun:.1f} s", end=", ")
        begun = time.perf_counter()
        again = Meaning(passages, model, folder)
        print(f"read again in {time.perf_counter() - begun:.2f} s")
    return lambda request: index.search(request, RANKED, lambda _: True, again.scores(request))


def fastmcps(tools: Sequence[dict[str, Any]]) -> Rank:
    from fastmcp.server.transforms.search.bm25 import _BM25Index

    texts = []
    for tool in tools:
        properties = tool.get("parameters", {}).get("properties", {})
        described = (str(value.get("description", "")) for value in properties.values() if isinstance(value, dict))
        texts.append(" ".join([tool["name"], tool.get("description", ""), *properties, *described]))
    index = _BM25Index()
    index.build(texts)
    ids = [tool["id"] for tool in tools]
    return lambda request: [ids[number] for number in index.query(request, RANKED)]


def compare(
    name: str, rank: Rank, queries: Sequence[Query], score: Callable[[Rank, Sequence[Query]], float]
) -> None:
    seen, unseen = halves(queries)
    for query in queries[:20]:
        rank(query["query"])
    times = []
    kept: dict[str, list[str]] = {}
    for query in queries:
        begun = time.perf_counter()
        kept[query["query"]] = rank(query["query"])
        times.append(time.perf_counter() - begun)
    look: Rank = kept.__getitem__
    print(
        f"  {name:22s} all {score(look, queries):.3f}   looked at {score(look, seen):.3f}   "
        f"not looked at {score(look, unseen):.3f}   median {sorted(times)[len(times) // 2] * 1000:.2f} ms"
    )


def race(ours: Rank, theirs: Rank, queries: Sequence[Query]) -> None:
    """Both in turn over the same requests, so that they meet the same machine."""
    wall: dict[str, list[float]] = {"ours": [], "fastmcp": []}
    cpu: dict[str, list[float]] = {"ours": [], "fastmcp": []}
    for query in queries:
        for name, rank in (("ours", ours), ("fastmcp", theirs)):
            begun, spent = time.perf_counter(), time.process_time()
            rank(query["query"])
            wall[name].append((time.perf_counter() - begun) * 1000)
            cpu[name].append((time.process_time() - spent) * 1000)
    for kind, times in (("wall", wall), ("processor", cpu)):
        mine, others = statistics.median(times["ours"]), statistics.median(times["fastmcp"])
        print(f"  in turn, {kind} time: median {mine:.1f} against {others:.1f} ms, {mine / others:.2f} times")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--fastmcp", type=Path)
    arguments.add_argument("--vectors", type=Path)
    arguments.add_argument("--only", choices=COLLECTIONS)
    given = arguments.parse_args()
    if given.fastmcp:
        sys.path.append(str(given.fastmcp))
    requests = read(Path(__file__).parent / "requests.jsonl")
    for collection in (given.only,) if given.only else COLLECTIONS:
        tools, queries = (
            read(given.data / collection / "tools.jsonl"),
            read(given.data / collection / "queries.jsonl"),
        )
        if collection == "metatool":
            queries = random.Random(7).sample(queries, METATOOL_QUERIES)
        print(f"{collection}: {len(tools)} tools, {len(queries)} queries, recall@5")
        ranks = {
            "words": ours(tools, by_meaning=False),
            "words and meaning": ours(tools, by_meaning=True, vectors=given.vectors),
        }
        if given.fastmcp:
            ranks["fastmcp"] = fastmcps(tools)
        for name, rank in ranks.items():
            compare(name, rank, queries, recall)
        if given.fastmcp:
            race(ranks["words and meaning"], ranks["fastmcp"], queries[:RACED])
        if collection == "restbench-in-catalogue":
            print(f"office requests: the same {len(tools)} tools, {len(requests)} queries, success@5")
            for name, rank in ranks.items():
                compare(name, rank, requests, success)
            for size in (200, 2_000):
                gold = {tool for request in requests for tool in request["relevant"]}
                rest = [tool for tool in tools if tool["id"] not in gold]
                some = [tool for tool in tools if tool["id"] in gold]
                some += random.Random(7).sample(rest, size - len(some))
                print(f"office requests: {len(some)} tools, success@5")
                compare("words and meaning", ours(some, by_meaning=True, vectors=given.vectors), requests, success)
                if given.fastmcp:
                    compare("fastmcp", fastmcps(some), requests, success)


if __name__ == "__main__":
    main()
