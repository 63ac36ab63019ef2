"""The same documents and questions, put to this server and to others that people use, in one run.

    python tests/benchmarks/retrieval/peers.py DATA --work /tmp/peers --programs programs.json techdocs codechunks

DATA is as `quality.py` has it. `programs.json` says how the others are started here, since each lives in an
environment of its own: {"qdrant": {"command": …, "arguments": […], "environment": {…}}, …}; the names known are
`qdrant` (mcp-server-qdrant), `chroma` (chroma-mcp), `local-rag` (mcp-local-rag) and `basic-memory`. Where there is
no hub, put the model's files where they look for them; then all compare with the same weights.

Each is filled and asked through its own tools, as a client does: seconds and CPU seconds until everything is in,
megabytes on the disk and at most in memory, nDCG@10 and recall@10, and the time from a question to its answer.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import anyio
from ingest import Watch, _disk
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from quality import DEPTH, SERVER, Collection, _ndcg, _recall, indexed, served

AT_ONCE = 50
LOOK_SECONDS, STILL, GIVEN_UP = 0.5, 3, 240
"""How often to look whether all is in, how many looks in a row must see the same, how many where some is not."""


class Peer(ABC):
    """How one of the others is spoken to."""

    environment: ClassVar[Mapping[str, str]] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def prepare(self, documents: Mapping[str, str]) -> None:  # noqa: B027 most have nothing to do
        """Before it is started."""

    async def open(self, client: Client) -> None:  # noqa: B027 most have nothing to do
        """Once it runs, before anything is put in."""

    @abstractmethod
    async def add(self, client: Client, documents: Mapping[str, str]) -> None:
        """Put these in, of which there are AT_ONCE at most, and wait until all of them are."""

    async def change(self, client: Client, documents: Mapping[str, str]) -> None:
        """Have these instead of what was there by their names, as far as it can."""
        await self.add_until(client, documents, math.inf)

    async def fill(self, client: Client, documents: Mapping[str, str]) -> None:
        await self.open(client)
        await self.add_until(client, documents, math.inf)

    async def add_until(self, client: Client, documents: Mapping[str, str], deadline: float) -> int:
        """Put these in until then (of `time.perf_counter`); how many of them are in."""
        names, done = list(documents), 0
        while done < len(names) and time.perf_counter() < deadline:
            await self.add(client, {name: documents[name] for name in names[done : done + AT_ONCE]})
            done = min(done + AT_ONCE, len(names))
        return done

    @abstractmethod
    async def ask(self, client: Client, query: str) -> list[str]: ...


class Qdrant(Peer):
    environment: ClassVar = {"QDRANT_LOCAL_PATH": "{folder}/store", "COLLECTION_NAME": "documents"}

    async def add(self, client: Client, documents: Mapping[str, str]) -> None:
        for name, text in documents.items():
            await told(client, "qdrant-store", information=text, metadata={"name": name})

    async def ask(self, client: Client, query: str) -> list[str]:
        answer = json.loads(await told(client, "qdrant-find", query=query))
        return [found[1] for entry in answer if (found := re.search(r'<metadata>.*"name": ?"([^"]+)"', entry))]


class Chroma(Peer):
    async def open(self, client: Client) -> None:
        await told(client, "chroma_create_collection", collection_name="documents")

    async def add(self, client: Client, documents: Mapping[str, str]) -> None:
        ids, texts = list(documents), list(documents.values())
        await told(client, "chroma_add_documents", collection_name="documents", documents=texts, ids=ids)

    async def ask(self, client: Client, query: str) -> list[str]:
        answer = await told(
            client, "chroma_query_documents", collection_name="documents", query_texts=[query], n_results=10
        )
        return list(json.loads(answer)["ids"][0])


class LocalRag(Peer):
    environment: ClassVar = {"BASE_DIR": "{folder}/base", "DB_PATH": "{folder}/store"}

    async def prepare(self, documents: Mapping[str, str]) -> None:
        await anyio.Path(self.folder, "base").mkdir(parents=True)

    async def add(self, client: Client, documents: Mapping[str, str]) -> None:
        for name, text in documents.items():
            await told(client, "ingest_data", content=text, metadata={"source": name, "format": "text"})

    async def ask(self, client: Client, query: str) -> list[str]:
        answer = json.loads(await told(client, "query_documents", query=query, limit=20))
        return list(dict.fromkeys(each["source"] for each in answer))


class BasicMemory(Peer):
    """It reads its folder by itself. How far it has come no tool of it tells, so its database is looked at."""

    environment: ClassVar = {"HOME": "{folder}"}

    async def prepare(self, documents: Mapping[str, str]) -> None:
        await self._write(documents)

    async def add(self, client: Client, documents: Mapping[str, str]) -> None:
        same, seen = 0, (0, 0, 1)
        while same < (STILL if seen[0] >= len(documents) else GIVEN_UP):
            await anyio.sleep(LOOK_SECONDS)
            before, seen = seen, self._progress()
            same = same + 1 if seen == before and not seen[2] else 0

    async def add_until(self, client: Client, documents: Mapping[str, str], deadline: float) -> int:
        with anyio.move_on_after(deadline - time.perf_counter()):
            await self.add(client, documents)
            return len(documents)
        return self._progress()[0]

    async def change(self, client: Client, documents: Mapping[str, str]) -> None:
        await self._write(documents)
        last = " ".join(list(documents.values())[-1].split()[-3:])
        await once(lambda: self.ask(client, last), LOOK_SECONDS)
        await self.add(client, {})

    async def _write(self, documents: Mapping[str, str]) -> None:
        notes = anyio.Path(self.folder, "basic-memory")
        await notes.mkdir(parents=True, exist_ok=True)
        for name, text in documents.items():
            await (notes / f"{name}.md").write_text(text, encoding="utf-8")

    def _progress(self) -> tuple[int, int, int]:
        """Notes with vectors, or all where it searches by words alone; pieces; and pieces that have none yet."""
        try:
            with closing(sqlite3.connect(f"file:{self.folder}/.basic-memory/memory.db?mode=ro", uri=True)) as read:
                (notes,) = read.execute("SELECT count(*) FROM entity").fetchone()
                if not read.execute("SELECT 1 FROM sqlite_master WHERE name = 'search_vector_chunks'").fetchone():
                    return notes, 1, 0
                query = (
                    "SELECT count(DISTINCT entity_id), count(*), count(nullif(embedding_status, 'ready')) "
                    "FROM search_vector_chunks"
                )
                return tuple(read.execute(query).fetchone())
        except sqlite3.OperationalError:  # not made yet
            return 0, 0, 1

    async def ask(self, client: Client, query: str) -> list[str]:
        answer = await told(client, "search_notes", query=query, output_format="json", page_size=20)
        results = json.loads(answer)["results"] if answer.startswith("{") else []
        return list(dict.fromkeys(each["file_path"].removesuffix(".md") for each in results))


PEERS: Mapping[str, type[Peer]] = {
    "qdrant": Qdrant,
    "chroma": Chroma,
    "local-rag": LocalRag,
    "basic-memory": BasicMemory,
}


async def once(look: Callable[[], Awaitable[Any]], every_seconds: float) -> None:
    """Returns when there is something to see."""
    while not await look():  # noqa: ASYNC110 - another process has no events of ours
        await anyio.sleep(every_seconds)


async def told(client: Client, tool: str, **arguments: Any) -> str:
    """What a tool says; an error is an empty answer, and said."""
    result = await client.call_tool(tool, arguments)
    text = "".join(getattr(part, "text", "") for part in result.content)
    if result.is_error:
        print(f"{tool}: {text[:200]}", flush=True)
        return "[]"
    return text


@asynccontextmanager
async def started(other: Peer, program: Mapping[str, Any], timeout: float = 600) -> AsyncIterator[Client]:
    folder = other.folder
    given = {**other.environment, **program.get("environment", {})}
    parameters = StdioServerParameters(
        command=program["command"],
        args=[each.format(folder=folder) for each in program.get("arguments", [])],
        env={**os.environ, **{key: value.format(folder=folder) for key, value in given.items()}},
        cwd=folder,
    )
    async with Client(stdio_client(parameters), read_timeout_seconds=timeout) as client:
        yield client


async def peer(name: str, program: Mapping[str, Any], collection: Collection, work: Path) -> dict[str, Any]:
    folder = work / collection.name / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    other = PEERS[name](folder)
    await other.prepare(collection.documents)
    watch = Watch()
    begun = time.perf_counter()
    async with started(other, program) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(watch.run)
        await other.fill(client, collection.documents)
        figures = {"filled_s": time.perf_counter() - begun, "filled_cpu_s": watch.cpu}
        figures |= await questions(lambda query: other.ask(client, query), collection, watch)
        tasks.cancel_scope.cancel()
    return {**figures, "disk_mb": _disk(folder), "peak_mb": watch.peak / 1e6}


async def ours(collection: Collection, work: Path) -> dict[str, Any]:
    home, folder = work / collection.name / "ours" / "home", work / collection.name / "ours" / "files"
    shutil.rmtree(home.parent, ignore_errors=True)
    home.mkdir(parents=True)
    folder.mkdir()
    for name, text in collection.documents.items():
        (folder / name).write_text(text, encoding="utf-8")
    (home / "usrland.toml").write_text(f'[{SERVER}]\nroots = {{ docs = "{folder}" }}\n', encoding="utf-8")
    watch = Watch()
    begun = time.perf_counter()
    async with served(home) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(watch.run)
        await indexed(client)
        figures = {"filled_s": time.perf_counter() - begun, "filled_cpu_s": watch.cpu}
        figures |= await questions(lambda query: asked(client, query), collection, watch)
        tasks.cancel_scope.cancel()
    return {**figures, "disk_mb": _disk(home), "peak_mb": watch.peak / 1e6}


async def asked(client: Client, query: str) -> list[str]:
    """The ten best documents, which is what the others are asked for."""
    result = await client.call_tool(
        "fs_search", {"query": query, "limit": DEPTH, "by_document": True, "max_tokens": 8_000}
    )
    items = (result.structured_content or {}).get("items", [])
    return list(dict.fromkeys(path for item in items for path in (item["path"], *item.get("also_at", ()))))


async def questions(ask: Any, collection: Collection, watch: Watch) -> dict[str, float]:
    gains, recalls, times = [], [], []
    await ask("warm up")
    watch.look()
    cpu = watch.cpu
    for key, query in collection.queries.items():
        begun = time.perf_counter()
        ranked = await ask(query)
        times.append(1000 * (time.perf_counter() - begun))
        gains.append(_ndcg(ranked, collection.grades[key]))
        recalls.append(_recall(ranked, collection.grades[key]))
    watch.look()
    times.sort()
    count = len(times)
    return {
        "ndcg": sum(gains) / count,
        "recall": sum(recalls) / count,
        "p50_ms": times[count // 2],
        "p95_ms": times[count * 95 // 100],
        "ask_cpu_ms": 1000 * (watch.cpu - cpu) / count,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("collections", nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--programs", type=Path, required=True)
    parser.add_argument("--questions", type=int, help="only so many")
    parser.add_argument("--documents", type=int, help="only so many: what answers the questions, and others")
    options = parser.parse_args()
    programs = json.loads(options.programs.read_text(encoding="utf-8"))
    for name in options.collections:
        collection = part(Collection.read(options.data / name), options.questions, options.documents)
        report(name, "ours", anyio.run(ours, collection, options.work))
        for other, program in programs.items():
            report(name, other, anyio.run(peer, other, program, collection, options.work))


def part(whole: Collection, questions: int | None, documents: int | None) -> Collection:
    """The first so many questions, over what answers them and as many others as there is room for."""
    queries = dict(list(whole.queries.items())[:questions])
    wanted = {name for key in queries for name in whole.grades[key]}
    names = [*sorted(wanted), *(name for name in whole.documents if name not in wanted)][: documents or None]
    return replace(whole, queries=queries, documents={name: whole.documents[name] for name in names})


def report(collection: str, name: str, figures: Mapping[str, float]) -> None:
    print(
        f"{collection:11} {name:13}", " ".join(f"{key} {value:.4g}" for key, value in figures.items()), flush=True
    )


if __name__ == "__main__":
    main()
