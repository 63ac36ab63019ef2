"""Resources, prompts, completion, subscriptions and questions through a real client, in both eras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import anyio
import anyio.lowlevel
import pytest
from mcp import Client, MCPError
from mcp.types import (
    ElicitRequestParams,
    ElicitResult,
    PromptReference,
    ResourceTemplateReference,
    ResourceUpdatedNotification,
)
from pydantic import BaseModel, Field

from usrland import (
    Answer,
    Call,
    NotFound,
    Operation,
    Principal,
    Prompt,
    PromptArgument,
    Read,
    Resource,
    ResourceTemplate,
    Service,
    Suggestions,
)
from usrland.host import Host, running
from usrland.settings import Settings

Connect = Callable[..., Any]
READ = frozenset({"shelf:read"})
BOOKS = {"ada": "Notes on the engine", "alan": "On computable numbers", "grace": "The education of a computer"}
TEMPLATE = "shelf://books/{name}{?edition}"


class Book(Answer):
    text: str


class Wish(BaseModel):
    colour: Literal["red", "blue"] = Field(description="Of the cover.")
    copies: int = 1


class Shelf:
    """Three books, and what was ordered."""

    def __init__(self) -> None:
        self.orders: list[str] = []

    async def book(self, name: str, edition: str = "1") -> Book:
        """Read a book."""
        if name not in BOOKS:
            raise NotFound(f"there is no book {name!r}.")
        return Book(text=f"{BOOKS[name]}, edition {edition}")

    async def books(self, prefix: str, edition: str = "") -> Suggestions:
        """Suggest names."""
        found = [name + edition for name in BOOKS if name.startswith(prefix)]
        return Suggestions(values=found * 60, total=len(found) * 60)

    async def order(self, call: Call, name: str) -> Book:
        """Order a book, in the colour and number the person wishes."""
        wish = await call.ask(f"How shall {name} come?", Wish)
        if wish is None:
            return Book(text="not ordered")
        sure = await call.ask("Are you sure?", Wish)
        self.orders.append(name)
        return Book(text=f"{wish.copies} {wish.colour} {name}, {sure.colour if sure else 'unsure'}")


async def compare(blanks: Mapping[str, str], read: Read) -> str:
    texts = [(await read("book", {"name": blanks[which]}))["text"] for which in ("one", "other")]
    return "Compare: " + " / ".join(texts)


def shelf(_: Settings) -> Service:
    kept = Shelf()
    return Service(
        name="shelf",
        title="Shelf",
        description="Books.",
        instructions="For tests.",
        operations=[
            Operation(call=kept.book, effect="read", scopes=READ),
            Operation(call=kept.books, effect="read", scopes=READ, visible=False),
            Operation(call=kept.order, effect="write", scopes=frozenset({"shelf:write"}), timeout_seconds=0.5),
        ],
        resources=[
            Resource(
                uri="shelf://first", name="first", description="A", operation="book", arguments={"name": "ada"}
            )
        ],
        resource_templates=[
            ResourceTemplate(
                uri=TEMPLATE,
                name="book",
                description="One book.",
                operation="book",
                show="text",
                complete={"name": "books"},
            )
        ],
        prompts=[
            Prompt(
                name="compare",
                title="Compare two books",
                description="Both texts and the question.",
                operations=["book"],
                compose=compare,
                arguments=[
                    PromptArgument(name="one", description="A name.", required=True, complete="books"),
                    PromptArgument(name="other", description="Another.", required=True),
                ],
            )
        ],
        state={"shelf": kept},
    )


@pytest.fixture
async def host(settings: Settings) -> Any:
    async with running(shelf(settings), settings) as host:
        yield host


async def test_a_template_stands_for_a_call_with_the_variables_of_its_uri(host: Host, connect: Connect) -> None:
    async with connect(host) as client:
        template, *_ = (await client.list_resource_templates()).resource_templates
        plain = await client.read_resource("shelf://books/alan")
        second = await client.read_resource("shelf://books/ada?edition=2")
        with pytest.raises(MCPError, match=r"there is no book 'eve'"):
            await client.read_resource("shelf://books/eve")
        with pytest.raises(MCPError, match=r"there is no resource"):
            await client.read_resource("shelf://films/alan")

    assert template.uri_template == TEMPLATE
    assert plain.contents[0].text == "On computable numbers, edition 1"
    assert second.contents[0].text == "Notes on the engine, edition 2"


async def test_a_prompt_reads_through_the_call_path_and_checks_its_blanks(host: Host, connect: Connect) -> None:
    async with connect(host) as client:
        (prompt,) = (await client.list_prompts()).prompts
        got = await client.get_prompt("compare", {"one": "ada", "other": "alan"})
        for arguments, said in (
            ({"one": "ada"}, "compare needs other"),
            ({"one": "ada", "other": "alan", "third": "x"}, "unknown argument 'third'"),
            ({"one": "ada", "other": "eve"}, "there is no book 'eve'"),
        ):
            with pytest.raises(MCPError, match=said):
                await client.get_prompt("compare", arguments)
        with pytest.raises(MCPError, match="Did you mean 'compare'"):
            await client.get_prompt("compar", {})

    assert [(a.name, a.required) for a in prompt.arguments or []] == [("one", True), ("other", True)]
    assert got.messages[0].content.text == (
        "Compare: Notes on the engine, edition 1 / On computable numbers, edition 1"
    )


async def test_blanks_are_completed_with_what_is_known_already(host: Host, connect: Connect) -> None:
    template, prompt = ResourceTemplateReference(uri=TEMPLATE), PromptReference(name="compare")
    async with connect(host) as client:
        some = (await client.complete(template, {"name": "name", "value": "a"})).completion
        known = await client.complete(
            template, {"name": "name", "value": "g"}, context_arguments={"edition": "2", "other": "x"}
        )
        of_prompt = (await client.complete(prompt, {"name": "one", "value": "gr"})).completion
        nothing = (await client.complete(prompt, {"name": "other", "value": "gr"})).completion
        with pytest.raises(MCPError, match="no resource template"):
            await client.complete(ResourceTemplateReference(uri="shelf://{x}"), {"name": "x", "value": ""})

    assert (some.values[:2], len(some.values), some.total, some.has_more) == (["ada", "alan"], 100, 120, True)
    assert known.completion.values[0] == "grace2"
    assert of_prompt.values[0] == "grace"
    assert nothing.values == []


async def test_who_may_not_read_sees_and_completes_nothing(
    settings: Settings, connect: Connect, someone: Callable[..., Principal]
) -> None:
    async with (
        running(shelf(settings), settings, principal=someone("shelf:write")) as host,
        connect(host) as client,
    ):
        assert (await client.list_resources()).resources == []
        assert (await client.list_resource_templates()).resource_templates == []
        assert (await client.list_prompts()).prompts == []
        for refused in (
            client.read_resource("shelf://books/ada"),
            client.get_prompt("compare", {"one": "ada", "other": "alan"}),
            client.complete(ResourceTemplateReference(uri=TEMPLATE), {"name": "name", "value": "a"}),
            client.complete(PromptReference(name="compare"), {"name": "one", "value": "a"}),
            client.call_tool("books", {"prefix": "a"}),
        ):
            try:
                answer = await refused
            except MCPError as error:
                assert "there is no" in str(error)
            else:
                assert answer.is_error
                assert "there is no operation 'books'" in answer.content[0].text


async def test_who_subscribed_hears_of_changes_that_are_theirs(
    settings: Settings, someone: Callable[..., Principal]
) -> None:
    """2026-07-28: a stream, asked for only what the caller may read."""
    reader = someone("shelf:read")
    async with running(shelf(settings), settings, principal=reader) as host, Client(host.server) as client:
        changes = host.service.changes
        assert not changes.heard
        uris = ["shelf://books/ada", "shelf://nowhere"]
        async with client.listen(resource_subscriptions=uris) as stream:
            assert stream.honored.resource_subscriptions == ["shelf://books/ada"]
            changes.tell("shelf://books/alan")
            changes.tell("shelf://books/ada", tenant="another")
            changes.tell("shelf://books/ada", namespace="another")
            changes.tell("shelf://books/ada", scopes=frozenset({"shelf:secret"}))
            changes.tell("shelf://books/ada", tenant=reader.tenant, namespace=reader.namespace, scopes=READ)
            host.menu.close()
            heard = [event.uri async for event in stream]
        assert heard == ["shelf://books/ada"]
        with anyio.fail_after(60):
            while changes.heard:
                await anyio.lowlevel.checkpoint()


@pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
async def test_a_connection_of_the_older_eras_can_subscribe_and_unsubscribe(host: Host) -> None:
    told: list[str] = []
    enough = anyio.Event()

    async def hear(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            told.append(str(message.params.uri))
            if told[-1] == "shelf://first":
                enough.set()

    changes = host.service.changes
    async with Client(host.server, mode="legacy", message_handler=hear) as client:
        for uri in ("shelf://books/ada", "shelf://books/alan", "shelf://first"):
            await client.subscribe_resource(uri)
        await client.unsubscribe_resource("shelf://books/alan")
        with pytest.raises(MCPError, match="no resource"):
            await client.subscribe_resource("shelf://nowhere")
        for uri in ("shelf://books/alan", "shelf://books/ada", "shelf://books/ada", "shelf://first"):
            changes.tell(uri)
        with anyio.fail_after(60):
            await enough.wait()
    assert told == ["shelf://books/ada", "shelf://first"]
    assert not changes.heard


@pytest.mark.parametrize(
    ("replies", "said", "ordered"),
    [
        ([{"colour": "red", "copies": 2}, {"colour": "blue"}], "2 red ada, blue", ["ada"]),
        ([{"colour": "red"}, None], "1 red ada, unsure", ["ada"]),
        ([None], "not ordered", []),
    ],
)
async def test_an_operation_can_ask_the_person_and_is_done_once(
    host: Host, connect: Connect, replies: list[dict[str, Any] | None], said: str, ordered: list[str]
) -> None:
    asked: list[ElicitRequestParams] = []

    async def answer(context: Any, params: ElicitRequestParams) -> ElicitResult:
        await anyio.sleep(0.7)  # longer than the operation may take
        reply = replies[len(asked)]
        asked.append(params)
        return ElicitResult(action="accept" if reply else "decline", content=reply)

    async with connect(host, elicitation_callback=answer) as client:
        result = await client.call_tool("order", {"name": "ada", "idempotency_key": "k1"})
        again = await client.call_tool("order", {"name": "ada", "idempotency_key": "k1"})

    assert result.structured_content == again.structured_content == {"text": said}
    assert host.service.state["shelf"].orders == ordered
    assert [question.message for question in asked] == ["How shall ada come?", "Are you sure?"][: len(replies)]
    assert asked[0].requested_schema["properties"]["colour"]["enum"] == ["red", "blue"]


async def test_a_reply_that_does_not_fit_is_refused_and_nothing_is_done(host: Host, connect: Connect) -> None:
    async def answer(context: Any, params: ElicitRequestParams) -> ElicitResult:
        return ElicitResult(action="accept", content={"colour": "green"})

    async with connect(host, elicitation_callback=answer) as client:
        result = await client.call_tool("order", {"name": "ada"})

    assert result.is_error
    assert "[invalid_input] the reply does not fit: colour" in result.content[0].text
    assert host.service.state["shelf"].orders == []


async def test_where_nobody_can_be_asked_the_operation_goes_on_without(host: Host, connect: Connect) -> None:
    async with connect(host) as client:
        result = await client.call_tool("order", {"name": "ada"})

    assert result.structured_content == {"text": "not ordered"}


def test_what_stands_for_a_write_is_refused_when_the_service_is_made(settings: Settings) -> None:
    kept = Shelf()
    with pytest.raises(ValueError, match="'order' stands behind a resource or prompt and is no read operation"):
        Service(
            name="shelf",
            title="Shelf",
            description="Books.",
            instructions="",
            operations=[Operation(call=kept.order, effect="write", scopes=READ)],
            resources=[Resource(uri="shelf://x", name="x", description="X", operation="order")],
        )
