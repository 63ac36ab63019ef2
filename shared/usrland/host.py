"""Operations on the wire: one `Service` as an MCP server, the same on every transport and in every era.

Built on the SDK's low-level `Server`, not on its `MCPServer`: that one reads schemas and arguments from
function signatures, drops unknown arguments and turns `"1"` into 1, and our call path does all of this itself
and stricter. The low-level server hands over the arguments as they came and speaks both eras.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from mcp.server import CacheHint, Server, ServerRequestContext
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    TextContent,
    Tool,
    ToolAnnotations,
    UnsubscribeRequestParams,
)
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

import usrland
from usrland.audit import Signer
from usrland.audit.exporting import AuditTable, Exporter, places
from usrland.call import CallPath, Consent, Paused
from usrland.connector import Operation, Service
from usrland.errors import UsrlandError
from usrland.identity import GrantFile, local_principal
from usrland.ledger import Ledger
from usrland.manual import with_manual
from usrland.menu import Menu, connection
from usrland.redact import redact
from usrland.schemas.principal import Principal
from usrland.settings import Settings
from usrland.shape import Shaped
from usrland.visible import inert_text, visible, visible_text

__all__ = ["Host", "running"]

logger = logging.getLogger(__name__)

_Context = ServerRequestContext[Any, Any]

PRINCIPAL_KEY = "usrland.principal"
"""Where the HTTP edge leaves the proven identity, in the ASGI scope of the request."""

_LISTS_MS = 60_000
_WARM_UP_SECONDS = 10.0
_QUESTION = "consent"
_QUOTES = "usrland/quotes"
"""Whose words an answer carries, for hosts that treat such answers apart."""
_CONSENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"confirm": {"type": "boolean", "title": "Yes, do it"}},
    "required": ["confirm"],
}


@dataclass(slots=True)
class Host:
    """One service being served. Made by `running`."""

    service: Service
    path: CallPath
    principal: Principal | None
    """Who calls where the transport proves nobody: the profile's owner on stdio, None behind HTTP tokens."""
    first_contact: anyio.Event
    grants: GrantFile
    key: bytes = field(repr=False)
    draining: bool = False
    untouched: bool = False
    """It is being left and nobody ever called: there is nothing to close."""
    menu: Menu = field(init=False)
    server: Server[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.menu = Menu(self.service, self.path)
        self.server = _server(self)

    def caller(self, context: _Context) -> Principal:
        """The proven identity behind a request, with what it may do."""
        scope = getattr(context.request, "scope", None) or {}
        proven: Principal | None = scope.get(PRINCIPAL_KEY)
        if proven is not None:
            return proven
        if self.principal is None:
            raise MCPError(code=INVALID_PARAMS, message="not authenticated")
        try:
            return self.grants.bounded(self.principal)
        except UsrlandError as error:
            raise MCPError(code=INTERNAL_ERROR, message=str(error)) from error


@asynccontextmanager
async def running(
    service: Service, settings: Settings, *, principal: Principal | None = None, remote: bool = False
) -> AsyncIterator[Host]:
    """Serve until the block is left.

    `principal` is who calls where the transport proves nobody (default: the profile's owner; nobody where
    `remote`). Nothing heavy happens before the first listing or call was answered.
    """
    who = principal or (None if remote else local_principal(settings))
    key = settings.key("calls")
    service = with_manual(service)
    ledger = Ledger.of(settings, service.name)
    path = CallPath.of(service, settings, ledger, remote=remote)
    host = Host(service, path, who, anyio.Event(), GrantFile.of(settings.home), key)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_exporting(ledger, settings))
        await stack.enter_async_context(ledger.writing())
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stopping = anyio.Event()
        tasks.start_soon(_lifespan, host, stopping, name=f"{service.name} lifespan")
        if path.places is not None:
            tasks.start_soon(path.places.run, stopping, name=f"{service.name} places")
        try:
            yield host
        finally:
            host.draining = True
            host.menu.close()
            stopping.set()
            host.untouched = not host.first_contact.is_set()
            host.first_contact.set()


@asynccontextmanager
async def _exporting(ledger: Ledger, settings: Settings) -> AsyncIterator[None]:
    """Checkpoints of the audit log, where the operator wants them; the last one after the last entry."""
    to = places(settings)
    if not to:
        yield
        return
    exporter = Exporter(ledger.audit, Signer(settings.key("audit")), to)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            exporter.run, settings.section("audit", AuditTable).every_seconds, name="audit checkpoints"
        )
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await exporter.export()
                ledger.database.close()


