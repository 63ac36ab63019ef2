"""Writes whose caller loses the connection between the effect and the reply, and asks again with the same key."""

from __future__ import annotations

import json
import random
import re
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from processes import serving
from raw_calls import Cut, Lost, called

from usrland.database import Database

__all__ = ["KINDS", "Outcome", "killed_replies"]

AT_ONCE = 4
TRIES = 50
LATEST_CUT_SECONDS = 0.05


@dataclass
class Outcome:
    once: int = 0
    """Writes with one effect, whose second answer was the first."""
    open: int = 0
    """Writes that were cut off before they ended: the answer says that their outcome is not known, or that they
    have to be confirmed again."""
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Kind:
    """One server that writes: what is called, and how often it was done, seen from outside."""

    service: str
    prepare: Callable[[Path], None]
    tool: str
    arguments: Callable[[str], dict[str, Any]]
    effects: Callable[[Path], Counter[str]]
    confirmed: bool = False


async def killed_replies(top: Path, kind: str, *, times: int, anywhere: bool = False, seed: int = 1) -> Outcome:
    """So many writes, each cut off and made again. `anywhere`: cut at any moment, not only before the reply."""
    outcome, chance, work = Outcome(), random.Random(seed), KINDS[kind]
    home = top / "home"
    home.mkdir(parents=True)
    work.prepare(top)
    quotas = {f"USRLAND_QUOTAS_{cost}": "0" for cost in ("LOW", "NORMAL", "HIGH")}
    with serving(home, work.service, **quotas) as served:
        port = int(served.url.rpartition(":")[2])

        async def ask(arguments: dict[str, Any], cut: Cut = "never") -> dict[str, Any]:
            return await called(port, "/mcp", served.token, work.tool, arguments, cut=cut)

        async def write(name: str) -> None:
            arguments = work.arguments(name)
            if work.confirmed:
                asked = json.dumps(await ask(arguments))
                token = re.search(r"confirm_token='([^']+)'", asked)
                assert token is not None, asked
                arguments["confirm_token"] = token[1]
            arguments["idempotency_key"] = name
            with suppress(Lost):
                await ask(arguments, chance.random() * LATEST_CUT_SECONDS if anywhere else "at the reply")
            answers = [await _answer(ask, arguments) for _ in range(2)]
            if answers[0] != answers[1]:
                outcome.wrong.append(f"{name}: two answers: {answers}")
            elif not answers[0].get("isError"):
                outcome.once += 1
            elif anywhere and any(said in json.dumps(answers[0]) for said in ("outcome is unknown", "not valid")):
                outcome.open += 1
                unknown.add(name)
            else:
                outcome.wrong.append(f"{name}: {answers[0]}")

        unknown: set[str] = set()
        names = [f"w{number}x" for number in range(times)]
        async with anyio.create_task_group() as tasks:
            turns = iter(names)

            async def worker() -> None:
                for name in turns:
                    await write(name)

            for _ in range(AT_ONCE):
                tasks.start_soon(worker)
    effects = work.effects(top)
    outcome.wrong += [
        f"{name}: {effects[name]} effects"
        for name in names
        if effects[name] != 1 and not (name in unknown and effects[name] == 0)
    ]
    return outcome


async def _answer(ask: Callable[..., Awaitable[dict[str, Any]]], arguments: dict[str, Any]) -> dict[str, Any]:
    """What is answered once the first call has ended, or was given up."""
    for _ in range(TRIES):
        answer = await ask(arguments)
        if "has begun and not ended" not in json.dumps(answer):
            return answer
        await anyio.sleep(0.02)
    return answer


# -- memory


def _no_model(top: Path, more: str = "") -> None:
    (top / "home" / "usrland.toml").write_text(
        f'[memory-snapshot]\nembedding = "none"\n[filesystem-retrieval]\nembedding = "none"\n{more}',
        encoding="utf-8",
    )


def _remembered(top: Path) -> Counter[str]:
    from sqlmodel import select

    from memory_snapshot.tables import Body

    database = Database(f"sqlite:///{top}/home/memory-snapshot/memory.sqlite", [])
    texts: list[str] = database.read_now(lambda session: list(session.exec(select(Body.text)).all()))
    database.close()
    return Counter(name for text in texts for name in re.findall(r"w\d+x", text))


# -- files: an edit that is made twice adds two lines


def _documents(top: Path) -> None:
    (top / "documents").mkdir()
    (top / "documents" / "list.md").write_text("END\n", encoding="utf-8")
    folder = json.dumps(str(top / "documents"))
    _no_model(top, f"[filesystem-retrieval.roots]\ndocs = {{ folder = {folder}, writable = true }}\n")


def _lines(top: Path) -> Counter[str]:
    return Counter((top / "documents" / "list.md").read_text(encoding="utf-8").split())


# -- rows


def _shop(top: Path) -> None:
    with closing(sqlite3.connect(top / "shop.sqlite")) as connection:
        connection.execute("CREATE TABLE orders (id TEXT)")
        connection.commit()
    (top / "home" / "connectors.toml").write_text(
        f'[shop]\nkind = "sql"\nwrite = true\nurl = "sqlite:///{top / "shop.sqlite"}"\n', encoding="utf-8"
    )


def _rows(top: Path) -> Counter[str]:
    with closing(sqlite3.connect(top / "shop.sqlite")) as connection:
        return Counter(row[0] for row in connection.execute("SELECT id FROM orders"))


KINDS = {
    "memory": _Kind(
        "memory_snapshot.server:service",
        _no_model,
        "memory_remember",
        lambda name: {"items": [{"text": f"order {name} was said at the quay"}]},
        _remembered,
    ),
    "files": _Kind(
        "filesystem_retrieval.server:service",
        _documents,
        "fs_edit",
        lambda name: {"path": "list.md", "old": "END", "new": f"{name}\nEND"},
        _lines,
    ),
    "rows": _Kind(
        "enterprise_connectors.server:service",
        _shop,
        "sys_call",
        lambda name: {
            "name": "shop_execute",
            "arguments": {"sql": "INSERT INTO orders VALUES ($1)", "parameters": [name]},
        },
        _rows,
        confirmed=True,
    ),
}
