"""How often somebody may call, by what a call costs.

It is counted in SQL, so that neither a restart nor a second process gives anybody more. A process takes a small
share of a caller's minute at a time and hands it out itself, so that counting costs a write to the disk for every
twentieth part of the limit and not for every call. What it took and did not use is lost with it: a caller may get
a little less than the limit, never more.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
from pydantic import BaseModel, ConfigDict, Field

from usrland.audit.entry import canonical
from usrland.connector import Cost
from usrland.errors import QuotaExceeded
from usrland.schemas.principal import Principal

if TYPE_CHECKING:
    from sqlmodel import Session

    from usrland.database import Database

__all__ = ["QuotaTable", "Quotas", "caller_key"]

PERIOD_SECONDS = 60
SHARES = 20
MAX_KNOWN = 10_000
_REMOTE = {"low": 6_000, "normal": 3_000, "high": 600}


class QuotaTable(BaseModel):
    """The `[quotas]` table: how much one caller may do. 0 is without limit."""

    model_config = ConfigDict(extra="forbid")

    low: int | None = Field(default=None, ge=0, description="Cheap calls a minute. Default: 6000 over HTTP.")
    normal: int | None = Field(default=None, ge=0, description="Other calls a minute. Default: 3000 over HTTP.")
    high: int | None = Field(default=None, ge=0, description="Dear calls a minute. Default: 600 over HTTP.")
    in_flight: int = Field(
        default=64, ge=1, description="Calls at the same time, over all processes that share the ledger."
    )

    def limits(self, *, remote: bool) -> Mapping[Cost, int]:
        """A minute, by cost. A person's own process counts nothing unless told to."""
        given: Mapping[Cost, int | None] = {"low": self.low, "normal": self.normal, "high": self.high}
        default = _REMOTE if remote else {}
        return {cost: default.get(cost, 0) if limit is None else limit for cost, limit in given.items()}


@dataclass(slots=True)
class _Share:
    left: int
    until: float


@dataclass(slots=True)
class Quotas:
    """The counts of one server's callers."""

    database: Database
    limits: Mapping[Cost, int]
    clock: Callable[[], float] = time.time
    """Of the day: processes of several machines share the counts."""
    _shares: dict[tuple[str, Cost], _Share] = field(default_factory=dict)
    _turn: anyio.Lock = field(default_factory=anyio.Lock)

    async def take(self, principal: Principal, cost: Cost) -> None:
        """Count one call. Raises `QuotaExceeded` saying when to come again."""
        limit = self.limits.get(cost, 0)
        if not limit:
            return
        key = (caller_key(principal), cost)
        if self._spent_here(key):
            return
        async with self._turn:
            if self._spent_here(key):
                return
            self._forget()
            share = await self.database.write(lambda session: self._taken(session, key, limit))
            if share.left:
                self._shares[key] = _Share(share.left - 1, share.until)
                return
        wait = max(1.0, share.until - self.clock())
        raise QuotaExceeded(
            f"{limit} calls a minute of this kind ({cost}) are all that {principal.subject!r} has.",
            fix=f"Wait {wait:.0f} seconds.",
            retry_after_seconds=wait,
        )

    def _spent_here(self, key: tuple[str, Cost]) -> bool:
        share = self._shares.get(key)
        if share is None or not share.left or not 0 < share.until - self.clock() <= PERIOD_SECONDS:
            return False
        share.left -= 1
        return True

    def _taken(self, session: Session, key: tuple[str, Cost], limit: int) -> _Share:
        self.database.alone(session, f"quota {key}")
        return _taken(session, key, limit, self.clock())

    def _forget(self) -> None:
        if len(self._shares) > MAX_KNOWN:
            now = self.clock()
            self._shares = {key: share for key, share in self._shares.items() if share.until > now and share.left}


def caller_key(principal: Principal) -> str:
    """Who is counted, in a form that says nothing of them."""
    return hashlib.sha256(canonical([principal.tenant, principal.namespace, principal.subject])).hexdigest()


def _taken(session: Session, key: tuple[str, Cost], limit: int, now: float) -> _Share:
    """Take a share of what is left of this minute."""
    from sqlmodel import col, delete

    from usrland.audit.tables import QuotaUse

    who, cost = key
    row = session.get(QuotaUse, (who, cost))
    if row is None or not 0 <= now - row.begun_at < PERIOD_SECONDS:  # over, or the clock was set back
        session.exec(delete(QuotaUse).where(col(QuotaUse.begun_at) < int(now) - PERIOD_SECONDS))
        session.expire_all()
        row = session.get(QuotaUse, (who, cost)) or QuotaUse(who=who, cost=cost, begun_at=0, used=0)
        row.begun_at, row.used = int(now), 0
    share = max(0, min(-(-limit // SHARES), limit - row.used))
    row.used += share
    session.add(row)
    return _Share(share, row.begun_at + PERIOD_SECONDS)
