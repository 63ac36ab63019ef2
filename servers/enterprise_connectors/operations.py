"""`sys_find`, `sys_describe`, `sys_call`: the tools in front of any number of operations.

A catalogue of whole schemas costs more than a context window, so it is read in three steps: some words give
a few names, a name gives one exact contract, and the call goes through the same path as any other operation,
under the scopes, consent and audit of the operation that is meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import anyio.to_thread
from pydantic import Field

from enterprise_connectors.catalogue import Catalogue, Entry
from enterprise_connectors.outline import outlined, part_of
from enterprise_connectors.systems import FILE_NAME
from usrland.connector import Call, Effect, Operation
from usrland.errors import InvalidInput
from usrland.parameters import Parameters
from usrland.schemas.principal import Principal
from usrland.schemas.wire import Answer

if TYPE_CHECKING:
    from enterprise_connectors.meaning import Meaning

__all__ = ["operations"]

MAX_FOUND = 20
PATIENCE_SECONDS = 2.0
"""How long a search waits for the vectors of a catalogue that is new. A few hundred operations take no longer."""
SUMMARY_CHARACTERS = 110
NOTE_CHARACTERS = 400
MAX_REQUIRED = 8
MAX_LEFT = 12
"""Parts that are named where a contract does not show them all."""
CHARACTERS_A_TOKEN = 3
BESIDE_TOKENS = 600
"""For everything of a contract but its arguments."""

FIND = frozenset({"sys:find"})
CALL = frozenset({"sys:call"})


class Found(Answer):
    """One operation, just enough to choose it."""

    name: str
    summary: str
    effect: Effect
    required: list[str] = Field(description="Arguments that must be given.")


class FoundOperations(Answer):
    operations: list[Found]
    note: str | None = Field(default=None, description="Nothing found, or systems that are not available and why.")


class Contract(Answer):
    """How to call one operation."""

    name: str
    description: str
    effect: Effect
    scopes: list[str]
    arguments: dict[str, Any] = Field(description="JSON schema of `arguments`.")
    example: dict[str, Any] = Field(description="A whole call of sys_call.")
    note: str | None = None


def operations(catalogue: Catalogue, searched: anyio.Event) -> list[Operation]:
    """The three operations over one catalogue. `searched` is set when somebody looks for one."""

    async def sys_find(
        request: Annotated[
            str, Field(description="What you want to do, in plain words.", min_length=1, max_length=500)
        ],
        call: Call,
        system: Annotated[str, Field(description="Only in this system.")] = "",
        limit: Annotated[int, Field(ge=1, le=MAX_FOUND)] = 5,
    ) -> FoundOperations:
        """Find out what can be done in the company's systems (databases, tickets, mail, other services), and by
        which operation. Start here; search again with other words for each step of a task."""
        searched.set()
        return await anyio.to_thread.run_sync(_find, catalogue, call.principal, request, system, limit)

    async def sys_describe(
        name: Annotated[str, Field(description="From sys_find.")],
        call: Call,
        part: Annotated[str, Field(description="Only this part of the arguments, from a note.")] = "",
    ) -> Contract:
        """Tell which arguments one operation takes, exactly, with an example of a call. Read it before the first
        sys_call."""
        return await anyio.to_thread.run_sync(_describe, catalogue, call, name, part)

    async def sys_call(
        name: Annotated[str, Field(description="From sys_find.")],
        arguments: Annotated[dict[str, Any], Field(description="As sys_describe says.")],
    ) -> Answer:
        """Run one operation that sys_find found, with its arguments. Try dry_run first where it writes or
        destroys."""
        raise AssertionError("the call path runs the operation meant")

    def meant(arguments: Mapping[str, Any]) -> tuple[Operation, Mapping[str, Any]]:
        return catalogue.entry(arguments["name"]).operation, arguments["arguments"]

    def recorded(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of a call that was refused before it was known what is meant."""
        name, given = arguments.get("name"), arguments.get("arguments")
        if not isinstance(name, str) or not isinstance(given, dict):
            return arguments
        return {**arguments, "arguments": catalogue.recorded(name, given)}

    return [
        Operation(
            call=sys_find,
            effect="read",
            scopes=FIND,
            cost="low",
            title="Find an operation",
            recorded=partial(catalogue.recorded, ""),
        ),
        Operation(call=sys_describe, effect="read", scopes=FIND, cost="low", title="Describe an operation"),
        Operation(
            call=sys_call,
            # the strongest that can be behind it; what is asked and recorded is the operation meant
            effect="destroy" if catalogue.grants_writing else "read",
            scopes=CALL,
            delegate=meant,
            recorded=recorded,
            open_world=True,
            title="Run an operation",
        ),
    ]


