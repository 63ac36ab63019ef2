"""Wrecked documents, given to the parsers of `filesystem-retrieval`."""

from __future__ import annotations

import time
from collections import Counter
from random import Random

import anyio
from wrecks import wrecked

from filesystem_retrieval.documents import Unreadable, extract

__all__ = ["hammered"]

AT_ONCE = 2
MOST_KEPT = 400


async def hammered(seconds: float, seed: int, corpus: dict[str, list[bytes]]) -> tuple[Counter[str], list[str]]:
    """How many were read and refused, by reason; and what is not as it should be."""
    random, outcomes, wrong = Random(seed), Counter[str](), list[str]()
    end = time.monotonic() + seconds

    async def one() -> None:
        while time.monotonic() < end:
            name = random.choice(sorted(corpus))
            content = wrecked(random, random.choice(corpus[name]))
            try:
                await extract(name, content)
            except Unreadable as reason:
                outcomes[str(reason)] += 1
            except Exception as error:
                wrong.append(f"{name}: {type(error).__name__}: {error}")
            else:
                outcomes["read"] += 1
                if len(corpus[name]) < MOST_KEPT:
                    corpus[name].append(content)

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(one)
    return outcomes, wrong
