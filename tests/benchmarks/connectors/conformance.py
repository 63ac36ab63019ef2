"""Do calls go over the wire as the description says? And does any value lead a request elsewhere?

    python tests/benchmarks/connectors/conformance.py DATA [--calls 60] [--spec NAME] [--prism PROGRAM]

DATA is a folder of API descriptions (JSON). Each is loaded as the server loads it. Counted are: operations that
are offered and those that are reported with a reason; offered ones whose arguments are a JSON schema of the
portable subset, with effect and scopes; of a sample of calls with generated arguments, through the connector and
over a socket to a recording server, those that arrive as the description says; and of hostile values in every
string parameter of every operation, those that reach anything but their own path.

With `--prism` (the program of npm's `@stoplight/prism-cli`) such calls go to a mock of each description instead,
which judges them by itself: counted are those that it takes.

What arrives is read back here by code that shares nothing with what sent it, and JSON bodies are validated
against the original schemas.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import email
import email.policy
import json
import random
import re
import socket
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import anyio
import jsonschema
import referencing
import referencing.jsonschema
from anyio.abc import Process

from enterprise_connectors.openapi.auth import Shown
from enterprise_connectors.openapi.connector import OpenApiConfig, OpenApiConnector
from enterprise_connectors.openapi.document import Document
from enterprise_connectors.openapi.endpoints import Endpoint, read_endpoints
from enterprise_connectors.openapi.request import build
from usrland.connector import Call
from usrland.errors import Unavailable, UsrlandError
from usrland.http import client
from usrland.schemas.principal import Principal

CALLER = Call(id="b", principal=Principal(subject="b", scopes=frozenset({"*"})), operation="b")
NOBODY = Shown(headers={})
REFUSALS = frozenset(
    {"UNPROCESSABLE_ENTITY", "NO_PATH_MATCHED_ERROR", "NO_METHOD_MATCHED_ERROR", "INVALID_CONTENT_TYPE"}
)
PRISM_SECONDS = 120.0
"""A large description takes long to be mocked."""
PRISM_STARTS = 12
SAFE = "/:@!$&'()*+,;=~%{}"
TEXTS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "uuid": "3f1c2b7e-8a54-4a55-9c1c-0c8a2f1f1a11",
    "email": "ada@example.com",
    "uri": "https://example.com/a",
    "url": "https://example.com/a",
    "ipv4": "192.0.2.1",
    "hostname": "example.com",
    "byte": "aGk=",
}
HOSTILE = [
    "../admin", "..", ".", "..%2fadmin", "%2e%2e%2fadmin", "%252e%252e%252fadmin", "..;/admin", "..\\admin",
    "a/../../admin", "/admin", "//evil.example", "https://evil.example/", "@evil.example", "a@evil.example:80/",
    "a?admin=1", "a#admin", "a%3fadmin=1", "a%23x", "a\r\nHost: evil.example", "a\nX-Evil: 1", "%0d%0aX-Evil:1",
    "a\0b", "", "....//admin", "a/..;x/../admin", "．．/admin", "a%c0%ae%c0%ae/admin",
    "169.254.169.254", "a\u2028b", "{id}", "%", "a%2",
]  # fmt: skip


@dataclass
class Seen:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Recorder(ThreadingHTTPServer):
    """Answers everything with an empty object and remembers what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        assert isinstance(self.server, Recorder)
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.server.seen.append(Seen(self.command, self.path, headers, body))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"{}")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = answer

    def log_message(self, format: str, *args: Any) -> None:
        """Only results are printed."""


# -- arguments


