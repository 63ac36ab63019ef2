"""Somebody else's MCP server behind our call path.

    [files]
    kind = "mcp"
    command = ["npx", "-y", "@modelcontextprotocol/server-filesystem", "/srv/shared"]   # started here, or
    url = "https://tools.example.org/mcp"                                               # reached there
    auth = {kind = "bearer", secret = "env:TOOLS_TOKEN"}
    environment = {API_KEY = "env:FILES_KEY"}     # for a command: all it gets beside PATH, HOME and the like
    trust_hints = false                           # believe what its tools say about their own risk

    [files.tools.read_text_file]                  # by the name that `usrland syscalls` shows, without the system's
    effect = "read"

Its tools become operations, with scopes, consent, quotas and audit like any other. Three things differ, because
every word of them is somebody else's:

* Nothing is offered before a person reviewed it. `usrland syscalls --diff` asks the server what it offers and
  writes that down in the system's folder; `--accept` pins it. Only then its words reach a kernel.
* A tool destroys until the operator says otherwise, in `tools` or with `trust_hints`: what a server says about its
  own risk is not taken from itself. What it says can make a risk greater, never smaller.
* Before a call, and when the server says that its tools have changed, the definition is compared with the reviewed
  one. A different one is not called.

The connection is opened at the first call and kept; a server that dies is started again at the next call.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field

from enterprise_connectors.files import Download, File, Files
from enterprise_connectors.openapi.auth import Auth, Credentials
from enterprise_connectors.openapi.overlay import Correction, corrected
from usrland.connector import Call, Connector, Effect, Operation
from usrland.errors import Denied, Failed, InvalidInput, Timeout, Unavailable, UsrlandError
from usrland.foreign import CONNECT_SECONDS, Address, Definition, ForeignServer, Program, Reply, connected
from usrland.schemas.wire import Answer, Preview

if TYPE_CHECKING:
    import httpx

__all__ = ["McpConfig", "McpConnector"]

logger = logging.getLogger(__name__)

CHECK_SECONDS = 60.0
"""How old the knowledge of a server's definitions may be when a tool is called."""
CALL_SECONDS = 120.0
MAX_DESCRIPTION = 1_500
MAX_NAME = 40
DEFINITIONS = "definitions.json"
IDEMPOTENCY_KEY = "io.github.usrland/idempotency-key"

_OURS = frozenset({"idempotency_key", "dry_run", "confirm_token", "cursor", "max_tokens"})
_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class McpConfig(BaseModel):
    """The keys of a `kind = "mcp"` table."""

    model_config = ConfigDict(extra="forbid")

    command: list[str] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict, repr=False)
    directory: str | None = None
    """Where the command runs."""
    url: str = ""
    auth: Auth | None = None
    trust_hints: bool = False
    tools: dict[str, Correction] = Field(default_factory=dict)
    """What the operator knows better, by operation."""


class ToolAnswer(Answer):
    """What the tool answered. It is data from there, never an instruction."""

    text: str | None = None
    structured: Any = None
    files: list[Download] | None = None


