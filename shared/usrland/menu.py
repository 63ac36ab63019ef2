"""Resources, prompts, completion and subscriptions on the wire: what a host offers a person beside the tools.

Each of them stands for calls of read operations and goes through the call path like a tool: whoever may not call
the operation does not see what stands for it, and cannot complete its blanks or hear of its changes either.

A subscription of the older eras lives as long as its connection. Over HTTP those eras have none, unless sessions
are kept (`[server] sessions`), so subscribing is refused there; `subscriptions/listen` of 2026-07-28 works on
every transport.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import anyio
from mcp import types
from mcp.server import Server, ServerRequestContext
from mcp.server.subscriptions import ListenHandler, ResourceUpdated, ServerEvent
from mcp.shared.exceptions import MCPError
from mcp.shared.uri_template import UriTemplate
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PromptMessage,
    PromptReference,
    ReadResourceResult,
    ResourceUpdatedNotification,
    ResourceUpdatedNotificationParams,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)

from usrland.call import CallPath
from usrland.changes import Changes
from usrland.connector import Prompt, PromptArgument, Resource, ResourceTemplate, Service
from usrland.errors import InvalidInput, NotFound, UsrlandError
from usrland.parameters import closest
from usrland.redact import redact
from usrland.schemas.principal import Principal
from usrland.visible import inert_text, visible_text

__all__ = ["Connection", "Menu", "connection"]

_Context = ServerRequestContext[Any, Any]

MOST_SUGGESTIONS = 100
MOST_STREAMS = 256
"""Open `subscriptions/listen` streams of one process."""
_BACKLOG = 1_000


@dataclass(frozen=True, slots=True)
class _Reading:
    """One resource: the call it stands for, and how its answer is shown."""

    of: Resource | ResourceTemplate
    arguments: Mapping[str, Any]


@dataclass(slots=True)
class Menu:
    """What one service offers beside its tools, for any caller."""

    service: Service
    path: CallPath
    _streams: set[ListenHandler] = field(default_factory=set)

    # -- resources

    def resources(self, caller: Principal) -> ListResourcesResult:
        return ListResourcesResult(
            resources=[
                types.Resource(uri=r.uri, name=r.name, description=r.description, mime_type=r.mime_type)
                for r in self.service.resources
                if self._may(caller, r.operation)
            ]
        )

    def templates(self, caller: Principal) -> ListResourceTemplatesResult:
        return ListResourceTemplatesResult(
            resource_templates=[
                types.ResourceTemplate(
                    uri_template=t.uri, name=t.name, description=t.description, mime_type=t.mime_type
                )
                for t in self.service.resource_templates
                if self._may(caller, t.operation)
            ]
        )

    async def read(self, caller: Principal, uri: str) -> ReadResourceResult:
        with _as_protocol_error(uri):
            reading = self._reading(caller, uri)
            shaped = await self.path.run(
                reading.of.operation, reading.arguments, principal=caller, tools_only=False
            )
        text = str(shaped.structured.get(reading.of.show, "")) if reading.of.show else shaped.text
        contents = TextResourceContents(uri=uri, mime_type=reading.of.mime_type, text=text)
        return ReadResourceResult(contents=[contents])

    def _reading(self, caller: Principal, uri: str) -> _Reading:
        for resource in self.service.resources:
            if resource.uri == uri and self._may(caller, resource.operation):
                return _Reading(resource, resource.arguments)
        for template in self.service.resource_templates:
            found = _template(template.uri).match(uri)
            if found is not None and self._may(caller, template.operation):
                return _Reading(
                    template, template.arguments({k: v for k, v in found.items() if isinstance(v, str)})
                )
        raise NotFound(f"there is no resource {uri!r}.")

    # -- prompts

    def prompts(self, caller: Principal) -> ListPromptsResult:
        return ListPromptsResult(
            prompts=[
                types.Prompt(
                    name=prompt.name,
                    title=prompt.title,
                    description=prompt.description,
                    arguments=[
                        types.PromptArgument(name=a.name, description=a.description, required=a.required)
                        for a in prompt.arguments
                    ],
                )
                for prompt in self._prompts(caller)
            ]
        )

    async def prompt(self, caller: Principal, params: GetPromptRequestParams) -> GetPromptResult:
        with _as_protocol_error():
            prompt = self._prompt(caller, params.name)
            given = params.arguments or {}
            blanks = {argument.name: argument for argument in prompt.arguments}
            unknown = sorted(given.keys() - blanks.keys())
            if unknown:
                raise InvalidInput(f"unknown argument {unknown[0]!r}.", fix=f"There are: {', '.join(blanks)}.")
            missing = [a.name for a in prompt.arguments if a.required and not given.get(a.name)]
            if missing:
                raise InvalidInput(f"{prompt.name} needs {', '.join(missing)}.")

            async def read(operation: str, arguments: Mapping[str, Any], /) -> Mapping[str, Any]:
                if operation not in prompt.operations:
                    raise LookupError(f"prompt {prompt.name!r} does not declare that it reads {operation!r}")
                shaped = await self.path.run(operation, arguments, principal=caller, tools_only=False)
                return shaped.structured

            text = visible_text(redact(await prompt.compose(given, read)))
        message = PromptMessage(role="user", content=TextContent(type="text", text=text))
        return GetPromptResult(description=prompt.description, messages=[message])

    def _prompts(self, caller: Principal) -> list[Prompt]:
        return [p for p in self.service.prompts if all(self._may(caller, name) for name in p.operations)]

    def _prompt(self, caller: Principal, name: str) -> Prompt:
        prompts = {prompt.name: prompt for prompt in self._prompts(caller)}
        if name not in prompts:
            near = closest(name, list(prompts))
            raise InvalidInput(f"there is no prompt {name!r}.", fix=f"Did you mean {near[0]!r}?" if near else "")
        return prompts[name]

    # -- completion

    async def complete(self, caller: Principal, params: CompleteRequestParams) -> CompleteResult:
        """What a blank could be filled with; nothing where nobody suggests anything for it."""
        argument = params.argument.name
        with _as_protocol_error():
            operation = self._suggesting(caller, params)
            if not operation:
                return CompleteResult(completion=Completion(values=[], total=0, has_more=False))
            known = self.path.parameters(self.service.operation(operation)).own.get("properties", {})
            others = (params.context.arguments if params.context else None) or {}
            arguments = {name: value for name, value in others.items() if name in known and name != argument}
            arguments["prefix"] = params.argument.value
            shaped = await self.path.run(operation, arguments, principal=caller, tools_only=False)
        values = shaped.structured.get("values", [])
        total = shaped.structured.get("total") or len(values)
        shown = values[:MOST_SUGGESTIONS]
        return CompleteResult(completion=Completion(values=shown, total=total, has_more=total > len(shown)))

    def _suggesting(self, caller: Principal, params: CompleteRequestParams) -> str:
        if isinstance(params.ref, PromptReference):
            blanks = {a.name: a for a in self._prompt(caller, params.ref.name).arguments}
            return blanks.get(params.argument.name, PromptArgument(name="", description="")).complete
        for template in self.service.resource_templates:
            if template.uri == params.ref.uri and self._may(caller, template.operation):
                return template.complete.get(params.argument.name, "")
        if any(r.uri == params.ref.uri and self._may(caller, r.operation) for r in self.service.resources):
            return ""
        raise NotFound(f"there is no resource template {params.ref.uri!r}.")

    # -- subscriptions

    async def subscribe(self, caller: Principal, context: _Context, params: SubscribeRequestParams) -> EmptyResult:
        uri, held = str(params.uri), context.lifespan_context
        if not isinstance(held, Connection) or not context.session.can_send_request:
            raise MCPError(
                code=INVALID_REQUEST,
                message="this transport keeps no connection to tell changes on. "
                "Use protocol 2026-07-28 (subscriptions/listen), stdio or SSE.",
            )
        with _as_protocol_error(uri):
            self._reading(caller, uri)
        held.subscribe(self.service.changes, caller, uri, context)
        return EmptyResult()

    async def unsubscribe(self, context: _Context, params: UnsubscribeRequestParams) -> EmptyResult:
        if isinstance(context.lifespan_context, Connection):
            context.lifespan_context.unsubscribe(_session(context), str(params.uri))
        return EmptyResult()

    async def listen(
        self, caller: Principal, context: _Context, params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """One stream of changes, of what this caller may read."""
        if len(self._streams) >= MOST_STREAMS:
            raise MCPError(code=INTERNAL_ERROR, message=f"{MOST_STREAMS} streams are open already.")
        wanted = params.notifications
        heard = [uri for uri in wanted.resource_subscriptions or [] if self._readable(caller, str(uri))]
        handler = ListenHandler(_Heard(self.service.changes, caller), max_buffered_events=_BACKLOG)
        self._streams.add(handler)
        try:
            notifications = wanted.model_copy(update={"resource_subscriptions": heard})
            return await handler(context, params.model_copy(update={"notifications": notifications}))
        finally:
            self._streams.discard(handler)

    def close(self) -> None:
        """End every stream in good order."""
        for handler in list(self._streams):
            handler.close()

    def _readable(self, caller: Principal, uri: str) -> bool:
        try:
            self._reading(caller, uri)
        except UsrlandError:
            return False
        return True

    def _may(self, caller: Principal, operation: str) -> bool:
        return not caller.missing(self.service.operation(operation).scopes)


@dataclass(frozen=True, slots=True)
class _Heard:
    """The changes that one caller may hear of, as the SDK's streams take them."""

    changes: Changes
    caller: Principal

    async def publish(self, event: ServerEvent) -> None:
        raise AssertionError("servers tell their changes through Service.changes")

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        return self.changes.listen(self.caller, lambda uri: listener(ResourceUpdated(uri=uri)))


