"""RabbitMQ, NATS JetStream and MQTT, against the brokers that run here."""

from __future__ import annotations

import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest

from usrland.errors import Conflict, ConsentNeeded, Denied, InvalidInput, NotFound

Serve = Callable[..., AbstractAsyncContextManager[Any]]


def running(name: str, port: int) -> None:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        pytest.skip(f"{name} is not running here")


async def test_a_broker_that_is_not_there_or_refuses_is_a_problem_of_its_own(serve: Serve) -> None:
    running("RabbitMQ", 5672)
    toml = """
    [a]\nkind = "rabbitmq"\nurl = "amqp://x@127.0.0.1:1"\npassword = "env:P"
    [b]\nkind = "nats"\nurl = "nats://127.0.0.1:1"\n
    [c]\nkind = "mqtt"\nurl = "mqtt://127.0.0.1:1"\n
    [d]\nkind = "rabbitmq"\nurl = "amqp://guest@127.0.0.1"\npassword = "env:P"
    [e]\nkind = "nats"\nurl = "http://127.0.0.1"\n
    """
    async with serve(toml, P="wrong-word-1") as run:
        problems = await run.host.service.state["catalogue"].check()

    assert all("cannot be connected to" in problems[name] for name in "abc")
    assert "credentials" in problems["d"] and "nats://host" in problems["e"]
    assert "wrong-word-1" not in str(problems)


# -- RabbitMQ


@pytest.fixture
async def queue() -> AsyncIterator[str]:
    """A queue and an exchange of our own, gone at the end."""
    pika = pytest.importorskip("aio_pika")
    running("RabbitMQ", 5672)
    name = f"usrland.{secrets.token_hex(4)}"
    connection = await pika.connect("amqp://guest:guest@127.0.0.1/")
    channel = await connection.channel()
    declared = await channel.declare_queue(name, durable=True)
    exchange = await channel.declare_exchange(f"{name}.x", "topic")
    await declared.bind(exchange, "order.*")
    yield name
    await exchange.delete()
    await channel.queue_delete(name)
    await connection.close()


def rabbit(name: str, **keys: str) -> str:
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return (
        f'[work]\nkind = "rabbitmq"\nurl = "amqp://guest:guest@127.0.0.1/"\nwrite = true\n'
        f'queues = ["{name}"]\nexchanges = ["{name}.x"]\n{more}'
    )


async def test_rabbitmq_messages_are_published_seen_and_taken_with_an_answer(serve: Serve, queue: str) -> None:
    async with serve(rabbit(queue)) as run:
        first = await run("work_publish", queue=queue, text='{"n": 1}', idempotency_key="k-1")
        await run("work_publish", queue=queue, text='{"n": 1}', idempotency_key="k-1")
        await run("work_publish", exchange=f"{queue}.x", routing_key="order.new", text="two", headers={"a": "b"})
        preview = await run("work_publish", queue=queue, text="x", dry_run=True)
        seen = (await run("work_peek", queue=queue))["items"]
        taken = (await run("work_take", queue=queue, limit=5))["items"]
        empty = await run("work_take", queue=queue)
        await run("work_done", receipts=[taken[0]["receipt"]])
        await run("work_give_back", receipts=[taken[1]["receipt"]])
        with pytest.raises(Conflict, match="not held here"):
            await run("work_done", receipts=[taken[1]["receipt"]])
        left = (await run("work_peek", queue=queue))["items"]
        (state,) = (await run("work_status"))["items"]

    assert first["message_id"] == "k-1" == seen[0]["id"]
    assert [each["text"] for each in seen] == ['{"n": 1}', "two"] == [each["text"] for each in taken]
    assert seen[1]["headers"] == {"a": "b"} and "where 2 wait" in preview["would"]
    assert empty["items"] == [] and "empty" in empty["note"]
    assert [each["text"] for each in left] == ["two"] and left[0]["redelivered"]
    assert state["ready"] == 1


