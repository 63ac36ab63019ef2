"""Our servers as other programs meet them: a command over stdio, an address over HTTP."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Addresses", "command", "serving"]

START_SECONDS = 60
STOP_SECONDS = 20
_ANNOUNCED = re.compile(r"at (http://\S+/(mcp|sse))")


@dataclass(frozen=True)
class Addresses:
    http: str
    sse: str


def command(launch: Sequence[str], home: Path) -> list[str]:
    return [*launch, "--home", str(home)]


@contextmanager
def serving(launch: Sequence[str], home: Path) -> Iterator[Addresses]:
    """The server on a free port of loopback, ended by SIGTERM when the block is left."""
    arguments = [*command(launch, home), "--transport", "http", "--port", "0"]
    # not every client can be told a token
    environment = {**os.environ, "USRLAND_SERVER_OPEN_LOOPBACK": "true"}
    process = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    guard = threading.Timer(START_SECONDS, process.kill)
    guard.start()
    try:
        assert process.stderr is not None
        said, found = [], {}
        for line in process.stderr:
            said.append(line)
            if announced := _ANNOUNCED.search(line):
                found[announced[2]] = announced[1]
            if len(found) == 2:
                break
        guard.cancel()
        if len(found) < 2:
            raise RuntimeError(f"{' '.join(arguments)} did not start:\n{''.join(said)}")
        # what it says later must be read, or it would stand still with a full pipe
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield Addresses(http=found["mcp"], sse=found["sse"])
    finally:
        guard.cancel()
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
