"""A folder, a server over it, and the real model behind a counter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from counting import Counting

from filesystem_retrieval.library import Library
from filesystem_retrieval.server import service
from usrland.connector import Call
from usrland.embedding import Embedder
from usrland.schemas.principal import Principal
from usrland.settings import Settings

SERVER = "filesystem-retrieval"


@dataclass
class Desk:
    """One installation: its home, its roots, and a caller."""

    home: Path
    folder: Path
    table: dict[str, Any]
    model: Counting
    call: Call = field(
        default_factory=lambda: Call(
            id="t", principal=Principal(subject="t", scopes=frozenset({"*"})), operation="x"
        )
    )

    def __post_init__(self) -> None:
        self.restart()

    def restart(self, **options: Any) -> None:
        """As after the end of the process: only what is on the disk remains. `options` are of the library."""
        from filesystem_retrieval.config import Table

        settings = Settings(home=self.home, tables={SERVER: self.table})
        self.server = service(settings)
        self.library = Library(settings, Table.model_validate(self.table), self.model, **options)

    def write(self, path: str, content: str | bytes) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    async def index(self) -> None:
        await self.library.index_once()

    async def search(self, query: str, **arguments: Any) -> Any:
        from filesystem_retrieval.searching import Wish, search
        from filesystem_retrieval.selection import Selection

        chosen = {name: arguments.pop(name, None) for name in ("glob", "kind", "label", "after", "before")}
        wish = Wish(query=query, selection=Selection.of(**chosen), **arguments)
        self.library.indexer.expect_change()  # no waiting for the next scan to be due
        return await search(self.library, self.call, wish)

    async def found(self, query: str, **arguments: Any) -> list[str]:
        return [passage.path for passage in (await self.search(query, **arguments)).items]

    async def scan(self) -> None:
        """Have the server see what is on the disk now."""
        await self.server.state["index_once"]()

    async def history(self, path: str) -> Any:
        await self.scan()
        return await self.use("fs_history", path)

    async def use(self, tool: str, *arguments: Any, **named: Any) -> Any:
        """Call a tool as the server declares it."""
        return await self.server.operation(tool).call(*arguments, call=self.call, **named)


@pytest.fixture
def make_desk(tmp_path: Path, minilm: Embedder) -> Callable[..., Desk]:
    def make(**table: Any) -> Desk:
        folder = tmp_path / "docs"
        folder.mkdir(exist_ok=True)
        table = {"roots": {"docs": {"folder": str(folder)}}, "embedding": "none", **table}
        return Desk(home=tmp_path / "home", folder=folder, table=table, model=Counting(minilm))

    return make


@pytest.fixture
def writable(make_desk: Callable[..., Desk], tmp_path: Path) -> Desk:
    """A desk whose root may be written to."""
    return make_desk(roots={"docs": {"folder": str(tmp_path / "docs"), "writable": True}})


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    return make_desk()
