"""All operations of all configured systems, under one name each.

A connector knows neither its system's name nor who calls. The rule that makes its operations this server's:

* name: `<system>_<operation>` (dots become underscores; cut to 56 characters with a mark), the same in
  `tools/list`, sys_find and the audit log;
* scopes: `<system>:<effect>` always, and every scope that the connector declared with its own first part
  replaced by the system: `sys:read` becomes `crm:read`, `sys:admin` becomes `crm:admin`;
* without `write = true` only what reads exists at all;
* everything is `open_world`: it reaches a system that is not ours;
* the calls of one system take turns, and are refused while it is down (see `upstream`);
* answers lose what is personal where the system says so (`personal`), and may be kept (`reads`).

A connector that had to leave something out may say so in an attribute `problems`, a list of sentences; one that
takes or gives files has an attribute `files` that is set here.

Listing must not wait. Up to eight operations with short names are listed as tools of their own, decided
from configuration alone: a system whose table names a file above 32 KiB (an API description) counts as many
without being read, and of the others `Connector.operations` is asked, which never touches a network. Above
that the `sys_` tools lead to everything, and descriptions are parsed at the first use, in a thread: a
large one (1,223 operations, 7 MB) takes 0.3 s, so no parsed form is kept on the disk. Operations that a system's
table names `direct` are listed all the same; its description is then read before the listing is answered.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anyio
from pydantic import ValidationError

from enterprise_connectors.connection import Connection, Opened
from enterprise_connectors.files import Files
from enterprise_connectors.reads import Reads
from enterprise_connectors.systems import Configured, System
from enterprise_connectors.upstream import Function, Upstream
from usrland.connector import MAX_OPERATION_NAME, Connector, Operation
from usrland.errors import InvalidInput, NotFound, UsrlandError
from usrland.outgoing import outgoing
from usrland.parameters import Parameters
from usrland.pins import Pin
from usrland.schemas.principal import Principal
from usrland.settings import explain

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from enterprise_connectors.find import Index
    from enterprise_connectors.meaning import Meaning
    from usrland.embedding import Embedder

__all__ = ["Catalogue", "Entry"]

logger = logging.getLogger(__name__)

ENTRY_POINTS = "usrland.connectors"
MAX_LISTED = 8
MAX_LISTED_NAME = 36
"""Characters. Some hosts allow 64 for `mcp__enterprise-connectors__` and the name, and refuse the whole list."""
MAX_LISTED_CHARACTERS = 4_000
"""Of names, descriptions and schemas: beside the `sys_` tools, what a whole listing may cost."""
LARGE_FILE_BYTES = 32 * 1024

_PLACE = re.compile(r"(.*?)((?:^[A-Z]+ /.*)?)\Z", re.DOTALL | re.MULTILINE)
"""A description, and the method, path and tags that a REST operation's ends with."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation in the catalogue."""

    system: System
    operation: Operation


