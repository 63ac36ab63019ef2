"""Two tenants who use the three servers for a long time, over HTTP."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import httpx
from processes import serving
from tenants import SERVERS, TENANTS, asked, mixed, prepared

from usrland.identity import TokenFile

__all__ = ["Use", "used"]

LOOK_SECONDS = 5.0
WRITE_EVERY = 25
KEYS = 50
"""Of each tenant: what is written takes the place of what was said of the same thing before."""
TENTHS = 10


@dataclass
class Use:
    seconds: float
    took: list[tuple[float, float]] = field(default_factory=list)
    """Of each call: seconds since the beginning, and its own."""
    memory: list[tuple[float, int, int]] = field(default_factory=list)
    """Seconds since the beginning, bytes, open files."""
    failed: list[str] = field(default_factory=list)
    crossed: list[str] = field(default_factory=list)
    written: int = 0

    @property
    def calls(self) -> int:
        return len(self.took)

    @property
    def megabytes_in_ten_minutes(self) -> float:
        """The slope of memory after the first third."""
        late = [(at, size) for at, size, _ in self.memory if at > self.seconds / 3]
        if len(late) < 3:
            return 0.0
        slope = statistics.linear_regression([at for at, _ in late], [size for _, size in late]).slope
        return slope * 600 / 2**20

    @property
    def files_grown(self) -> int:
        late = [files for at, _, files in self.memory if at > self.seconds / 3]
        tenth = max(1, len(late) // 10)
        return round(statistics.median(late[-tenth:]) - statistics.median(late[:tenth])) if late else 0

    def tenths(self) -> Iterator[str]:
        for number in range(TENTHS):
            begin, end = (self.seconds * each / TENTHS for each in (number, number + 1))
            took = sorted(own for at, own in self.took if begin <= at < end)
            held = [(size, files) for at, size, files in self.memory if begin <= at < end]
            if took and held:
                yield (
                    f"{end:6.0f} s  {len(took):6} calls  p50 {took[len(took) // 2] * 1000:5.0f} ms  "
                    f"p99 {took[len(took) * 99 // 100] * 1000:5.0f} ms  "
                    f"{held[-1][0] / 2**20:6.1f} MB  {held[-1][1]:4} files"
                )


async def used(top: Path, *, seconds: float, callers: int) -> Use:
    """So many callers of each tenant, one call after the other."""
    home = prepared(top)
    tokens = {tenant: TokenFile.of(home).add(tenant, ["*"], tenant=tenant, namespace=tenant) for tenant in TENANTS}
    use, begun, ids = Use(seconds), time.monotonic(), count(1)
    with serving(home, *SERVERS) as served:
        async with httpx.AsyncClient(timeout=120) as http, anyio.create_task_group() as tasks:

            async def call(tenant: str, name: str, tool: str, arguments: dict[str, Any], *, marked: bool) -> None:
                url = served.urls[f"{name}/mcp"]
                before = time.monotonic()
                answer = await asked(http, url, tokens[tenant], next(ids), tool, arguments)
                use.took.append((before - begun, time.monotonic() - before))
                other = TENANTS[1 - TENANTS.index(tenant)]
                if answer.status_code != 200 or '"isError":true' in answer.text:
                    use.failed.append(f"{tenant} {tool}: {answer.status_code} {answer.text[:300]}")
                elif f"canary of {other}" in answer.text or (marked and f"canary of {tenant}" not in answer.text):
                    use.crossed.append(f"{tenant} {tool}: {answer.text[:300]}")

            async def calling(tenant: str) -> None:
                for number, (name, tool, arguments) in enumerate(mixed(tenant)):
                    if time.monotonic() - begun > seconds:
                        return
                    if number % WRITE_EVERY == 0:
                        use.written += 1
                        text = f"At {use.written} the ferry left: canary of {tenant}"
                        said = {"items": [{"text": text, "key": f"pier {use.written % KEYS}"}]}
                        await call(tenant, "memory-snapshot", "memory_remember", said, marked=False)
                    await call(tenant, name, tool, arguments, marked=True)

            async def looking() -> None:
                while time.monotonic() - begun < seconds:
                    use.memory.append((time.monotonic() - begun, *_held(served.process.pid)))
                    await anyio.sleep(LOOK_SECONDS)

            tasks.start_soon(looking)
            for tenant in TENANTS:
                for _ in range(callers):
                    tasks.start_soon(calling, tenant)
    return use


def _held(pid: int) -> tuple[int, int]:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - only their number
