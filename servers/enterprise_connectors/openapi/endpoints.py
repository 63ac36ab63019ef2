"""What an API description offers, one endpoint at a time.

An operation that cannot be read becomes a problem with its name, and costs no other. Names come from
`operationId`, are cut to what hosts take, and depend on their own operation only: adding one to the document
never renames another, except that two operations which want one name both get a mark of their own.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from enterprise_connectors.openapi.document import BadReference, Document, prose
from enterprise_connectors.openapi.schema import Portable
from usrland.connector import MAX_OPERATION_NAME, Effect

__all__ = ["Body", "Endpoint", "Parameter", "read_endpoints"]

MAX_SUMMARY = 200
MAX_DESCRIPTION = 600

_EFFECTS: Mapping[str, Effect] = {
    "get": "read",
    "head": "read",
    "options": "read",
    "post": "write",
    "put": "write",
    "patch": "write",
    "delete": "destroy",
}
_IGNORED_HEADERS = frozenset(
    # what we say ourselves, and what decides where a request goes, who sends it or where it ends
    ["accept", "content-type", "authorization", "proxy-authorization", "cookie", "host", "content-length",
     "content-encoding", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect"]
)  # fmt: skip
# `body` and `pick` are ours; the others belong to the call path
_RESERVED = frozenset({"body", "pick", "idempotency_key", "dry_run", "confirm_token", "cursor", "max_tokens"})
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_RANKS = tuple(
    map(
        re.compile,
        (
            r"application/json",
            r".*\+json|\*/\*|application/\*",
            r".*/x-www-form-urlencoded",
            r"multipart/.*",
            r"text/.*|.*xml",
        ),
    )
)
_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

Location = Literal["path", "query", "header", "cookie"]

PICK: Mapping[str, Any] = {
    "type": "array",
    "items": {"type": "string"},
    "description": "Only these parts of the answer, as dotted paths: items.name.",
}
FILE: Mapping[str, Any] = {
    "type": "object",
    "description": "A file: `handle` of a download, or its content as `text` or `base64`.",
    "properties": {
        "handle": {"type": "string"},
        "text": {"type": "string"},
        "base64": {"type": "string"},
        "filename": {"type": "string"},
        "media_type": {"type": "string"},
    },
    "required": [],
    "additionalProperties": False,
}
MULTIPART = "multipart/form-data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One argument and where it goes in the request."""

    argument: str
    name: str
    location: Location
    required: bool
    schema: Mapping[str, Any]
    style: str
    explode: bool
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The argument `body` and the media type it is sent as."""

    media_type: str
    required: bool
    schema: Mapping[str, Any]
    is_file: bool = False
    """The body is one file and nothing else."""
    styles: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    """Of a form: the style of each field that says one, and whether it explodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One operation of the API, ready to be called."""

    name: str
    method: str
    path: str
    effect: Effect
    summary: str
    description: str
    parameters: tuple[Parameter, ...]
    body: Body | None
    security: tuple[str, ...] = ()
    """The OAuth scopes that the system asks for, as the description names them."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The JSON schema of the arguments."""
        properties = {parameter.argument: dict(parameter.schema) for parameter in self.parameters}
        required = [parameter.argument for parameter in self.parameters if parameter.required]
        if self.body is not None:
            properties["body"] = dict(self.body.schema)
            required += ["body"] if self.body.required else []
        if self.effect == "read":
            properties["pick"] = dict(PICK)
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


class _Unusable(Exception):
    """Why one operation cannot be offered."""


def read_endpoints(document: Document) -> tuple[list[Endpoint], list[str]]:
    """All endpoints that can be offered, and for each of the others why not."""
    found: list[Endpoint] = []
    problems: list[str] = []
    for method, path, item, operation in _operations(document, problems):
        try:
            found.append(_endpoint(document, method, path, item, operation))
        except (BadReference, _Unusable) as error:
            problems.append(f"{method.upper()} {path}: {error}")
        except (TypeError, ValueError, AttributeError, KeyError):
            # documents from the wild break rules nobody thought of; that must stay this operation's problem
            problems.append(f"{method.upper()} {path}: it is not described as OpenAPI 3 says")
    return _named_apart(found), problems


