"""A memory server on an empty store, called as its host would call it, and its tables within reach."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from memory_snapshot.memory import Memory
from memory_snapshot.server import MIGRATIONS, service
from memory_snapshot.verify import Verification
from memory_snapshot.wire import (
    Branches,
    Compacted,
    Diff,
    Forgotten,
    HistoryEntry,
    Item,
    Merged,
    Note,
    RecallHit,
    Remembered,
    Restored,
    RolledBack,
    SnapshotTaken,
    Status,
    Transferred,
)
from usrland import Call, Page, Principal
from usrland.database import Database
from usrland.settings import Settings

ANN = Principal(subject="ann", scopes=frozenset({"*"}))


class Desk:
    """One process at the store: the operations, with plain words taken as items."""

    def __init__(self, settings: Settings, url: str) -> None:
        self.settings = settings
        self.service = service(settings)
        self.memory: Memory = self.service.state["memory"]
        self.database = Database(url, [MIGRATIONS])

    def call(self, who: Principal = ANN, offset: int = 0) -> Call:
        return Call(id="test", principal=who, operation="test", offset=offset)

    async def remember(self, *items: str | Item, who: Principal = ANN, **more: Any) -> Remembered:
        return await self.memory.memory_remember(_items(items), self.call(who), **more)

    async def snapshot(self, message: str, *items: str | Item, who: Principal = ANN, **more: Any) -> SnapshotTaken:
        notes = [Note(text=item.text, kind=item.kind, key=item.key) for item in _items(items)]
        return await self.memory.memory_snapshot(message, self.call(who), notes, **more)

    async def recall(self, query: str, who: Principal = ANN, **more: Any) -> Page[RecallHit]:
        return await self.memory.memory_recall(query, self.call(who), **more)

    async def recalled(self, query: str, **more: Any) -> list[str]:
        return [hit.text for hit in (await self.recall(query, **more)).items]

    async def restore(self, who: Principal = ANN, **more: Any) -> Restored:
        return await self.memory.memory_restore(self.call(who), **more)

    async def history(self, who: Principal = ANN, offset: int = 0, **more: Any) -> Page[HistoryEntry]:
        return await self.memory.memory_history(self.call(who, offset), **more)

    async def branch(self, action: str, name: str = "", who: Principal = ANN, **more: Any) -> Branches:
        return await self.memory.memory_branch(self.call(who), action, name, **more)  # type: ignore[arg-type]

    async def diff(self, a: str, b: str = "HEAD", who: Principal = ANN, offset: int = 0, **more: Any) -> Diff:
        return await self.memory.memory_diff(a, self.call(who, offset), b, **more)

    async def merge(self, source: str, who: Principal = ANN, **more: Any) -> Merged:
        return await self.memory.memory_merge(source, self.call(who), **more)

    async def rollback(self, to: str, who: Principal = ANN, **more: Any) -> RolledBack:
        return await self.memory.memory_rollback(to, self.call(who), **more)

    async def forget(self, *ids: str, who: Principal = ANN, **more: Any) -> Forgotten:
        return await self.memory.memory_forget(self.call(who), list(ids), **more)

    async def compact(self, who: Principal = ANN, **more: Any) -> Compacted:
        return await self.memory.memory_compact(self.call(who), **more)

    async def transfer(self, action: Any, path: str, who: Principal = ANN, **more: Any) -> Transferred:
        return await self.memory.memory_transfer(action, path, self.call(who), **more)

    async def status(self, who: Principal = ANN, **more: Any) -> Status:
        return await self.memory.memory_status(self.call(who), **more)

    async def texts(self, ref: str = "HEAD", who: Principal = ANN) -> list[str]:
        """What stands, in the order it was said."""
        text = (await self.restore(ref=ref, who=who, mode="full", budget_tokens=20_000)).text
        return [line.split(": ", 1)[1] for line in text.splitlines() if line.startswith("[")]

    @property
    def transfers(self) -> Path:
        return self.settings.data("memory-snapshot") / "transfer"

    async def verify(self, who: Principal = ANN) -> Verification:
        return await self.memory.verify(who)

    async def sql(self, statement: str) -> None:
        """Change the store behind the server's back."""
        await self.database.write(lambda session: session.execute(text(statement)))

    async def ask(self, statement: str) -> Sequence[Any]:
        return await self.database.read(lambda session: list(session.execute(text(statement)).scalars()))

    async def unguard(self) -> None:
        """Do what the owner of a database can do: remove the triggers."""
        if self.database.is_sqlite:
            names = await self.ask("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for name in names:
                await self.sql(f"DROP TRIGGER {name}")
        else:
            await self.sql("DROP FUNCTION memory_refuse_change CASCADE")


def _items(items: Sequence[str | Item]) -> list[Item]:
    return [Item(text=item) if isinstance(item, str) else item for item in items]


Sit = Callable[..., Desk]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'home' / 'memory-snapshot' / 'memory.sqlite'}"
    return str(request.getfixturevalue("postgresql")())


@pytest.fixture
async def sit(tmp_path: Path, url: str) -> AsyncIterator[Sit]:
    """Start another process's worth of server at the same store."""
    desks: list[Desk] = []

    def make(**table: Any) -> Desk:
        tables = {"memory-snapshot": {"embedding": "none", "database": url, **table}}
        desks.append(Desk(Settings(home=tmp_path / "home", tables=tables), url))
        return desks[-1]

    yield make
    for desk in desks:
        desk.memory.close()
        desk.database.close()


@pytest.fixture
def desk(sit: Sit) -> Desk:
    return sit()