def value(schema: Mapping[str, Any], chance: random.Random, depth: int = 0) -> Any:
    """Something that fits an argument's schema and what its description says, as a model might write it."""
    said = str(schema.get("description", ""))
    if schema.get("enum"):
        return chance.choice(schema["enum"])
    if listed := re.match(r"One of \d+: (.*?) …\.", said):
        word = chance.choice(listed[1].split(", "))
        return int(word) if schema.get("type") == "integer" else word
    if "handle" in schema.get("properties", {}) and "base64" in schema["properties"]:
        return {"base64": "aGkAaGk=", "filename": "a b.bin"}
    match schema.get("type"):
        case "object":
            return fields(schema, chance, depth)
        case "array":
            least = int(schema.get("minItems", 0))
            count = max(least, min(int(schema.get("maxItems", 2)), 1 if depth > 3 else 2))
            items = [value(schema.get("items", {}), chance, depth + 1) for _ in range(count)]
            return once(items) if said.endswith("Each item once.") else items
        case "integer" | "number":
            low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + ("exclusiveMinimum" in schema))
            high = schema.get("maximum", schema.get("exclusiveMaximum", low + 10))
            return max(low, min(low + 3, high))
        case "boolean":
            return True
        case "string":
            return text(schema, said, chance)
        case _:
            # several types, or null as well: the description begins with what it may be
            types = said.partition(".")[0].partition(",")[0].split(" or ")
            if len(types) == 1:
                return text({}, "", chance)
            kind = next((kind for kind in types if kind.startswith("string")), types[0])
            bounds: dict[str, Any] = {
                word: int(key) for word, key in re.findall(r"(maximum|minimum) ([-0-9]+)", said)
            }
            if form := re.fullmatch(r"string \((.*)\)", kind):
                kind, bounds["format"] = "string", form[1]
            if kind in ("string", "integer", "number", "boolean", "object", "array"):
                return value({"type": kind, "description": said, **bounds}, chance, depth)
            return int(kind) if kind.isdigit() else kind.replace('""', "")


def once(items: list[Any]) -> list[Any]:
    different = {json.dumps(item): item for item in items}
    return list(different.values())


def text(schema: Mapping[str, Any], said: str, chance: random.Random) -> str:
    least, most = int(schema.get("minLength", 0)), int(schema.get("maxLength", 10_000))
    if pattern := re.search(r"Matches (.+)$", said):
        for _ in range(50):
            written = matching(pattern[1], chance)
            if written is not None and least <= len(written) <= most:
                return written
    return TEXTS.get(schema.get("format", ""), "a b&c=d/é").ljust(least, "x")[:most]


def fields(schema: Mapping[str, Any], chance: random.Random, depth: int) -> dict[str, Any]:
    """An object: all that is required, some of the rest, and of fields that go together those of one form."""
    properties, wanted, out = schema.get("properties", {}), set(schema.get("required", ())), set()
    fixed: dict[str, str] = {}
    for group in re.findall(r"[Ee]ither (\{.*?\}(?: or \{.*?\})+)", str(schema.get("description", ""))):
        forms = [re.findall(r"([^\s,:?{}]+)(\??)(?:: ([^,}]*))?", form) for form in re.findall(r"\{.*?\}", group)]
        chosen = chance.choice(forms)
        out |= {name for form in forms for name, *_ in form} - {name for name, *_ in chosen}
        wanted |= {name for name, optional, _ in chosen if not optional}
        fixed |= {name: word for name, _, word in chosen if word}
    made = {
        key: value(inner, chance, depth + 1)
        for key, inner in properties.items()
        if key in wanted or (key not in out and depth < 3 and chance.random() < 0.3)
    }
    others, least = schema.get("additionalProperties"), int(schema.get("minProperties", 0))
    if isinstance(others, dict) and (depth < 3 or least):
        wanted |= {f"name{number}" for number in range(max(1, least))}
    wanted |= set(sorted(properties.keys() - out)[: max(0, least - len(made))])
    for name in sorted(wanted - made.keys()):
        made[name] = value(properties.get(name) or others or {}, chance, depth + 1)
    for name in fixed.keys() & made.keys():
        made[name] = next(
            (v for v in properties.get(name, {}).get("enum", ()) if str(v) == fixed[name]), fixed[name]
        )
    return made


