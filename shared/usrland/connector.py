"""The contract: what a server or a connector declares, and what it is given.

An author writes async functions over typed arguments and lists them as `Operation`s. The host reads name,
schema and help from the function; risk cannot be read from code, so `effect` and `scopes` are stated by hand
and have no default. Nothing here imports the protocol: the same operation is served on every transport, to
every client, and is called the same way from a test.

A function may ask for the call it runs in by annotating one parameter with `Call`; that parameter never
appears in the schema.
"""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from usrland.changes import Changes
from usrland.errors import InvalidInput
from usrland.schemas.principal import Principal
from usrland.settings import explain
from usrland.visible import visible_text

if TYPE_CHECKING:
    import httpx

__all__ = [
    "Call",
    "Connector",
    "Cost",
    "Effect",
    "Keeping",
    "Operation",
    "Prompt",
    "PromptArgument",
    "Read",
    "Resource",
    "ResourceTemplate",
    "Service",
]

Effect = Literal["read", "write", "destroy"]
"""`read` changes nothing; `write` adds or changes and can be undone or repeated; `destroy` loses something."""

Cost = Literal["low", "normal", "high"]
"""Quotas count each kind apart."""

MAX_OPERATION_NAME = 56
"""Characters. Hosts put `mcp__<server>__` before a name and some stop at 64 for the whole; the longest of
our server names is the host's own business, so names themselves stay short."""

_NAME = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*")


class _Progress(Protocol):
    async def __call__(self, done: float, total: float | None, message: str) -> None: ...


class _Erase(Protocol):
    async def __call__(self, texts: Sequence[str]) -> None: ...


async def _nothing_kept(texts: Sequence[str]) -> None:
    """The default: nobody kept a copy."""


async def _no_progress(done: float, total: float | None, message: str) -> None:
    """The default: nobody listens."""


class Read(Protocol):
    """Make a call for whoever asked; the answer as it would go over the wire."""

    async def __call__(self, operation: str, arguments: Mapping[str, Any], /) -> Mapping[str, Any]: ...


class _Ask(Protocol):
    async def __call__(self, question: str, schema: Mapping[str, Any], /) -> Mapping[str, Any] | None: ...


async def _cannot_ask(question: str, schema: Mapping[str, Any], /) -> Mapping[str, Any] | None:
    """The default: nobody is there."""
    return None


AnswerT = TypeVar("AnswerT", bound=BaseModel)


