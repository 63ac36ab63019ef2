"""From arguments to one HTTP request that is exactly the described one.

The path is where an argument could do harm: `../admin` in an id turns one permitted call into any other.
Each value becomes one encoded segment, values that some server on the way may read as "up" are refused, and
the finished path is held against its template. The base address comes from the operator, never the document.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from enterprise_connectors.files import File
from enterprise_connectors.openapi.endpoints import Body, Endpoint, Parameter
from usrland.errors import InvalidInput

__all__ = ["Load", "Request", "build"]

Load = Callable[[str], File]
"""A handle → the file it stands for."""

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


def _no_files(handle: str) -> File:
    raise InvalidInput("handle: files cannot be used here.", fix="Give the content as text or base64.")


def build(endpoint: Endpoint, base_url: str, arguments: Mapping[str, Any], load: Load = _no_files) -> Request:
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
    cookies = [_cookie(parameter, value) for parameter, value in given if parameter.location == "cookie"]
    if cookies:
        headers["cookie"] = "; ".join(cookies)
    content = None
    if endpoint.body is not None and "body" in arguments:
        headers["content-type"], content = _content(endpoint.body, arguments["body"], load)
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
    return path, [pair for pair in parse_qsl(query, keep_blank_values=True) if not _PLACEHOLDER.search(pair[1])]


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
    """One value as its segment, each part of it encoded by itself (RFC 6570, as OpenAPI names its styles)."""
    parts = list(_path_parts(value, explode=parameter.explode))
    for part in parts:
        _refuse_climbing(parameter.argument, part)
    name = quote(parameter.name, safe="")
    encoded = [quote(part, safe="=" if isinstance(value, dict) and parameter.explode else "") for part in parts]
    match parameter.style, parameter.explode:
        case "label", explode:
            segment = "." + ("." if explode else ",").join(encoded)
        case "matrix", True if isinstance(value, dict):
            segment = "".join(f";{part}" for part in encoded)
        case "matrix", True:
            segment = "".join(f";{name}={part}" for part in encoded)
        case "matrix", _:
            segment = f";{name}={','.join(encoded)}"
        case _:
            segment = ",".join(encoded)
    _refuse_climbing(parameter.argument, unquote(segment))
    return segment


def _path_parts(value: Any, *, explode: bool) -> Iterator[str]:
    match value:
        case list():
            yield from map(_text, value)
        case dict() if explode:
            yield from (f"{key}={_text(item)}" for key, item in value.items())
        case dict():
            yield from (part for key, item in value.items() for part in (str(key), _text(item)))
        case _:
            yield _text(value)


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
    return _line(parameter.argument, text)


def _cookie(parameter: Parameter, value: Any) -> str:
    return f"{quote(parameter.name, safe='')}={quote(_joined(value, explode=False), safe='')}"


def _content(body: Body, value: Any, load: Load) -> tuple[str, bytes]:
    """The content type and the content of a body."""
    kind = body.media_type.lower()
    if body.is_file:
        file = _file("body", value, load)
        return (file.media_type if "*" in kind else body.media_type), file.content
    if kind.startswith("application/x-www-form-urlencoded"):
        if not isinstance(value, dict):
            raise InvalidInput("body: a form is an object.")
        pairs = [pair for key, item in value.items() for pair in _field(str(key), item, body.styles.get(str(key)))]
        # a space as %20: read alike by those that decode forms and those that decode addresses
        return body.media_type, urlencode(pairs, quote_via=quote).encode()
    if kind.startswith("multipart/"):
        if not isinstance(value, dict):
            raise InvalidInput("body: a form is an object.")
        return _multipart(kind, value, load)
    if "json" in kind or "*" in kind:
        return "application/json" if "*" in kind else body.media_type, _json(value).encode()
    if not isinstance(value, str):
        raise InvalidInput("body: give it as text.")
    return body.media_type, value.encode()


def _field(name: str, value: Any, style: tuple[str, bool] | None) -> Iterator[tuple[str, str]]:
    """One field of a form, in the style that is described for it."""
    match style, value:
        case ("deepObject", _), list():
            for number, item in enumerate(value):
                yield from _nested(f"{name}[{number}]", item)
        case (("form", False), list()) | (("spaceDelimited" | "pipeDelimited", _), list()):
            assert style is not None
            yield name, _SEPARATORS.get(style[0], ",").join(map(_text, value))
        case _:
            yield from _nested(name, value)


def _multipart(kind: str, form: Mapping[str, Any], load: Load) -> tuple[str, bytes]:
    boundary = secrets.token_hex(16)
    parts = bytearray()
    for name, value in form.items():
        for item in value if isinstance(value, list) and all(map(_is_file, value)) else [value]:
            disposition = f'form-data; name="{_quoted(str(name))}"'
            if _is_file(item):
                file = _file(str(name), item, load)
                disposition += f'; filename="{_quoted(file.name)}"'
                media_type, content = _line("media_type", file.media_type), file.content
            elif isinstance(item, dict | list):
                media_type, content = "application/json", _json(item).encode()
            else:
                media_type, content = "text/plain; charset=utf-8", _text(item).encode()
            parts += f"--{boundary}\r\nContent-Disposition: {disposition}\r\n".encode()
            parts += f"Content-Type: {media_type}\r\n\r\n".encode() + content + b"\r\n"
    parts += f"--{boundary}--\r\n".encode()
    return f"{kind.partition(';')[0].strip()}; boundary={boundary}", bytes(parts)


_CONTENTS = ("handle", "text", "base64")


def _is_file(value: Any) -> bool:
    known = (*_CONTENTS, "filename", "media_type")
    return isinstance(value, dict) and any(key in value for key in _CONTENTS) and value.keys() <= set(known)


def _file(argument: str, value: Any, load: Load) -> File:
    given = [key for key in _CONTENTS if isinstance(value, dict) and key in value]
    if len(given) != 1:
        raise InvalidInput(f"{argument}: a file is given by exactly one of {', '.join(_CONTENTS)}.")
    match given[0]:
        case "handle":
            file = load(str(value["handle"]))
        case "text":
            file = File(content=str(value["text"]).encode(), name="file.txt", media_type="text/plain")
        case _:
            try:
                file = File(content=base64.b64decode(str(value["base64"]), validate=True))
            except (binascii.Error, ValueError):
                raise InvalidInput(f"{argument}: base64 is not valid.") from None
    return File(
        content=file.content,
        name=str(value.get("filename", file.name)),
        media_type=_line("media_type", str(value.get("media_type", file.media_type))),
    )


def _quoted(text: str) -> str:
    """A name inside a part's header, as browsers write it."""
    return re.sub(r'[\x00-\x1f\x7f"]', lambda match: quote(match[0], safe=""), text)


def _line(argument: str, text: str) -> str:
    if _CONTROL.search(text) or not text.isascii():
        raise InvalidInput(f"{argument}: a header takes one line of plain characters.")
    return text


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