def matching(pattern: str, chance: random.Random) -> str | None:
    """A text that a regular expression takes; None where this one is not understood."""
    try:
        written = "".join(pieces(re._parser.parse(pattern), chance))  # type: ignore[attr-defined]
        return written if re.search(pattern, written) else None
    except (re.error, RecursionError, ValueError):
        return None


def pieces(tokens: Any, chance: random.Random) -> Iterator[str]:
    for kind, argument in tokens:
        match str(kind):
            case "LITERAL":
                yield chr(argument)
            case "NOT_LITERAL":
                yield "b" if argument == ord("a") else "a"
            case "ANY":
                yield "a"
            case "IN":
                yield one_of(argument, chance)
            case "BRANCH":
                yield from pieces(chance.choice(argument[1]), chance)
            case "SUBPATTERN":
                yield from pieces(argument[3], chance)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                least, most, repeated = argument
                for _ in range(chance.randint(least, max(least, min(int(most), least + 3)))):
                    yield from pieces(repeated, chance)
            case _:  # anchors and looks: whether they hold is seen from the whole
                pass


def one_of(ranges: Any, chance: random.Random) -> str:
    """A character of a class, a plain one where it has one."""
    klass = {"CATEGORY_DIGIT": r"\d", "CATEGORY_SPACE": r"\s", "CATEGORY_WORD": r"\w", "CATEGORY_NOT_SPACE": r"\S"}
    klass |= {"CATEGORY_NOT_DIGIT": r"\D", "CATEGORY_NOT_WORD": r"\W"}
    rule = ""
    for kind, argument in ranges:
        match str(kind):
            case "NEGATE":
                rule += "^"
            case "LITERAL":
                rule += re.escape(chr(argument))
            case "RANGE":
                rule += f"{re.escape(chr(argument[0]))}-{re.escape(chr(argument[1]))}"
            case _:
                rule += klass[str(argument)]
    plain = [
        chr(code) for code in (*range(97, 123), *range(48, 58), *range(65, 91), *range(32, 48), *range(58, 256))
    ]
    fitting = [character for character in plain if re.fullmatch(f"[{rule}]", character)]
    return chance.choice(fitting[:36]) if fitting else "a"


def sampled(endpoint: Endpoint, chance: random.Random) -> dict[str, Any]:
    """Arguments of one operation; headers carry no more than ASCII."""
    arguments: dict[str, Any] = value(endpoint.arguments, chance)
    arguments.pop("pick", None)
    for parameter in endpoint.parameters:
        if parameter.location == "header" and parameter.argument in arguments:
            arguments[parameter.argument] = ascii_only(arguments[parameter.argument])
    return arguments


def ascii_only(given: Any) -> Any:
    return json.loads(json.dumps(given, ensure_ascii=False).replace("é", "e"))


# -- is it what was described?


def problems(document: Document, endpoint: Endpoint, arguments: Mapping[str, Any], seen: Seen) -> Iterator[str]:
    """What is wrong with a request as it arrived."""
    item = document.follow(document.content["paths"][endpoint.path])
    operation = document.follow(item[endpoint.method.lower()])
    parts = urlsplit(seen.target)
    query = parse_qsl(parts.query, keep_blank_values=True)
    template = quote(re.split("[?#]", endpoint.path)[0], safe=SAFE)
    pattern = re.sub(
        r"\\\{[^}]*\\\}", "([^/?#]+)", re.escape(template).replace(r"\{", "\\{").replace(r"\}", "\\}")
    )
    if seen.method != endpoint.method:
        yield "method"
    if not any(re.fullmatch(f"/base{pattern}", path) for path in (parts.path, unquote_unreserved(parts.path))):
        yield "path"
    described = {}
    for node in [*item.get("parameters", ()), *operation.get("parameters", ())]:
        parameter = document.follow(node)
        described[(parameter["in"], parameter["name"])] = parameter
    cookies = dict(pair.split("=", 1) for pair in seen.headers.get("cookie", "").split("; ") if pair)
    for parameter in endpoint.parameters:
        given = arguments.get(parameter.argument)
        if given is None:
            continue
        said = described.get((parameter.location, parameter.name), {})
        yield from parameter_problems(said, parameter.location, parameter.name, given, query, seen, cookies)
    if "Traceback" in seen.target or re.search(r"'\w+'%3A|%5B%27|%7B%27", seen.target):
        yield "repr in the target"
    if "body" in arguments:
        yield from body_problems(document, operation, endpoint, arguments["body"], seen)