def _find(catalogue: Catalogue, principal: Principal, request: str, system: str, limit: int) -> FoundOperations:
    known = [name for name in (system.name for system in catalogue.systems) if _may_use(principal, name)]
    if system and system not in known:
        raise InvalidInput(f"there is no system {system!r}.", fix=f"Known: {', '.join(known) or 'none'}.")
    problems = {name: text for name, text in catalogue.problems.items() if _may_use(principal, name)}

    def allowed(entry: Entry) -> bool:
        return system in ("", entry.system.name) and not principal.missing(entry.operation.scopes)

    meaning = catalogue.meaning()
    if meaning is not None:
        meaning.wait(PATIENCE_SECONDS)
    found = catalogue.search(request, limit, allowed)
    facts = [*_facts(known, problems, found=bool(found)), *_degraded(meaning)]
    return FoundOperations(
        operations=[_found(entry.operation) for entry in found],
        note=_cut(" ".join(facts), NOTE_CHARACTERS) or None,
    )


def _may_use(principal: Principal, system: str) -> bool:
    return any(not principal.missing(frozenset({f"{system}:{effect}"})) for effect in ("read", "write", "destroy"))


def _found(operation: Operation) -> Found:
    required = Parameters(operation).own.get("required", [])
    left = [f"… {len(required) - MAX_REQUIRED} more"] if len(required) > MAX_REQUIRED else []
    return Found(
        name=operation.name,
        summary=_cut(" ".join(operation.description.partition("\n")[0].split()), SUMMARY_CHARACTERS),
        effect=operation.effect,
        required=[*required[:MAX_REQUIRED], *left],
    )


def _degraded(meaning: Meaning | None) -> list[str]:
    if meaning is None or meaning.whole:
        return []
    if meaning.failed:
        return ["Found by words alone: the embedding model cannot be used."]
    return ["Found by words alone while the operations are still being read; ask again in a minute."]


def _facts(known: list[str], problems: Mapping[str, str], *, found: bool) -> list[str]:
    facts = []
    if not known and not problems:
        facts.append(f"No system is there for you; the operator adds one to {FILE_NAME} in the usrland home.")
    elif not found:
        facts.append(f"Nothing fits these words. Systems: {', '.join(known) or 'none'}. Try other words.")
    return [*facts, *(f"{name}: {problem}" for name, problem in problems.items())]


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _describe(catalogue: Catalogue, call: Call, name: str, part: str) -> Contract:
    operation = catalogue.entry(name, call.principal).operation
    parameters = Parameters(operation)
    own = part_of(parameters.own, part) if part else parameters.own
    arguments, left = outlined(own, (call.max_tokens - BESIDE_TOKENS) * CHARACTERS_A_TOKEN)
    inside = f"{part}." if part else ""
    facts = [] if part else _beside(parameters)
    if left:
        more = f" and {len(left) - MAX_LEFT} more" if len(left) > MAX_LEFT else ""
        named = ", ".join(f"{inside}{place}" for place in left[:MAX_LEFT])
        facts.append(f"Not shown are the fields of {named}{more}: describe again with one of them as `part`.")
    return Contract(
        name=name,
        description=operation.description,
        effect=operation.effect,
        scopes=sorted(operation.scopes),
        arguments=arguments,
        example={"name": name, "arguments": _example(parameters.own)},
        note=" ".join(facts) or None,
    )


def _beside(parameters: Parameters) -> list[str]:
    added = [name for name in ("dry_run", "idempotency_key", "confirm_token") if name in parameters.added]
    return [f"sys_call also takes {', '.join(added)}, beside `arguments`."] if added else []


def _example(schema: Mapping[str, Any], depth: int = 0) -> Any:
    """A value of the right shape: what is required and no more."""
    if "default" in schema:
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    match schema.get("type"):
        case "object" if depth < 4:
            properties = schema.get("properties", {})
            return {key: _example(properties.get(key, {}), depth + 1) for key in schema.get("required", [])}
        case "object":
            return {}
        case "array":
            return [_example(schema.get("items", {}), depth + 1)] if schema.get("minItems") else []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return "…"
