"""Servers as processes of their own, on one home."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Served", "cpu_seconds", "free_port", "limited", "serving"]

_TICKS = os.sysconf("SC_CLK_TCK")
_GROUPS = Path("/sys/fs/cgroup")
_PERIOD_MICROSECONDS = 10_000

_LAUNCH = (
    "import sys; from usrland.launch import start; a = sys.argv; sys.exit(start(a[4:], a[1], a[2], int(a[3])))"
)


@dataclass(frozen=True, slots=True)
class Served:
    """What was started, and what it says of itself."""

    process: subprocess.Popen[str]
    urls: dict[str, str]
    """By server and door: `toy/mcp`."""
    token_file: Path | None
    said: list[str]

    @property
    def token(self) -> str:
        assert self.token_file is not None
        return self.token_file.read_text(encoding="ascii")

    @property
    def url(self) -> str:
        return next(iter(self.urls.values())).removesuffix("/mcp").removesuffix("/sse")


def cpu_seconds(process: Path) -> float:
    """What a process in `/proc` has used, without its children."""
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def limited(pid: int, processors: float) -> Iterator[None]:
    """Let a process have no more of the processors, as a container's limit does; for root, on Linux."""
    old = _GROUPS / "cpu"  # of the first version of control groups; the second has one tree for all
    group = (old if old.is_dir() else _GROUPS) / f"usrland-{pid}"
    group.mkdir()
    quota = int(processors * _PERIOD_MICROSECONDS)
    if old.is_dir():
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD_MICROSECONDS))
        (group / "cpu.cfs_quota_us").write_text(str(quota))
    else:
        (group / "cpu.max").write_text(f"{quota} {_PERIOD_MICROSECONDS}")
    (group / "cgroup.procs").write_text(str(pid))
    try:
        yield
    finally:
        group.rmdir()  # it has ended


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return int(free.getsockname()[1])


@contextmanager
def serving(
    home: Path,
    *services: str,
    transport: str = "http",
    host: str = "127.0.0.1",
    port: int = 0,
    **environment: str,
) -> Iterator[Served]:
    """These `module:function` services behind one port of loopback, killed when the block is left."""
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, transport, host, str(port), *services],
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "USRLAND_HOME": str(home),
            "PYTHONPATH": str(Path(__file__).parent),
            **environment,
        },
    )
    try:
        yield _announced(process, len(services) * (1 if transport == "sse" else 2))
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def _announced(process: subprocess.Popen[str], doors: int) -> Served:
    urls: dict[str, str] = {}
    token_file, said = None, []
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line)
        if "the token for programs" in line:
            token_file = Path(line.split(" is in ")[1].strip())
        if line.startswith("usrland: ") and " at " in line:
            name, url = line.removeprefix("usrland: ").split(" at ")
            url = url.split()[-1] if "(legacy)" not in line else url.split()[-2]
            urls[f"{name}/{url.rsplit('/', 1)[1]}"] = url
        if len(urls) == doors:
            # what it says later must be read, or it would stand still with a full pipe
            threading.Thread(target=_read, args=(process, said), daemon=True).start()
            return Served(process, urls, token_file, said)
    raise AssertionError(f"it did not start:\n{''.join(said)}")


def _read(process: subprocess.Popen[str], said: list[str]) -> None:
    assert process.stderr is not None
    try:
        said.extend(process.stderr)
    except ValueError:  # closed
        return
