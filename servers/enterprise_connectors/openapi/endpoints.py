"""What an API description offers, one endpoint at a time.

An operation that cannot be read becomes a problem with its name, and costs no other. Names come from
`operationId`, are cut to what hosts take, and depend on their own operation only: adding one to the document
never renames another, except that two operations which want one name both get a mark of their own.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
    "post": "write",
    "put": "write",
    "patch": "write",
    "delete": "destroy",
}
_IGNORED_HEADERS = frozenset({"accept", "content-type", "authorization"})
# `body` is ours; the others belong to the call path
_RESERVED = frozenset({"body", "idempotency_key", "dry_run", "confirm_token", "cursor", "max_tokens"})
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_RANKS = tuple(
    map(
        re.compile,
        (r"application/json", r".*\+json|\*/\*|application/\*", r".*/x-www-form-urlencoded", r"text/.*|.*xml"),
    )
)
_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

Location = Literal["path", "query", "header"]


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

    @property
    def arguments(self) -> dict[str, Any]:
        """The JSON schema of the arguments."""
        properties = {parameter.argument: dict(parameter.schema) for parameter in self.parameters}
        required = [parameter.argument for parameter in self.parameters if parameter.required]
        if self.body is not None:
            properties["body"] = dict(self.body.schema)
            required += ["body"] if self.body.required else []
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


def _endpoint(document: Document, method: str, path: str, item: Mapping[str, Any], node: Any) -> Endpoint:
    operation = document.follow(node)
    if not isinstance(operation, dict):
        raise _Unusable("it is empty")
    portable = Portable(document)
    parameters = _parameters(document, portable, item.get("parameters"), operation.get("parameters"))
    missing = set(_PLACEHOLDER.findall(path)) - {p.name for p in parameters if p.location == "path"}
    if missing:
        raise _Unusable(f"the path parameter {sorted(missing)[0]!r} is not described")
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
    )


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


def _parameters(document: Document, portable: Portable, *lists: Any) -> list[Parameter]:
    described: dict[tuple[str, str], Mapping[str, Any]] = {}
    for nodes in lists:  # of the path first; the operation's own of the same name replace them
        for node in nodes if isinstance(nodes, list) else ():
            parameter = document.follow(node)
            described[(str(parameter["in"]), str(parameter["name"]))] = parameter
    kept = [
        (location, name, parameter)
        for (location, name), parameter in described.items()
        if _is_ours(location, name, parameter)
    ]
    wanted = Counter(_argument(name) for _, name, _ in kept)
    return [
        _parameter(document, portable, location, name, parameter, alone=wanted[_argument(name)] == 1)
        for location, name, parameter in kept
    ]


def _is_ours(location: str, name: str, parameter: Mapping[str, Any]) -> bool:
    if location == "cookie":
        if parameter.get("required") is True:
            raise _Unusable(f"it needs the cookie {name!r}")
        return False
    return location != "header" or name.lower() not in _IGNORED_HEADERS


def _parameter(
    document: Document, portable: Portable, location: str, name: str, parameter: Mapping[str, Any], *, alone: bool
) -> Parameter:
    if location not in ("path", "query", "header"):
        raise _Unusable(f"the parameter {name!r} is in {location!r}")
    content = parameter.get("content")
    schema = parameter.get("schema", {})
    if isinstance(content, dict) and content:
        schema = next(iter(content.values())).get("schema", {})
    converted = portable.convert(schema)
    if parameter.get("description"):
        converted = {**converted, **portable.convert({"description": parameter["description"]})}
    style = str(parameter.get("style") or ("form" if location == "query" else "simple"))
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
    if media_type is None:
        if body.get("required") is not True:
            return None
        raise _Unusable(f"its body is {', '.join(map(str, body['content']))}, which is not supported")
    media = body["content"][media_type]
    schema = portable.convert((media if isinstance(media, dict) else {}).get("schema", {}))
    if media_type.startswith("text/") or media_type.endswith("xml"):
        schema = {"type": "string", "description": f"{media_type}, as text."}
    return Body(media_type=media_type, required=body.get("required") is True, schema=schema)


def _chosen(media_types: list[str]) -> str | None:
    """JSON where there is JSON, then a form, then text; the first of each that is described."""
    ranked = [(_rank(media_type), number, media_type) for number, media_type in enumerate(media_types)]
    rank, _, media_type = min(ranked)
    return media_type if rank < len(_RANKS) else None


def _rank(media_type: str) -> int:
    kind = media_type.partition(";")[0].strip().lower()
    return next((rank for rank, pattern in enumerate(_RANKS) if pattern.fullmatch(kind)), len(_RANKS))


def _name(operation_id: Any, method: str, path: str) -> str:
    wish = str(operation_id) if operation_id else f"{method}_{path}"
    name = re.sub(r"[^a-z0-9]+", "_", _BOUNDARY.sub("_", wish).lower()).strip("_")
    if not name or not name[0].isalpha():
        name = f"{method}_{name}".rstrip("_")
    return name if len(name) <= MAX_OPERATION_NAME else _marked(name, method, path)


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