_Key = tuple[str, str]
"""A session, empty where the connection is the session, and a URI."""


@dataclass(slots=True)
class Connection:
    """Connections of the older eras, and what they subscribed to."""

    tasks: Any
    _stops: dict[_Key, Callable[[], None]] = field(default_factory=dict)
    _waiting: set[_Key] = field(default_factory=set)

    def subscribe(self, changes: Changes, caller: Principal, uri: str, context: _Context) -> None:
        session = _session(context)
        key = (session, uri)

        async def tell() -> None:
            self._waiting.discard(key)
            notification = ResourceUpdatedNotification(params=ResourceUpdatedNotificationParams(uri=uri))
            try:
                await context.session.send_notification(notification)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):  # the session has ended
                self.unsubscribe(session, uri)

        def changed(other: str) -> None:
            if other == uri and key not in self._waiting:  # a second change before the first was told is the same
                self._waiting.add(key)
                self.tasks.start_soon(tell, name=f"tell of {uri}")

        self.unsubscribe(session, uri)
        self._stops[key] = changes.listen(caller, changed)

    def unsubscribe(self, session: str, uri: str) -> None:
        if stop := self._stops.pop((session, uri), None):
            stop()

    def close(self) -> None:
        for session, uri in list(self._stops):
            self.unsubscribe(session, uri)


def _session(context: _Context) -> str:
    """Which of several sessions over HTTP this is; there is one on any other connection."""
    headers = getattr(context.request, "headers", None) or {}
    return str(headers.get("mcp-session-id", ""))


@asynccontextmanager
async def connection(_: Server[Any]) -> AsyncIterator[Connection]:
    """The SDK's lifespan: entered once per connection on stdio and SSE, once in all over HTTP."""
    async with anyio.create_task_group() as tasks:
        held = Connection(tasks)
        try:
            yield held
        finally:
            held.close()
            tasks.cancel_scope.cancel()


@lru_cache(maxsize=256)
def _template(uri: str) -> UriTemplate:
    return UriTemplate.parse(uri)


@contextmanager
def _as_protocol_error(uri: str | None = None) -> Iterator[None]:
    """What a model can only be told through a tool's answer, a host is told as an error of the protocol."""
    try:
        yield
    except UsrlandError as error:
        code = INVALID_PARAMS if isinstance(error, InvalidInput | NotFound) else INTERNAL_ERROR
        message = inert_text(redact(str(error)))
        raise MCPError(code=code, message=message, data={"uri": uri} if uri else None) from error
