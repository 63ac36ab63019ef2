"""The connector beside others: found by its kind, and governed like every other."""

from __future__ import annotations

from pathlib import Path

from mcp import Client

from enterprise_connectors.server import service
from usrland.host import running
from usrland.settings import Settings


async def test_a_table_of_connectors_toml_is_all_it_takes(tmp_path: Path) -> None:
    file = (tmp_path / "tasks.sqlite").as_posix()
    table = f'[tasks]\nkind = "example"\nwrite = true\nfile = "{file}"\n'
    (tmp_path / "connectors.toml").write_text(table, encoding="utf-8")
    settings = Settings.load(tmp_path, environment={})

    async with running(service(settings), settings) as host, Client(host.server) as client:
        added = await client.call_tool("tasks_task_add", {"title": "Write the offer"})
        found = await client.call_tool("tasks_task_find", {})

    assert (found.structured_content or {})["items"] == [added.structured_content]


def test_without_a_grant_it_is_listed_only_to_read(tmp_path: Path) -> None:
    table = '[tasks]\nkind = "example"\nfile = "tasks.sqlite"\n'
    (tmp_path / "connectors.toml").write_text(table, encoding="utf-8")

    names = [operation.name for operation in service(Settings.load(tmp_path, environment={})).operations]

    assert "tasks_task_find" in names
    assert "tasks_task_remove" not in names, "nothing said that it may write"
