"""Processor time from a server's start to its answer of `tools/list`, against a bare SDK server.

    python tests/benchmarks/spine/startup.py [--rounds N]

Each round starts every server once, in turn, over stdio; a process is killed when its answer has come, and what
the kernel charged it until then is counted (user and system, all threads). The bare server is the SDK's own
`MCPServer` with as many tools as the smallest of ours. Reported: medians, and each server's ratio to the bare one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

BARE = "bare SDK server"
MODULES = {
    "filesystem-retrieval": "filesystem_retrieval",
    "enterprise-connectors": "enterprise_connectors",
    "memory-snapshot": "memory_snapshot",
    "example-connector": "example_connector",
}
VERSION = "2025-11-25"
HANDSHAKE = (
    {
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": VERSION,
            "capabilities": {},
            "clientInfo": {"name": "startup", "version": "1"},
        },
    },
    {"method": "notifications/initialized"},
    {"id": 2, "method": "tools/list", "params": {}},
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with homes() as prepared:
        commands = {BARE: [sys.executable, str(Path(__file__).with_name("bare.py"))]} | {
            name: [sys.executable, "-m", module, "--home", str(prepared[name])] for name, module in MODULES.items()
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for count in range(rounds + 1):
            for name, command in commands.items():
                seconds = until_listed(command)
                if count:  # the first round fills the caches of files and byte code
                    taken[name].append(seconds)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    print("| server | CPU s | ratio |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median:.3f} | {median / medians[BARE]:.2f} |")
    return 0


@contextmanager
def homes() -> Iterator[Mapping[str, Path]]:
    """A configured home for each server: a folder, a database, a memory."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepared = {name: root / name for name in MODULES}
        for home in prepared.values():
            home.mkdir()
        documents = root / "documents"
        documents.mkdir()
        (documents / "a.md").write_text("# A document\n", encoding="utf-8")
        (prepared["filesystem-retrieval"] / "usrland.toml").write_text(
            f"[filesystem-retrieval]\nroots = {{ docs = {json.dumps(str(documents))} }}\n", encoding="utf-8"
        )
        (prepared["enterprise-connectors"] / "connectors.toml").write_text(
            f'[fleet]\nkind = "sql"\nabout = "Ships"\nurl = "sqlite:///{root / "fleet.sqlite"}"\n',
            encoding="utf-8",
        )
        yield prepared


def until_listed(command: Sequence[str]) -> float:
    """CPU seconds of one process up to its answer."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for message in HANDSHAKE:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        process.stdin.flush()
        for line in process.stdout:
            answer = json.loads(line)
            if answer.get("id") == 2:
                process.kill()
                assert answer["result"]["tools"], f"{command}: no tools"
                break
        else:
            raise RuntimeError(f"{command} ended without an answer")
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
