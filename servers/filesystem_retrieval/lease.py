"""Which search index the catalogue is filled into: one at a time, known by its name.

The catalogue says which contents are in the index, and that is true of one index only. So it keeps that index's
name, and whoever would fill another finds out here: the index was lost or replaced, and is filled anew, or a
second replica has an index of its own, and must not take part.

These two are told apart by time: while a process of an index lives, it says so every minute, and only an index
that was silent for three is taken for gone. A lock of PostgreSQL would tell at once, but keeps a connection of
every process for good, is lost with it, and has two homes that are each used for a moment, as by the command
line, fill everything anew in turn. The database's clock counts, for replicas' clocks may differ. A catalogue that
lies in the home has one index, so whatever it finds there it fills at once.

In a shared catalogue a copy of an index's folder, as with a home that was copied to a second machine, is another
index. It is known by the inode of its name, and so not where a whole disk was copied.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Float, func
from sqlmodel import Field, SQLModel, col, select, update

from usrland.database import Database
from usrland.errors import Unavailable
from usrland.search import Place

if TYPE_CHECKING:
    from sqlmodel import Session

__all__ = ["LEASE_SECONDS", "Lease", "Standing"]

LEASE_SECONDS, RENEW_SECONDS = 180.0, 60.0
NAME = "name"
_ONLY = 1

Standing = Literal["ours", "free", "another's"]
"""The catalogue is filled into this index; into one that is gone; into one that is in use."""


class IndexUse(SQLModel, table=True):
    """The one row that says which index it is."""

    __tablename__ = "fs_index"

    id: int = Field(default=_ONLY, primary_key=True)
    name: str
    used_at: float = Field(sa_type=Float(53))
    """By the clock of the database, in seconds since 1970."""


class Lease:
    """The right of the index in this place to be the one.

    `hold` and `take` are for who has the turn to fill the index. `shared`: other homes may use this database.
    """

    def __init__(
        self,
        database: Database,
        place: Place,
        *,
        shared: bool,
        lease_seconds: float = LEASE_SECONDS,
        renew_seconds: float = RENEW_SECONDS,
    ) -> None:
        self._database = database
        self._place = place
        self.shared = shared
        self._lease_seconds = lease_seconds
        self.renew_seconds = renew_seconds
        self._held: str | None = None
        """The name of the index that this process has last been allowed to fill."""
        self._held_at = float("-inf")

    async def hold(self) -> Standing:
        """Say that this index is in use, and hear whether it is the one. Costs next to nothing less than
        `renew_seconds` after the last time; a catalogue that is not shared is written to only once."""
        fresh = time.monotonic() - self._held_at < self.renew_seconds
        if fresh and (not self.shared or await self._database.read(_name_in) == self._held):
            return "ours"
        name = await self._name() or await self._rename()
        standing: Standing = "ours"
        if self.shared or await self._database.read(_name_in) != name:
            standing = await self._database.write(lambda session: self._ask(session, name))
        self._note(name, standing)
        return standing

    async def take(self, distrust: Callable[[Session], None]) -> Standing:
        """Have this index be the one, if that is still free; in the same transaction `distrust` the one before."""
        name = await self._name() or await self._rename()

        def work(session: Session) -> Standing:
            standing = self._ask(session, name)
            if standing == "free":
                session.exec(update(IndexUse).values(name=name, used_at=self._now(session)))
                distrust(session)
                standing = "ours"
            return standing

        standing = await self._database.write(work)
        self._note(name, standing)
        return standing

    async def renew(self) -> None:
        """Say that this index is in use, if it is the one. For every process, whoever has the turn."""
        held = self._held
        if held is None:
            return

        def work(session: Session) -> None:
            mine = update(IndexUse).where(col(IndexUse.name) == held)
            session.exec(mine.values(used_at=self._now(session)))

        await self._database.write(work)

    async def is_anothers(self) -> bool:
        """Whether a shared catalogue is filled into another index; changes nothing."""
        if not self.shared:
            return False
        filled = await self._database.read(_name_in)
        return filled is not None and filled != await self._name()

    def fence(self, session: Session) -> None:
        """Within a write: nobody else gets the right until it ends. Raises `Unavailable` where somebody has."""
        if not self.shared:
            return
        name = session.exec(select(IndexUse.name).with_for_update(read=True)).first()
        if name is None or name != self._held:
            raise Unavailable("the catalogue is filled into another search index now.")

    def _ask(self, session: Session, name: str) -> Standing:
        self._database.alone(session, IndexUse.__tablename__)
        now = self._now(session)
        use = session.get(IndexUse, _ONLY)
        if use is None:  # a new catalogue, or one of before there were names: it has been filled into this one
            session.add(IndexUse(name=name, used_at=now))
            return "ours"
        if use.name == name:
            use.used_at = now
            return "ours"
        lost = use.name == self._held
        gone = now - use.used_at > self._lease_seconds
        return "free" if lost or gone or not self.shared else "another's"

    def _now(self, session: Session) -> float:
        if self._database.is_sqlite:
            return time.time()
        return float(session.scalar(select(func.extract("epoch", func.clock_timestamp()))) or 0)

    def _note(self, name: str, standing: Standing) -> None:
        if standing == "ours":
            self._held, self._held_at = name, time.monotonic()

    async def _name(self) -> str | None:
        """None before the first of all, and where the index was lost."""
        name = await self._place.note(NAME)
        return name if name is None or not self.shared else f"{name} {await self._place.origin(NAME)}"

    async def _rename(self) -> str:
        await self._place.write_note(NAME, secrets.token_hex(16))
        name = await self._name()
        assert name is not None
        return name


def _name_in(session: Session) -> str | None:
    return session.exec(select(IndexUse.name)).first()