class Catalogue:
    """Connectors, opened where they are needed, and what they can do. Safe to use from threads."""

    def __init__(
        self,
        configured: Configured,
        *,
        embedder: Embedder | None = None,
        folder: Path | None = None,
        pins: Mapping[str, Pin] | None = None,
        key: bytes = b"",
    ) -> None:
        """`pins` are the operations a person reviewed; where there are any, no others are offered.

        `key`: of the marks that stand for personal data in what is written down.
        """
        self._key = key
        self.problems = dict(configured.problems)
        self._pins = pins
        self._withheld: list[Operation] = []
        self._embedder = embedder
        self._folder = folder
        self._building = threading.Lock()
        self._connections: dict[str, Connection] = {}
        self._of_system: dict[str, list[Operation]] = {}
        self._taken: set[str] = set()
        self._kinds = _kinds() if configured.systems else {}
        self._entries: dict[str, Entry] | None = None
        self._index: Index | None = None
        self._meaning: Meaning | None = None
        self.systems = [system for system in configured.systems if self._connect(system)]

    @property
    def grants_writing(self) -> bool:
        return any(system.write for system in self.systems)

    def listed(self) -> list[Operation]:
        """The operations that are tools of their own: all where they are few, else those named `direct`."""
        if any(_names_a_large_file(system.options) for system in self.systems):
            return self._direct()
        operations: list[Operation] = []
        for system in self.systems:
            operations += self._operations(system)
        few = len(operations) <= MAX_LISTED and all(map(_is_listable, operations))
        return operations if few and sum(map(_size, operations)) <= MAX_LISTED_CHARACTERS else self._direct()

    def _direct(self) -> list[Operation]:
        """What the operator named, as far as a listing has room for it."""
        chosen: list[Operation] = []
        for system in (system for system in self.systems if system.direct):
            known = {operation.name: operation for operation in self._operations(system)}
            for name in system.direct:
                operation = known.get(_name(system, name))
                if operation is None:
                    self._problem(system, f"direct: there is no operation {name!r}.")
                elif (
                    len(chosen) == MAX_LISTED
                    or not _is_listable(operation)
                    or sum(map(_size, [*chosen, operation])) > MAX_LISTED_CHARACTERS
                ):
                    self._problem(system, f"direct: {name!r} has no room in the list of tools.")
                else:
                    chosen.append(operation)
        return chosen

    def entries(self) -> Mapping[str, Entry]:
        """Every operation by name. Blocks while descriptions are read, once."""
        with self._building:
            if self._entries is None:
                self._entries = self._all()
            return self._entries

    def reviewable(self) -> list[Operation]:
        """Every operation there is, those included that wait for a review. Blocks like `entries`."""
        return [*(entry.operation for entry in self.entries().values()), *self._withheld]

    def entry(self, name: str, principal: Principal | None = None) -> Entry:
        """The operation of that name; raises `NotFound` where there is none that `principal` may use."""
        entry = self.entries().get(name)
        if entry is None or (principal is not None and principal.missing(entry.operation.scopes)):
            raise NotFound(f"there is no operation {name!r}.", fix="sys_find names the operations there are.")
        return entry

    def recorded(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments of a call as they may be written down, even where there is no such operation.

        Without a name, as every system would have it.
        """
        for system in self.systems:
            if system.redact.asked_for and (not name or name.startswith(f"{system.name}_")):
                arguments = system.redact.recorded(arguments, self._key)
        return arguments

    def search(self, request: str, limit: int, allowed: Callable[[Entry], bool]) -> list[Entry]:
        """The operations that `request` may mean, best first. Blocks at the first use."""
        entries = self.entries()
        index, meaning = self._indexed(entries)
        names = index.search(
            request,
            limit,
            lambda name: allowed(entries[name]),
            meaning.scores(request) if meaning else None,
        )
        return [entries[name] for name in names]

    def meaning(self) -> Meaning | None:
        """The vectors of the operations, where they are searched by meaning. Blocks at the first use."""
        return self._indexed(self.entries())[1]

    def _indexed(self, entries: Mapping[str, Entry]) -> tuple[Index, Meaning | None]:
        with self._building:
            if self._index is None:
                from enterprise_connectors.find import Document, Index

                documents = [Document(**_searchable(name, entry)) for name, entry in entries.items()]
                if self._embedder is not None and self._folder is not None:
                    from enterprise_connectors.meaning import Meaning

                    passages = [document.passage for document in documents]
                    self._meaning = Meaning(passages, self._embedder, self._folder)
                self._index = Index(documents)
            return self._index, self._meaning

    async def check(self) -> dict[str, str]:
        """Prove every system; the problems by system, empty where all is well."""
        return {**self.problems, **await self._each(lambda connector: connector.check())}

    async def _each(self, ask: Callable[[Connector[Any]], Awaitable[None]]) -> dict[str, str]:
        problems: dict[str, str] = {}
        for name, connection in self._connections.items():
            try:
                await connection.renew()
                await ask(connection.connector)
            except UsrlandError as error:
                problems[name] = str(error)
            except Exception:  # foreign code; the other systems are asked all the same
                logger.exception("system %s failed", name)
                problems[name] = "its connector failed; the log tells why."
        return problems

    async def refresh(self) -> dict[str, str]:
        """Let every system say again what it offers, for a review; the problems by system."""
        problems = await self._each(lambda connector: connector.refresh())
        with self._building:  # what was read before is no longer what there is
            self._of_system.clear()
            self._taken.clear()
            self._withheld.clear()
            self._entries = None
        return problems

    async def work(self) -> None:
        """What systems do beside their calls; runs until cancelled or all is done."""
        async with anyio.create_task_group() as tasks:
            for name, connection in self._connections.items():
                tasks.start_soon(connection.work, name=f"{name}'s own work")

    async def aclose(self) -> None:
        """Close every connector and the clients they were handed."""
        for connection in self._connections.values():
            await connection.aclose()

    def _connect(self, system: System) -> bool:
        try:
            self._connections[system.name] = Connection(system, self._opened)
        except ValidationError as error:
            self._problem(system, f"{explain(error)}.")
        except UsrlandError as error:
            self._problem(system, f"{error.fact} {error.fix}")
        except Exception:
            # a connector is foreign code; one that breaks must not cost the other systems
            logger.exception("connector %s failed to start for system %s", system.kind, system.name)
            self._problem(system, f"the connector {system.kind!r} failed to start; its log tells why.")
        return system.name in self._connections

    def _opened(self, system: System) -> Opened:
        kind = self._kind(system.kind)
        config = kind.config_type.model_validate(system.options)
        client = outgoing(allow_private=system.allow_private, tls=system.tls)
        connector = kind(config, client)
        if self._folder is not None:
            connector.folder = self._folder / "systems" / system.name
            if hasattr(connector, "files"):
                connector.files = Files(self._folder / "files")

        async def close() -> None:
            try:
                await connector.aclose()
            except Exception:  # foreign code; the others are closed all the same
                logger.exception("closing system %s failed", system.name)
            await client.aclose()

        return connector, close

    def _kind(self, kind: str) -> type[Connector[Any]]:
        if kind not in self._kinds:
            raise InvalidInput(
                f"there is no connector {kind!r}.", fix=f"Known kinds: {', '.join(sorted(self._kinds))}."
            )
        loaded: type[Connector[Any]] = self._kinds[kind].load()
        return loaded

    def _all(self) -> dict[str, Entry]:
        return {
            operation.name: Entry(system, operation)
            for system in self.systems
            for operation in self._operations(system)
        }

    def _operations(self, system: System) -> list[Operation]:
        if system.name not in self._of_system:
            self._of_system[system.name] = list(self._issued(system))
        return self._of_system[system.name]

    def _issued(self, system: System) -> Iterator[Operation]:
        connection = self._connections[system.name]
        connector = connection.connector
        try:
            declared = connection.operations()
        except UsrlandError as error:
            self._problem(system, f"{error.fact} {error.fix}")
            return
        except Exception:
            logger.exception("connector %s failed to list operations of %s", system.kind, system.name)
            self._problem(system, f"the connector {system.kind!r} failed; its log tells why.")
            return
        for problem in getattr(connector, "problems", ()):
            self._problem(system, problem)
        withheld: list[str] = []
        upstream, reads = Upstream(system.name, at_once=system.at_once), Reads()
        connection.on_change = reads.forget
        for operation in declared:
            if operation.effect != "read" and not system.write:
                continue
            try:
                issued = _reissued(system, operation, connection, upstream, reads, self._key)
            except ValueError as error:
                self._problem(system, f"{error}.")
                continue
            if issued.name in self._taken:
                self._problem(system, f"{issued.name!r} is already the name of another operation.")
                continue
            self._taken.add(issued.name)
            pins = {} if self._pins is None and connector.reviewed else self._pins
            if pins is not None and pins.get(issued.name) != Pin.of(issued):
                self._withheld.append(issued)
                withheld.append(issued.name)
                continue
            yield issued
        if withheld:
            some = ", ".join(withheld[:3])
            self._problem(
                system,
                f"{len(withheld)} operations are not as they were reviewed ({some}…); "
                "the operator reviews them with: usrland syscalls --diff.",
            )

    def _problem(self, system: System, text: str) -> None:
        logger.warning("system %s: %s", system.name, text)
        before = self.problems.get(system.name)
        self.problems[system.name] = f"{before} {text}" if before else text


def _kinds() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _reissued(
    system: System, operation: Operation, connection: Connection, upstream: Upstream, reads: Reads, key: bytes
) -> Operation:
    def shown(part: Literal["call", "preview"]) -> Function:
        guarded = upstream.guarded(connection.calling(operation, part))
        return system.redact.around(guarded) if system.redact.asked_for else guarded

    declared = {f"{system.name}:{scope.partition(':')[2] or scope}" for scope in operation.scopes}
    return replace(
        operation,
        call=reads.around(operation, shown("call")),
        preview=shown("preview") if operation.preview else None,
        name=_name(system, operation.name),
        title=f"{system.name}: {operation.title}",
        description=_where(system) + operation.description,
        scopes=frozenset(declared | {f"{system.name}:{operation.effect}"}),
        recorded=partial(system.redact.recorded, key=key) if system.redact.asked_for else None,
        undo=_name(system, operation.undo) if operation.undo else "",
        quotes=system.name,
        open_world=True,
    )


def _where(system: System) -> str:
    return f"In {system.name} ({system.about}): " if system.about else f"In {system.name}: "


def _name(system: System, operation: str) -> str:
    """Cut where it would be too long, with a mark of the whole name: stable, and still its own."""
    name = f"{system.name}_{operation.replace('.', '_')}"
    if len(name) <= MAX_OPERATION_NAME:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{name[: MAX_OPERATION_NAME - 7].rstrip('_')}_{mark}"


def _searchable(name: str, entry: Entry) -> dict[str, Any]:
    summary, _, rest = entry.operation.description.removeprefix(_where(entry.system)).partition("\n")
    description, place = _PLACE.match(rest).groups()  # type: ignore[union-attr]  # it matches every text
    properties = Parameters(entry.operation).own.get("properties", {})
    values = (value for schema in properties.values() for value in schema.get("enum", ()))
    return {
        "key": name,
        "name": name.removeprefix(entry.system.name),
        "summary": summary,
        "system": f"{entry.system.name} {entry.system.about}",
        "description": description,
        "place": place,
        "arguments": " ".join([*properties, *map(str, values)]),
        "effect": entry.operation.effect,
        "called": entry.system.name,
    }


def _is_listable(operation: Operation) -> bool:
    return len(operation.name) <= MAX_LISTED_NAME and _is_typed(Parameters(operation).own)


def _size(operation: Operation) -> int:
    return len(operation.name + operation.description) + len(json.dumps(Parameters(operation).schema))


def _is_typed(schema: Mapping[str, Any]) -> bool:
    """Whether every argument has a type: a host that cannot take one without may refuse the whole list."""
    if "type" not in schema and "enum" not in schema:
        return False
    return all(map(_is_typed, schema.get("properties", {}).values()))


def _names_a_large_file(value: Any) -> bool:
    match value:
        case dict():
            return any(map(_names_a_large_file, value.values()))
        case list():
            return any(map(_names_a_large_file, value))
        case str() if value.startswith(("/", "~", ".")):
            file = Path(value).expanduser()
            return file.is_file() and file.stat().st_size > LARGE_FILE_BYTES
        case _:
            return False
