"""A home that was used for a while."""

from __future__ import annotations

from pathlib import Path

from mcp import Client

from filesystem_retrieval.server import service as files
from memory_snapshot.server import service as memory
from usrland.host import running
from usrland.settings import Settings

__all__ = ["TEXTS", "live"]

TEXTS = [f"The ferry number {number} leaves at {number % 24}:00 from the north quay." for number in range(40)]


async def live(top: Path) -> None:
    """Make `home` with memories, files and their versions, and the calls that made them."""
    home, docs = top / "home", top / "docs"
    docs.mkdir()
    home.mkdir()
    for number, text in enumerate(TEXTS):
        (docs / f"{number}.md").write_text(f"# {number}\n\n{text}\n" * 5, encoding="utf-8")
    (home / "usrland.toml").write_text(
        '[filesystem-retrieval]\nembedding = "none"\n'
        f'roots = {{ docs = {{ folder = "{docs}", writable = true }} }}\n'
        '[memory-snapshot]\nembedding = "none"\n',
        encoding="utf-8",
    )
    settings = Settings.load(home, {})
    service = files(settings)
    await service.state["index_once"]()
    async with running(service, settings) as host, Client(host.server) as client:
        for number in range(5):
            arguments = {"path": f"docs/new{number}.md", "content": TEXTS[number] * 20}
            assert not (await client.call_tool("fs_write", arguments)).is_error
    async with running(memory(settings), settings) as host, Client(host.server) as client:
        items = [{"text": text} for text in TEXTS]
        assert not (await client.call_tool("memory_remember", {"items": items[:20]})).is_error
        assert not (await client.call_tool("memory_snapshot", {"message": "m", "items": items[20:]})).is_error
        assert not (await client.call_tool("memory_branch", {"action": "create", "name": "trial"})).is_error
        await client.call_tool("memory_recall", {"query": "ferry"})
        keyed = {"items": [{"text": "Said once."}], "idempotency_key": "once"}
        assert not (await client.call_tool("memory_remember", keyed)).is_error
