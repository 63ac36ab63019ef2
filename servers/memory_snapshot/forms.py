"""Forms that a person fills in, where the host can ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field, create_model

from memory_snapshot.wire import Clash, Take

__all__ = ["decision_form"]

SHOWN_CHARS = 200


def decision_form(conflicts: Sequence[Clash]) -> type[BaseModel]:
    """One choice for each conflict, `c1`, `c2` and so on."""
    fields: dict[str, Any] = {
        f"c{place}": (Take, Field(title=conflict.key or conflict.kind, description=_told(conflict)))
        for place, conflict in enumerate(conflicts, start=1)
    }
    return create_model("Decisions", **fields)


def _told(conflict: Clash) -> str:
    ours, theirs = (_short(text) for text in (conflict.ours, conflict.theirs))
    return f"ours: {ours} / theirs: {theirs}"


def _short(text: str | None) -> str:
    if text is None:
        return "(removed)"
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"
