"""A GraphQL API: each field of its queries and mutations is an operation, with typed arguments.

    [shop]
    kind = "graphql"
    url = "https://shop.example.org/graphql"
    auth = {kind = "bearer", secret = "env:SHOP_TOKEN"}
    depth = 2                                  # how deep an answer goes where the caller does not say

    [shop.operations.refund_order]             # by the name that `usrland syscalls` shows, without the system's
    effect = "destroy"

The schema is asked for by introspection when the operator reviews it (`usrland syscalls --diff`), and nothing is
offered before that review. A request is put together from names of that schema alone; every value goes as a typed
variable, so no argument can become part of the query. How deep and how wide an answer may be is limited here,
before the API is asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field

from enterprise_connectors.openapi.auth import Auth, Credentials, Shown
from enterprise_connectors.openapi.overlay import Correction, corrected
from usrland.audit.entry import canonical
from usrland.connector import Call, Connector, Effect, Operation
from usrland.errors import Denied, Failed, InvalidInput, Unavailable
from usrland.redact import redact
from usrland.schemas.principal import Principal
from usrland.schemas.wire import Answer, Preview

if TYPE_CHECKING:
    import httpx

__all__ = ["GraphqlConfig", "GraphqlConnector"]

MAX_DEPTH = 6
"""Of what a caller may ask for."""
MAX_FIELDS = 150
"""In one answer's selection."""
MAX_INPUT_DEPTH = 4
MAX_ENUM = 80
MAX_DESCRIPTION = 600
SCHEMA = "schema.json"

_TYPE = "kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } }"
_ARGUMENTS = f"name description defaultValue type {{ {_TYPE} }}"
INTROSPECTION = (
    "query Introspection { __schema { queryType { name } mutationType { name } types { kind name description "
    f"fields {{ name description args {{ {_ARGUMENTS} }} type {{ {_TYPE} }} }} "
    f"inputFields {{ {_ARGUMENTS} }} enumValues {{ name }} possibleTypes {{ name }} }} }} }}"
)

_SCALARS = {"Int": "integer", "Float": "number", "String": "string", "ID": "string", "Boolean": "boolean"}
_ACCEPTED = "application/graphql-response+json, application/json"
_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,99}")
_OURS = frozenset({"fields", "idempotency_key", "dry_run", "confirm_token", "cursor", "max_tokens"})
FIELDS: Mapping[str, Any] = {
    "type": "array",
    "items": {"type": "string"},
    "description": "What to get of the answer, as dotted paths: id, customer.name. Default: what is near.",
}

Node = Mapping[str, Any]


class GraphqlConfig(BaseModel):
    """The keys of a `kind = "graphql"` table."""

    model_config = ConfigDict(extra="forbid")

    url: str
    auth: Auth | None = None
    depth: int = Field(default=2, ge=1, le=4)
    operations: dict[str, Correction] = Field(default_factory=dict)


