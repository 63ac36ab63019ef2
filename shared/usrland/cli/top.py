"""`usrland top`: which operations are called, how fast they answer and how often they fail."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Annotated, Any

import anyio
import typer

from usrland.cli.calls import audit_logs
from usrland.cli.console import say, say_json, say_table
from usrland.cli.trace import one_line_each
from usrland.settings import Settings

__all__ = ["top", "totals"]

ENTRIES = 10_000
"""Of each server's log that are looked at, the newest."""
OURS = frozenset({"refused"})
"""Phases that never reached the operation: they say nothing about its speed."""


def top(
    minutes: Annotated[
        float, typer.Option(min=0, help="Only the last so many; 0 for all that is looked at.")
    ] = 60,
    server: Annotated[
        list[str] | None, typer.Option("--server", metavar="NAME", help="Only this server; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For another program.")] = False,
) -> None:
    """Show for each operation how often it was called, how long it took, how often it failed and what it cost."""
    since = (time.time() - minutes * 60) * 1000 if minutes else 0.0
    rows = anyio.run(_rows, Settings.load(), server or [], since)
    if as_json:
        say_json(rows)
    elif not rows:
        say("Nothing was called in that time.")
    else:
        say_table(
            ["operation", "calls", "p50 ms", "p95 ms", "errors", "seconds", "most common error"],
            [
                [
                    str(row["operation"]),
                    str(row["calls"]),
                    str(row["p50_ms"]),
                    str(row["p95_ms"]),
                    f"{row['errors'] / row['calls']:.1%}",
                    f"{row['seconds']:.1f}",
                    str(row["worst"]),
                ]
                for row in rows
            ],
        )


async def _rows(settings: Settings, servers: list[str], since_ms: float) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    with audit_logs(settings, servers) as logs:
        for name, log in logs.items():
            calls += one_line_each(name, await log.last(ENTRIES))
    return totals(call for call in calls if call["at_ms"] >= since_ms)


def totals(calls: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each operation, the one that took most time in all first."""
    of: defaultdict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for call in calls:
        of[call["server"], call["operation"]].append(call)
    rows = [_row(server, operation, made) for (server, operation), made in of.items()]
    return sorted(rows, key=lambda row: (-row["seconds"], -row["calls"], row["operation"]))


def _row(server: str, operation: str, calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    times = sorted(call.get("duration_ms", 0) for call in calls if call.get("phase") not in OURS) or [0]
    failed = [call["outcome"] for call in calls if call["outcome"] != "ok"]
    return {
        "server": server,
        "operation": operation,
        "calls": len(calls),
        "errors": len(failed),
        "worst": max(set(failed), key=failed.count) if failed else "",
        "p50_ms": round(median(times)),
        "p95_ms": times[min(len(times) - 1, int(len(times) * 0.95))],
        "seconds": sum(times) / 1000,
    }