def unquote_unreserved(path: str) -> str:
    return re.sub(
        r"%([0-9A-Fa-f]{2})", lambda m: chr(int(m[1], 16)) if chr(int(m[1], 16)) not in "/?#" else m[0], path
    )


def parameter_problems(
    said: Mapping[str, Any],
    location: str,
    name: str,
    given: Any,
    query: list[tuple[str, str]],
    seen: Seen,
    cookies: Mapping[str, str],
) -> Iterator[str]:
    text = plain(given)
    style = said.get("style", "form")
    explode = said.get("explode", style in ("form", "deepObject"))
    values = [item for key, item in query if key == name]
    match location:
        case "header":
            if seen.headers.get(name.lower(), "").strip() != (json_text(given) if said.get("content") else text):
                yield "header"
        case "cookie":
            if unquote(cookies.get(name, "")) != text:
                yield "cookie"
        case "query" if said.get("content"):
            if [json.loads(item) for item in values] != [given]:
                yield "query as JSON"
        case "query" if isinstance(given, list) and explode and style == "form":
            if values != [json_text(item) if isinstance(item, dict) else plain(item) for item in given]:
                yield "query list"
        case "query" if isinstance(given, list) and style != "deepObject":
            separator = {"spaceDelimited": " ", "pipeDelimited": "|"}.get(style, ",")
            if given and values != [separator.join(map(plain, given))]:
                yield "query list"
        case "query" if isinstance(given, dict):
            leaves = [plain(item) for item in given.values() if not isinstance(item, dict | list)]
            if not all(any(leaf in item for _, item in query) for leaf in leaves):
                yield "query object"
        case "query" if not isinstance(given, list):
            if text not in values:
                yield "query"


def json_text(given: Any) -> str:
    return json.dumps(given, ensure_ascii=False, separators=(",", ":"))


def plain(given: Any) -> str:
    match given:
        case bool():
            return "true" if given else "false"
        case list():
            return ",".join(map(plain, given))
        case dict():
            return ",".join(f"{key},{plain(item)}" for key, item in given.items())
        case _:
            return str(given)


def body_problems(
    document: Document, operation: Mapping[str, Any], endpoint: Endpoint, given: Any, seen: Seen
) -> Iterator[str]:
    node = document.follow(operation["requestBody"])
    sent = seen.headers.get("content-type", "")
    kind = sent.partition(";")[0].strip()
    media = [key for key in node["content"] if key.partition(";")[0].strip() == kind or "*" in key]
    if not media:
        yield f"content type {kind!r} is not described"
        return
    if "json" in kind:
        body = json.loads(seen.body)
        if body != given:
            yield "JSON body changed"
        schema = node["content"][media[0]].get("schema", {})
        yield from (f"JSON body: {problem}" for problem in invalid(document, schema, body))
    elif kind.endswith("form-urlencoded"):
        pairs = parse_qsl(seen.body.decode(), keep_blank_values=True)
        leaves = list(scalars(given))
        if Counter(item for _, item in pairs) != Counter(leaves) and not any("," in item for _, item in pairs):
            yield "form values"
        if any(re.match(r"[\[{]'", item) for _, item in pairs):
            yield "repr in a form"
        schema = document.follow(node["content"][media[0]].get("schema", {}))
        names = {key.partition("[")[0] for key, _ in pairs}
        known = set(schema.get("properties", {})) if isinstance(schema, dict) else set()
        if known and not names <= known:
            yield "form fields"
    elif kind.startswith("multipart/"):
        message = email.message_from_bytes(
            b"content-type: " + sent.encode() + b"\r\n\r\n" + seen.body, policy=email.policy.HTTP
        )
        parts = list(message.iter_parts())  # type: ignore[attr-defined]  # the policy gives an EmailMessage
        if {part.get_param("name", header="content-disposition") for part in parts} != set(given):
            yield "parts"
        if "aGkAaGk=" in json.dumps(given) and not any(
            part.get_payload(decode=True) == b"hi\0hi" for part in parts
        ):
            yield "a file's content"
    elif isinstance(given, dict) and seen.body != b"hi\0hi":
        yield "a file's content"
    elif isinstance(given, str) and seen.body != given.encode():
        yield "text"