async def _makes_none(operation: str, arguments: Mapping[str, Any], /) -> Mapping[str, Any]:
    raise NotImplementedError("this call was not made through a call path")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The call an operation runs in. Ask for it with a parameter annotated `Call`."""

    id: str
    principal: Principal
    operation: str
    idempotency_key: str | None = None
    offset: int = 0
    """For an operation that returns a `Page`: how many items the caller already has."""
    max_tokens: int = 4_000
    """What the answer may cost. The path cuts a `Page` to this; an operation that packs text should obey it."""
    report: _Progress = _no_progress
    erase: _Erase = _nothing_kept
    """For an operation that erases texts for good: take them out of the audit log's table of arguments and of
    the answers kept for retries, too. The log's chain verifies as before."""
    make: Read = _makes_none
    """Make another call of this server for the same caller: admitted, asked for and recorded like any other, and
    answered whole. Nobody is asked on the way: what needs consent fails with a token."""

    put_question: _Ask = _cannot_ask

    async def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell the caller how far the work has come; does nothing where the host did not ask."""
        await self.report(done, total, message)

    async def ask(self, question: str, answer: type[AnswerT]) -> AnswerT | None:
        """Ask the person for a few plain values; None where they declined or nobody can be asked.

        Ask before anything is changed: in the protocol's newer era the question travels in the answer of this
        call, and the operation runs again from its beginning once the reply is there. Every field of `answer` is
        text, a number, a boolean or a `Literal` of texts, and a person reads its description. Raises
        `InvalidInput` where the reply does not fit. Not for operations that ask for consent.
        """
        reply = await self.put_question(question, form(answer))
        if reply is None:
            return None
        try:
            return answer.model_validate(dict(reply))
        except ValidationError as error:
            raise InvalidInput(f"the reply does not fit: {explain(error)}.", fix="Call again.") from error


def form(answer: type[BaseModel]) -> dict[str, Any]:
    """The schema of a form with a field for each of the model's: flat and plain, as every host can show it."""
    schema = answer.model_json_schema()
    fields = {name: {k: v for k, v in of.items() if k != "default"} for name, of in schema["properties"].items()}
    for name, of in fields.items():
        if of.get("type") not in ("string", "integer", "number", "boolean"):
            raise TypeError(f"{answer.__name__}.{name}: a person can be asked for plain values only")
    return {"type": "object", "properties": fields, "required": schema.get("required", [])}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call that a kernel can make. Name, schema and help are read from `call`; its risk is stated here.

    `call` is an async function with annotated parameters that returns a pydantic model; its docstring is
    what a model chooses it by. Raises `TypeError` or `ValueError` at declaration, so that a mistake is found
    when the server's module is imported and not when somebody calls it.
    """

    call: Callable[..., Awaitable[BaseModel]]
    effect: Effect
    scopes: frozenset[str]

    name: str = ""
    """Default: the function's name. Generated operations set it."""
    title: str = ""
    description: str = ""
    """Default: the function's docstring."""
    parameters: Mapping[str, Any] | None = None
    """A JSON schema for generated operations, whose `call` takes `**arguments`. Default: from the signature."""
    preview: Callable[..., Awaitable[BaseModel]] | None = None
    """The dry run: takes the same arguments, changes nothing, says what `call` would do. `destroy` needs one."""
    undo: str = ""
    """Name of the operation that undoes this one."""
    consent: bool | None = None
    """Ask the person first. Default: for `destroy` only."""
    idempotent: bool | None = None
    """Calling twice is as good as once. Default: for `read` only."""
    open_world: bool = False
    """Reaches systems outside this server."""
    cache_seconds: float = 0.0
    """How long an answer may be given again to the same caller, until something is changed. For `read`."""
    timeout_seconds: float = 60.0
    cost: Cost = "normal"
    quotes: str = ""
    """Whose words the answer carries: `files`, `memory`, the name of a system. Default: for what reaches other
    systems, its name. The host says so beside the answer, and an operator may have what follows it asked for."""
    max_tokens: int = 4_000
    """Default answer budget, in tokens of the o200k vocabulary. The caller may ask for up to 25,000."""
    recorded: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    """The arguments as they may be written down: in the audit log, and in what retries and cursors are bound to.
    What was different has to stay different. Default: as they are, without secrets."""
    origin: str = ""
    """A hash of the foreign definition it was made from; a review is tied to it."""
    visible: bool = True
    """Listed as a tool of its own. Others are reached through a `delegate`."""
    delegate: Callable[[Mapping[str, Any]], tuple[Operation, Mapping[str, Any]]] | None = None
    """For an operation that only passes on (`sys_call`): its arguments → the operation meant and that one's
    arguments. The call path then admits, asks, runs and records the operation meant. Called in a thread; may
    block."""

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # the dataclass is frozen; these are its own defaults
        set_field(self, "name", self.name or getattr(self.call, "__name__", ""))
        set_field(self, "description", inspect.cleandoc(self.description or self.call.__doc__ or ""))
        set_field(self, "title", self.title or self.name.replace("_", " ").capitalize())
        if self.parameters is not None:  # generated, in the words of another system's document
            for text in ("title", "description"):
                set_field(self, text, visible_text(getattr(self, text)))
        if self.effect not in ("read", "write", "destroy"):
            raise ValueError(
                f"operation {self.name!r}: effect must be read, write or destroy, not {self.effect!r}"
            )
        if not isinstance(self.scopes, frozenset) or not self.scopes:
            raise ValueError(f"operation {self.name!r}: scopes must be a frozenset of at least one scope")
        if len(self.name) > MAX_OPERATION_NAME or not _NAME.fullmatch(self.name):
            raise ValueError(
                f"operation {self.name!r}: a name is lower case letters, digits, '_' and '.', "
                f"at most {MAX_OPERATION_NAME} characters"
            )
        if not self.description:
            raise ValueError(f"operation {self.name!r}: a docstring says when to call it, and when not")
        if self.effect == "destroy" and self.preview is None and self.delegate is None:
            raise ValueError(f"operation {self.name!r}: what destroys needs a preview, so that it has a dry run")
        set_field(self, "consent", self.effect == "destroy" if self.consent is None else self.consent)
        set_field(self, "quotes", self.quotes or (self.name if self.open_world else ""))
        set_field(self, "idempotent", self.effect == "read" if self.idempotent is None else self.idempotent)


ConfigT = TypeVar("ConfigT", bound=BaseModel)


