"""Files that are changed, cited and restored through a running server, and a server that is killed meanwhile.

    python tests/faults/files.py restore --times 1000
    python tests/faults/files.py verify --times 1000
    python tests/faults/files.py kill --times 100

`restore` makes random changes through the tools and beside them, and then asks for that many versions at random:
each must bring back the very bytes. `verify` cites passages, edits, moves and deletes files beside the server,
and asks what became of each citation. `kill` ends the server with SIGKILL at random moments of ingest and of
changes; afterwards every acknowledged change must stand on the disk and in the history, no draft may be left,
and catalogue and index must equal those of a new home that reads the same folder.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import lancedb
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from citations import Shelf

from filesystem_retrieval.library import Library
from filesystem_retrieval.server import service
from usrland.settings import Settings

Outcome = tuple[bool, str]
"""Whether all is well, and what was counted."""
Use = Callable[..., Awaitable[dict[str, Any]]]
SERVER = "filesystem-retrieval"
WORDS = ["amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "harbor", "inlet", "juniper", "kelp"]


class Refused(Exception):
    """Raised when the server answered with an error; holds its code."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A home, a folder, and how to serve it."""

    home: Path
    folder: Path
    embedding: str

    @classmethod
    def at(cls, top: Path, embedding: str, home: str = "home") -> Ground:
        ground = cls(home=top / home, folder=top / "docs", embedding=embedding)
        ground.home.mkdir(exist_ok=True)
        ground.folder.mkdir(exist_ok=True)
        roots = f'roots = {{ docs = {{ folder = "{ground.folder}", writable = true }} }}'
        text = f'[{SERVER}]\n{roots}\nembedding = "{embedding}"\n'
        (ground.home / "usrland.toml").write_text(text, encoding="utf-8")
        return ground

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Use]:
        script = (
            f'echo $$ > "{self.home}/pid"; '
            f'exec "{sys.executable}" -m filesystem_retrieval --home "{self.home}" 2>> "{self.home}/errors"'
        )
        transport = stdio_client(StdioServerParameters(command="sh", args=["-c", script]))
        async with Client(transport, read_timeout_seconds=120) as client:

            async def use(tool: str, **arguments: Any) -> dict[str, Any]:
                result = await client.call_tool(
                    tool, {"max_tokens": 25_000, **arguments} if _reads(tool) else arguments
                )
                answer = dict(result.structured_content or {})
                if result.is_error:
                    raise Refused(answer["error"]["code"])
                return answer

            yield use

    @property
    def pid(self) -> int:
        return int((self.home / "pid").read_text(encoding="ascii"))


def _reads(tool: str) -> bool:
    return tool in ("fs_read", "fs_search", "fs_history", "fs_verify", "fs_list")


async def settled(use: Use) -> None:
    """Wait until the server has seen all that is on the disk."""
    while True:
        status = await use("fs_status")
        if not status.get("degraded") or "vectors" in status["degraded"]:
            return
        await anyio.sleep(0.2)


# -- restore


async def restore(top: Path, times: int, chance: random.Random) -> Outcome:
    ground = Ground.at(top, "none")
    versions: dict[int, tuple[str, bytes]] = {}
    async with ground.served() as use:
        await settled(use)
        for number in range(times):
            await _change(ground, use, chance, number, versions)
        right = 0
        for _ in range(times):
            version = chance.choice(list(versions))
            path, content = versions[version]
            await use("fs_undo", path=path, version=version)
            right += (ground.folder / path).read_bytes() == content
    return right == times, f"{right} of {times} versions restored right, of {len(versions)} that were kept"


async def _change(
    ground: Ground, use: Use, chance: random.Random, number: int, versions: dict[int, tuple[str, bytes]]
) -> None:
    """One random change; remember what each version was."""
    paths = sorted(str(file.relative_to(ground.folder)) for file in ground.folder.rglob("*") if file.is_file())
    text = f"{number}\n" + "\n".join(chance.choices(WORDS, k=chance.randint(1, 40)))
    what = chance.choice(["write", "edit", "edit", "move", "undo", "outside"]) if len(paths) > 5 else "write"
    path = chance.choice(paths) if what != "write" else f"{chance.choice(WORDS)}/{number}.md"
    if what == "outside":  # seen when the next call replaces it
        (ground.folder / path).write_text(text, encoding="utf-8")
        what = "edit"
    content = (ground.folder / path).read_text(encoding="utf-8") if what != "write" else ""
    try:
        match what:
            case "write":
                done = await use("fs_write", path=path, content=text)
            case "edit":
                old = content.split("\n")[0]
                done = await use("fs_edit", path=path, old=f"{old}\n", new=f"{old}, {number}\n")
            case "move":
                done = await use("fs_move", path=path, to=f"{chance.choice(WORDS)}/{number}.md")
            case _:
                done = await use("fs_undo", path=path)
    except Refused:  # nothing to take back, or a line that is not there alone
        return
    if what == "edit":
        versions[done["version_before"]] = (path, content.encode())
    file = ground.folder / done["path"]
    if file.exists():
        versions[done["version"]] = (done["path"], file.read_bytes())


