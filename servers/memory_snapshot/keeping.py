"""Looking over what every space remembers, and making its search index anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from usrland import Keeping, Principal

if TYPE_CHECKING:
    from sqlmodel import Session

    from memory_snapshot.memory import Memory

__all__ = ["keeping"]


def keeping(memory: Memory) -> Keeping:
    async def check(read_data: bool) -> Sequence[str]:
        problems = []
        try:
            for principal in await memory.read(_spaces):
                verified = await memory.verify(principal)
                place = f"{principal.tenant}/{principal.namespace}"
                problems += [f"{place}: {problem}" for problem in verified.problems]
        finally:
            memory.close()
        return problems

    async def rebuild() -> str:
        await memory.rebuild_index()
        return "the search index was made anew"

    return Keeping(check=check, rebuild=rebuild, derived=frozenset({"index"}))


def _spaces(session: Session) -> list[Principal]:
    from sqlmodel import select

    from memory_snapshot.tables import Space

    spaces = session.exec(select(Space).order_by(Space.tenant, Space.name)).all()
    return [Principal(subject="check", tenant=space.tenant, namespace=space.name) for space in spaces]
