"""From arguments to one HTTP request that is exactly the described one.

The path is where an argument could do harm: `../admin` in an id turns one permitted call into any other.
Each value becomes one encoded segment, values that some server on the way may read as "up" are refused, and
the finished path is held against its template. The base address comes from the operator, never the document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from enterprise_connectors.openapi.endpoints import Endpoint, Parameter
from usrland.errors import InvalidInput

__all__ = ["Request", "build"]

MAX_DECODINGS = 8

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PATH_CHARACTERS = "/:@!$&'()*+,;=~%"
_SEPARATORS = {"spaceDelimited": " ", "pipeDelimited": "|"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent, before credentials."""

    method: str
    url: str
    query: list[tuple[str, str]]
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None

    @property
    def target(self) -> str:
        """The address with its query, as a person reads it."""
        return f"{self.url}?{urlencode(self.query)}" if self.query else self.url


def build(endpoint: Endpoint, base_url: str, arguments: Mapping[str, Any]) -> Request:
    """The request; raises `InvalidInput` where a value cannot be sent safely."""
    path, fixed = _split(endpoint.path)
    query = list(fixed)
    headers: dict[str, str] = {}
    given = [(p, arguments[p.argument]) for p in endpoint.parameters if arguments.get(p.argument) is not None]
    values = {
        parameter.name: _path_value(parameter, value) for parameter, value in given if parameter.location == "path"
    }
    for parameter, value in given:
        if parameter.location == "query":
            query += _query(parameter, value)
        elif parameter.location == "header":
            headers[parameter.name] = _header(parameter, value)
    content = None
    if endpoint.body is not None and "body" in arguments:
        content = _content(endpoint.body.media_type, arguments["body"])
        headers["content-type"] = _sent_type(endpoint.body.media_type)
    return Request(
        method=endpoint.method,
        url=base_url.rstrip("/") + _filled(path, values),
        query=query,
        headers=headers,
        content=content,
    )


def _split(template: str) -> tuple[str, list[tuple[str, str]]]:
    """Some descriptions tell operations apart by a fixed query (`/{bucket}?acl`) or an imagined fragment."""
    path, _, query = template.partition("#")[0].partition("?")
    return path, parse_qsl(query, keep_blank_values=True)


def _filled(template: str, values: Mapping[str, str]) -> str:
    """The path with its values; every odd part of the split template is a placeholder's name."""
    parts = _PLACEHOLDER.split(template)
    parts[::2] = [quote(part, safe=_PATH_CHARACTERS) for part in parts[::2]]
    path = "".join(part if number % 2 == 0 else values[part] for number, part in enumerate(parts))
    pattern = "".join(re.escape(part) if number % 2 == 0 else "[^/?#]+" for number, part in enumerate(parts))
    if not re.fullmatch(pattern, path):
        raise InvalidInput("the arguments do not fit the path.", fix="Give plain identifiers for path arguments.")
    return path


def _path_value(parameter: Parameter, value: Any) -> str:
    text = _joined(value, explode=parameter.explode)
    _refuse_climbing(parameter.argument, text)
    encoded = quote(text, safe=",=" if isinstance(value, list | dict) else "")
    match parameter.style:
        case "label":
            return f".{encoded}"
        case "matrix":
            return f";{quote(parameter.name, safe='')}={encoded}"
        case _:
            return encoded


def _refuse_climbing(argument: str, text: str) -> None:
    """No value may be read as a step in the path, however often somebody on the way decodes it."""
    plain = text
    for _ in range(MAX_DECODINGS):
        segments = re.split(r"[/\\]", plain)
        if not plain or _CONTROL.search(plain) or any(part.partition(";")[0] in (".", "..") for part in segments):
            raise InvalidInput(f"{argument}: this value cannot stand in a path.", fix="Give a plain identifier.")
        decoded = unquote(plain)
        if decoded == plain:
            return
        plain = decoded
    raise InvalidInput(f"{argument}: this value is encoded too often.", fix="Give a plain identifier.")


def _query(parameter: Parameter, value: Any) -> Iterator[tuple[str, str]]:
    name = parameter.name
    if parameter.as_json:
        yield name, _json(value)
    elif parameter.style == "deepObject":
        yield from _nested(name, value)
    elif isinstance(value, dict) and parameter.explode:
        yield from ((str(key), _text(item)) for key, item in value.items())
    elif isinstance(value, list) and parameter.explode:
        yield from ((name, _text(item)) for item in value)
    elif isinstance(value, list) and parameter.style in _SEPARATORS:
        yield name, _SEPARATORS[parameter.style].join(map(_text, value))
    else:
        yield name, _joined(value, explode=False)


def _header(parameter: Parameter, value: Any) -> str:
    text = _json(value) if parameter.as_json else _joined(value, explode=parameter.explode)
    if _CONTROL.search(text) or not text.isascii():
        raise InvalidInput(f"{parameter.argument}: a header takes one line of plain characters.")
    return text


def _content(media_type: str, body: Any) -> bytes:
    kind = _sent_type(media_type)
    if kind.startswith("application/x-www-form-urlencoded"):
        if not isinstance(body, dict):
            raise InvalidInput("body: a form is an object.")
        return urlencode([pair for key, value in body.items() for pair in _nested(str(key), value)]).encode()
    if "json" in kind:
        return _json(body).encode()
    if not isinstance(body, str):
        raise InvalidInput("body: give it as text.")
    return body.encode()


def _sent_type(media_type: str) -> str:
    return "application/json" if "*" in media_type else media_type


def _nested(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """`filter[a][b]=1`, `tag=x&tag=y`: the form that APIs with nested forms expect."""
    match value:
        case dict():
            for key, item in value.items():
                yield from _nested(f"{name}[{key}]", item)
        case list() if any(isinstance(item, dict | list) for item in value):
            for number, item in enumerate(value):
                yield from _nested(f"{name}[{number}]", item)
        case list():
            yield from ((name, _text(item)) for item in value)
        case _:
            yield name, _text(value)


def _joined(value: Any, *, explode: bool) -> str:
    match value:
        case list():
            return ",".join(map(_text, value))
        case dict() if explode:
            return ",".join(f"{key}={_text(item)}" for key, item in value.items())
        case dict():
            return ",".join(f"{key},{_text(item)}" for key, item in value.items())
        case _:
            return _text(value)


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case None:
            return ""
        case bool() | int() | float():
            return json.dumps(value)
        case _:
            return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