async def test_rabbitmq_gives_back_what_a_server_that_ends_had_taken(serve: Serve, queue: str) -> None:
    async with serve(rabbit(queue)) as run:
        await run("work_publish", queue=queue, text="x")
        (taken,) = (await run("work_take", queue=queue))["items"]
    async with serve(rabbit(queue)) as run:
        with pytest.raises(Conflict):
            await run("work_done", receipts=[taken["receipt"]])
        (again,) = (await run("work_take", queue=queue))["items"]

    assert again["text"] == "x" and again["redelivered"]


async def test_rabbitmq_keeps_to_its_queues_and_tells_what_nobody_would_get(serve: Serve, queue: str) -> None:
    async with serve(rabbit(queue)) as run:
        for refused in ({"queue": "other"}, {"exchange": "amq.topic"}):
            with pytest.raises(Denied):
                await run("work_publish", text="x", **refused)
        with pytest.raises(NotFound, match="was not kept"):
            await run("work_publish", exchange=f"{queue}.x", routing_key="nobody", text="x")
        with pytest.raises(InvalidInput, match="is ours"):
            await run("work_publish", queue=queue, text="x", headers={"x-deduplication-header": "1"})
    async with serve(rabbit(f"{queue}.none")) as run:
        with pytest.raises(NotFound):
            await run("work_peek", queue=f"{queue}.none")


# -- NATS


@pytest.fixture
async def stream() -> AsyncIterator[str]:
    """A stream of our own, gone at the end."""
    nats = pytest.importorskip("nats")
    running("NATS", 4222)
    name = f"usrland-{secrets.token_hex(4)}"
    client = await nats.connect("nats://127.0.0.1:4222")
    await client.jetstream().add_stream(name=name, subjects=[f"{name}.>"])
    yield name
    await client.jetstream().delete_stream(name)
    await client.close()


def nats_table(name: str) -> str:
    return f'[ev]\nkind = "nats"\nurl = "nats://127.0.0.1:4222"\nwrite = true\nstreams = ["{name}"]\n'


async def test_nats_keeps_a_message_once_for_a_key_even_where_our_memory_is_lost(
    serve: Serve, stream: str, tmp_path: Any
) -> None:
    arguments = {"subject": f"{stream}.new", "text": "one", "idempotency_key": "k-1"}
    async with serve(nats_table(stream)) as run:
        first = await run("ev_publish", **arguments)
    for file in (tmp_path / "home" / "enterprise-connectors").glob("calls.sqlite*"):
        file.unlink()
    async with serve(nats_table(stream)) as run:
        again = await run("ev_publish", **arguments)
        await run("ev_publish", subject=f"{stream}.old", text="two")
        (listed,) = (await run("ev_streams"))["items"]
        read = (await run("ev_read", stream=stream, limit=1))["items"]
        rest = (await run("ev_read", stream=stream, after=int(read[0]["id"])))["items"]
        only = (await run("ev_read", stream=stream, subject=f"{stream}.old"))["items"]
        with pytest.raises(ConsentNeeded) as asked:
            await run("ev_remove", stream=stream, sequence=1)
        await run("ev_remove", stream=stream, sequence=1, confirm_token=asked.value.token)
        left = (await run("ev_read", stream=stream))["items"]

    assert first["sequence"] == again["sequence"] == 1 and "already" in again["note"]
    assert listed["messages"] == 2
    assert [each["text"] for each in (*read, *rest)] == ["one", "two"]
    assert [each["text"] for each in only] == ["two"] == [each["text"] for each in left]


