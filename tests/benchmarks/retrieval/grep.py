"""`fs_grep` beside ripgrep over the same folder, in one run.

    python tests/benchmarks/retrieval/grep.py FOLDER --times 5

`fs_grep` is called through the server over stdio and walks the folder anew each time; ripgrep is started anew,
with one thread and with as many as it likes. Both skip what git would ignore and look into hidden files. A pattern
that matches nothing makes both read everything. Times are of the wall and of the processors, the median of all
rounds; the first round warms the disk's cache and does not count.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from processes import cpu_seconds

PATTERNS = (
    ("no such word", "zzqqxxnowhere", False),
    ("a rare word", "KeyboardInterrupt", False),
    ("a class", r"class \w+Error\(", True),
    ("no such call", r"zz\w+qq\(\d+\)", True),
)


def ripgrep(folder: Path, pattern: str, regex: bool, *threads: str) -> tuple[float, float, int]:
    command = ["rg", "--no-config", "--hidden", "--no-messages", "--line-number", *threads]
    command += [] if regex else ["--fixed-strings"]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([*command, "--", pattern, str(folder)], stdout=subprocess.PIPE, check=False)
    took, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, used, done.stdout.count(b"\n")


async def run(folder: Path, times: int) -> None:
    with tempfile.TemporaryDirectory() as top:
        home = Path(top)
        table = f'[filesystem-retrieval]\nroots = {{ here = "{folder}" }}\nembedding = "none"\nwatch = false\n'
        (home / "usrland.toml").write_text(table, encoding="utf-8")
        script = f'echo $$ > "{home}/pid"; exec "{sys.executable}" -m filesystem_retrieval --home "{home}"'
        transport = stdio_client(StdioServerParameters(command="sh", args=["-c", script]))
        async with Client(transport, read_timeout_seconds=600) as client:
            pid = int((home / "pid").read_text(encoding="ascii"))
            await indexed(client)
            print("| pattern | fs_grep s (cpu) | rg s (cpu) | rg, one thread s (cpu) | lines |")
            print("|---|---|---|---|---|")
            for name, pattern, regex in PATTERNS:
                rounds = [await once(client, pid, folder, pattern, regex) for _ in range(times + 1)][1:]
                cells = [
                    f"{statistics.median(each[at][0] for each in rounds):.2f} "
                    f"({statistics.median(each[at][1] for each in rounds):.2f})"
                    for at in range(3)
                ]
                print(f"| {name} | {' | '.join(cells)} | {rounds[0][0][2]} of {rounds[0][1][2]} |", flush=True)


async def indexed(client: Client) -> None:
    """Wait until the background is done: it would be measured otherwise."""
    while True:
        status = (await client.call_tool("fs_status", {})).structured_content or {}
        reading = "read" in (status.get("degraded") or "")
        if not reading and not any(root["pending"] for root in status["roots"]):
            return
        await anyio.sleep(0.5)


async def once(
    client: Client, pid: int, folder: Path, pattern: str, regex: bool
) -> list[tuple[float, float, int]]:
    before, begun = cpu_seconds(Path(f"/proc/{pid}")), time.perf_counter()
    result = await client.call_tool("fs_grep", {"pattern": pattern, "regex": regex, "max_tokens": 25_000})
    took = time.perf_counter() - begun, cpu_seconds(Path(f"/proc/{pid}")) - before
    found = (*took, len((result.structured_content or {}).get("items", ())))
    return [found, ripgrep(folder, pattern, regex), ripgrep(folder, pattern, regex, "--threads=1")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    anyio.run(run, options.folder.resolve(), options.times)


if __name__ == "__main__":
    main()
