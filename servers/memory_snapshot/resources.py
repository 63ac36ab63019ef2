"""What stands under a URI, and how those who listen hear that it changed."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import anyio
from sqlmodel import Session, col, func, select

from memory_snapshot.tables import Event, Ref, Space
from usrland import Changes
from usrland.database import Database

__all__ = ["LOG", "WORKING_SET", "Watch", "working_set"]

WORKING_SET = "memory://working-set"
LOG = "memory://log"
READ = frozenset({"memory:read"})
SECONDS = 2.0
"""Between two looks at what other processes wrote, while somebody listens."""


def working_set(branch: str) -> str:
    return f"memory://branches/{quote(branch, safe='')}/working-set"


class Watch:
    """Looks at the journals and tells what moved: after a change of this process at once, else every few
    seconds."""

    def __init__(self, database: Database, changes: Changes) -> None:
        self._database = database
        self._changes = changes
        self._woken = anyio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        known = await self._database.read(_ends)
        while True:
            with anyio.move_on_after(SECONDS):
                await self._woken.wait()
            if not (self._woken.is_set() or self._changes.heard):
                continue
            self._woken = anyio.Event()
            now = await self._database.read(_ends)
            if self._changes.heard:
                for space_id, end in now.items():
                    if end != known.get(space_id, 0):
                        await self._tell(space_id, known.get(space_id, 0), end)
            known = now

    async def _tell(self, space_id: int, after: int, until: int) -> None:
        space, branches = await self._database.read(lambda session: _moved(session, space_id, after, until))
        for uri in (WORKING_SET, LOG, *map(working_set, sorted(branches))):
            self._changes.tell(uri, tenant=space.tenant, namespace=space.name, scopes=READ)


def _ends(session: Session) -> Mapping[int, int]:
    """The last event of each space."""
    last = select(func.max(Event.seq)).where(Event.space_id == Space.id).scalar_subquery()
    return {space_id: end or 0 for space_id, end in session.execute(select(col(Space.id), last))}


def _moved(session: Session, space_id: int, after: int, until: int) -> tuple[Space, set[str]]:
    """The space, and the branches that these events are of; the events behind them are the next look's."""
    query = select(Event.branch, Event.op).where(Event.space_id == space_id, Event.seq > after, Event.seq <= until)
    found = session.exec(query.distinct()).all()
    branches = {branch for branch, _ in found}
    if any(op == "erase" for _, op in found):  # that is of no branch alone
        branches.update(session.exec(select(Ref.name).where(Ref.space_id == space_id)))
    return session.exec(select(Space).where(Space.id == space_id)).one(), branches
