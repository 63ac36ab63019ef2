"""When a person is asked first: always for what destroys, and for more where the operator says so.

Taint is one such choice: text that a caller was just given may have been written to steer it. For an hour after an
answer that quotes files, systems or memory, whatever changes something or reaches another system is asked for
first. It is kept by caller in SQL and not by connection: no connection is remembered, and another replica must
know it too.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from usrland.audit.entry import canonical
from usrland.connector import Operation
from usrland.schemas.principal import Principal

if TYPE_CHECKING:
    from sqlmodel import Session

    from usrland.database import Database

__all__ = ["Asking", "ConsentTable"]

TAINTED_SECONDS = 3_600
RENEWED_SECONDS = 600
"""How much of it must have passed before it is written anew."""
MAX_KNOWN = 10_000


class ConsentTable(BaseModel):
    """The `[consent]` table."""

    model_config = ConfigDict(extra="forbid")

    writes: bool = Field(default=False, description="Ask before everything that changes something.")
    after_content: bool = Field(
        default=False,
        description="For an hour after a caller was given text that others wrote, ask before it changes "
        "anything or reaches another system.",
    )


@dataclass(slots=True)
class Asking:
    """The operator's choice, and who was given what others wrote."""

    table: ConsentTable
    database: Database
    _known: dict[str, float] = field(default_factory=dict)

    def may_ask(self, operation: Operation) -> bool:
        """Whether a call of it may ever need a person, so that its schema has room for the answer."""
        return bool(
            operation.consent
            or (self.table.writes and operation.effect != "read")
            or (self.table.after_content and _reaches(operation))
        )

    async def reason(self, operation: Operation, principal: Principal) -> str | None:
        """Why this call is asked for; None where it is not."""
        if operation.consent:
            return ""
        if self.table.writes and operation.effect != "read":
            return "it changes something"
        if self.table.after_content and _reaches(operation) and await self._tainted(principal):
            return "it follows an answer with text that others wrote"
        return None

    async def given(self, operation: Operation, principal: Principal) -> None:
        """Remember, durably, that this caller is answered; before the answer goes out."""
        if not self.table.after_content or not operation.quotes:
            return
        who, now = _caller(principal), time.time()
        if self._known.get(who, 0.0) > now + TAINTED_SECONDS - RENEWED_SECONDS:
            return
        until = now + TAINTED_SECONDS
        await self.database.write(lambda session: self._mark(session, who, until))
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        self._known[who] = until

    def _mark(self, session: Session, who: str, until: float) -> None:
        from sqlmodel import col, delete

        from usrland.audit.tables import Tainted

        self.database.alone(session, "tainted")
        session.exec(delete(Tainted).where(col(Tainted.until) < int(time.time())))
        session.merge(Tainted(who=who, until=int(until)))

    async def _tainted(self, principal: Principal) -> bool:
        who, now = _caller(principal), time.time()
        return self._known.get(who, 0.0) > now or await self.database.read(lambda s: _until(s, who)) > now


def _reaches(operation: Operation) -> bool:
    """Whether it could do what a planted sentence wants: change something, or carry something out."""
    return operation.effect != "read" or operation.open_world


def _caller(principal: Principal) -> str:
    return hashlib.sha256(canonical([principal.tenant, principal.namespace, principal.subject])).hexdigest()


def _until(session: Session, who: str) -> float:
    from usrland.audit.tables import Tainted

    row = session.get(Tainted, who)
    return 0.0 if row is None else float(row.until)