def scalars(given: Any) -> Iterator[str]:
    match given:
        case dict():
            for item in given.values():
                yield from scalars(item)
        case list():
            for item in given:
                yield from scalars(item)
        case _:
            yield plain(given)


_registries: dict[int, Any] = {}


def invalid(document: Document, schema: Any, body: Any) -> Iterator[str]:
    """What the original schema says against a body; patterns and read-only fields are not the caller's to know."""
    old = not str(document.content.get("openapi", "")).startswith("3.1")
    if id(document) not in _registries:
        kind = referencing.jsonschema.DRAFT4 if old else referencing.jsonschema.DRAFT202012
        resource = referencing.Resource(contents=dict(document.content), specification=kind)
        _registries[id(document)] = referencing.Registry().with_resource("urn:d", resource)
    validator = jsonschema.Draft4Validator if old else jsonschema.Draft202012Validator
    try:
        rooted = absolute(schema)
        errors = list(validator(rooted, registry=_registries[id(document)]).iter_errors(body))
    except Exception:  # the description itself is not a schema; nothing can be said against the body
        return
    for error in errors:
        yield from leaf_problems(document, error)


def absolute(node: Any) -> Any:
    match node:
        case dict():
            return {
                key: f"urn:d{item}"
                if key == "$ref" and isinstance(item, str) and item.startswith("#")
                else absolute(item)
                for key, item in node.items()
            }
        case list():
            return [absolute(item) for item in node]
        case _:
            return node


def leaf_problems(document: Document, error: Any) -> Iterator[str]:
    if error.validator in ("pattern", "format", "uniqueItems", "not"):
        return
    if error.validator == "required":
        properties = error.schema.get("properties", {})
        missing = [name for name in error.validator_value if name not in error.instance]
        if all(read_only(document, properties.get(name)) for name in missing):
            return
    if error.validator in ("oneOf", "anyOf", "allOf") and error.context:
        branches = {}
        for inner in error.context:
            branches.setdefault(inner.schema_path[0], []).extend(leaf_problems(document, inner))
        if any(not found for found in branches.values()):
            return
    yield f"{error.validator} at {'.'.join(map(str, error.absolute_path))}"


def read_only(document: Document, schema: Any) -> bool:
    try:
        target = document.follow(schema)
    except Exception:
        return True
    return isinstance(target, dict) and target.get("readOnly") is True


# -- the subset, the sample, the hostile values


def outside(schema: Mapping[str, Any]) -> str | None:
    """Why a schema is not in the portable subset."""
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        return f"not a schema: {error.message[:80]}"
    stack: list[Any] = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += node
        elif isinstance(node, dict):
            for key in ("$ref", "anyOf", "oneOf", "allOf", "not"):
                if key in node and not isinstance(node.get("properties"), dict | type(None)):
                    return key
            if isinstance(node.get("type"), list):
                return "list of types"
            for name in node.get("properties", {}) if isinstance(node.get("properties"), dict) else ():
                if not re.fullmatch(r"[A-Za-z0-9_.\-]{1,64}", name):
                    return f"property key {name!r}"
            if node.get("type") == "object" and not isinstance(node.get("required"), list):
                return "object without required"
            stack += [item for key, item in node.items() if key not in ("enum", "default", "example")]
    return None


