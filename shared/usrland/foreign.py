"""Somebody else's MCP server, called: what it offers, and one call of it.

The counterpart of `host`: there our operations become a server, here a server's tools become plain values, so that
no connector needs to know the protocol. It is in the library because the protocol's package is imported nowhere
else, and because both sides of it should change together.

What a foreign server sends is data. Its tools are told as they are, with a hash that a review can be tied to;
whether they are offered to anybody is decided elsewhere. It may ask for nothing: no sampling, no elicitation, no
roots. HTTP goes through the client that is handed in, so the rules for outgoing connections hold here, too. What
it answers is not checked against its own output schema: an answer that differs from it is still what happened.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import anyio

from usrland.audit.entry import canonical
from usrland.errors import Denied, InvalidInput, NotFound, Timeout, Unavailable, UsrlandError

if TYPE_CHECKING:
    import httpx
    from mcp import Client

__all__ = ["Address", "Attachment", "Definition", "ForeignServer", "Program", "Reply", "connected"]

CONNECT_SECONDS = 30.0
"""For a program to start and answer, the first time it may have to be compiled or unpacked."""
MAX_TOOLS = 2_000
MAX_EXCERPT = 300
LONGEST_SECONDS = 15 * 60.0
"""Of one HTTP exchange; the deadline of the call itself comes first."""

Report = Callable[[float, float | None, str], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A server that is started here and spoken to over its standard input and output."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Beside PATH, HOME and the like: nothing else of our own environment is passed on."""
    folder: str | None = None
    log: Path | None = None
    """Where its standard error goes, emptied at each start. Default: ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A server behind a URL."""

    url: str
    headers: Callable[[], Awaitable[Mapping[str, str]]]
    """What every request shows to prove who we are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One tool as its server describes it."""

    name: str
    title: str
    description: str
    parameters: Mapping[str, Any]
    hints: Mapping[str, bool]
    """Those of the four that it states: readOnlyHint, destructiveHint, idempotentHint, openWorldHint."""

    @property
    def hash(self) -> str:
        """Of everything about it that a reader sees or that could decide what is done."""
        facts = [self.name, self.title, self.description, dict(self.parameters), dict(self.hints)]
        return hashlib.sha256(canonical(facts)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """Content that is not text."""

    content: bytes
    media_type: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a tool answered."""

    failed: bool
    texts: tuple[str, ...]
    structured: Any
    attachments: tuple[Attachment, ...]


class ForeignServer:
    """An open connection. Calls may be made from any task while it is open."""

    def __init__(self, client: Client, failures: list[UsrlandError]) -> None:
        self._client = client
        self._failures = failures

    async def definitions(self) -> list[Definition]:
        """All tools there are now."""
        found: list[Definition] = []
        cursor: str | None = None
        while True:
            with self._translated():
                page = await self._client.list_tools(cursor=cursor, cache_mode="bypass")
            found += map(_definition, page.tools)
            cursor = page.next_cursor
            if not cursor:
                return found
            if len(found) >= MAX_TOOLS:
                raise InvalidInput(f"it offers more than {MAX_TOOLS} tools.", fix="Connect to a smaller server.")

    async def call(
        self, name: str, arguments: Mapping[str, Any], report: Report, *, meta: Mapping[str, Any]
    ) -> Reply:
        """Call one tool. A cancelled call tells the server that it is cancelled."""

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            await report(progress, total, "")  # its words are not passed on

        with self._translated():
            result = await self._client.call_tool(
                name,
                dict(arguments),
                progress_callback=progressed,
                meta=dict(meta) or None,  # type: ignore[arg-type]  # any key is allowed
            )
        return _reply(result)

    def _translated(self) -> _Translated:
        return _Translated(self._failures)


@asynccontextmanager
async def connected(
    where: Program | Address, http: httpx.AsyncClient, *, changed: Callable[[], None] = lambda: None
) -> AsyncIterator[ForeignServer]:
    """Connect, in whichever protocol revision the server speaks; `changed` is called when its tools have changed.

    Raises `Unavailable` where nothing answers. Enter and leave it in one task.
    """
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.types import Implementation, ToolListChangedNotification

    async def heard(message: Any) -> None:
        if isinstance(getattr(message, "root", message), ToolListChangedNotification):
            changed()

    failures: list[UsrlandError] = []
    log: TextIO | None = None
    if isinstance(where, Program):
        parameters = StdioServerParameters(
            command=where.command[0],
            args=list(where.command[1:]),
            env=dict(where.environment),
            cwd=where.folder,
        )
        log = await anyio.to_thread.run_sync(_log, where.log) if where.log else None
        transport = stdio_client(parameters, errlog=log) if log else stdio_client(parameters)
    else:
        transport = streamable_http_client(where.url, http_client=_client(where, http, failures))
    client = Client(
        transport,
        client_info=Implementation(name="usrland", version="1"),
        message_handler=heard,
        cache=None,
    )
    try:
        with anyio.CancelScope(deadline=anyio.current_time() + CONNECT_SECONDS) as patience:
            async with client:
                patience.deadline = math.inf
                # its own check would turn a call that took effect into a failure
                setattr(client.session, "validate_tool_result", _unchecked)  # noqa: B010 - a method, on purpose
                yield ForeignServer(client, failures)
        if patience.cancelled_caught:
            raise Timeout(f"the MCP server did not answer within {CONNECT_SECONDS:g} seconds.")
    except Exception as error:
        raise _failure(error, failures) from error
    finally:
        if log:
            log.close()


async def _unchecked(name: str, result: Any) -> None:
    """Take the answer as it is."""


def _log(file: Path) -> TextIO:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8")


class _Translated:
    """Failures of the protocol as errors of ours."""

    def __init__(self, failures: list[UsrlandError]) -> None:
        self._failures = failures

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if isinstance(error, Exception):
            translated = _failure(error, self._failures)
            if translated is not error:
                raise translated from error


def _failure(error: Exception, failures: list[UsrlandError]) -> Exception:
    """What the caller should hear. What our HTTP client said comes first: the protocol hears less of it."""
    from mcp import MCPError
    from mcp.types import INVALID_PARAMS, METHOD_NOT_FOUND

    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, UsrlandError):
        return error
    if failures:
        return failures.pop()
    doubt = "If it changes something, look before you repeat it."
    if isinstance(error, MCPError):
        said = f"the MCP server answers {error.code}: {_excerpt(error.message)}"
        if error.code == INVALID_PARAMS:
            return InvalidInput(said)
        if error.code == METHOD_NOT_FOUND:
            return NotFound(said)
        return Unavailable(said, fix=doubt)
    if isinstance(error, FileNotFoundError | PermissionError):
        return Denied(f"the program cannot be started: {error.strerror}.", fix="The operator corrects `command`.")
    return Unavailable("the connection to the MCP server broke.", fix=doubt)


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_EXCERPT else f"{line[: MAX_EXCERPT - 1]}…"


def _definition(tool: Any) -> Definition:
    stated = tool.annotations.model_dump(exclude_none=True, by_alias=True) if tool.annotations else {}
    return Definition(
        name=tool.name,
        title=tool.title or str(stated.get("title", "")),
        description=tool.description or "",
        parameters=tool.input_schema,
        hints={key: value for key, value in stated.items() if isinstance(value, bool)},
    )


def _reply(result: Any) -> Reply:
    texts: list[str] = []
    attachments: list[Attachment] = []
    for position, block in enumerate(result.content):
        match block.type:
            case "text":
                texts.append(block.text)
            case "image" | "audio":
                attachments.append(_attached(block.data, block.mime_type, f"{block.type}-{position + 1}"))
            case "resource_link":
                texts.append(f"{block.name}: {block.uri}")
            case "resource" if hasattr(block.resource, "text"):
                texts.append(block.resource.text)
            case "resource":
                kind = block.resource.mime_type or "application/octet-stream"
                attachments.append(_attached(block.resource.blob, kind, str(block.resource.uri)))
    return Reply(
        failed=bool(result.is_error),
        texts=tuple(texts),
        structured=result.structured_content,
        attachments=tuple(attachments),
    )


def _attached(data: str, media_type: str, name: str) -> Attachment:
    try:
        return Attachment(content=base64.b64decode(data, validate=True), media_type=media_type, name=name)
    except ValueError as error:
        raise Unavailable("the MCP server sent content that cannot be decoded.") from error


def _client(where: Address, http: httpx.AsyncClient, failures: list[UsrlandError]) -> Any:
    """The client that the protocol's package wants, sending everything through ours."""
    import httpx2

    from usrland.http import request as made

    class Body(httpx2.AsyncByteStream):
        def __init__(self, response: httpx.Response) -> None:
            self._response = response

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in self._response.aiter_raw():
                    yield chunk
            except UsrlandError as error:
                failures.append(error)
                raise httpx2.ReadError(error.fact) from error

        async def aclose(self) -> None:
            await self._response.aclose()

    class Through(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            content = await request.aread()
            try:
                ours = made(
                    request.method,
                    str(request.url),
                    headers={**request.headers, **await where.headers()},
                    content=content or None,
                )
                ours.extensions["total_seconds"] = LONGEST_SECONDS
                response = await http.send(ours, stream=True)
            except UsrlandError as error:
                failures.append(error)
                raise httpx2.ConnectError(error.fact) from error
            if response.status_code in (401, 403):
                failures.append(
                    Denied(
                        f"the MCP server answered {response.status_code}.",
                        fix="The operator has to check the credentials of this system.",
                    )
                )
            return httpx2.Response(
                response.status_code, headers=response.headers.raw, stream=Body(response), request=request
            )

    return httpx2.AsyncClient(
        transport=Through(), timeout=LONGEST_SECONDS, headers={"accept-encoding": "identity"}
    )
