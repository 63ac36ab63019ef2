"""What snapshots cost on the disk, what a fork and a warm restore cost beside reading the whole journal, and how
long a recall takes.

    python tests/benchmarks/memory/storage.py churn [--snapshots 1000] [--items 1000] [--words 100]
    python tests/benchmarks/memory/storage.py events [--events 50000]
    python tests/benchmarks/memory/storage.py recall [--turns 10000] [--embedding minilm|none]

`churn`: every snapshot replaces one item in a hundred; the raw bytes are those of all texts that were ever sent.
`events`: one item an event; all three times are of the same run, when the search index has read everything.
`recall`: turns of twelve words in sessions of fifty; a hundred questions of five words after ten that warm up.
"""

from __future__ import annotations

import argparse
import random
import resource
import string
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import anyio
from mcp import Client

from memory_snapshot.server import service
from usrland import Principal
from usrland.host import running
from usrland.identity import local_principal
from usrland.settings import Settings

WORDS = 5_000


async def churn(options: argparse.Namespace) -> None:
    chance = random.Random(1)
    vocabulary = ["".join(chance.choices(string.ascii_lowercase, k=chance.randint(2, 9))) for _ in range(WORDS)]
    raw = 0

    def item(number: int) -> dict[str, Any]:
        nonlocal raw
        text = " ".join(chance.choices(vocabulary, k=options.words))
        raw += len(text.encode())
        return {"text": text, "key": f"item {number}"}

    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), tables={"memory-snapshot": {"embedding": "none"}})
        async with running(service(settings), settings) as host, Client(host.server) as client:
            for start in range(0, options.items, 100):
                items = [item(number) for number in range(start, min(start + 100, options.items))]
                await call(client, "memory_remember", items=items)
            for number in range(options.snapshots):
                changed = chance.sample(range(options.items), options.items // 100) if number else []
                await call(
                    client, "memory_snapshot", message=f"snapshot {number}", items=[item(n) for n in changed]
                )
        folder = settings.data("memory-snapshot")
        truth = sum(file.stat().st_size for file in folder.glob("memory.sqlite*"))
        index = sum(file.stat().st_size for file in (folder / "index").rglob("*") if file.is_file())
    print(f"{options.snapshots} snapshots of {options.items} items, 1 % replaced each time")
    print(f"raw text {raw:,} bytes ({raw // (options.items + options.snapshots * options.items // 100)} an item)")
    print(f"database {truth:,} bytes = {truth / raw:.2f} x raw; derived word index {index:,} bytes")


async def events(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), tables={"memory-snapshot": {"embedding": "none"}})
        served = service(settings)
        store = await served.state["memory"].store()
        await write_events(store, local_principal(settings), options.events)
        journal = [await timed(read_journal, store, local_principal(settings)) for _ in range(5)]
        async with running(served, settings) as host, Client(host.server) as client:
            await call(client, "memory_snapshot", message="all of it")
            await indexed(client)
            forks = [
                await timed(call, client, "memory_branch", action="create", name=f"fork-{number}")
                for number in range(21)
            ][1:]
            restores = [await timed(call, client, "memory_restore") for _ in range(21)][1:]
    whole = median(journal)
    print(f"{options.events} events: the whole journal {1_000 * whole:.0f} ms")
    for name, times in (("fork", forks), ("warm restore", restores)):
        print(f"{name} {1_000 * median(times):.1f} ms = {100 * median(times) / whole:.2f} %")