async def sample(
    file: Path, document: Document, endpoints: list[Endpoint], recorder: Recorder, calls: int
) -> tuple[int, Counter[str]]:
    chance = random.Random(file.stem)
    chosen = chance.sample(endpoints, min(calls, len(endpoints)))
    found: Counter[str] = Counter()
    async with client(allow_private=True) as http:
        address = f"http://127.0.0.1:{recorder.server_port}/base"
        connector = OpenApiConnector(OpenApiConfig(spec=file, base_url=address), http)
        for endpoint in chosen:
            arguments = sampled(endpoint, chance)
            recorder.seen.clear()
            try:
                await connector._run(endpoint, arguments, CALLER)
                wrong = list(problems(document, endpoint, arguments, recorder.seen[0]))
            except (UsrlandError, KeyError, IndexError, ValueError) as error:
                wrong = [f"no request: {type(error).__name__}: {str(error)[:120]}"]
            if wrong:
                found[f"{endpoint.name}: {wrong[0]}"] += 1
    return len(chosen), found


async def ask_prism(
    program: str, file: Path, content: Mapping[str, Any], endpoints: list[Endpoint], calls: int
) -> tuple[int, Counter[str]]:
    """The same sample, judged by Prism. (calls judged, what was wrong)"""
    chance = random.Random(file.stem)
    left = chance.sample(endpoints, min(calls, len(endpoints)))
    found: Counter[str] = Counter()
    judged = 0
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder) / "served.json"
        served.write_text(json.dumps(judged_part(content)), encoding="utf-8")
        for _ in range(PRISM_STARTS):  # it ends at some requests; what it said to those is not known
            if not left:
                break
            async with mock(program, served) as address, client(allow_private=True) as http:
                if address is None:
                    found["prism does not serve it"] += 0
                    break
                connector = OpenApiConnector(OpenApiConfig(spec=file, base_url=address), http)
                while left:
                    endpoint = left.pop()
                    arguments = sampled(endpoint, chance)
                    if "#" in endpoint.path or (endpoint.body is not None and "xml" in endpoint.body.media_type):
                        continue  # Prism reads no XML, and tells no operations apart by an imagined fragment
                    try:
                        wrong = await prisms_word(connector, endpoint, address, arguments)
                    except Unavailable:
                        found[f"prism ended at {endpoint.name}"] += 0
                        break
                    except (UsrlandError, OSError) as error:
                        wrong = f"no answer: {type(error).__name__}: {str(error)[:100]}"
                    judged += 1
                    if wrong:
                        found[f"{endpoint.name}: {wrong}"] += 1
    return judged, found


@contextlib.asynccontextmanager
async def mock(program: str, served: Path) -> AsyncIterator[str | None]:
    """Where Prism answers for a description; None where it does not take it."""
    port = free_port()
    command = [program, "mock", str(served), "--errors", "-p", str(port), "-v", "error"]
    async with await anyio.open_process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as prism:
        try:
            yield f"http://127.0.0.1:{port}" if await listening(prism, port) else None
        finally:
            with contextlib.suppress(ProcessLookupError):  # it gave up by itself
                prism.terminate()


async def prisms_word(
    connector: OpenApiConnector, endpoint: Endpoint, address: str, arguments: Mapping[str, Any]
) -> str:
    """What Prism has against a request; empty where it takes it."""
    request = build(endpoint, address, arguments)
    prepared = connector._authorized(
        request.method, request.url, NOBODY, query=request.query, headers=request.headers, content=request.content
    )
    response = await connector.http.send(prepared)
    if "problem+json" not in response.headers.get("content-type", ""):
        return ""
    problem = response.json()
    kind = str(problem.get("type", "")).rpartition("#")[2]
    if kind not in REFUSALS:
        return ""  # it took the request, and has no example to answer with
    against = [each for each in problem.get("validation", ()) if not about_nothing(each, endpoint, arguments)]
    if problem.get("validation") and not against:
        return ""
    said = [f"{'.'.join(each.get('location', ()))} {each['message']}" for each in against[:2]]
    return f"{kind} {'; '.join(said)}"[:200]


