from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from sqlalchemy import inspect

import usrland.audit
from memory_snapshot.server import INSTRUCTIONS, MIGRATIONS, MemorySettings, service
from usrland import InvalidInput, Principal
from usrland.database import Database
from usrland.host import Host, running
from usrland.settings import Settings
from usrland.testing.listing import cost

AUDIT_MIGRATIONS = Path(usrland.audit.__file__).parent / "migrations"
WORDS_ONLY = {"memory-snapshot": {"embedding": "none"}}


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    settings = Settings(home=tmp_path / "home", tables=WORDS_ONLY)
    async with running(service(settings), settings) as host:
        yield host


async def call(client: Client, name: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def test_a_session_is_saved_and_the_next_one_takes_it_up(host: Host) -> None:
    async with Client(host.server) as client:
        items = [
            {"text": "Answer in Italian", "kind": "instruction", "source": {"origin": "direct_user"}},
            {"text": "The release is on Friday", "key": "release", "tags": ["plan"]},
        ]
        remembered = await call(client, "memory_remember", items=items)
        taken = await call(client, "memory_snapshot", message="planned the release", reason="pre_compact")
    async with Client(host.server) as client:
        restored = await call(client, "memory_restore")
        found = await call(client, "memory_recall", query="when is the release?")
        log = await call(client, "memory_history")

    assert remembered["duplicates"] == 0
    assert restored["snapshot"] == taken["id"] == log["items"][0]["id"]
    assert "Answer in Italian" in restored["text"]
    assert found["items"][0]["text"] == "The release is on Friday"


async def test_the_working_set_is_a_resource(host: Host) -> None:
    async with Client(host.server) as client:
        await call(client, "memory_remember", items=[{"text": "The release is on Friday"}])
        resource = await client.read_resource("memory://working-set")

    assert "The release is on Friday" in resource.contents[0].text  # type: ignore[union-attr]


async def test_a_retried_write_has_one_effect(host: Host) -> None:
    async with Client(host.server) as client:
        arguments = {"message": "once", "idempotency_key": "k1"}
        first = await call(client, "memory_snapshot", **arguments)
        again = await call(client, "memory_snapshot", **arguments)
        log = await call(client, "memory_history")

    assert first == again
    assert log["total"] == 1


async def test_an_item_that_is_mistyped_is_refused_by_its_field(host: Host) -> None:
    async with Client(host.server) as client:
        for item, said in (
            ({"text": "x", "knd": "fact"}, "knd"),
            ({"text": 5}, "text"),
            ({"text": "x", "kind": "no"}, "kind"),
        ):
            result = await client.call_tool("memory_remember", {"items": [item]})
            assert result.is_error
            assert said in result.content[0].text  # type: ignore[union-attr]


async def test_a_reader_is_not_shown_what_writes(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", tables=WORDS_ONLY)
    reader = Principal(subject="eve", scopes=frozenset({"memory:read"}))
    async with running(service(settings), settings, principal=reader) as host, Client(host.server) as client:
        listed = {tool.name for tool in (await client.list_tools()).tools}

    assert listed == {"memory_restore", "memory_recall", "memory_history", "memory_diff", "memory_status"}


async def test_the_tools_cost_a_conversation_no_more_than_they_may(host: Host) -> None:
    async with Client(host.server) as client:
        tools = [
            tool.model_dump(exclude_none=True, by_alias=True, mode="json")
            for tool in (await client.list_tools()).tools
        ]
    text = json.dumps(tools)

    assert len(tools) == 13
    assert cost(tools) <= 2_500
    for banned in ('"$ref"', '"anyOf"', '"null"', '"$defs"'):
        assert banned not in text


def test_the_instructions_stand_alone_and_name_the_two_calls_that_matter() -> None:
    assert len(INSTRUCTIONS) <= 512
    assert "memory_restore" in INSTRUCTIONS
    assert "memory_snapshot" in INSTRUCTIONS


def test_the_server_lists_its_tools_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from usrland.settings import Settings; from memory_snapshot.server import service;"
        "service(Settings(home=pathlib.Path(sys.argv[1])));"
        "print(*sorted({'sqlalchemy','sqlmodel','alembic','lancedb','pyarrow','numpy','onnxruntime','tokenizers',"
        "'bpe_openai._bindings','httpx'} & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout

    assert printed.split() == []


def test_two_databases_that_open_at_the_same_time_each_get_their_own_tables(tmp_path: Path) -> None:
    databases = [
        Database(f"sqlite:///{tmp_path / f'{number}-{name}.sqlite'}", [folder])
        for number in range(3)
        for name, folder in (("calls", AUDIT_MIGRATIONS), ("memory", MIGRATIONS))
    ]
    with ThreadPoolExecutor(len(databases)) as pool:
        engines = list(pool.map(Database.open, databases))

    for place, engine in enumerate(engines):
        assert any(table.startswith("memory_") for table in inspect(engine).get_table_names()) == bool(place % 2)
    for database in databases:
        database.close()


def test_a_database_can_be_named_by_a_secret(tmp_path: Path) -> None:
    tables = {"memory-snapshot": {"database": "env:MEMORY_DATABASE"}}
    with pytest.raises(InvalidInput, match="MEMORY_DATABASE"):
        service(Settings(home=tmp_path, tables=tables))
    service(
        Settings(home=tmp_path, tables=tables, environment={"MEMORY_DATABASE": "postgresql://nobody@localhost/x"})
    )


@pytest.mark.parametrize(
    "wrong", [{"reliable": 1.5}, {"window_tokens": 0}, {"kernel": "hal-9000"}, {"databas": ""}]
)
def test_a_setting_that_makes_no_sense_stops_the_start(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        service(Settings(home=tmp_path, tables={"memory-snapshot": wrong}))


def test_the_settings_have_the_defaults_that_are_documented() -> None:
    assert MemorySettings().model_dump() == {
        "database": "",
        "embedding": "minilm",
        "transfers": "",
        "secrets": "refuse",
        "quota_items": 100_000,
        "quota_tokens": 50_000_000,
        "anchor": "",
        "kernel": "",
        "window_tokens": 200_000,
        "reliable": 0.65,
        "kernels": {},
    }


def test_no_acknowledged_write_is_lost_when_servers_on_one_home_are_killed() -> None:
    script = Path(__file__).parent.parent / "faults" / "acknowledged_writes.py"
    done = subprocess.run(
        # with this seed each of the four is killed; without one, none is in one run of twenty
        [sys.executable, script, "--runs", "1", "--writes", "8", "--embedding", "none", "--seed", "268"],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 lost, 0 doubled, 0 journals broken" in done.stdout
    assert " 0 kills" not in done.stdout