# -- verify


async def verify(top: Path, times: int, chance: random.Random) -> Outcome:
    ground = Ground.at(top, "none")
    shelf = Shelf(ground.folder, chance)
    shelf.fill(files=max(times // 12, 6))
    async with ground.served() as use:
        await settled(use)

        async def items(tool: str, *positional: Any, **arguments: Any) -> Any:
            names = {"fs_search": "query", "fs_read": "path"}
            answer = await use(tool, **dict(zip([names[tool]], positional, strict=True)), **arguments)
            return SimpleNamespace(
                **{**answer, "items": [SimpleNamespace(**item) for item in answer.get("items", [])]}
            )

        cited = await shelf.cite(items, times)
        for _ in range(5):
            shelf.disturb(times // 10)
            await anyio.sleep(2.1)  # until a scan is due again
            await settled(use)
        states: dict[str, int] = {}
        problems = []
        for start in range(0, times, 20):
            part = cited[start : start + 20]
            answer = await use("fs_verify", citations=[each.arguments for each in part])
            for each, found in zip(part, answer["items"], strict=True):
                states[found["state"]] = states.get(found["state"], 0) + 1
                if problem := shelf.problem(each, SimpleNamespace(**{"first_line": 0, "last_line": 0, **found})):
                    problems.append(problem)
    for problem in problems[:10]:
        _say(problem)
    return not problems, f"{times - len(problems)} of {times} verdicts right: {states}"


# -- kill


@dataclass
class Promised:
    """What the server has acknowledged: the content and version of each path, and what was in flight."""

    holds: dict[str, tuple[str, int] | None] = field(default_factory=dict)
    in_flight: dict[str, str | None] = field(default_factory=dict)
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)


async def kill(top: Path, times: int, chance: random.Random, embedding: str) -> Outcome:
    ground = Ground.at(top, embedding)
    promised = Promised()
    for life in range(times):
        _ingest(ground, chance, life)
        with suppress(Exception):  # the server dies, which shows in many ways
            await _one_life(ground, chance, promised, life)
        _check_disk(ground, promised)
    differences = await _compare(top, ground, promised)
    for line in [*promised.lost[:10], *differences[:10]]:
        _say(line)
    good = not promised.lost and not differences
    return good, (
        f"{times} kills, {promised.acknowledged} changes acknowledged, {len(promised.lost)} lost; "
        f"{len(differences)} differences to a home that was built anew"
    )


def _ingest(ground: Ground, chance: random.Random, life: int) -> None:
    """Files that others write while no server runs."""
    for number in range(chance.randint(1, 12)):
        file = ground.folder / "theirs" / f"{chance.choice(WORDS)}{number}.md"
        file.parent.mkdir(exist_ok=True)
        if file.exists() and chance.random() < 0.3:
            file.unlink()
        else:
            file.write_text(f"# {life}\n\n" + " ".join(chance.choices(WORDS, k=300)), encoding="utf-8")


async def _one_life(ground: Ground, chance: random.Random, promised: Promised, life: int) -> None:
    async with ground.served() as use, anyio.create_task_group() as tasks:
        await use("fs_list")
        tasks.start_soon(_kill, ground.pid, chance.uniform(0.0, 3.0))
        for number in range(10_000):
            await _promise(use, chance, promised, f"{life}-{number}")


async def _kill(pid: int, after_seconds: float) -> None:
    await anyio.sleep(after_seconds)
    os.kill(pid, signal.SIGKILL)


async def _promise(use: Use, chance: random.Random, promised: Promised, mark: str) -> None:
    there = [path for path, held in promised.holds.items() if held is not None]
    what = chance.choice(["write", "replace", "edit", "move", "remove"]) if len(there) > 3 else "write"
    path = f"ours/{chance.choice(WORDS)}-{mark}.md" if what == "write" else chance.choice(there)
    held = promised.holds.get(path)
    text = f"first {mark}\n" + " ".join(chance.choices(WORDS, k=chance.randint(1, 2000)))
    match what:
        case "write" | "replace":
            promised.in_flight = {path: text}
            more = {"expected": str(held[1])} if held else {}
            done = await use("fs_write", path=path, content=text, **more)
        case "edit":
            assert held is not None
            old = held[0].split("\n")[0]
            text = held[0].replace(old, f"{old}, {mark}", 1)
            promised.in_flight = {path: text}
            done = await use("fs_edit", path=path, old=f"{old}\n", new=f"{old}, {mark}\n")
        case "move":
            assert held is not None
            text = held[0]
            target = f"ours/{chance.choice(WORDS)}-{mark}.md"
            promised.in_flight = {path: None, target: text}
            done = await use("fs_move", path=path, to=target)
            promised.holds[path] = None
            path = target
        case _:
            path = f"ours/{chance.choice(WORDS)}-{mark}-x.md"
            promised.in_flight = {path: text}
            await use("fs_write", path=path, content=text)
            promised.in_flight = {path: None, "": text}
            await use("fs_undo", path=path)
            promised.holds[path] = None
            promised.in_flight = {}
            promised.acknowledged += 2
            return
    promised.holds[path] = (text, done["version"])
    promised.in_flight = {}
    promised.acknowledged += 1


def _check_disk(ground: Ground, promised: Promised) -> None:
    """Every path holds what was acknowledged, or what was in flight when the server died."""
    in_flight, promised.in_flight = promised.in_flight, {}
    for path in {*promised.holds, *in_flight} - {""}:
        file = ground.folder / path
        now = file.read_text(encoding="utf-8") if file.exists() else None
        held = promised.holds.get(path)
        allowed = (
            [held[0] if held else None, *in_flight.values()] if path in in_flight else [held[0] if held else None]
        )
        if now not in allowed:
            promised.lost.append(f"{path} holds {str(now)[:40]!r}, not {str(allowed)[:80]}")
        if now is None:
            promised.holds[path] = None
        elif held is None or now != held[0]:
            promised.holds[path] = (now, -1)


async def _compare(top: Path, ground: Ground, promised: Promised) -> list[str]:
    """What differs from a home that has never been killed."""
    fresh = Ground.at(top, ground.embedding, home="fresh")
    differences = [f"{path} is left" for path in ground.folder.rglob(".usrland-draft-*")]
    states = []
    for each in (ground, fresh):
        server = service(Settings.load(each.home, {}))
        await server.state["index_once"]()
        library: Library = await server.state["library"]()
        files = await library.catalogue.files("local/docs")
        states.append({(path, file.sha256, file.state) for path, file in files.items()})
        tables = lancedb.connect(each.home / SERVER / "index")
        for name in tables.list_tables().tables:
            rows = tables.open_table(name).to_arrow().to_pylist()
            states.append({(row["id"], row["digest"]) for row in rows if row["scope"] == "local/docs"})
            if len(rows) != len({row["id"] for row in rows}):
                differences.append(f"{each.home.name}: {name} holds rows twice")
        if each is ground:
            differences += await _without_history(library, promised)
    half = len(states) // 2
    for ours, theirs in zip(states[:half], states[half:], strict=True):
        differences += [str(item) for item in ours ^ theirs]
    return differences


async def _without_history(library: Library, promised: Promised) -> list[str]:
    """Acknowledged versions that cannot be read."""
    lost = []
    for path, held in promised.holds.items():
        if held is None or held[1] < 0:
            continue
        version = await library.versions.get("local/docs", held[1])
        content = await library.versions.content("local/docs", version.sha256) if version else None
        if content != held[0].encode():
            lost.append(f"version {held[1]} of {path} is lost")
    return lost


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["restore", "verify", "kill"])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--embedding", default="none", help="for kill: minilm makes vectors as well")
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    chance = random.Random(options.seed)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        match options.what:
            case "restore":
                outcome = anyio.run(restore, Path(folder), options.times, chance)
            case "verify":
                outcome = anyio.run(verify, Path(folder), options.times, chance)
            case _:
                outcome = anyio.run(kill, Path(folder), options.times, chance, options.embedding)
    good, told = outcome
    _say(f"{told}; seed {options.seed}, {time.monotonic() - begun:.0f} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
