"""A GraphQL API, against a server that runs the language's reference implementation."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from enterprise_connectors.server import service
from usrland.errors import ConsentNeeded, Denied, InvalidInput
from usrland.pins import write_pins
from usrland.settings import Settings

Serve = Callable[..., AbstractAsyncContextManager[Any]]

SCHEMA = '''
"""A customer of ours."""
type Customer {
  id: ID!, name: String!, orders(first: Int! = 5): [Order!]!, friend: Customer, secretOf(key: ID!): String
}
type Order { id: ID!, total: Float, customer: Customer!, state: State! }
enum State { OPEN PAID }
input NewOrder { customer: ID!, total: Float!, note: Note }
input Note { text: String, urgent: Boolean = false }
type Query {
  "Find one customer."
  customer(id: ID!): Customer
  orders(state: State, cursor: String): [Order!]!
  count: Int!
}
type Mutation { placeOrder(order: NewOrder!): Order!, dropOrder(id: ID!): Boolean! }
'''


class Shop:
    url = ""
    seen: list[dict[str, Any]]
    keys: list[str | None]


@pytest.fixture
def shop() -> Iterator[Shop]:
    """An API with a key, in a thread; `seen` is what it was asked."""
    graphql = pytest.importorskip("graphql")
    schema = graphql.build_schema(SCHEMA)
    ann: dict[str, Any] = {"id": "1", "name": "Ann", "friend": {"id": "2", "name": "Bob"}}
    orders: dict[str, dict[str, Any]] = {"7": {"id": "7", "total": 1.5, "state": "OPEN", "customer": ann}}

    ann["orders"] = lambda _, first: list(orders.values())[:first]

    def found(_: Any, id: str) -> Any:
        if id == "boom":
            raise ValueError("the shop is on fire")
        return ann if id == "1" else None

    def place(_: Any, order: dict[str, Any]) -> dict[str, Any]:
        orders["8"] = {"id": "8", "total": order["total"], "state": "OPEN", "customer": ann}
        return orders["8"]

    root = {
        "customer": found,
        "orders": lambda _, **given: [
            each for each in orders.values() if given.get("state") in (None, each["state"])
        ],
        "count": lambda _: len(orders),
        "placeOrder": place,
        "dropOrder": lambda _, id: orders.pop(id, None) is not None,
    }
    api = Shop()
    api.seen, api.keys = [], []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, answer = 401, {"errors": [{"message": "who are you"}]}
            if self.headers["authorization"] == "Bearer shop-word-1":
                api.seen.append(asked)
                api.keys.append(self.headers["idempotency-key"])
                done = graphql.graphql_sync(schema, asked["query"], root, variable_values=asked["variables"])
                status, answer = 200, done.formatted
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the test output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_port}/graphql"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield api
    server.shutdown()
    server.server_close()
    thread.join()


def table(shop: Shop, more: str = "") -> str:
    auth = 'auth = {kind = "bearer", secret = "env:S"}'
    return f'[shop]\nkind = "graphql"\nurl = "{shop.url}"\nallow_private = true\nwrite = true\n{auth}\n{more}'


async def reviewed(home: Path, toml: str, secret: str = "shop-word-1") -> dict[str, str]:
    """What `usrland syscalls --accept` does; the problems it met."""

    def written() -> None:
        home.mkdir(exist_ok=True)
        (home / "connectors.toml").write_text(toml, encoding="utf-8")

    await anyio.to_thread.run_sync(written)
    settings = Settings(home=home, environment={"S": secret})
    catalogue = service(settings).state["catalogue"]
    problems: dict[str, str] = await catalogue.refresh()
    await catalogue.aclose()
    await anyio.to_thread.run_sync(lambda: write_pins(home, catalogue.reviewable()))
    return problems


async def test_fields_of_queries_and_mutations_are_operations_once_reviewed(
    serve: Serve, shop: Shop, tmp_path: Path
) -> None:
    toml = table(shop, '[shop.operations.drop_order]\neffect = "destroy"\n')
    async with serve(toml, S="shop-word-1") as run:
        before = await run("sys_find", request="customer")
    assert not await reviewed(tmp_path / "home", toml)
    async with serve(toml, S="shop-word-1") as run:
        found = await run("sys_find", request="find one customer")
        near = await run("shop_customer", id="1")
        chosen = await run("shop_orders", state="OPEN", fields=["id", "customer.friend.name"])
        counted = await run("shop_count")
        preview = await run("shop_place_order", order={"customer": "1", "total": 2.5}, dry_run=True)
        arguments = {
            "order": {"customer": '1"} evil', "total": 2.5, "note": {"text": "x"}},
            "idempotency_key": "k-1",
        }
        placed = await run("shop_place_order", **arguments)
        assert placed == await run("shop_place_order", **arguments)
        with pytest.raises(ConsentNeeded):
            await run("shop_drop_order", id="8")
        nothing = await run("shop_customer", id="9")

    assert before["operations"] == [] and "syscalls --diff" in before["note"]
    assert found["operations"][0]["name"] == "shop_customer"
    assert "friend" not in near["data"] and counted["data"] == 1  # a customer within a customer is not near
    assert near["data"]["orders"] == [{"id": "7", "total": 1.5, "state": "OPEN"}]
    assert chosen["data"] == [{"id": "7", "customer": {"friend": {"name": "Bob"}}}]
    assert "placeOrder" in preview["would"] and placed["data"]["total"] == 2.5
    assert nothing == {}
    orders = [each for each in shop.seen if "placeOrder" in each["query"]]
    assert len(orders) == 1 and shop.keys.count("k-1") == 1
    assert "evil" not in orders[0]["query"] and "evil" in json.dumps(orders[0]["variables"])


async def test_what_is_asked_for_is_names_of_the_schema_within_limits(
    serve: Serve, shop: Shop, tmp_path: Path
) -> None:
    await reviewed(tmp_path / "home", table(shop))
    count = len(shop.seen)
    async with serve(table(shop), S="shop-word-1") as run:
        for fields in (
            ["id } evil { x"],
            ["nothing"],
            ["secretOf"],
            ["name.first"],
            [".".join(["friend"] * 9)],
            ["__schema.types"],
        ):
            with pytest.raises(InvalidInput, match="fields"):
                await run("shop_customer", id="1", fields=fields)
        with pytest.raises(InvalidInput):
            await run("shop_orders", state="LOST")
        with pytest.raises(InvalidInput):
            await run("shop_place_order", order={"customer": "1"})
        assert len(shop.seen) == count
        assert (await run("shop_orders", cursor_="x"))["data"]  # `cursor` is the call path's own


async def test_errors_of_the_api_and_its_refusals_are_told(serve: Serve, shop: Shop, tmp_path: Path) -> None:
    refused = await reviewed(tmp_path / "home", table(shop), secret="wrong-word-1")
    await reviewed(tmp_path / "home", table(shop))
    async with serve(table(shop), S="shop-word-1") as run:
        with pytest.raises(InvalidInput, match="the shop is on fire"):
            await run("shop_customer", id="boom")
        partly = await run("shop_customer", id="1", fields=["name", "friend.orders.id"])  # Bob has none
    async with serve(table(shop), S="wrong-word-1") as run:
        with pytest.raises(Denied, match="401"):
            await run("shop_count")
    async with serve(table(shop).replace("allow_private = true\n", ""), S="shop-word-1") as run:
        with pytest.raises(Denied, match="not contacted"):
            await run("shop_count")

    assert partly["data"] == {"name": "Ann", "friend": None} and "non-nullable" in partly["errors"][0]
    assert "401" in refused["shop"] and "wrong-word-1" not in refused["shop"]
