"""Two callers with different labels over one HTTP server: what either may not see is never told.

    python tests/faults/labels.py --times 1000

The folder holds files that anybody may see, files of `red` and files of `blue`, between them links, copies and
moves, and a history of them all. Ada holds `red`, Bob holds `blue`. Each searches, reads, greps, lists, asks for
outlines, histories and verdicts, writes, edits, moves and undoes, that many times each, with paths, versions and
citations of everything there is. No answer may hold a mark of the other's files, and where a call names a path
that the caller may not see, the answer must be the one for a path where nothing is.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from httpx2 import AsyncClient
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

sys.path.insert(0, str(Path(__file__).parents[1] / "hosts"))

from serving import serving

from usrland.identity.tokens import TokenFile

COLOURS = ("red", "blue", "open")
WORDS = ["amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "harbor", "inlet", "juniper", "kelp"]
EMBEDDING = "none"
FILES = 40
"""Of each colour."""


@dataclass
class Ground:
    """The folder. A mark is a word that stands in the files of one colour and in no call."""

    folder: Path
    chance: random.Random
    marks: Mapping[str, str] = field(default_factory=lambda: {c: f"{c}{secrets.token_hex(6)}" for c in COLOURS})
    paths: dict[str, list[str]] = field(default_factory=lambda: {c: [] for c in COLOURS})

    def text(self, colour: str) -> str:
        mark, words = self.marks[colour], " ".join(self.chance.choices(WORDS, k=30))
        return f"# {self.chance.choice(WORDS)} {mark}\n\n{words} {mark} {words}\n\n## {mark}\n\n{words}\n"

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def fill(self) -> None:
        for number in range(FILES):
            for colour in COLOURS:
                kind = self.chance.choice(["md", "txt", "py", "html"])
                path = f"{colour}/{self.chance.choice(WORDS)}/{number}.{kind}"
                if colour != "open" and number % 4 == 0:
                    path = f"open/{number}.{colour}.{kind}"  # labelled by its name alone
                self.write(path, self.text(colour))
                self.paths[colour].append(path)
        shared = " ".join(self.chance.choices(WORDS, k=40))
        for colour in COLOURS:  # equal bytes on both sides
            self.write(f"{colour}/same.md", shared)
            self.paths[colour].append(f"{colour}/same.md")
            (self.folder / "open" / f"to-{colour}").symlink_to(f"../{colour}")
            self.paths[colour].append(f"open/to-{colour}/same.md")

    def stir(self) -> None:
        """Change, move and delete beside the server, so that there is a history."""
        for colour in COLOURS:
            for path in self.chance.sample(self.paths[colour], 12):
                file, what = self.folder / path, self.chance.choice(["edit", "move", "cross", "delete"])
                if not file.exists() or "/to-" in path:
                    continue
                if what == "edit":
                    file.write_text(self.text(colour), encoding="utf-8")
                elif what == "delete":
                    file.unlink()
                else:
                    other = colour if what == "move" else "open"
                    name = f"{self.marks[colour]}-{secrets.token_hex(2)}"
                    # what goes to the open side takes no mark of its own name along: it is open from then on
                    target = (
                        f"{colour}/{name}.md" if other == colour else f"open/{secrets.token_hex(3)}.{colour}.md"
                    )
                    file.rename(self.folder / target)
                    self.paths[colour].append(target)


@dataclass
class Caller:
    """One of the two, and what was seen."""

    colour: str
    foreign: str
    ground: Ground
    client: Client
    chance: random.Random
    citations: list[dict[str, Any]] = field(default_factory=list)
    versions: list[int] = field(default_factory=lambda: list(range(1, 400)))
    said: Counter[str] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    own: int = 0

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        result = await self.client.call_tool(tool, dict(arguments))
        self.said["refused" if result.is_error else tool] += 1
        text = json.dumps([each.model_dump(mode="json") for each in result.content])
        return text + json.dumps(result.structured_content)

    async def once(self) -> None:
        tool, arguments = self.something()
        asked = json.dumps(arguments)
        text = await self.call(tool, arguments)
        self.own += self.ground.marks[self.colour] in text
        mark = self.ground.marks[self.foreign]
        if mark in text and mark not in asked:
            self.leaks.append(f"{tool} {asked}: {text[:600]}")
        if mark not in asked:
            await self.compare(tool, arguments, text)

    async def compare(self, tool: str, arguments: Mapping[str, Any], told: str) -> None:
        """A path that is not this caller's is answered like one where nothing is."""
        path = arguments.get("path")
        hidden = path in self.ground.paths[self.foreign]
        if not hidden or tool not in ("fs_read", "fs_outline", "fs_history", "fs_list", "fs_edit"):
            return
        absent = f"{secrets.token_hex(8)}.md"
        other = await self.call(tool, {**arguments, "path": absent})
        if told.replace(path, "*") != other.replace(absent, "*"):
            self.differences.append(f"{tool} {json.dumps(arguments)}: {told[:300]} | {other[:300]}")

    def something(self) -> tuple[str, dict[str, Any]]:
        pick = self.chance.choice
        path = pick(self.ground.paths[pick(COLOURS)])
        root = {"root": "docs"} if self.chance.random() < 0.5 else {}
        words = " ".join(self.chance.sample(WORDS, 2))
        version = {"version": pick(self.versions)} if self.chance.random() < 0.5 else {}
        tool = pick(sorted(_WEIGHTS.elements()))
        match tool:
            case "fs_search":
                glob = (
                    {"glob": pick([f"{self.foreign}/**", "*.md", "open/**"])} if self.chance.random() < 0.3 else {}
                )
                as_of = {"as_of": "2199-01-01T00:00:00Z"} if self.chance.random() < 0.3 else {}
                return tool, {"query": words, "limit": 20, **root, **glob, **as_of}
            case "fs_grep":
                return tool, {"pattern": pick([*WORDS, "."]), "regex": True, "context_lines": pick([0, 3]), **root}
            case "fs_list":
                folder = pick(["", path.rpartition("/")[0], path, f"open/to-{self.foreign}"])
                return tool, {"path": folder, "depth": pick([1, 9]), **root}
            case "fs_read" | "fs_history":
                against = {"against": 0} if tool == "fs_history" and version else {}
                return tool, {"path": path, **root, **version, **against}
            case "fs_outline":
                return tool, {"path": path, **root}
            case "fs_verify":
                return tool, {"citations": self.chance.sample(self.citations, 5)}
            case "fs_status":
                return tool, {}
            case "fs_edit":
                return tool, {"path": path, "old": "never there", "new": "x", **root}
            case "fs_write":
                target = f"{self.foreign}/{secrets.token_hex(4)}.md"
                return tool, {"path": pick([target, f"{self.foreign}"]), "content": "x", "root": "docs"}
            case "fs_move":
                return tool, {"path": pick(self.ground.paths[self.foreign]), "to": "open/taken.md", **root}
            case _:
                return "fs_undo", {"path": pick(self.ground.paths[self.foreign]), **root, **version}