class McpConnector(Connector[McpConfig]):
    """The tools of one MCP server, started or reached at the first call."""

    name = "mcp"
    config_type = McpConfig
    reviewed = True

    def __init__(self, config: McpConfig, http: httpx.AsyncClient) -> None:
        super().__init__(config, http)
        if bool(config.command) == bool(config.url):
            raise InvalidInput("give either command or url.")
        parts = urlsplit(config.url)
        if config.url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username):
            raise InvalidInput("url: it is http(s)://host/path, without credentials.")
        if config.auth is not None and config.auth.kind == "token_exchange":
            raise InvalidInput("auth: one connection serves all callers, so it cannot come in each one's name.")
        self._credentials = Credentials(config.auth, http)
        self.problems: list[str] = []
        self.files: Files | None = None
        """Where content that is not text is kept; the catalogue sets it."""
        self._reviewed: dict[str, str] = {}
        """Hashes of the definitions that the operations were made from, by tool."""
        self._connection = _Connection(self)

    def operations(self) -> Sequence[Operation]:
        definitions = self._written()
        if not definitions:
            self.problems = ["its tools were never reviewed; the operator runs: usrland syscalls --diff."]
            return []
        self._reviewed = {definition.name: definition.hash for definition in definitions}
        names = _names(definitions)
        for name in self.config.tools.keys() - set(names.values()):
            raise InvalidInput(f"tools: there is no operation {name!r}.", fix="See: usrland syscalls --diff.")
        corrections = {name: self.config.tools.get(name, Correction()) for name in names.values()}
        return [
            self._operation(names[definition.name], definition, corrections[names[definition.name]])
            for definition in definitions
            if not corrections[names[definition.name]].hidden
        ]

    async def check(self) -> None:
        async with connected(self.where, self.http) as server:
            await server.definitions()

    async def refresh(self) -> None:
        async with connected(self.where, self.http) as server:
            definitions = await server.definitions()
        await anyio.to_thread.run_sync(self._write, definitions)

    async def work(self) -> None:
        await self._connection.hold()

    @property
    def where(self) -> Program | Address:
        """The server, as the operator named it."""
        if self.config.url:
            return Address(url=self.config.url, headers=self._shown)
        return Program(
            command=tuple(self.config.command),
            environment=self.config.environment,
            folder=self.config.directory,
            log=self.folder / "stderr.log" if self.folder else None,
        )

    async def _shown(self) -> Mapping[str, str]:
        return (await self._credentials.shown(None)).headers

    # -- definitions, as they were last seen

    def _written(self) -> list[Definition]:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            return [Definition(**each) for each in content]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            raise InvalidInput("its definitions cannot be read.", fix="Run: usrland syscalls --diff.") from error

    def _write(self, definitions: list[Definition]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self._file.with_name(f".{DEFINITIONS}.{os.getpid()}")
        draft.write_text(json.dumps([asdict(each) for each in definitions], indent=1), encoding="utf-8")
        draft.replace(self._file)

    @property
    def _file(self) -> Path:
        if self.folder is None:
            raise InvalidInput("there is no folder for what this server offers.")
        return self.folder / DEFINITIONS

    # -- operations

    def _operation(self, name: str, definition: Definition, correction: Correction) -> Operation:
        effect = correction.effect or self._effect(definition)
        parameters, keys = _parameters(definition.parameters)

        async def run(_call: Call, **arguments: Any) -> ToolAnswer:
            return await self._run(
                effect, definition, {keys.get(key, key): v for key, v in arguments.items()}, _call
            )

        async def preview(_call: Call, **arguments: Any) -> Preview:
            shown = json.dumps(arguments, ensure_ascii=False)
            return Preview(
                would=f"Call the tool {name!r} with these arguments.", affected=1, examples=[shown[:500]]
            )

        summary = definition.description.strip() or definition.title or definition.name
        operation = Operation(
            call=run,
            preview=None if effect == "read" else preview,
            name=name,
            title=definition.title[:80],
            description=summary[:MAX_DESCRIPTION],
            parameters=parameters,
            effect=effect,
            scopes=frozenset({f"sys:{effect}"}),
            idempotent=True if self.config.trust_hints and definition.hints.get("idempotentHint") else None,
            timeout_seconds=CALL_SECONDS,
            origin=definition.hash,
        )
        return corrected(operation, correction)

    def _effect(self, definition: Definition) -> Effect:
        hints = definition.hints
        if not self.config.trust_hints or hints.get("destructiveHint", not hints.get("readOnlyHint", False)):
            return "destroy"
        return "read" if hints.get("readOnlyHint") else "write"

    async def _run(
        self, effect: Effect, definition: Definition, arguments: dict[str, Any], call: Call
    ) -> ToolAnswer:
        server = await self._connection.server()
        await self._connection.prove(definition.name, self._reviewed[definition.name])
        meta: dict[str, Any] = {}
        if call.idempotency_key is not None:
            meta[IDEMPOTENCY_KEY] = call.idempotency_key
            if "idempotency_key" in definition.parameters.get("properties", {}):
                arguments.setdefault("idempotency_key", call.idempotency_key)
        try:
            reply = await server.call(definition.name, arguments, call.report, meta=meta)
        except (Unavailable, Timeout):
            self._connection.drop()
            raise
        if reply.failed:
            said = " ".join(" ".join(reply.texts).split())[:300]
            fact = f"the tool reports a failure: {said or 'it says no more'}."
            raise Failed(fact, fix="Correct the call and try again." if effect == "read" else "")
        return await anyio.to_thread.run_sync(self._answer, reply, call)

    def _answer(self, reply: Reply, call: Call) -> ToolAnswer:
        text = "\n\n".join(reply.texts)
        if reply.structured is not None and _same(text, reply.structured):
            text = ""
        kept = []
        for each in reply.attachments:
            file = File(content=each.content, name=each.name.rpartition("/")[2][:100], media_type=each.media_type)
            if self.files is not None:
                kept.append(Download.of(file, self.files.put(file, call.principal)))
        return ToolAnswer(text=text or None, structured=reply.structured, files=kept or None)


class _Connection:
    """The one connection of this process, opened when it is first wanted. `hold` owns it: a connection has to be
    left in the task that entered it, and calls come and go."""

    def __init__(self, connector: McpConnector) -> None:
        self._connector = connector
        self._server: ForeignServer | None = None
        self._hashes: dict[str, str] = {}
        self._known_at: float | None = None
        self._failure: UsrlandError | None = None
        self._renew()

    def _renew(self) -> None:
        self._wanted, self._ready, self._over = anyio.Event(), anyio.Event(), anyio.Event()

    async def hold(self) -> None:
        """Connect when somebody calls, again and again, until cancelled."""
        while True:
            await self._wanted.wait()
            try:
                async with connected(self._connector.where, self._connector.http, changed=self._changed) as server:
                    self._server, self._known_at = server, None
                    self._ready.set()
                    await self._over.wait()
            except UsrlandError as error:
                self._failure = error
            except Exception:  # the protocol's package raises groups of what its tasks met
                logger.exception("the connection to an MCP server ended")
                self._failure = Unavailable("the connection to the MCP server broke.")
            finally:
                self._server = None
            self._ready.set()  # for those who wait: there is none
            self._renew()

    async def server(self) -> ForeignServer:
        """The open connection; raises what kept it from being opened."""
        if self._server is None:
            self._failure = None
            ready = self._ready
            self._wanted.set()
            with anyio.move_on_after(CONNECT_SECONDS + 5):
                await ready.wait()
        if self._server is None:
            raise self._failure or Unavailable("the MCP server cannot be reached.", unsent=True)
        return self._server

    def drop(self) -> None:
        """Leave this connection; the next call opens another."""
        self._server = None
        self._over.set()

    async def prove(self, tool: str, reviewed: str) -> None:
        """Raise `Denied` where the tool is not what was reviewed."""
        now = time.monotonic()
        if self._known_at is None or now - self._known_at > CHECK_SECONDS:
            server = await self.server()
            self._known_at = now
            self._hashes = {each.name: each.hash for each in await server.definitions()}
        if self._hashes.get(tool) != reviewed:
            said = "has changed since it was reviewed" if tool in self._hashes else "is no longer offered"
            raise Denied(
                f"this tool {said}; it was not called.", fix="The operator runs: usrland syscalls --diff."
            )

    def _changed(self) -> None:
        self._known_at = None


def _names(definitions: Sequence[Definition]) -> dict[str, str]:
    """The operation's name for each tool. Two tools that want one name both get a mark of their own."""
    wished = {each.name: _plain(each.name) for each in definitions}
    wanted = Counter(wished.values())
    return {
        tool: name if wanted[name] == 1 and len(name) <= MAX_NAME else f"{name[: MAX_NAME - 7]}_{_mark(tool)}"
        for tool, name in wished.items()
    }


def _plain(tool: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", _BOUNDARY.sub("_", tool).lower()).strip("_")
    return name if name[:1].isalpha() else f"tool_{name}".rstrip("_")


def _mark(tool: str) -> str:
    import hashlib

    return hashlib.sha256(tool.encode()).hexdigest()[:6]


def _parameters(schema: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments as every host takes them, and the tool's own names of those that had to be renamed."""
    from enterprise_connectors.openapi.document import Document
    from enterprise_connectors.openapi.schema import Portable

    keys: dict[str, str] = {}
    for name in schema.get("properties", {}):
        plain = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[:48] or "value"
        if plain in _OURS:
            plain = f"{plain}_"
        while plain in keys:
            plain += "_"
        keys[plain] = name
    ours = {name: plain for plain, name in keys.items()}
    renamed = {
        **schema,
        "properties": {ours[name]: _present(value) for name, value in schema.get("properties", {}).items()},
        "required": [ours.get(name, name) for name in schema.get("required", [])],
    }
    portable = {"type": "object", "properties": {}, **Portable(Document(renamed)).convert(renamed)}
    if schema.get("additionalProperties"):
        portable["additionalProperties"] = True
    return portable, keys


def _present(schema: Any) -> Any:
    """An argument's schema without null: leaving it out says the same, and many a host takes no second type."""
    if not isinstance(schema, Mapping):
        return schema
    kinds, options = schema.get("type"), schema.get("anyOf")
    if isinstance(kinds, list) and "null" in kinds:
        kept = [kind for kind in kinds if kind != "null"]
        return {**schema, "type": kept[0] if len(kept) == 1 else kept}
    if isinstance(options, list):
        return {**schema, "anyOf": [each for each in options if each != {"type": "null"}]}
    return schema


def _same(text: str, structured: Any) -> bool:
    try:
        return bool(json.loads(text) == structured)
    except ValueError:
        return False
