"""`usrland trace`: what was called, as one reads strace."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any

import anyio
import typer

from usrland.cli.calls import audit_logs
from usrland.cli.console import say, say_json
from usrland.settings import Settings

__all__ = ["one_line_each", "trace"]

SHOWN_CHARACTERS = 100
HASH_CHARACTERS = 12


def trace(
    last: Annotated[int, typer.Option(min=1, help="How many calls.")] = 20,
    server: Annotated[
        list[str] | None, typer.Option("--server", metavar="NAME", help="Only this server; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For another program.")] = False,
) -> None:
    """Show the newest calls: when, who, what, with which effect and outcome, and the hashes that prove it."""
    calls = anyio.run(_calls, Settings.load(), server or [], last)
    if as_json:
        say_json(calls)
    elif not calls:
        say("Nothing was called yet.")
    for call in () if as_json else calls:
        say(_line(call), "" if call["outcome"] == "ok" else "red")


async def _calls(settings: Settings, servers: list[str], last: int) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    with audit_logs(settings, servers) as logs:
        for name, log in logs.items():
            calls += one_line_each(name, await log.last(2 * last))
    return sorted(calls, key=lambda call: call["at_ms"])[-last:]


def one_line_each(server: str, entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Calls instead of entries: a change has two, intent and outcome; without the second it was cut short."""
    calls: dict[str, dict[str, Any]] = {}
    for entry in entries:
        known = calls.setdefault(entry["call"], {"server": server, "outcome": "unknown"})
        began = known.get("at_ms", entry["at_ms"])
        known.update(entry, at_ms=began)
    return list(calls.values())


def _line(call: Mapping[str, Any]) -> str:
    moment = datetime.fromtimestamp(call["at_ms"] / 1000).astimezone().isoformat(sep=" ", timespec="milliseconds")
    facts = [call["effect"], call.get("decision", ""), f"{call.get('duration_ms', 0)} ms"]
    via = f" via {call['via']}" if call.get("via") else ""
    hashes = f"arguments {call['arguments'][:HASH_CHARACTERS]}"
    if call.get("result"):
        hashes += f"  answer {call['result'][:HASH_CHARACTERS]}"
    return (
        f"{moment}  {call['principal']}  {call['operation']}({_arguments(call.get('call_arguments'))}){via}"
        f" = {call['outcome']}  <{', '.join(fact for fact in facts if fact)}>  {hashes}"
    )


def _arguments(arguments: Mapping[str, Any] | None) -> str:
    if arguments is None:
        return "erased"
    text = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