_WEIGHTS = Counter(
    fs_search=6, fs_read=6, fs_grep=3, fs_history=6, fs_outline=2, fs_list=3, fs_verify=3, fs_status=1, fs_edit=1,
    fs_write=1, fs_move=1, fs_undo=1,
)  # fmt: skip


@asynccontextmanager
async def connected(url: str, token: str) -> AsyncIterator[Client]:
    async with (
        AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=120) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        yield client


async def settled(client: Client) -> None:
    while True:
        status = (await client.call_tool("fs_status", {})).structured_content or {}
        if not status.get("degraded") or "vectors" in status["degraded"]:
            return
        await anyio.sleep(0.2)


async def cited(client: Client) -> list[dict[str, Any]]:
    """Citations of everything, as somebody has them who holds all labels."""
    found: dict[str, dict[str, Any]] = {}
    for word in WORDS:
        arguments = {"query": word, "limit": 50, "max_tokens": 25_000}
        answer = (await client.call_tool("fs_search", arguments)).structured_content or {}
        for each in answer["items"]:
            claim = {name: each[name] for name in ("path", "sha256", "first_line", "last_line")}
            found[each["sha256"]] = claim
    return list(found.values())


async def run(top: Path, times: int, seed: int) -> bool:
    home, chance = top / "home", random.Random(seed)
    ground = Ground(top / "docs", chance)
    ground.folder.mkdir()
    home.mkdir()
    ground.fill()
    labels = "{ " + ", ".join(f'{c} = ["/{c}/", "*.{c}.*"]' for c in ("red", "blue")) + " }"
    root = f'{{ folder = "{ground.folder}", writable = true, labels = {labels} }}'
    table = f'[filesystem-retrieval]\nroots = {{ docs = {root} }}\nembedding = "{EMBEDDING}"\n'
    (home / "usrland.toml").write_text(table, encoding="utf-8")
    tokens = TokenFile.of(home)
    common = ["fs:read", "fs:write"]
    granted = {"ada": [*common, "fs:label:red"], "bob": [*common, "fs:label:blue"], "root": ["*"]}
    secret = {name: tokens.add(name, scopes=scopes) for name, scopes in granted.items()}
    with serving([sys.executable, "-m", "filesystem_retrieval"], home) as addresses:
        async with (
            connected(addresses.http, secret["ada"]) as ada,
            connected(addresses.http, secret["bob"]) as bob,
            connected(addresses.http, secret["root"]) as owner,
        ):
            await settled(owner)
            claims = await cited(owner)
            for _ in range(3):
                ground.stir()
                await settled(owner)
                await anyio.sleep(2.1)  # the next look at the folder is due
            callers = [
                Caller("red", "blue", ground, ada, random.Random(seed + 1), claims),
                Caller("blue", "red", ground, bob, random.Random(seed + 2), claims),
            ]
            async with anyio.create_task_group() as tasks:
                for caller in callers:
                    tasks.start_soon(_many, caller, times)
    for caller in callers:
        say(f"{caller.colour}: {sum(caller.said.values())} calls {dict(caller.said)}")
        say(f"  answers with marks of its own: {caller.own}; of the other: {len(caller.leaks)}")
        say(f"  foreign paths answered unlike absent ones: {len(caller.differences)}")
        for line in (*caller.leaks[:5], *caller.differences[:5]):
            say(f"    {line}")
    return all(caller.own and not caller.leaks and not caller.differences for caller in callers)


async def _many(caller: Caller, times: int) -> None:
    for _ in range(times):
        await caller.once()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        good = anyio.run(run, Path(top), options.times, options.seed)
    say("held" if good else "NOT held")
    sys.exit(not good)


if __name__ == "__main__":
    main()
