"""Replicas on one PostgreSQL and one bucket behind a balancer with nothing sticky, one killed every ten seconds.

    python tests/faults/replicas.py --seconds 300 --kill-every 10 --store ceph
    python tests/faults/replicas.py --throughput --seconds 120 --store none --callers 8
                                                                  two against one, in turns
    python tests/faults/replicas.py --throughput --seconds 120 --store none --callers 8 --processors 0.7
                                                                  and each with so much of a processor

Needs the PostgreSQL of this machine; works in a schema of its own, dropped afterwards. The bucket is moto's, or
one of a small Ceph cluster where Debian's radosgw, ceph-mon, ceph-mgr and ceph-osd are installed; with `none` each
replica has an index of its own.

The database and the callers are on this machine too. Where one replica alone fills a processor of two, a second
can only have what they leave; `--processors` is the limit that a container would have, and then the question is
whether a second replica serves as much as the first.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from object_store import object_store
from replicas import Tally, alternated, remembered, replicated


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--kill-every", type=float, default=10)
    parser.add_argument("--callers", type=int, default=4)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--store", choices=["moto", "ceph", "none"], default="moto")
    parser.add_argument("--throughput", action="store_true", help="kill nobody; compare two replicas with one")
    parser.add_argument("--processors", type=float, help="of which each replica may have so many; needs root")
    parser.add_argument("--postgresql", default="postgresql://root@127.0.0.1:5432/test")
    options = parser.parse_args()
    if options.throughput:
        return _compare(options)
    tally = _run(options, replicated, count=options.replicas, kill_every=options.kill_every)
    _say_what_is_wrong(tally)
    facts = {
        "kills": tally.kills,
        "answers": tally.answered,
        "by replica": dict(tally.by_replica),
        "asked again": tally.asked_again,
        "acknowledged writes that stand": {name: len(each) for name, each in tally.acknowledged.items()},
        "lost": len(tally.lost),
        "doubled": len(tally.doubled),
        "wrong answers": len(tally.wrong),
        "confirmations spent twice": tally.spent_twice,
        "problems of journal and log": len(tally.problems),
    }
    said = ", ".join(f"{name} {value}" for name, value in facts.items())
    sys.stdout.write(f"{options.replicas} replicas, {options.store}, {tally.seconds:.0f} s: {said}\n")
    return 0 if tally.good else 1


def _compare(options: argparse.Namespace) -> int:
    """Calls a second, and for each second of processor time that the servers used."""
    turns, tally = _run(options, alternated, load=_reading, processors=options.processors)
    _say_what_is_wrong(tally)
    rates, costs = [], []
    for count in (1, 2):
        mine = [turn for turn in turns if turn.replicas == count]
        seconds = sum(turn.seconds for turn in mine)
        answered = sum(turn.answered for turn in mine)
        servers = sum(turn.server_cpu_seconds for turn in mine)
        database = sum(turn.database_cpu_seconds for turn in mine)
        own = sum(turn.own_cpu_seconds for turn in mine)
        rates.append(answered / seconds)
        costs.append((servers / answered, (servers + database + own) / answered))
        shares = f"servers {servers / seconds:.2f}, database {database / seconds:.2f}, callers {own / seconds:.2f}"
        sys.stdout.write(
            f"{count} replicas, {options.store}, {len(mine)} turns, {options.callers} callers: "
            f"{rates[-1]:.1f} calls a second, {1e3 * costs[-1][0]:.1f} ms of processor time each in the servers "
            f"(processors: {shares} with the balancer)\n"
        )
    pairs = sorted(
        two.answered / two.seconds * one.seconds / one.answered
        for one, two in zip(turns[::2], turns[1::2], strict=False)
    )
    spread = f"pairs of turns from {pairs[0]:.2f} to {pairs[-1]:.2f}, in the middle {pairs[len(pairs) // 2]:.2f}"
    most = 2 * costs[0][0] / costs[1][1]  # one has a processor for itself; of two, everybody lives on both
    room = f"; without a limit two processors have room for {most:.2f}" if options.processors is None else ""
    verdict = "good" if tally.good else "NOT GOOD"
    sys.stdout.write(f"two / one: {rates[1] / rates[0]:.2f} ({spread}{room}); {verdict}\n")
    return 0 if tally.good else 1


def _say_what_is_wrong(tally: Tally) -> None:
    for line in [*tally.wrong, *tally.lost, *tally.doubled, *tally.problems][:20]:
        sys.stdout.write(f"  {line}\n")


async def _reading(door: Any, place: int) -> None:
    """One write and nine reads."""
    if place % 10 == 0:
        await remembered(door, place)
    await door.call("memory-snapshot", "memory_restore", {"mode": "full", "budget_tokens": 400})


def _run(options: argparse.Namespace, what: Callable[..., Awaitable[Any]], **more: Any) -> Any:
    with ExitStack() as stack:
        url = stack.enter_context(_schema(options.postgresql))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = None
        if options.store != "none":
            store = stack.enter_context(object_store(folder / "store", options.store))
        settings = {"seconds": options.seconds, "callers": options.callers, "store": store}
        return anyio.run(partial(what, folder / "homes", url, **settings, **more))


@contextmanager
def _schema(address: str) -> Iterator[str]:
    import psycopg

    schema = f"usrland_{secrets.token_hex(6)}"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{schema}"'.encode())
    try:
        yield f"{address}?options=-csearch_path%3D{schema}"
    finally:
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(f'DROP SCHEMA "{schema}" CASCADE'.encode())


if __name__ == "__main__":
    sys.exit(main())
