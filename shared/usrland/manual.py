"""The page of one operation, written from the operation itself: `usrland man NAME`, and `usrland://man/{name}`.

Every server has its pages as resources, without a line of its own. Whoever may not call an operation does not
find its page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import anyio.to_thread

from usrland.connector import Call, Operation, ResourceTemplate, Service
from usrland.errors import NotFound
from usrland.parameters import Parameters, closest
from usrland.schemas.wire import Answer

__all__ = ["operations_of", "page", "with_manual"]

TEMPLATE = "usrland://man/{name}"
MOST_TOKENS = 8_000


class Manual(Answer):
    """One page."""

    text: str


class Names(Answer):
    """Names of operations that begin so."""

    values: list[str]


def with_manual(service: Service) -> Service:
    """The same server with its pages as resources; as it was where it has nothing that reads."""
    scopes = next((each.scopes for each in service.operations if each.effect == "read"), None)
    if scopes is None:
        return service

    async def man(call: Call, name: str) -> Manual:
        """Read the page of one operation: its arguments, its risk, its failures."""
        known = await anyio.to_thread.run_sync(_callable_by, service, call)
        if name not in known:
            near = closest(name, list(known))
            raise NotFound(f"there is no page {name!r}.", fix=f"Did you mean {near[0]!r}?" if near else "")
        return Manual(text=page(service.name, known[name]))

    async def man_names(call: Call, prefix: str) -> Names:
        """List the operations whose names begin so."""
        known = await anyio.to_thread.run_sync(_callable_by, service, call)
        return Names(values=sorted(name for name in known if name.startswith(prefix)))

    behind = [
        Operation(call=each, effect="read", scopes=scopes, visible=False, max_tokens=MOST_TOKENS)
        for each in (man, man_names)
    ]
    template = ResourceTemplate(
        uri=TEMPLATE,
        name="man",
        description="The page of one operation: what it is for, its arguments, its risk, its failures.",
        operation="man",
        show="text",
        mime_type="text/markdown",
        complete={"name": "man_names"},
    )
    return replace(
        service,
        operations=[*service.operations, *behind],
        resource_templates=[*service.resource_templates, template],
    )


def operations_of(service: Service) -> Iterator[tuple[Operation, str, bool]]:
    """Every operation of a server, the system it belongs to, if to one, and whether it is a tool of its own.

    What stands behind a delegate such as `sys_call` is known to the server's catalogue, if it has one; reading
    that may take a while.
    """
    names = {each.name for each in service.operations}
    catalogue = service.state.get("catalogue")
    behind = list(catalogue.entries().values()) if catalogue is not None else []
    systems = {entry.operation.name: entry.system.name for entry in behind}
    for each in service.operations:
        yield each, systems.get(each.name, ""), each.visible
    for entry in behind:
        if entry.operation.name not in names:
            yield entry.operation, entry.system.name, False


def _callable_by(service: Service, call: Call) -> dict[str, Operation]:
    return {each.name: each for each, _, _ in operations_of(service) if not call.principal.missing(each.scopes)}


def page(server: str, operation: Operation) -> str:
    """Markdown that a person reads as well as it stands."""
    lines = [
        f"# {operation.name}: {operation.title} ({server})",
        "",
        operation.description,
        "",
        "## Arguments",
        "",
    ]
    lines += list(_arguments(Parameters(operation).schema)) or ["It takes no arguments."]
    lines += ["", "## Risk", "", *_list(_risk(operation)), "", "## Failures", "", *_list(_failures(operation))]
    return "\n".join(lines)


def _list(facts: Mapping[str, str]) -> Iterator[str]:
    for name, text in facts.items():
        yield f"- {name}: {text}"


def _arguments(schema: Mapping[str, Any]) -> Iterator[str]:
    required = schema.get("required", [])
    for name, argument in schema.get("properties", {}).items():
        text = argument.get("description", "")
        if "default" in argument:
            text = f"{text} Default: {json.dumps(argument['default'], ensure_ascii=False)}.".strip()
        kind = f"{_type(argument)}, required" if name in required else _type(argument)
        yield f"- {name} ({kind}){': ' + text if text else ''}"


def _type(argument: Mapping[str, Any]) -> str:
    if "enum" in argument:
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in argument["enum"])
    if argument.get("type") == "array":
        return f"list of {_type(argument.get('items', {}))}"
    return str(argument.get("type", "anything"))


def _risk(operation: Operation) -> dict[str, str]:
    scopes = {"scopes": " ".join(sorted(operation.scopes))}
    if operation.delegate is not None:
        return {
            **scopes,
            "all else": "of the operation that it passes the call on to: see the page of that one",
        }
    changes = {
        "dry run": "yes: dry_run = true says what would happen" if operation.preview else "none",
        "undo": f"with {operation.undo}" if operation.undo else "none",
    }
    return {
        "effect": operation.effect,
        **scopes,
        "consent": "a person is asked first" if operation.consent else "not asked for",
        **(changes if operation.effect != "read" else {}),
        "deadline": f"{operation.timeout_seconds:g} seconds",
        "cost": operation.cost,
    }


def _failures(operation: Operation) -> dict[str, str]:
    found = {
        "invalid_input": "an argument is unknown, mistyped or makes no sense",
        "denied": f"the caller lacks {' '.join(sorted(operation.scopes))}",
        "not_found": "there is no such thing, or none that the caller may see",
        "timeout": f"not done within {operation.timeout_seconds:g} seconds; the work was stopped",
        "unavailable": "a system behind it does not answer",
    }
    if operation.effect != "read":
        found["conflict"] = "the state has moved on; nothing was changed"
    if operation.consent:
        found["consent_needed"] = "the host cannot ask the person: call again with the confirm_token it names"
    return found