def about_nothing(problem: Mapping[str, Any], endpoint: Endpoint, arguments: Mapping[str, Any]) -> bool:
    """Whether it is about what a part lacks that was not sent: Prism reads no `deepObject` as an empty one."""
    where = [str(part) for part in problem.get("location", ())]
    if problem.get("code") != "required" or len(where) < 2 or where[0] not in ("body", "query"):
        return False
    sent: Any = {
        parameter.name.lower(): True for parameter in endpoint.parameters if parameter.argument in arguments
    }
    if where[0] == "body":
        sent = arguments.get("body")
    for part in where[1:]:
        if not isinstance(sent, dict):
            return False
        if part not in sent:
            return True
        sent = sent[part]
    return False


def judged_part(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a description says of requests, and of it only what Prism can read.

    Without the answers, at which it may end, and all that only they refer to; without what a caller has to prove,
    and the addresses of the real system; without references out of the document, which it cannot follow.
    """
    methods = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
    left_out = ("security", "servers", "responses", "callbacks")
    answer = {"200": {"description": "An answer."}}
    paths = {
        path: {
            key: {**{name: part for name, part in node.items() if name not in left_out}, "responses": answer}
            if key in methods and isinstance(node, dict)
            else node
            for key, node in item.items()
            if key != "servers"
        }
        if isinstance(item, dict)
        else item
        for path, item in inner(content.get("paths", {})).items()
    }
    parts: dict[str, Any] = {}
    wanted = list(references(paths))
    while wanted:
        reference = wanted.pop()
        _, *place = reference.split("/")
        if reference in parts or len(place) not in (2, 3) or place[0] == "paths":
            continue
        found: Any = content
        for key in place:
            found = found.get(key, {}) if isinstance(found, dict) else {}
        parts[reference] = inner(found)
        wanted += references(parts[reference])
    top = ("openapi", "swagger", "info", "consumes")
    kept: dict[str, Any] = {**{key: content[key] for key in top if key in content}, "paths": paths}
    for reference, part in parts.items():
        _, *above, name = reference.split("/")
        place = kept
        for key in above:
            place = place.setdefault(key, {})
        place[name] = part
    return kept


def inner(node: Any) -> Any:
    """The same without references that lead out of the document."""
    match node:
        case {"$ref": str(reference)} if not reference.startswith("#/"):
            return {}
        case dict():
            return {key: inner(item) for key, item in node.items()}
        case list():
            return [inner(item) for item in node]
        case _:
            return node


def references(node: Any) -> Iterator[str]:
    match node:
        case dict():
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for item in node.values():
                yield from references(item)
        case list():
            for item in node:
                yield from references(item)


async def listening(process: Process, port: int) -> bool:
    for _ in range(int(PRISM_SECONDS / 0.25)):
        if process.returncode is not None:
            return False
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            await asyncio.sleep(0.25)
        else:
            return True
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def attack(file: Path, endpoints: list[Endpoint], recorder: Recorder) -> tuple[int, int, list[str]]:
    """(values tried, requests made, escapes). Every third request really goes over the socket."""
    chance = random.Random(1)
    tried = made = 0
    escapes: list[str] = []
    address = f"http://127.0.0.1:{recorder.server_port}/base"
    async with client(allow_private=True) as http:
        connector = OpenApiConnector(OpenApiConfig(spec=file, base_url=address), http)
        for endpoint in endpoints:
            usual = value({**endpoint.arguments, "properties": endpoint.arguments["properties"]}, chance)
            usual = {key: item for key, item in usual.items() if key in endpoint.arguments["required"]}
            for parameter in endpoint.parameters:
                if parameter.schema.get("type", "string") != "string":
                    continue
                for hostile in HOSTILE:
                    tried += 1
                    arguments = {**usual, parameter.argument: hostile}
                    try:
                        request = build(endpoint, address, arguments)
                        prepared = connector._authorized(
                            request.method, request.url, NOBODY, query=request.query, headers=request.headers,
                            content=request.content,
                        )  # fmt: skip
                    except UsrlandError:
                        continue
                    made += 1
                    template = quote(re.split("[?#]", endpoint.path)[0], safe=SAFE)
                    raw = prepared.url.raw_path.decode().partition("?")[0]
                    pattern = "/base" + "".join(
                        "[^/?#\\\\]+" if part.startswith("{") else re.escape(part)
                        for part in re.split(r"(\{[^}]*\})", template)
                    )
                    plain_path = raw
                    for _ in range(4):
                        plain_path = unquote(plain_path)
                    segments = re.split(r"[/\\]", plain_path)
                    wrong = (
                        prepared.url.host != "127.0.0.1"
                        or prepared.headers.get("host", "").partition(":")[0] != "127.0.0.1"
                        or "x-evil" in prepared.headers
                        or not re.fullmatch(pattern, quoted_like(raw, template))
                        or any(segment.partition(";")[0] in ("..", ".") for segment in segments)
                        or any(ord(character) < 32 for key in prepared.headers.values() for character in key)
                    )
                    if wrong:
                        escapes.append(f"{endpoint.method} {endpoint.path} {parameter.name}={hostile!r} -> {raw}")
                    elif made % 97 == 0:
                        recorder.seen.clear()
                        await http.send(prepared)
                        if recorder.seen[0].target.partition("?")[0] != raw:
                            escapes.append(f"on the wire: {recorder.seen[0].target!r}")
    return tried, made, escapes


def quoted_like(raw: str, template: str) -> str:
    """The path with what is encoded in the template's own text decoded, so that the two can be compared."""
    return (
        raw
        if "%" in template
        else re.sub(r"%(?!2[fF]|3[fF]|23|5[cC])([0-9A-Fa-f]{2})", "x", raw)
        if "{" in template
        else unquote(raw)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--spec")
    parser.add_argument("--only-calls", action="store_true", help="leave the hostile values out")
    parser.add_argument("--prism", help="the program that judges instead of the recording server")
    given = parser.parse_args()
    recorder = Recorder()
    threading.Thread(target=recorder.serve_forever, daemon=True).start()
    real = socket.getaddrinfo
    totals: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for file in sorted(given.data.glob("*.json")):
        if given.spec and file.stem != given.spec:
            continue
        document = Document.load(file)
        endpoints, reported = read_endpoints(document)
        if given.prism:
            content = json.loads(file.read_text(encoding="utf-8"))
            called, found = asyncio.run(ask_prism(given.prism, file, content, endpoints, given.calls))
            wrong += found
            totals += Counter(specs=1, called=called, conforming=called - found.total())
            print(f"{file.stem:24s} {called - found.total():3d}/{called:3d}", dict(found) or "", flush=True)
            continue
        bad = [(e.name, reason) for e in endpoints if (reason := outside(e.arguments))]
        called, found = asyncio.run(sample(file, document, endpoints, recorder, given.calls))
        attacked = [] if given.only_calls else endpoints
        tried, made, escapes = asyncio.run(attack(file, attacked, recorder))
        wrong += found
        totals += Counter(
            specs=1, offered=len(endpoints), reported=len(reported), outside=len(bad), called=called,
            conforming=called - found.total(), hostile=tried, sent=made, escapes=len(escapes),
        )  # fmt: skip
        print(
            f"{file.stem:24s} offered {len(endpoints):5d}  reported {len(reported):4d}  outside {len(bad):3d}  "
            f"conforming {called - found.total():3d}/{called:3d}  escapes {len(escapes)} of {tried}",
            dict(found) or "", [*bad[:2], *escapes[:3]] or "", flush=True,
        )  # fmt: skip
    assert socket.getaddrinfo is real
    print(dict(totals))
    print(f"wire: {totals['conforming'] / max(totals['called'], 1):.4f}", dict(wrong))


if __name__ == "__main__":
    main()