class Connector(ABC, Generic[ConfigT]):
    """One external system. It declares what it adds and never sees the server.

    Found through the entry point group `usrland.connectors`; configured by one table of `connectors.toml`.
    `http` is handed in, so that timeouts, egress rules and test transports live in one place.
    """

    name: ClassVar[str]
    """The kind, as it is written in `connectors.toml`: `kind = "sql"`."""
    config_type: ClassVar[type[BaseModel]]
    reviewed: ClassVar[bool] = False
    """Whether an operation of it exists only once a person has reviewed it: its texts are somebody else's."""
    folder: Path | None = None
    """Where it may keep what outlives the process; set by whoever serves it. It makes it where it is missing."""

    def __init__(self, config: ConfigT, http: httpx.AsyncClient) -> None:
        self.config = config
        self.http = http

    @abstractmethod
    def operations(self) -> Sequence[Operation]:
        """What this system can do. Called once, at the first use; must not touch the network."""

    async def check(self) -> None:
        """Prove that the configuration and the credentials work; raise a `UsrlandError` where they do not."""

    async def refresh(self) -> None:
        """Look again at what `operations` are made from, where the system itself says it. For a review alone."""

    async def work(self) -> None:
        """What goes on beside the calls for as long as the server runs; cancelled at its end."""

    async def aclose(self) -> None:
        """Let go of what the connector holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A URI (`memory://working-set`) that stands for one call of a read operation.

    There is no second way to read: whoever may not call the operation does not see the resource, and reading
    it is admitted, cut and recorded like the call.
    """

    uri: str
    name: str
    description: str
    operation: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    show: str = ""
    """The answer's field that is the text. Default: the whole answer, as JSON."""
    mime_type: str = "text/plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceTemplate:
    """A family of URIs (`usrfs://{root}/{+path}{?lines}`, RFC 6570), each of which stands for one call."""

    uri: str
    name: str
    description: str
    operation: str
    arguments: Callable[[Mapping[str, str]], Mapping[str, Any]] = dict
    """The variables found in a URI → the operation's arguments. Default: the same names. Raises `InvalidInput`."""
    show: str = ""
    mime_type: str = "text/plain"
    complete: Mapping[str, str] = field(default_factory=dict)
    """A variable → the read operation that suggests values for it. That one takes `prefix` and, where it declares
    them, the variables known already; it returns `Suggestions` and need not be a tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptArgument:
    """One blank that a person fills in."""

    name: str
    description: str
    required: bool = False
    complete: str = ""
    """The read operation that suggests values, as in `ResourceTemplate.complete`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A text that a person picks from the host's menu.

    What it tells of the server's content it reads through `operations`: who may not call each of them does not
    see the prompt, and every read is admitted and recorded like the call.
    """

    name: str
    title: str
    description: str
    operations: Sequence[str]
    compose: Callable[[Mapping[str, str], Read], Awaitable[str]]
    """The blanks as filled in, and the way to read → the text that goes before the model."""
    arguments: Sequence[PromptArgument] = ()


@asynccontextmanager
async def _no_lifespan() -> AsyncIterator[None]:
    yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How what a server keeps is looked over and made anew; for `usrland check`, `rebuild` and `backup`."""

    check: Callable[[bool], Awaitable[Sequence[str]]]
    """What is not as it was written, a sentence each. With `True` every stored byte is read."""
    rebuild: Callable[[], Awaitable[str]]
    """Make anew what is derived; a sentence on what that was."""
    derived: frozenset[str] = frozenset()
    """Names in the server's own folder that hold nothing but what `rebuild` makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A whole server, before it is put on a transport: what the entry point group `usrland.servers` names.

    The entry point is a function `(Settings) -> Service`. It must be cheap: opening databases, models and
    networks waits for the first call, or for `lifespan`, which is entered once per process after the first
    listing can already be answered.
    """

    name: str
    title: str
    description: str
    instructions: str
    """Read by the model at connection; the first 512 characters stand alone."""
    operations: Sequence[Operation]
    resources: Sequence[Resource] = ()
    resource_templates: Sequence[ResourceTemplate] = ()
    prompts: Sequence[Prompt] = ()
    changes: Changes = field(default_factory=Changes)
    """Where the server says which of its resources has changed; the host tells those who subscribed."""
    lifespan: Callable[[], AbstractAsyncContextManager[None]] = _no_lifespan
    keeping: Keeping | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    """Parts that the server's own commands and tests want to reach; never used by the call path."""

    def __post_init__(self) -> None:
        suggesting = [name for template in self.resource_templates for name in template.complete.values()]
        suggesting += [argument.complete for prompt in self.prompts for argument in prompt.arguments]
        behind = [resource.operation for resource in self.resources]
        behind += [template.operation for template in self.resource_templates]
        behind += [name for prompt in self.prompts for name in prompt.operations]
        effects = {operation.name: operation.effect for operation in self.operations}
        for name in filter(None, (*behind, *suggesting)):
            if effects.get(name) != "read":
                raise ValueError(
                    f"{self.name}: {name!r} stands behind a resource or prompt and is no read operation"
                )

    def operation(self, name: str) -> Operation:
        """The operation of that name; raises `InvalidInput` with the names there are."""
        for operation in self.operations:
            if operation.name == name:
                return operation
        known = ", ".join(sorted(operation.name for operation in self.operations))
        raise InvalidInput(f"there is no operation {name!r} here.", fix=f"Known: {known}.")
