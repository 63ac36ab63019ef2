"""Redis streams, against the Redis that runs here."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from usrland.errors import ConsentNeeded, Denied, InvalidInput, NotFound

Serve = Callable[..., AbstractAsyncContextManager[Any]]

URL = "redis://127.0.0.1:6379/9"


@pytest.fixture
async def name() -> AsyncIterator[str]:
    """A prefix of our own in the Redis that runs here; what is under it goes at the end."""
    redis = pytest.importorskip("redis.asyncio")
    client = redis.Redis.from_url(URL)
    try:
        await client.ping()
    except redis.ConnectionError:
        await client.aclose()
        pytest.skip("Redis is not running here")
    prefix = f"usrland:{secrets.token_hex(4)}"
    yield prefix
    for key in await client.keys(f"{prefix}*"):
        await client.delete(key)
    await client.aclose()


def table(name: str, **keys: str) -> str:
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f'[queue]\nkind = "redis"\nurl = "{URL}"\nstreams = ["{name}:*"]\nwrite = true\n{more}'


async def test_messages_are_added_read_in_order_and_taken_back(serve: Serve, name: str) -> None:
    stream = f"{name}:orders"
    async with serve(table(name)) as run:
        ids = [(await run("queue_add", stream=stream, fields={"n": str(n)}))["id"] for n in range(3)]
        listed = await run("queue_streams")
        oldest = await run("queue_read", stream=stream, limit=2)
        rest = await run("queue_read", stream=stream, after=oldest["items"][-1]["id"])
        newest = await run("queue_read", stream=stream, newest_first=True, limit=1)
        preview = await run("queue_remove", stream=stream, ids=[ids[1], "1-1"], dry_run=True)
        with pytest.raises(ConsentNeeded) as asked:
            await run("queue_remove", stream=stream, ids=[ids[1]])
        removed = await run("queue_remove", stream=stream, ids=[ids[1]], confirm_token=asked.value.token)
        left = await run("queue_read", stream=stream)

    assert [(each["name"], each["messages"], each["first"], each["last"]) for each in listed["items"]] == [
        (stream, 3, ids[0], ids[2])
    ]
    assert [item["fields"] for item in oldest["items"]] == [{"n": "0"}, {"n": "1"}] and oldest["more"]
    assert [item["id"] for item in rest["items"]] == [ids[2]] and not rest.get("more")
    assert [item["id"] for item in newest["items"]] == [ids[2]]
    assert preview["affected"] == removed["removed"] == 1
    assert [item["id"] for item in left["items"]] == [ids[0], ids[2]]


async def test_a_message_with_a_key_is_added_once_even_where_the_memory_of_it_is_lost(
    serve: Serve, name: str, tmp_path: Any
) -> None:
    stream, arguments = f"{name}:orders", {"fields": {"n": "1"}, "idempotency_key": "k-1"}
    async with serve(table(name)) as run:
        first = await run("queue_add", stream=stream, **arguments)
        again = await run("queue_add", stream=stream, **arguments)
    for file in (tmp_path / "home" / "enterprise-connectors").glob("calls.sqlite*"):
        file.unlink()
    async with serve(table(name)) as run:
        with pytest.raises(InvalidInput, match="another message"):
            await run("queue_add", stream=stream, fields={"n": "2"}, idempotency_key="k-1")
        after = await run("queue_add", stream=stream, **arguments)
        assert len((await run("queue_read", stream=stream))["items"]) == 1

    assert first["id"] == again["id"] == after["id"]
    assert "already" in after["note"]


async def test_only_the_streams_of_the_configuration_are_there(serve: Serve, name: str) -> None:
    async with serve(table(name)) as run:
        with pytest.raises(Denied, match="not available"):
            await run("queue_read", stream="other")
        with pytest.raises(Denied, match="not available"):
            await run("queue_add", stream="other", fields={"a": "b"}, dry_run=True)
        with pytest.raises(NotFound):
            await run("queue_read", stream=f"{name}:none")
        with pytest.raises(InvalidInput):
            await run("queue_read", stream=f"{name}:none", after="- COUNT 1")
        assert (await run("queue_streams"))["items"] == []


async def test_a_dry_run_adds_nothing_and_a_field_of_ours_is_refused(serve: Serve, name: str) -> None:
    stream = f"{name}:orders"
    async with serve(table(name)) as run:
        preview = await run("queue_add", stream=stream, fields={"a": "b"}, dry_run=True)
        with pytest.raises(InvalidInput, match="is ours"):
            await run("queue_add", stream=stream, fields={"idempotency-key": "x"})
        assert (await run("queue_streams"))["items"] == []

    assert "which holds 0" in preview["would"]


async def test_a_redis_that_is_not_there_is_a_problem_of_its_own(serve: Serve) -> None:
    pytest.importorskip("redis")
    async with serve('[queue]\nkind = "redis"\nurl = "redis://someone:pass-word-1@127.0.0.1:1"\n') as run:
        problems = await run.host.service.state["catalogue"].check()
    async with serve('[queue]\nkind = "redis"\nurl = "http://127.0.0.1"\n') as run:
        note = (await run("sys_find", request="streams"))["note"]

    assert "cannot be connected to" in problems["queue"] and "pass-word-1" not in problems["queue"]
    assert "redis://host" in note
