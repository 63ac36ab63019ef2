"""A short session of two servers that ends, or whose disk fails, at any one of its system calls that commit.

The session runs in a process forked for it, so that every place can be tried: the calls go through the call path,
and nothing but the transport is left out. It begins with a home that was opened before: a kill in a migration is a
matter of its own. What it acknowledged comes through a pipe; another process, on a good disk, then looks at what
is there.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import sys
import traceback
import warnings
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio

from filesystem_retrieval.library import STILL_READING
from filesystem_retrieval.patterns import DRAFT
from filesystem_retrieval.server import service as files
from memory_snapshot.server import service as memory
from usrland import Principal
from usrland.call import CallPath
from usrland.errors import ConsentNeeded, UsrlandError
from usrland.keeping import check
from usrland.ledger import Ledger
from usrland.settings import Settings

__all__ = ["Kind", "Outcome", "prepare", "session"]

Kind = Literal["kill", "power", "ENOSPC", "EIO"]
WHO = Principal(subject="somebody", scopes=frozenset({"*"}))
MEMORIES = ("alpha was said", "beta was said", "gamma was said")

Step = tuple[str, str, Mapping[str, Any]]
STEPS: tuple[Step, ...] = (
    ("memory-snapshot", "memory_remember", {"items": [{"text": MEMORIES[0]}, {"text": MEMORIES[1]}]}),
    ("filesystem-retrieval", "fs_write", {"path": "docs/a.md", "content": "one\n"}),
    ("memory-snapshot", "memory_recall", {"query": "what was said"}),
    ("memory-snapshot", "memory_snapshot", {"message": "m", "items": [{"text": MEMORIES[2]}]}),
    ("filesystem-retrieval", "fs_search", {"query": "one"}),
    ("filesystem-retrieval", "fs_edit", {"path": "docs/a.md", "old": "one", "new": "two"}),
    ("filesystem-retrieval", "fs_move", {"path": "docs/a.md", "to": "docs/b.md"}),
    ("memory-snapshot", "memory_forget", {"containing": "beta", "mode": "erase"}),
    ("filesystem-retrieval", "fs_undo", {"path": "docs/b.md"}),
)
FILES: tuple[dict[str, str], ...] = (
    {},
    {},
    {"a.md": "one\n"},
    {"a.md": "one\n"},
    {"a.md": "one\n"},
    {"a.md": "one\n"},
    {"a.md": "two\n"},
    {"b.md": "two\n"},
    {"b.md": "two\n"},
    {"a.md": "two\n"},
)
"""What is in the folder after so many steps."""
SAID: tuple[set[str], ...] = (
    set(),
    {*MEMORIES[:2]},
    {*MEMORIES[:2]},
    {*MEMORIES[:2]},
    {*MEMORIES},
    {*MEMORIES},
    {*MEMORIES},
    {*MEMORIES},
    {MEMORIES[0], MEMORIES[2]},
    {MEMORIES[0], MEMORIES[2]},
)


Say = Callable[..., None]
_PRELOADED = (
    "sqlalchemy",
    "sqlmodel",
    "alembic",
    "memory_snapshot",
    "filesystem_retrieval",
    "usrland",
    "bpe_openai",
)


@dataclass
class Outcome:
    acknowledged: int = 0
    """Steps."""
    refused: list[str] = field(default_factory=list)
    ended: bool = False
    """The session was not killed: it came to its end."""
    problems: list[str] = field(default_factory=list)


def prepare(top: Path) -> None:
    """Make the home that every session begins with a copy of, and import what one needs: forks are quick then."""
    (top / "home").mkdir(parents=True)
    (top / "docs").mkdir()
    _configure(top)
    (said,) = [line for line in _forked(lambda say: _opened(top / "home", say), {}) if "modules" in line]
    for name in said["modules"]:
        importlib.import_module(name)


def _configure(top: Path) -> None:
    (top / "home" / "usrland.toml").write_text(
        '[memory-snapshot]\nembedding = "none"\n[filesystem-retrieval]\nembedding = "none"\nwatch = false\n'
        f'[filesystem-retrieval.roots]\ndocs = {{ folder = "{top / "docs"}", writable = true }}\n',
        encoding="utf-8",
    )


async def _opened(home: Path, say: Say) -> None:
    settings = Settings.load(home, {})
    for service in (memory(settings), files(settings)):
        async for problem in check(settings, service, read_data=True):
            raise AssertionError(problem)
        ledger = Ledger.of(settings, service.name)
        await ledger.audit.size()
        ledger.database.close()
    import usrland.search.lance  # noqa: F401

    say(modules=[name for name in sys.modules if name.partition(".")[0] in _PRELOADED])


def session(top: Path, home: Path, *, kind: Kind, at: int) -> Outcome:
    """Run it with the disk of `disk.c`, which this process has loaded, ending or failing at the `at`-th call.

    `home` is what `prepare` made.
    """
    outcome = Outcome()
    shutil.copytree(home, top)
    _configure(top)
    fault = {"FAULT_PATH": str(top), "FAULT_CALL": "any", "FAULT_AT": str(at), "FAULT_KIND": kind}
    lines = _forked(lambda say: _session(top / "home", say), fault)
    done = [line["step"] for line in lines if "step" in line]
    outcome.acknowledged = len(done)
    outcome.refused = [line["refused"] for line in lines if "refused" in line]
    outcome.ended = any("end" in line for line in lines)
    outcome.problems += [line["trace"] for line in lines if "trace" in line]
    # where the disk failed, later steps were refused for what earlier ones lacked: only the first is in doubt
    looked = _forked(lambda say: _look_over(top, len(done), say), {})
    outcome.problems += [line["problem"] for line in looked if "problem" in line]
    outcome.problems += [line["trace"] for line in looked if "trace" in line]
    if not any("end" in line for line in looked):
        outcome.problems.append("nobody could look it over")
    return outcome


def _forked(work: Callable[[Say], Awaitable[None]], environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """What a process of its own says, line by line, until it ends."""
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "lancedb fork support")  # nothing of it was used before
        child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(ours)
            os.environ.update(environment)

            def say(**facts: Any) -> None:
                os.write(theirs, json.dumps(facts).encode() + b"\n")

            try:
                anyio.run(work, say)
                say(end=True)
                code = 0
            except BaseException:
                say(trace=traceback.format_exc()[-2000:])
        finally:
            os._exit(code)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return [json.loads(line) for line in said.splitlines() if line.endswith(b"}")]


async def _session(home: Path, say: Say) -> None:
    settings = Settings.load(home, {})
    services = {"memory-snapshot": memory(settings), "filesystem-retrieval": files(settings)}
    ledgers = {name: Ledger.of(settings, name) for name in services}
    paths = {name: CallPath.of(service, settings, ledgers[name]) for name, service in services.items()}
    for number, (server, tool, arguments) in enumerate(STEPS):
        try:
            await _made(paths[server], tool, dict(arguments), f"key {number}")
            say(step=number)
        except UsrlandError as error:
            say(refused=error.code)
            return
    for ledger in ledgers.values():
        await ledger.flush()


async def _made(path: CallPath, tool: str, arguments: dict[str, Any], key: str) -> None:
    if "idempotency_key" in (path.schema(tool) or {})["properties"]:
        arguments = {**arguments, "idempotency_key": key}
    try:
        await path.run(tool, arguments, principal=WHO)
    except ConsentNeeded as asked:
        token = re.search(r"confirm_token='([^']+)'", str(asked))
        assert token is not None
        await path.run(tool, {**arguments, "confirm_token": token[1]}, principal=WHO)


async def _look_over(top: Path, done: int, say: Say) -> None:
    """After `done` steps, of which the next may or may not have happened."""
    home = top / "home"
    settings = Settings.load(home, {})
    may_be = {done, min(done + 1, len(STEPS))}
    recalled, found = await _goes_on(settings)
    if recalled.intersection(MEMORIES) not in [SAID[number] for number in may_be]:
        say(problem=f"after {done} steps the memory recalls {recalled}")
    there = {
        each.name: each.read_text(encoding="utf-8")
        for each in (top / "docs").iterdir()
        if not each.name.startswith(DRAFT) and each.name != "later.md"
    }
    if there not in [FILES[number] for number in may_be]:
        say(problem=f"after {done} steps the folder holds {there}")
    if found != {"later.md", *there}:
        say(problem=f"after {done} steps there is {sorted(there)}, and found is {sorted(found)}")
    from sqlmodel import select

    from memory_snapshot.tables import Body

    made = memory(settings)
    texts = await made.state["memory"].read(lambda session: list(session.exec(select(Body.text)).all()))
    made.state["memory"].close()
    said = sorted(text for text in texts if text in MEMORIES)
    if said not in [sorted(SAID[number]) for number in may_be]:
        say(problem=f"after {done} steps the memory holds {said}")
    for service in (memory(settings), files(settings)):
        async for problem in check(settings, service, read_data=True):
            say(problem=f"after {done} steps {problem.place}: {problem.fact}")


async def _goes_on(settings: Settings) -> tuple[set[str], set[str]]:
    """What was left half done is brought to an end, and new calls are taken. What memory and files then find."""
    answers = []
    for service, calls in (
        (
            memory(settings),
            {
                "memory_remember": {"items": [{"text": "said later"}]},
                "memory_recall": {"query": "what was said", "limit": 20},
            },
        ),
        (
            files(settings),
            {
                "fs_write": {"path": "docs/later.md", "content": "one two later\n"},
                "fs_search": {"query": "one two", "limit": 20},
            },
        ),
    ):
        ledger = Ledger.of(settings, service.name)
        async with ledger.writing():
            path = CallPath.of(service, settings, ledger)
            for tool, arguments in calls.items():
                answer = await path.run(tool, arguments, principal=WHO)
            with anyio.fail_after(60):  # where others leave it little time, a search does not wait for all files
                while STILL_READING in (answer.structured.get("degraded") or ""):
                    answer = await path.run(tool, arguments, principal=WHO)
        answers.append(answer.structured)
    recalled, found = answers
    return {hit["text"] for hit in recalled["items"]}, {Path(hit["path"]).name for hit in found["items"]}