async def _lifespan(host: Host, stopping: anyio.Event) -> None:
    """Enter the service's own lifespan once there was contact, leave it at the end."""
    with anyio.move_on_after(_WARM_UP_SECONDS):
        await host.first_contact.wait()
    if host.untouched:
        return
    try:
        async with host.service.lifespan():
            await stopping.wait()
    except Exception:  # a background part failed; calls still answer, and say what is missing
        logger.exception("the background work of %s stopped", host.service.name)


def _server(host: Host) -> Server[Any]:
    service = host.service
    lists = CacheHint(ttl_ms=_LISTS_MS, scope="private")

    async def list_tools(context: _Context, _: PaginatedRequestParams | None) -> ListToolsResult:
        tools = [_tool(host, operation) for operation in host.path.listed(host.caller(context))]
        host.first_contact.set()
        return ListToolsResult(tools=tools)

    async def call_tool(context: _Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        return await _call_tool(host, context, params)

    async def list_resources(context: _Context, _: PaginatedRequestParams | None) -> ListResourcesResult:
        return host.menu.resources(host.caller(context))

    async def read_resource(context: _Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        host.first_contact.set()
        return await host.menu.read(host.caller(context), str(params.uri))

    async def list_templates(context: _Context, _: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
        return host.menu.templates(host.caller(context))

    async def list_prompts(context: _Context, _: PaginatedRequestParams | None) -> ListPromptsResult:
        return host.menu.prompts(host.caller(context))

    async def get_prompt(context: _Context, params: GetPromptRequestParams) -> GetPromptResult:
        host.first_contact.set()
        return await host.menu.prompt(host.caller(context), params)

    async def complete(context: _Context, params: CompleteRequestParams) -> CompleteResult:
        host.first_contact.set()
        return await host.menu.complete(host.caller(context), params)

    async def subscribe(context: _Context, params: SubscribeRequestParams) -> EmptyResult:
        host.first_contact.set()
        return await host.menu.subscribe(host.caller(context), context, params)

    async def unsubscribe(context: _Context, params: UnsubscribeRequestParams) -> EmptyResult:
        return await host.menu.unsubscribe(context, params)

    async def listen(context: _Context, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        host.first_contact.set()
        return await host.menu.listen(host.caller(context), context, params)

    server: Server[Any] = Server(
        service.name,
        version=usrland.__version__,
        title=service.title,
        description=service.description,
        instructions=service.instructions,
        lifespan=connection,
        cache_hints={
            "tools/list": lists,
            "resources/list": lists,
            "resources/templates/list": lists,
            "prompts/list": lists,
            "server/discover": lists,
        },
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema=host.path.schema,  # or each call over HTTP would list all tools to look it up
        on_list_resources=list_resources,
        on_read_resource=read_resource,
        on_list_resource_templates=list_templates,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_subscribe_resource=subscribe,
        on_unsubscribe_resource=unsubscribe,
        on_subscriptions_listen=listen,
    )

    def bind(context: _Context) -> str:
        caller = host.caller(context)
        return json.dumps([caller.tenant, caller.namespace, caller.subject])

    security = RequestStateSecurity(keys=[host.key], bind_principal=bind)
    server.middleware.append(RequestStateBoundary(security, default_audience=service.name))
    return server


def _tool(host: Host, operation: Operation) -> Tool:
    return Tool(
        name=operation.name,
        title=operation.title,
        description=operation.description,
        input_schema=host.path.parameters(operation).schema,
        annotations=ToolAnnotations(
            read_only_hint=operation.effect == "read",
            destructive_hint=operation.effect == "destroy",
            idempotent_hint=bool(operation.idempotent),
            open_world_hint=operation.open_world,
        ),
    )


async def _call_tool(
    host: Host, context: _Context, params: CallToolRequestParams
) -> CallToolResult | InputRequiredResult:
    host.first_contact.set()
    try:
        if host.draining:
            raise usrland.Unavailable("this server is shutting down.")
        shaped = await host.path.run(
            params.name,
            params.arguments or {},
            principal=host.caller(context),
            channel=_Wire(context, params),
        )
    except _AskFirst as question:
        return question.result
    except UsrlandError as error:
        return _failure(error)
    except MCPError:
        raise
    except Exception:  # a bug of ours or of a connector: told in the log, masked on the wire
        logger.exception("%s failed", params.name)
        return _failure(
            UsrlandError(f"{params.name} failed inside.", fix="Its operator finds the reason in the server's log.")
        )
    return _success(shaped)


def _success(shaped: Shaped) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=shaped.text)],
        structured_content=shaped.structured,
        is_error=False,
        _meta={_QUOTES: shaped.quotes} if shaped.quotes else None,
    )


def _failure(error: UsrlandError) -> CallToolResult:
    fact, fix = (inert_text(redact(text)) for text in (error.fact, error.fix))
    facts: dict[str, Any] = {"code": error.code, "message": fact, "fix": fix or None}
    if error.retry_after_seconds is not None:
        facts["retry_after_seconds"] = error.retry_after_seconds
    if isinstance(error, usrland.Denied) and error.missing_scopes:
        facts["missing_scopes"] = sorted(error.missing_scopes)
    text = inert_text(redact(str(error)))
    if error.details:
        facts["details"], _ = visible(redact(error.details))
        text += "\n" + json.dumps(facts["details"], ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(
        content=[TextContent(type="text", text=text)],
        structured_content={"error": {name: value for name, value in facts.items() if value is not None}},
        is_error=True,
    )


class _AskFirst(Paused):
    """A question that must travel in the answer (2026-07-28); the client calls again with the reply."""

    def __init__(self, result: InputRequiredResult) -> None:
        super().__init__("input required")
        self.result = result


@dataclass(slots=True)
class _Wire:
    """The way back to the person, in the era of this request."""

    context: _Context
    params: CallToolRequestParams
    asked: int = 0
    """Questions of the operation's own, so far. In the newer era each was answered in a round of its own."""

    async def ask(self, question: str, schema: Mapping[str, Any], /) -> Mapping[str, Any] | None:
        if not self._can_ask:
            return None
        question = visible_text(question)
        if self.context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            try:
                reply = await self.context.session.elicit_form(question, dict(schema), self.context.request_id)
            except NoBackChannelError:
                return None
            return _filled_in(reply)
        replies: list[Mapping[str, Any] | None] = json.loads(self.params.request_state or "[]")
        number, name = self.asked, f"question {self.asked + 1}"
        self.asked += 1
        if number < len(replies):
            return replies[number]
        answer = (self.params.input_responses or {}).get(name)
        if isinstance(answer, ElicitResult) and number == len(replies):
            state = json.dumps([*replies, _filled_in(answer)])
            self.params = self.params.model_copy(update={"request_state": state, "input_responses": None})
            return _filled_in(answer)
        ask = ElicitRequest(params=ElicitRequestFormParams(message=question, requested_schema=dict(schema)))
        raise _AskFirst(InputRequiredResult(input_requests={name: ask}, request_state=json.dumps(replies)))

    async def confirm(self, question: str, token: str) -> tuple[Consent, str]:
        if not self._can_ask:
            return "cannot_ask", token
        question = visible_text(question)
        ask = ElicitRequestFormParams(message=question, requested_schema=_CONSENT_SCHEMA)
        if self.context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            try:
                reply = await self.context.session.elicit_form(question, _CONSENT_SCHEMA, self.context.request_id)
            except NoBackChannelError:
                return "cannot_ask", token
            return _agreed(reply), token
        answered = (self.params.input_responses or {}).get(_QUESTION)
        if isinstance(answered, ElicitResult) and self.params.request_state:
            return _agreed(answered), self.params.request_state
        raise _AskFirst(
            InputRequiredResult(input_requests={_QUESTION: ElicitRequest(params=ask)}, request_state=token)
        )

    async def progress(self, done: float, total: float | None, message: str) -> None:
        await self.context.session.report_progress(done, total, message or None)

    @property
    def _can_ask(self) -> bool:
        """A bare `elicitation: {}` is the form of the first revision and means forms; url-only does not."""
        capabilities = self.context.session.client_capabilities
        elicitation = capabilities.elicitation if capabilities else None
        return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def _filled_in(reply: ElicitResult) -> Mapping[str, Any] | None:
    return (reply.content or {}) if reply.action == "accept" else None


def _agreed(reply: ElicitResult) -> Consent:
    return "accepted" if reply.action == "accept" and (reply.content or {}).get("confirm") is True else "declined"