async def recalls(options: argparse.Namespace) -> None:
    chance = random.Random(1)
    vocabulary = ["".join(chance.choices(string.ascii_lowercase, k=chance.randint(2, 9))) for _ in range(WORDS)]

    def turn(number: int) -> dict[str, Any]:
        source = {"uri": f"session {number // 50}"}
        text = " ".join(chance.choices(vocabulary, k=12))
        return {"text": text, "kind": "transcript", "speaker": ("Ann", "Bob")[number % 2], "source": source}

    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), tables={"memory-snapshot": {"embedding": options.embedding}})
        async with running(service(settings), settings) as host, Client(host.server) as client:
            begun = time.perf_counter()
            for start in range(0, options.turns, 100):
                some = [turn(number) for number in range(start, start + 100)]
                await call(client, "memory_remember", items=some)
            written = time.perf_counter() - begun
            while "wait" in (await call(client, "memory_recall", query="hello")).get("degraded", ""):  # noqa: ASYNC110
                await anyio.sleep(5)  # there is nothing to wait for but the answer itself
            indexed = time.perf_counter() - begun
            times = []
            for _ in range(110):
                query = "What did Ann say of " + " ".join(chance.choices(vocabulary, k=5)) + "?"
                times.append(await timed(call, client, "memory_recall", query=query))
    times = sorted(times[10:])
    print(f"{options.turns} turns: written in {written:.0f} s, with all vectors after {indexed:.0f} s")
    print(f"recall p50 {1_000 * times[50]:.0f} ms, p95 {1_000 * times[95]:.0f} ms")
    print(f"most memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


async def write_events(store: Any, principal: Principal, count: int) -> None:
    """As `memory_remember` would, one item an event, but with rows inserted in bulk; checked afterwards."""
    from memory_snapshot import journal
    from memory_snapshot.drafts import drafts
    from memory_snapshot.items import version_oid
    from memory_snapshot.remember import body
    from memory_snapshot.tables import Body, Event, ItemVersion
    from memory_snapshot.wire import Item

    def work(session: Any) -> None:
        space = journal.lock_space(session, principal)
        rows: dict[Any, list[dict[str, Any]]] = {Event: [], ItemVersion: [], Body: []}
        before, at = "0" * 64, journal.now_after(None)
        for seq in range(1, count + 1):
            (draft,) = drafts([Item(text=f"note {seq} of what happened here")])
            version = ItemVersion(
                space_id=space.id, seq=seq, place=0, oid="", item_id=draft.commitment[:32], kind=draft.kind,
                actor=principal.subject, origin=draft.origin, trust=draft.origin, commitment=draft.commitment,
                recorded_at=at, pinned=False, core=False, tokens=draft.tokens,
            )  # fmt: skip
            version.oid = version_oid(version, [], [])
            payload = journal.canonical({"put": [version.oid]})
            event = Event(
                space_id=space.id, seq=seq, hash=before, op="remember", branch=journal.MAIN,
                actor=principal.subject, payload=payload, at=at,
            )  # fmt: skip
            event.hash = before = journal.event_hash(space, before, event)
            said = body(version.space_id, seq, 0, draft.salt, draft.kind, draft.said)
            for row in (event, version, said):
                rows[type(row)].append(row.model_dump())
        for table, found in rows.items():
            session.connection().execute(table.__table__.insert(), found)

    await store._database.write(work)
    checked = await store.verify(principal)
    if checked.problems or checked.events != count:
        raise SystemExit(f"the journal is not sound: {checked}")


async def read_journal(store: Any, principal: Principal) -> None:
    """As a process does that has no manifest to begin from: every event, folded."""
    from memory_snapshot import journal
    from memory_snapshot.state import States

    def work(session: Any) -> None:
        space = journal.find_space(session, principal)
        assert space is not None and space.id is not None
        States().at(session, space.id, journal.MAIN, None)

    await store._database.read(work)


async def indexed(client: Client) -> None:
    """Wait until the search index has read the journal: what is measured then is not what it takes from others."""
    while True:
        status = await call(client, "memory_status")
        if status["indexed"] >= status["events"]:
            return
        await anyio.sleep(2)


async def timed(function: Callable[..., Any], *arguments: Any, **named: Any) -> float:
    begun = time.perf_counter()
    await function(*arguments, **named)
    return time.perf_counter() - begun


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    if result.is_error:
        raise SystemExit(str(result.content))
    return dict(result.structured_content or {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="what", required=True)
    one = kinds.add_parser("churn")
    one.add_argument("--snapshots", type=int, default=1_000)
    one.add_argument("--items", type=int, default=1_000)
    one.add_argument("--words", type=int, default=100)
    other = kinds.add_parser("events")
    other.add_argument("--events", type=int, default=50_000)
    third = kinds.add_parser("recall")
    third.add_argument("--turns", type=int, default=10_000)
    third.add_argument("--embedding", default="minilm")
    options = parser.parse_args()
    anyio.run({"churn": churn, "events": events, "recall": recalls}[options.what], options)


if __name__ == "__main__":
    main()
