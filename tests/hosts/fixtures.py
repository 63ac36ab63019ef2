"""A server with what the official conformance suite asks a server to have. Served by the real host; never shipped.

    python tests/hosts/fixtures.py --transport http --port 0 --home FOLDER

What our contract can say (tools, progress, questions, resources, templates, prompts, completion) is said with it
and goes through the call path. What no server of ours ever needs (pictures and sounds, a model called by the
server, several questions at once, log messages to the client) is answered by handlers put before the host's own,
so that the scenarios for it test our transport, sessions and middleware all the same.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal

import anyio
from mcp import types
from mcp.server import Server
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, ConfigDict, Field

import usrland.host
from usrland import Answer, Call, InvalidInput, Operation, Service
from usrland.connector import Prompt, PromptArgument, Read, Resource, ResourceTemplate
from usrland.launch import launch
from usrland.settings import Settings

READ = frozenset({"test:read"})
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
WAV = base64.b64encode(b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0@\x1f\0\0\1\0\x08\0data\0\0\0\0").decode()
NAMES: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


# -- said with our contract


class Text(Answer):
    text: str


class Datum(Answer):
    id: str
    templateTest: bool = True
    data: str


class Suggestions(Answer):
    values: list[str]


class Person(BaseModel):
    username: str = Field(description="User's response")
    email: str = Field(description="User's email address")


class Details(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: Literal["active", "inactive", "pending"] = "active"
    verified: bool = True


async def test_simple_text() -> Text:
    """Answer with a plain text."""
    return Text(text="This is a simple text response for testing.")


async def test_error_handling() -> Text:
    """Fail in a foreseen way."""
    raise InvalidInput("This tool intentionally returns an error for testing")


async def test_tool_with_progress(call: Call) -> Text:
    """Tell how far it has come."""
    for done in (0, 50, 100):
        await call.progress(done, 100)
        await anyio.sleep(0.05)
    return Text(text="done")


async def test_elicitation(call: Call, message: Annotated[str, Field(description="The question.")]) -> Text:
    """Ask the person for a name and an address."""
    person = await call.ask(message, Person)
    return Text(text=f"User response: {person.model_dump_json() if person else 'declined'}")


async def datum(id: str) -> Datum:
    """Read one thing by its number."""
    return Datum(id=id, data=f"Data for ID: {id}")


async def suggest(prefix: str) -> Suggestions:
    """Suggest words that begin so."""
    return Suggestions(values=[word for word in ("paris", "park", "party") if word.startswith(prefix)])


async def _simple(_: Mapping[str, str], read: Read) -> str:
    return "This is a simple prompt for testing."


async def _with_arguments(blanks: Mapping[str, str], read: Read) -> str:
    return f"Prompt with arguments: arg1='{blanks['arg1']}', arg2='{blanks['arg2']}'"


def service(settings: Settings) -> Service:
    """The fixture, as any server is declared."""
    tools = [test_simple_text, test_error_handling, test_tool_with_progress, test_elicitation]
    arguments = [
        PromptArgument(name="arg1", description="First", required=True, complete="suggest"),
        PromptArgument(name="arg2", description="Second", required=True),
    ]
    return Service(
        name="conformance",
        title="Conformance",
        description="What the conformance suite asks for.",
        instructions="For tests only.",
        operations=[
            *(Operation(call=call, effect="read", scopes=READ) for call in tools),
            *(Operation(call=call, effect="read", scopes=READ, visible=False) for call in (datum, suggest)),
        ],
        resources=[
            Resource(uri=f"test://{name}", name=name, description="A fixture.", operation="test_simple_text")
            for name in ("static-text", "watched-resource")
        ],
        resource_templates=[
            ResourceTemplate(
                uri="test://template/{id}/data",
                name="template",
                description="A fixture.",
                operation="datum",
                mime_type="application/json",
            )
        ],
        prompts=[
            Prompt(
                name="test_simple_prompt",
                title="Simple",
                description="A fixture.",
                operations=["test_simple_text"],
                compose=_simple,
            ),
            Prompt(
                name="test_prompt_with_arguments",
                title="With arguments",
                description="A fixture.",
                operations=["test_simple_text"],
                compose=_with_arguments,
                arguments=arguments,
            ),
        ],
    )


# -- put before the host's own handlers

Context = Any
Handler = Callable[[Context, Any], Awaitable[Any]]


def said(*blocks: types.ContentBlock | str) -> types.CallToolResult:
    made = [types.TextContent(type="text", text=block) if isinstance(block, str) else block for block in blocks]
    return types.CallToolResult(content=made)


IMAGE = types.ImageContent(type="image", data=PNG, mime_type="image/png")
AUDIO = types.AudioContent(type="audio", data=WAV, mime_type="audio/wav")


def embedded(uri: str, text: str, mime_type: str = "text/plain") -> types.EmbeddedResource:
    resource = types.TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return types.EmbeddedResource(type="resource", resource=resource)


async def logs(context: Context, params: Any) -> types.CallToolResult:
    for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await context.session.send_log_message("info", text, related_request_id=context.request_id)
        await anyio.sleep(0.05)
    return said("logged")


async def samples(context: Context, params: Any) -> types.CallToolResult:
    message = types.SamplingMessage(
        role="user", content=types.TextContent(type="text", text=(params.arguments or {}).get("prompt", ""))
    )
    reply = await context.session.create_message([message], max_tokens=100, related_request_id=context.request_id)
    return said(f"LLM response: {getattr(reply.content, 'text', '')}")


def asks(schema: dict[str, Any]) -> Handler:
    async def handler(context: Context, params: Any) -> types.CallToolResult:
        reply = await context.session.elicit_form("Please answer", schema, context.request_id)
        return said(f"Elicitation completed: action={reply.action}, content={json.dumps(reply.content)}")

    return handler


def form(message: str, schema: Mapping[str, Any]) -> types.ElicitRequest:
    return types.ElicitRequest(
        params=types.ElicitRequestFormParams(message=message, requested_schema=dict(schema))
    )


def sample(text: str, max_tokens: int = 100) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=text))
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens)
    )


ROOTS = types.ListRootsRequest()


def requires(rounds: list[dict[str, Any]], state: bool = False) -> Handler:
    """Ask for each round's answers in turn; the round that was reached travels in the request's state."""

    async def handler(context: Context, params: Any) -> Any:
        answers = params.input_responses or {}
        reached = int(params.request_state or 0) if state else 0
        if reached < len(rounds) and rounds[reached].keys() <= answers.keys():
            reached += 1
        if reached < len(rounds):
            return _ask(context, rounds[reached], str(reached) if state else None)
        shown = {name: _plain(answer) for name, answer in answers.items()}
        return said(f"state-ok {json.dumps(shown)}")

    return handler


def _plain(answer: Any) -> Any:
    return (
        answer.model_dump(mode="json", by_alias=True, exclude_none=True)
        if hasattr(answer, "model_dump")
        else answer
    )


def _ask(context: Context, requests: dict[str, Any], state: str | None) -> types.InputRequiredResult:
    return types.InputRequiredResult(input_requests=requests, request_state=state)


async def by_capability(context: Context, params: Any) -> Any:
    """Ask only for what the client says it can do."""
    has = context.session.client_capabilities
    wanted: dict[str, Any] = {}
    if has and has.elicitation:
        wanted["user_name"] = form("What is your name?", NAMES)
    if has and has.sampling:
        wanted["greeting"] = sample("Generate a greeting")
    if has and has.roots:
        wanted["client_roots"] = ROOTS
    if params.input_responses or not wanted:
        return said("done")
    return types.InputRequiredResult(input_requests=wanted)


async def needs_sampling(context: Context, params: Any) -> Any:
    has = context.session.client_capabilities
    if not (has and has.sampling):
        raise MCPError(
            code=types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            message="this needs sampling",
            data={"requiredCapabilities": {"sampling": {}}},
        )
    return said("done")


NAME_FORM = {"user_name": form("What is your name?", NAMES)}
OK: dict[str, Any] = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
ENUMS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {
            "type": "string",
            "oneOf": [{"const": f"value{at}", "title": f"Option {at}"} for at in (1, 2, 3)],
        },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
        "titledMulti": {
            "type": "array",
            "items": {"anyOf": [{"const": f"value{at}", "title": f"Choice {at}"} for at in (1, 2, 3)]},
        },
    },
    "required": [],
}
DEFAULTS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
    "required": [],
}


def answers(*blocks: types.ContentBlock | str) -> Handler:
    async def handler(context: Context, params: Any) -> types.CallToolResult:
        return said(*blocks)

    return handler


TOOLS: dict[str, Handler] = {
    "test_image_content": answers(IMAGE),
    "test_audio_content": answers(AUDIO),
    "test_embedded_resource": answers(
        embedded("test://embedded-resource", "This is an embedded resource content.")
    ),
    "test_multiple_content_types": answers(
        "Multiple content types test:",
        IMAGE,
        embedded("test://mixed-content-resource", '{"test":"data","value":123}', "application/json"),
    ),
    "test_tool_with_logging": logs,
    "test_sampling": samples,
    "test_elicitation_sep1034_defaults": asks(DEFAULTS),
    "test_elicitation_sep1330_enums": asks(ENUMS),
    "test_missing_capability": needs_sampling,
    "test_input_required_result_elicitation": requires([NAME_FORM]),
    "test_input_required_result_sampling": requires(
        [{"capital_question": sample("What is the capital of France?")}]
    ),
    "test_input_required_result_list_roots": requires([{"client_roots": ROOTS}]),
    "test_input_required_result_request_state": requires([{"confirm": form("Please confirm", OK)}], state=True),
    "test_input_required_result_tampered_state": requires([{"confirm": form("Please confirm", OK)}], state=True),
    "test_input_required_result_multiple_inputs": requires(
        [{**NAME_FORM, "greeting": sample("Generate a greeting", 50), "client_roots": ROOTS}], state=True
    ),
    "test_input_required_result_multi_round": requires(
        [
            {"step1": form("Step 1: What is your name?", NAMES)},
            {
                "step2": form(
                    "Step 2: What is your favorite color?",
                    {"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]},
                )
            },
        ],
        state=True,
    ),
    "test_input_required_result_capabilities": by_capability,
}


def prompted(*blocks: types.ContentBlock) -> types.GetPromptResult:
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=block) for block in blocks])


async def with_embedded(context: Context, params: Any) -> types.GetPromptResult:
    uri = (params.arguments or {}).get("resourceUri", "")
    return prompted(
        embedded(uri, "Embedded resource content for testing."),
        types.TextContent(type="text", text="Please process the embedded resource above."),
    )


async def with_image(context: Context, params: Any) -> types.GetPromptResult:
    return prompted(IMAGE, types.TextContent(type="text", text="Please analyze the image above."))


async def with_question(context: Context, params: Any) -> Any:
    schema = {"type": "object", "properties": {"context": {"type": "string"}}, "required": ["context"]}
    if "user_context" not in (params.input_responses or {}):
        return types.InputRequiredResult(
            input_requests={"user_context": form("What context should the prompt use?", schema)}
        )
    return prompted(types.TextContent(type="text", text="Prompt with the context that was given."))


PROMPTS: dict[str, Handler] = {
    "test_prompt_with_embedded_resource": with_embedded,
    "test_prompt_with_image": with_image,
    "test_input_required_result_prompt": with_question,
}
BINARY = "test://static-binary"


def put_before(server: Server[Any]) -> None:
    """Answer what is named above; all else goes to the host."""

    def wrap(method: str, special: Callable[[Context, Any, Handler], Awaitable[Any]]) -> None:
        entry = server.get_request_handler(method)
        assert entry is not None, method
        own = entry.handler

        async def handler(context: Context, params: Any) -> Any:
            return await special(context, params, own)

        server.add_request_handler(method, entry.params_type, handler)

    async def call(context: Context, params: Any, own: Handler) -> Any:
        return await TOOLS.get(params.name, own)(context, params)

    async def tools(context: Context, params: Any, own: Handler) -> Any:
        listed = await own(context, params)
        schema = {"type": "object", "properties": {"prompt": {"type": "string"}}, "required": []}
        more = [types.Tool(name=name, description="A fixture.", input_schema=schema) for name in TOOLS]
        return listed.model_copy(update={"tools": [*listed.tools, *more]})

    async def prompt(context: Context, params: Any, own: Handler) -> Any:
        return await PROMPTS.get(params.name, own)(context, params)

    async def prompts(context: Context, params: Any, own: Handler) -> Any:
        listed = await own(context, params)
        more = [
            types.Prompt(
                name=name,
                description="A fixture.",
                arguments=[types.PromptArgument(name="resourceUri", description="Which.", required=False)],
            )
            for name in PROMPTS
        ]
        return listed.model_copy(update={"prompts": [*listed.prompts, *more]})

    async def resources(context: Context, params: Any, own: Handler) -> Any:
        listed = await own(context, params)
        more = types.Resource(uri=BINARY, name="binary", description="A fixture.", mime_type="image/png")
        return listed.model_copy(update={"resources": [*listed.resources, more]})

    async def read(context: Context, params: Any, own: Handler) -> Any:
        if str(params.uri) != BINARY:
            return await own(context, params)
        blob = types.BlobResourceContents(uri=BINARY, mime_type="image/png", blob=PNG)
        return types.ReadResourceResult(contents=[blob])

    async def set_level(context: Context, params: Any) -> types.EmptyResult:
        return types.EmptyResult()

    wrap("tools/call", call)
    wrap("tools/list", tools)
    wrap("prompts/get", prompt)
    wrap("prompts/list", prompts)
    wrap("resources/list", resources)
    wrap("resources/read", read)
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, set_level)


def main() -> None:
    """Serve it as every server is served."""
    make = usrland.host._server

    def with_fixtures(host: usrland.host.Host) -> Server[Any]:
        server = make(host)
        put_before(server)
        return server

    usrland.host._server = with_fixtures
    launch("fixtures:service")


if __name__ == "__main__":
    main()