async def test_nats_messages_are_taken_and_answered_for_by_any_process(serve: Serve, stream: str) -> None:
    async with serve(nats_table(stream)) as run:
        for text in ("one", "two"):
            await run("ev_publish", subject=f"{stream}.new", text=text)
        taken = (await run("ev_take", stream=stream, limit=2))["items"]
        nothing = await run("ev_take", stream=stream, seconds=0.1)
    async with serve(nats_table(stream)) as run:
        await run("ev_done", receipts=[taken[0]["receipt"]])
        await run("ev_give_back", receipts=[taken[1]["receipt"]])
        again = (await run("ev_take", stream=stream, limit=2))["items"]
        for wrong in ("orders.new", "$JS.ACK.other.c.1.1.1.1.1", f"$JS.API.STREAM.PURGE.{stream}"):
            with pytest.raises((InvalidInput, Denied)):
                await run("ev_done", receipts=[wrong])

    assert nothing["items"] == [] and "Nothing came" in nothing["note"]
    assert [(each["text"], each.get("redelivered")) for each in again] == [("two", True)]


async def test_nats_keeps_to_its_streams(serve: Serve, stream: str) -> None:
    async with serve(nats_table(f"{stream}-other")) as run:
        with pytest.raises(Denied):
            await run("ev_publish", subject=f"{stream}.new", text="x")
        with pytest.raises(Denied):
            await run("ev_read", stream=stream)
        with pytest.raises(NotFound):
            await run("ev_publish", subject=f"nobody.keeps.{stream}", text="x")
        with pytest.raises(NotFound):
            await run("ev_read", stream=f"{stream}-other")
        assert (await run("ev_streams"))["items"] == []


# -- MQTT


def mqtt_table(topics: str) -> str:
    return f'[plant]\nkind = "mqtt"\nurl = "mqtt://127.0.0.1"\nwrite = true\ntopics = {topics}\n'


async def test_mqtt_state_is_published_read_and_cleared(serve: Serve) -> None:
    pytest.importorskip("aiomqtt")
    running("Mosquitto", 1883)
    topic = f"usrland/{secrets.token_hex(4)}"
    async with serve(mqtt_table(f'["{topic}/#"]')) as run:
        await run("plant_publish", topic=f"{topic}/a", text="on", retain=True, idempotency_key="k-1")
        replacing = await run("plant_publish", topic=f"{topic}/a", text="off", retain=True, dry_run=True)
        (kept,) = (await run("plant_listen", topic=f"{topic}/+"))["items"]
        with pytest.raises(ConsentNeeded) as asked:
            await run("plant_clear", topic=f"{topic}/a")
        await run("plant_clear", topic=f"{topic}/a", confirm_token=asked.value.token)
        assert (await run("plant_listen", topic=f"{topic}/#"))["items"] == []
        with pytest.raises(NotFound, match="keeps nothing"):
            await run("plant_clear", topic=f"{topic}/a", dry_run=True)

    assert "It replaces: on" in replacing["would"]
    assert kept["text"] == "on" and kept["note"] == "retained" and kept["headers"] == {"idempotency-key": "k-1"}


async def test_mqtt_hears_what_comes_while_it_listens(serve: Serve) -> None:
    aiomqtt = pytest.importorskip("aiomqtt")
    running("Mosquitto", 1883)
    topic = f"usrland/{secrets.token_hex(4)}"
    heard: list[Any] = []
    async with serve(mqtt_table(f'["{topic}/#"]')) as run, aiomqtt.Client("127.0.0.1") as other:

        async def listen() -> None:
            heard.extend((await run("plant_listen", topic=f"{topic}/b", seconds=15, limit=2))["items"])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            with anyio.fail_after(60):
                while not heard:  # nothing tells when the other one has subscribed
                    await other.publish(f"{topic}/b", b"\xff\x00", qos=1)
                    await anyio.sleep(0.05)

    assert len(heard) == 2 and heard[0]["base64"] == "/wA="


@pytest.mark.parametrize("asked", ["#", "usrland/#", "other/a", "+/x/a", "usrland/x", "usrland/x/a/b"])
async def test_mqtt_keeps_to_its_topics(serve: Serve, asked: str) -> None:
    async with serve(mqtt_table('["usrland/x/+"]')) as run:
        with pytest.raises(Denied, match="not available"):
            await run("plant_listen", topic=asked)