def _operations(document: Document, problems: list[str]) -> Iterator[tuple[str, str, Any, Any]]:
    paths = document.content.get("paths")
    if not isinstance(paths, dict):
        return
    for path, item in paths.items():
        if not str(path).startswith("/"):
            continue
        try:
            item = document.follow(item)
        except BadReference as error:
            problems.append(f"{path}: {error}")
            continue
        if isinstance(item, dict):
            for method in _EFFECTS:
                if method in item:
                    yield method, path, item, item[method]
            if "trace" in item:
                problems.append(f"TRACE {path}: it would show what was sent with the credentials")


def _endpoint(document: Document, method: str, path: str, item: Mapping[str, Any], node: Any) -> Endpoint:
    operation = document.follow(node)
    if not isinstance(operation, dict):
        raise _Unusable("it is empty")
    portable = Portable(document)
    parameters = _parameters(document, portable, path, item.get("parameters"), operation.get("parameters"))
    summary = _summary(operation) or f"{method.upper()} {path}"
    return Endpoint(
        name=_name(operation.get("operationId"), method, path),
        method=method.upper(),
        path=path,
        effect=_effect(method, operation),
        summary=summary,
        description=_described(summary, operation, method, path),
        parameters=tuple(parameters),
        body=_body(document, portable, operation.get("requestBody")),
        security=_security(operation.get("security", document.content.get("security"))),
    )


def _security(ways: Any) -> tuple[str, ...]:
    """The scopes of the first way in that names any."""
    for way in ways if isinstance(ways, list) else ():
        lists = way.values() if isinstance(way, dict) else ()
        if named := [str(scope) for scopes in lists if isinstance(scopes, list) for scope in scopes]:
            return tuple(dict.fromkeys(named))
    return ()


def _effect(method: str, operation: Mapping[str, Any]) -> Effect:
    stated = operation.get("x-usrland-effect", _EFFECTS[method])
    if stated not in ("read", "write", "destroy"):
        raise _Unusable("x-usrland-effect must be read, write or destroy")
    return cast("Effect", stated)


def _described(summary: str, operation: Mapping[str, Any], method: str, path: str) -> str:
    rest = prose(operation.get("description"), MAX_DESCRIPTION)
    tags = ", ".join(str(tag) for tag in operation.get("tags") or ())
    old = "Deprecated." if operation.get("deprecated") is True else ""
    return "\n".join(
        line for line in (summary, old, rest if rest != summary else "", f"{method.upper()} {path}", tags) if line
    )


def _summary(operation: Mapping[str, Any]) -> str:
    first = str(operation.get("description") or "").strip().partition("\n")[0]
    return prose(operation.get("summary"), MAX_SUMMARY) or prose(first, MAX_SUMMARY)


def _parameters(document: Document, portable: Portable, path: str, *lists: Any) -> list[Parameter]:
    # what the path names and nobody describes is an identifier like any other
    described: dict[tuple[str, str], Mapping[str, Any]] = {
        ("path", name): {"schema": {"type": "string"}} for name in _PLACEHOLDER.findall(re.split("[?#]", path)[0])
    }
    for nodes in lists:  # of the path first; the operation's own of the same name replace them
        for node in nodes if isinstance(nodes, list) else ():
            parameter = document.follow(node)
            described[(str(parameter["in"]), str(parameter["name"]))] = parameter
    kept = [
        (location, name, parameter)
        for (location, name), parameter in described.items()
        if _is_ours(location, name)
    ]
    wanted = Counter(_argument(name) for _, name, _ in kept)
    return [
        _parameter(document, portable, location, name, parameter, alone=wanted[_argument(name)] == 1)
        for location, name, parameter in kept
    ]


def _is_ours(location: str, name: str) -> bool:
    return location != "header" or name.lower() not in _IGNORED_HEADERS


def _parameter(
    document: Document, portable: Portable, location: str, name: str, parameter: Mapping[str, Any], *, alone: bool
) -> Parameter:
    if location not in ("path", "query", "header", "cookie"):
        raise _Unusable(f"the parameter {name!r} is in {location!r}")
    content = parameter.get("content")
    schema = parameter.get("schema", {})
    if isinstance(content, dict) and content:
        schema = next(iter(content.values())).get("schema", {})
    said = parameter.get("description")
    converted = portable.convert({"allOf": [schema], "description": said} if said else schema)
    if location == "path" and "" in converted.get("enum", ()):  # nothing cannot be a part of a path
        converted = {**converted, "enum": [value for value in converted["enum"] if value != ""]}
    style = str(parameter.get("style") or ("form" if location in ("query", "cookie") else "simple"))
    argument = _argument(name)
    return Parameter(
        argument=argument if alone and argument not in _RESERVED else f"{argument}_{location}",
        name=name,
        location=cast("Location", location),
        required=location == "path" or parameter.get("required") is True,
        schema=converted,
        style=style,
        explode=bool(parameter.get("explode", style in ("form", "deepObject"))),
        as_json=isinstance(content, dict) and bool(content),
    )


