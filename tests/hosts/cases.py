"""The servers, a home for each with something in it, and the calls every client makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["CASES", "Ask", "Calls", "Case"]

Calls: TypeAlias = Sequence[tuple[str, Mapping[str, Any]]]
Ask: TypeAlias = Callable[[Calls], Mapping[str, Any]]
"""Makes calls over stdio and returns what was answered."""


@dataclass(frozen=True)
class Case:
    """One server. Its answers to `calls` must not depend on when they are made, or by whom."""

    name: str
    launch: Sequence[str]
    prepare: Callable[[Path, Ask], AbstractContextManager[Calls]]
    """Fills the home; what it opened stays open until the last client is done."""


CASES: Sequence[Case] = ()
