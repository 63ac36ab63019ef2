"""How many calls and streams of one caller are open at once, over all processes that share a ledger.

A process takes a few places at a time and says for how long, so that a call costs a write to the disk only where
more are open than were yet. It says so again while they are used, and gives back what is not. A process that is
killed says nothing more, and its places are free half a minute later: until then a caller may get a few less than
the limit, never more.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

import anyio

from usrland.errors import QuotaExceeded, Unavailable
from usrland.quota import caller_key
from usrland.schemas.principal import Principal

if TYPE_CHECKING:
    from sqlmodel import Session

    from usrland.database import Database

__all__ = ["LEASE_SECONDS", "Kind", "Places"]

logger = logging.getLogger(__name__)

Kind = Literal["calls", "streams"]

LEASE_SECONDS, RENEW_SECONDS = 30, 10.0
SHARES = 16
"""A process takes so small a part of the limit at a time."""


@dataclass(slots=True)
class _Lease:
    """What this process may have open of one caller and kind."""

    places: int = 0
    open: int = 0
    until: float = 0.0


@dataclass(slots=True)
class Places:
    """The places of one server's callers, as one process sees them."""

    database: Database
    limits: Mapping[Kind, int]
    clock: Callable[[], float] = time.time
    """Of the day: processes of several machines share the places."""
    _process: str = field(default_factory=lambda: secrets.token_hex(16))
    _leases: dict[tuple[str, Kind], _Lease] = field(default_factory=dict)
    _turn: anyio.Lock = field(default_factory=anyio.Lock)

    @asynccontextmanager
    async def held(self, principal: Principal, kind: Kind) -> AsyncIterator[None]:
        """Hold one place. Raises `QuotaExceeded` where all are taken."""
        key = (caller_key(principal), kind)
        lease = self._leases.get(key)
        if lease is None or not self._room(lease):
            async with self._turn:
                lease = self._leases.setdefault(key, _Lease())
                if not self._room(lease):
                    await self._take(key, lease)
                if not self._room(lease):
                    raise QuotaExceeded(
                        f"{self.limits[kind]} {kind} of {principal.subject!r} are open already.",
                        retry_after_seconds=1,
                    )
        lease.open += 1
        try:
            yield
        finally:
            lease.open -= 1

    def _room(self, lease: _Lease) -> bool:
        return lease.open < lease.places and 0 < lease.until - self.clock() <= LEASE_SECONDS

    async def _take(self, key: tuple[str, Kind], lease: _Lease) -> None:
        wanted = lease.open + max(1, self.limits[key[1]] // SHARES)
        lease.places, lease.until = await self.database.write(partial(self._taken, key, wanted))

    def _taken(self, key: tuple[str, Kind], wanted: int, session: Session) -> tuple[int, float]:
        """So many places for this process, or as many as the others leave."""
        from sqlmodel import col, delete, func, select

        from usrland.audit.tables import PlacesHeld

        who, kind = key
        self.database.alone(session, f"places {key}")
        now = self.clock()
        ours = (col(PlacesHeld.who) == who) & (col(PlacesHeld.kind) == kind)
        late = (col(PlacesHeld.until) <= int(now)) | (col(PlacesHeld.until) > int(now) + 2 * LEASE_SECONDS)
        session.exec(delete(PlacesHeld).where(ours & (late | (col(PlacesHeld.process) == self._process))))
        others = session.exec(select(func.coalesce(func.sum(PlacesHeld.places), 0)).where(ours)).one()
        places, until = max(0, min(wanted, self.limits[kind] - int(others))), int(now) + LEASE_SECONDS
        if places:
            session.add(PlacesHeld(who=who, kind=kind, process=self._process, places=places, until=until))
        return places, float(until)

    async def run(self, stopping: anyio.Event) -> None:
        """Keep what is used and give back the rest, until then; at the end everything is given back."""
        ended = False
        while not ended:
            with anyio.move_on_after(RENEW_SECONDS):
                await stopping.wait()
            ended = stopping.is_set()
            try:
                await self.renew(nothing=ended)
            except Unavailable as error:  # new calls are refused meanwhile; those that run go on
                logger.warning("the places of calls that run could not be renewed: %s", error.fact)

    async def renew(self, *, nothing: bool = False) -> None:
        """Say again what is used. With `nothing`, give all of it back."""
        async with self._turn:
            if not self._leases:
                return
            used = {} if nothing else {key: lease for key, lease in self._leases.items() if lease.open}
            self._leases = used
            until = await self.database.write(partial(self._renewed, list(used)))
            for lease in used.values():
                lease.until = until

    def _renewed(self, used: list[tuple[str, Kind]], session: Session) -> float:
        from sqlmodel import col, select

        from usrland.audit.tables import PlacesHeld

        until = int(self.clock()) + LEASE_SECONDS
        for row in session.exec(select(PlacesHeld).where(col(PlacesHeld.process) == self._process)).all():
            if (row.who, row.kind) in used:
                row.until = until
                session.add(row)
            else:
                session.delete(row)
        return float(until)