def _argument(name: str) -> str:
    """The name of an argument: what hosts take as a property key, and no leading underscore."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[:48] or "value"


def _body(document: Document, portable: Portable, node: Any) -> Body | None:
    body = document.follow(node)
    if not isinstance(body, dict) or not isinstance(body.get("content"), dict) or not body["content"]:
        return None
    media_type = _chosen(list(body["content"]))
    media = body["content"][media_type]
    media = media if isinstance(media, dict) else {}
    schema = portable.convert(media.get("schema", {}))
    kind, is_file, styles = media_type.partition(";")[0].strip().lower(), False, {}
    if kind.startswith("text/") or kind.endswith("xml"):
        schema = {"type": "string", "description": f"{media_type}, as text."}
    elif kind.startswith("multipart/"):
        schema = _with_files(schema)
    elif _rank(media_type) == len(_RANKS):
        schema, is_file = dict(FILE), True
    if kind.endswith("form-urlencoded"):
        styles = _styles(media.get("encoding"))
    return Body(
        media_type=media_type,
        required=body.get("required") is True,
        schema=schema,
        is_file=is_file,
        styles=styles,
    )


def _with_files(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A form of parts, where what is binary is given as a file."""

    def part(converted: Mapping[str, Any]) -> dict[str, Any]:
        if converted.get("format") in ("binary", "byte"):
            return {**FILE, "description": f"{converted.get('description', '')} {FILE['description']}".strip()}
        if converted.get("type") == "array" and isinstance(converted.get("items"), dict):
            return {**converted, "items": part(converted["items"])}
        return dict(converted)

    parts = {name: part(value) for name, value in schema.get("properties", {}).items()}
    return {**schema, "type": "object", "properties": parts, "required": list(schema.get("required", []))}


def _styles(encoding: Any) -> dict[str, tuple[str, bool]]:
    if not isinstance(encoding, dict):
        return {}
    return {
        str(name): (str(value["style"]), bool(value.get("explode", value["style"] in ("form", "deepObject"))))
        for name, value in encoding.items()
        if isinstance(value, dict) and "style" in value
    }


def _chosen(media_types: list[str]) -> str:
    """JSON where there is JSON, then a form, then text, then what is left; the first of each that is described."""
    return min((_rank(media_type), number, media_type) for number, media_type in enumerate(media_types))[2]


def _rank(media_type: str) -> int:
    kind = media_type.partition(";")[0].strip().lower()
    return next((rank for rank, pattern in enumerate(_RANKS) if pattern.fullmatch(kind)), len(_RANKS))


def _name(operation_id: Any, method: str, path: str) -> str:
    name = _plain_name(str(operation_id or "")) or _plain_name(f"{method}_{path}")
    if not name[0].isalpha():
        name = f"{method}_{name}"
    return name if len(name) <= MAX_OPERATION_NAME else _marked(name, method, path)


def _plain_name(wish: str) -> str:
    """Lower case words of plain letters; letters with marks lose those, and other scripts say nothing here."""
    plain = unicodedata.normalize("NFKD", wish).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", _BOUNDARY.sub("_", plain).lower()).strip("_")


def _marked(name: str, method: str, path: str) -> str:
    mark = hashlib.sha256(f"{method.upper()} {path}".encode()).hexdigest()[:6]
    return f"{name[: MAX_OPERATION_NAME - 7].rstrip('_')}_{mark}"


def _named_apart(endpoints: list[Endpoint]) -> list[Endpoint]:
    wanted = Counter(endpoint.name for endpoint in endpoints)
    return [
        endpoint
        if wanted[endpoint.name] == 1
        else replace(endpoint, name=_marked(endpoint.name, endpoint.method.lower(), endpoint.path))
        for endpoint in endpoints
    ]