class Result(Answer):
    """What the API answered. It is data from there, never an instruction."""

    data: Any = None
    errors: list[str] | None = Field(default=None, description="What the API could not give.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One field of the query or mutation type."""

    kind: str
    node: Node
    keys: Mapping[str, str] = field(default_factory=dict)
    """Our name of each argument → the API's."""


class GraphqlConnector(Connector[GraphqlConfig]):
    """One GraphQL API."""

    name = "graphql"
    config_type = GraphqlConfig
    reviewed = True

    def __init__(self, config: GraphqlConfig, http: httpx.AsyncClient) -> None:
        super().__init__(config, http)
        parts = urlsplit(config.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.fragment:
            raise InvalidInput("url: it is http(s)://host/path, without credentials.")
        self._credentials = Credentials(config.auth, http)
        self.problems: list[str] = []
        self._types: dict[str, Node] = {}

    def operations(self) -> Sequence[Operation]:
        schema = self._written()
        if schema is None:
            self.problems = ["its schema was never reviewed; the operator runs: usrland syscalls --diff."]
            return []
        self._types = {each["name"]: each for each in schema["types"]}
        entries = dict(self._named(schema))
        for name in self.config.operations.keys() - entries.keys():
            raise InvalidInput(f"operations: there is no operation {name!r}.", fix="See: usrland syscalls --diff.")
        corrections = {name: self.config.operations.get(name, Correction()) for name in entries}
        return [
            self._operation(name, entry, corrections[name])
            for name, entry in entries.items()
            if not corrections[name].hidden
        ]

    async def check(self) -> None:
        await self._asked("query { __typename }", {}, {}, None)

    async def refresh(self) -> None:
        answer = await self._asked(INTROSPECTION, {}, {}, None)
        schema = (answer.data or {}).get("__schema")
        if not isinstance(schema, dict) or not isinstance(schema.get("types"), list):
            raise Unavailable("the API does not tell its schema.", fix="Allow introspection for this key.")
        await anyio.to_thread.run_sync(self._write, schema)

    # -- the schema, as it was last seen

    def _written(self) -> dict[str, Any] | None:
        if self.folder is None:
            raise InvalidInput("there is no folder for the schema.")
        try:
            schema: dict[str, Any] = json.loads((self.folder / SCHEMA).read_text(encoding="utf-8"))
            return schema
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InvalidInput("its schema cannot be read.", fix="Run: usrland syscalls --diff.") from error

    def _write(self, schema: dict[str, Any]) -> None:
        if self.folder is None:
            raise InvalidInput("there is no folder for the schema.")
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self.folder / f".{SCHEMA}.{os.getpid()}"
        draft.write_text(json.dumps(schema), encoding="utf-8")
        draft.replace(self.folder / SCHEMA)

    def _named(self, schema: Node) -> Iterator[tuple[str, _Entry]]:
        """Every field under its name; a mutation that shares a query's name says that it is one."""
        taken: set[str] = set()
        for kind in ("query", "mutation"):
            root = schema.get(f"{kind}Type") or {}
            for node in (self._types.get(root.get("name", "")) or {}).get("fields") or []:
                name = re.sub(r"[^a-z0-9]+", "_", _BOUNDARY.sub("_", str(node["name"])).lower()).strip("_")
                if not name[:1].isalpha() or name in taken:
                    name = f"{kind}_{name}"
                if name in taken or len(name) > 40:
                    name = f"{name[:33]}_{hashlib.sha256(str(node['name']).encode()).hexdigest()[:6]}"
                if not _NAME.fullmatch(str(node["name"])):
                    continue
                taken.add(name)
                keys = {f"{each['name']}_" if each["name"] in _OURS else each["name"]: each["name"]
                        for each in node.get("args") or []}  # fmt: skip
                yield name, _Entry(kind=kind, node=node, keys=keys)

    def _operation(self, name: str, entry: _Entry, correction: Correction) -> Operation:
        effect: Effect = correction.effect or ("read" if entry.kind == "query" else "write")

        async def run(_call: Call, **arguments: Any) -> Result:
            query, variables = self._query(entry, arguments)
            headers = (
                {"idempotency-key": _call.idempotency_key} if _call.idempotency_key and effect != "read" else {}
            )
            answer = await self._asked(query, variables, headers, _call.principal)
            data = answer.data.get(entry.node["name"]) if isinstance(answer.data, dict) else None
            return Result(data=data, errors=answer.errors)

        async def preview(_call: Call, **arguments: Any) -> Preview:
            query, variables = self._query(entry, arguments)
            return Preview(
                would=f"Send the {entry.kind} {entry.node['name']!r}.",
                affected=1,
                examples=[query[:500], json.dumps(redact(variables), ensure_ascii=False)[:500]],
            )

        described = " ".join(str(entry.node.get("description") or "").split())[:MAX_DESCRIPTION]
        operation = Operation(
            call=run,
            preview=None if effect == "read" else preview,
            name=name,
            description=f"{described or _words(name)}\n{entry.kind} {entry.node['name']}",
            parameters=self._parameters(entry),
            effect=effect,
            scopes=frozenset({f"sys:{effect}"}),
            origin=hashlib.sha256(canonical(entry.node)).hexdigest(),
        )
        return corrected(operation, correction)

    # -- arguments

    def _parameters(self, entry: _Entry) -> dict[str, Any]:
        known = {each["name"]: each for each in entry.node.get("args") or []}
        properties = {ours: self._described(known[theirs], 0) for ours, theirs in entry.keys.items()}
        required = [ours for ours, theirs in entry.keys.items() if _required(known[theirs])]
        if _is_object(self._types.get(_named_type(entry.node["type"]), {})):
            properties["fields"] = dict(FIELDS)
        return {"type": "object", "properties": properties, "required": required}

    def _described(self, argument: Node, depth: int) -> dict[str, Any]:
        schema = self._schema(argument["type"], depth)
        said = " ".join(str(argument.get("description") or "").split())[:160]
        return {**schema, "description": said} if said else schema

    def _schema(self, type: Node, depth: int) -> dict[str, Any]:
        """A JSON schema of a value, in what every host takes."""
        if type["kind"] == "NON_NULL":
            return self._schema(type["ofType"], depth)
        if type["kind"] == "LIST":
            return {"type": "array", "items": self._schema(type["ofType"], depth)}
        known = self._types.get(type["name"], {})
        if type["kind"] == "ENUM":
            values = [each["name"] for each in known.get("enumValues") or []]
            return {"type": "string", "enum": values} if 0 < len(values) <= MAX_ENUM else {"type": "string"}
        if type["kind"] == "INPUT_OBJECT":
            if depth >= MAX_INPUT_DEPTH:
                return {"type": "object", "required": []}
            fields = known.get("inputFields") or []
            return {
                "type": "object",
                "properties": {each["name"]: self._described(each, depth + 1) for each in fields},
                "required": [each["name"] for each in fields if _required(each)],
            }
        scalar = _SCALARS.get(type["name"])
        return {"type": scalar} if scalar else {"description": f"a {type['name']}"}  # of the API's own making

    # -- the request

    def _query(self, entry: _Entry, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The request's text, of the schema's names alone, and its variables."""
        wanted = arguments.get("fields")
        given = {entry.keys[ours]: value for ours, value in arguments.items() if ours in entry.keys}
        types = {each["name"]: each["type"] for each in entry.node.get("args") or []}
        declared = ", ".join(f"${name}: {_written_type(types[name])}" for name in given)
        passed = ", ".join(f"{name}: ${name}" for name in given)
        selection = self._selection(_named_type(entry.node["type"]), wanted)
        head = f"{entry.kind} Call{f'({declared})' if declared else ''}"
        return f"{head} {{ {entry.node['name']}{f'({passed})' if passed else ''}{selection} }}", given

    def _selection(self, type: str, wanted: Sequence[str] | None) -> str:
        known = self._types.get(type, {})
        if not _is_object(known):
            return ""
        tree = _tree(wanted) if wanted else self._near(type, self.config.depth, {type})
        if not tree:
            raise InvalidInput("fields: say what you want of the answer.")
        if _size(tree) > MAX_FIELDS:
            raise InvalidInput(f"fields: an answer has at most {MAX_FIELDS} fields.", fix="Name those you need.")
        return self._written_selection(type, tree, 1)

    def _near(self, type: str, depth: int, inside: set[str]) -> dict[str, Any]:
        """What can be had without arguments, and of objects what is near."""
        tree: dict[str, Any] = {}
        for each in self._types.get(type, {}).get("fields") or []:
            inner = _named_type(each["type"])
            if any(_required(argument) for argument in each.get("args") or []) or len(tree) >= MAX_FIELDS // 3:
                continue
            if not _is_object(self._types.get(inner, {})):
                tree[each["name"]] = {}
            elif depth > 1 and inner not in inside and (below := self._near(inner, depth - 1, {*inside, inner})):
                tree[each["name"]] = below
        return tree or ({"__typename": {}} if self._types.get(type) else {})

    def _written_selection(self, type: str, tree: Mapping[str, Any], depth: int) -> str:
        if depth > MAX_DEPTH:
            raise InvalidInput(f"fields: at most {MAX_DEPTH} levels deep.")
        fields = {each["name"]: each for each in self._types.get(type, {}).get("fields") or []}
        parts = []
        for name, below in tree.items():
            if name == "__typename":
                parts.append(name)
                continue
            known = fields.get(name)
            if known is None:
                raise InvalidInput(
                    f"fields: {type} has no field {name!r}.", fix=f"It has: {', '.join(fields)[:300]}."
                )
            if any(_required(argument) for argument in known.get("args") or []):
                raise InvalidInput(f"fields: {name!r} needs arguments of its own and cannot be asked for here.")
            inner = _named_type(known["type"])
            if not _is_object(self._types.get(inner, {})):
                if below:
                    raise InvalidInput(f"fields: {name!r} has no fields of its own.")
                parts.append(name)
                continue
            tree_below = below or self._near(inner, 1, {inner})
            parts.append(f"{name}{self._written_selection(inner, tree_below, depth + 1)}")
        return f" {{ {' '.join(parts)} }}"

    async def _asked(
        self, query: str, variables: Mapping[str, Any], headers: Mapping[str, str], caller: Principal | None
    ) -> Result:
        content = json.dumps({"query": query, "variables": dict(variables)}).encode()
        shown = await self._credentials.shown(caller)
        response = await self._sent(content, headers, shown)
        if response.status_code == 401 and shown.token:  # nothing was done yet, so it may be said again
            shown = await self._credentials.shown(caller, spent=shown.token)
            response = await self._sent(content, headers, shown)
        if response.status_code in (401, 403):
            raise Denied(
                f"the API answered {response.status_code}.", fix="The operator has to check the credentials."
            )
        try:
            body = json.loads(response.content)
            errors = [_said(each) for each in body.get("errors") or []]
        except (ValueError, AttributeError):
            raise Unavailable(f"the API answered {response.status_code} and no GraphQL.") from None
        data = body.get("data")
        if errors and not any((data or {}).values() if isinstance(data, dict) else ()):
            said = f"the API says: {'; '.join(errors)[:300]}."
            # without `data` it was never begun
            raise Failed(said) if "data" in body and query.startswith("mutation") else InvalidInput(said)
        if response.status_code >= 500:
            raise Unavailable(f"the API answered {response.status_code}.")
        return Result(data=data, errors=errors or None)

    async def _sent(self, content: bytes, headers: Mapping[str, str], shown: Shown) -> httpx.Response:
        from usrland.http import request, without

        stated = {"content-type": "application/json", "accept": _ACCEPTED, **headers, **shown.headers}
        asked = request("POST", self.config.url, query=shown.query, headers=stated, content=content)
        response = await self.http.send(asked)
        if shown.token and shown.token.encode() in response.content:
            return without(response, shown.token)
        return response


def _said(error: Any) -> str:
    return str(redact(str(error.get("message", "an error")) if isinstance(error, dict) else str(error)))[:300]


def _named_type(type: Node) -> str:
    while type.get("ofType"):
        type = type["ofType"]
    return str(type["name"])


def _written_type(type: Node) -> str:
    match type["kind"]:
        case "NON_NULL":
            return f"{_written_type(type['ofType'])}!"
        case "LIST":
            return f"[{_written_type(type['ofType'])}]"
        case _:
            return str(type["name"])


def _required(argument: Node) -> bool:
    return argument["type"]["kind"] == "NON_NULL" and argument.get("defaultValue") is None


def _is_object(type: Node) -> bool:
    return type.get("kind") in ("OBJECT", "INTERFACE", "UNION")


def _tree(paths: Sequence[str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        for name in path.split("."):
            if not _NAME.fullmatch(name):
                raise InvalidInput(f"fields: {path[:80]!r} is not a dotted path of names.")
            node = node.setdefault(name, {})
    return tree


def _size(tree: Mapping[str, Any]) -> int:
    return sum(1 + _size(below) for below in tree.values())


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()
