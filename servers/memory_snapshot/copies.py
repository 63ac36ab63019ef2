"""The copies that `usrland backup` made of the home: an erasure is done in each of them as well.

A copy has a database of its own, so it gets an erasure of its own: its journal says so, and every hash in it
verifies as before. A copy that was changed, or that holds another memory, is left as it is and named.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio.from_thread
from sqlmodel import Session

from memory_snapshot import exports, forget
from memory_snapshot.forget import Erased
from memory_snapshot.state import States
from usrland import NotFound, Principal
from usrland.database import Database
from usrland.keeping import Draft, Reworked, copies, rework

__all__ = ["Copies"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """Where in a home, and so in its copies, the memory (`database`) and the log of calls (`calls`) are."""

    home: Path
    database: str
    calls: str
    opened: Callable[[str], Database]
    out_of_the_log: Callable[[str, Sequence[str]], Coroutine[Any, Any, None]]

    def since(self, moment: float) -> Sequence[str]:
        """Those that were made since then and are where they were put."""
        return copies(self.home, moment)

    def erase(self, principal: Principal, erased: Erased, *, first: str, since: str, moment: float) -> Reworked:
        """Erase in every copy what was erased here; for a worker thread of the event loop.

        `first` is the hash of the journal's first event, `since` the moment from which files may hold it.
        """
        return rework(self.home, moment, partial(self._erase, principal, erased, first, since))

    def _erase(self, principal: Principal, erased: Erased, first: str, since: str, draft: Draft) -> bool:
        file = _file(self.database)
        copied = file and draft.take(file)
        if copied is None:
            raise NotFound("it does not hold the memory.")
        database = self.opened(f"sqlite:///{copied}")
        states = States(None)
        try:
            follow = partial(forget.follow, states=states, principal=principal, erased=erased, first=first)
            database.write_now(follow)
            whole = self._clean_exports(database, states, principal, erased, since, draft)
            anyio.from_thread.run(database.scrub, "memory_body")
        finally:
            database.close()
        if (log := _file(self.calls)) is not None:
            if (copied := draft.take(log)) is not None:
                anyio.from_thread.run(self.out_of_the_log, f"sqlite:///{copied}", erased.texts)
        elif self.calls.startswith("sqlite"):
            whole = False
        return whole

    def _clean_exports(
        self,
        database: Database,
        states: States,
        principal: Principal,
        erased: Erased,
        since: str,
        draft: Draft,
    ) -> bool:
        """Whether every exported file that the copy may hold was found in it. Those outside of the home are not
        part of a copy."""

        def written(session: Session) -> Sequence[str]:
            return exports.written_since(session, states=states, principal=principal, at=since)

        def anew(head: str) -> bytes | None:
            work = partial(exports.native_anew, states=states, principal=principal, head=head)
            return database.read_now(work)

        paths = database.read_now(written)
        found = {path: draft.take(Path(path)) for path in paths}
        exports.clean([str(there) for there in found.values() if there is not None], erased, anew)
        home = self.home.resolve()
        return not any(
            there is None and (Path(path).resolve().is_relative_to(home) or not Path(path).exists())
            for path, there in found.items()
        )


def _file(url: str) -> Path | None:
    """The file, where it is one that is copied as a database."""
    path = url.removeprefix("sqlite:///")
    return Path(path) if path != url and path.endswith(".sqlite") else None
