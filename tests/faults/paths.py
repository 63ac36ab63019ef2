"""Paths made at random, through the tools of a running server: none may lead out of the root.

    python tests/faults/paths.py --times 10000

Around the root stand files that hold a mark, and in it links of every kind that lead to them, to the file system's
root and to /proc, and an archive whose members are named to lead out. Each path is read, listed or outlined, and
written, edited or moved to; and the marks are looked for in all files. No answer may hold the mark, and nothing
outside the root may change.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import tempfile
from collections import Counter
from pathlib import Path

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from wild_paths import ground, wild_path


def outside(top: Path) -> dict[str, bytes]:
    inside = (f"{top / 'docs'}/", f"{top / 'home'}/")
    files = [file for file in top.rglob("*") if file.is_file() and not str(file).startswith(inside)]
    return {str(file): file.read_bytes() for file in files}


async def run(top: Path, times: int, seed: int) -> bool:
    home, folder, chance = top / "home", top / "docs", random.Random(seed)
    home.mkdir()
    folder.mkdir()
    mark = f"mark{secrets.token_hex(8)}"
    ground(top, folder, mark)
    table = f'[filesystem-retrieval]\nroots = {{ docs = {{ folder = "{folder}", writable = true }} }}\n'
    (home / "usrland.toml").write_text(f'{table}embedding = "none"\n', encoding="utf-8")
    before = outside(top)
    said: Counter[str] = Counter()
    escapes: list[str] = []
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "filesystem_retrieval", "--home", str(home)]
    )
    async with Client(stdio_client(server), read_timeout_seconds=120) as client:
        for number in range(times):
            path = wild_path(chance, top).replace("\ud800", "")  # half a character does not go over the wire
            new = f"made/{number}.md"
            tool, arguments = chance.choice(
                [
                    ("fs_read", {"path": path}),
                    ("fs_list", {"path": path}),
                    ("fs_outline", {"path": path}),
                    ("fs_grep", {"pattern": mark[4:12], "glob": path}),
                    ("fs_grep", {"pattern": f"[m]{mark[1:6]}|root:", "regex": True}),
                    ("fs_write", {"path": path, "content": "taken"}),
                    ("fs_edit", {"path": path, "old": mark[:4], "new": "taken"}),
                    ("fs_move", {"path": path, "to": new}),
                    ("fs_move", {"path": "sub/ok.md", "to": path}),
                ]
            )
            if chance.random() < 0.7:
                arguments["root"] = "docs"
            result = await client.call_tool(tool, arguments)
            said["refused" if result.is_error else tool] += 1
            text = "".join(getattr(each, "text", "") for each in result.content)
            if mark in text or "root:x:0:0" in text:
                escapes.append(f"{tool} {arguments!r}: {text[:200]}")
            if not result.is_error and outside(top) != before:
                escapes.append(f"{tool} {arguments!r} changed what is outside")
                before = outside(top)
            (folder / "sub").mkdir(exist_ok=True)
            (folder / "sub" / "ok.md").write_text("nothing to hide\n", encoding="utf-8")
    if outside(top) != before:
        escapes.append("something outside has changed")
    sys.stdout.write(f"{times} paths: {dict(said)}\n{len(escapes)} escapes\n")
    for line in escapes[:10]:
        sys.stdout.write(f"  {line}\n")
    return not escapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        good = anyio.run(run, Path(top), options.times, options.seed)
    sys.exit(not good)


if __name__ == "__main__":
    main()
