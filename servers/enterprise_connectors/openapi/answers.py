"""Whether an answer is what the description says: told, and never refused.

Descriptions drift from the systems behind them. An answer that differs passes as it came, with a note on where. Of
a list or a map the first few items are looked at, so that a large answer costs no more than a small one. Null is
taken for every object and list, because the portable subset does not say which may be null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from enterprise_connectors.openapi.document import BadReference, Document
from enterprise_connectors.openapi.endpoints import Endpoint
from enterprise_connectors.openapi.schema import Portable

__all__ = ["Expected"]

MAX_TOLD = 3
LOOKED_AT = 3

_KINDS: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


class Expected:
    """What a document says of answers; each schema is converted when its first answer comes."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._schemas: dict[tuple[str, int], dict[str, Any]] = {}

    def knows(self, endpoint: Endpoint, status: int) -> bool:
        """Its schema was converted already, so that looking is a matter of microseconds."""
        return (endpoint.name, status) in self._schemas

    def differences(self, endpoint: Endpoint, status: int, body: Any) -> list[str]:
        """Where a body is not as described, the first few places; none where nothing is described."""
        key = (endpoint.name, status)
        if key not in self._schemas:
            self._schemas[key] = self._schema(endpoint, status)
        return list(islice(_differences(self._schemas[key], body, ""), MAX_TOLD))

    def _schema(self, endpoint: Endpoint, status: int) -> dict[str, Any]:
        try:
            follow = self._document.follow
            item = follow(self._document.content["paths"][endpoint.path])
            responses = follow(item[endpoint.method.lower()])["responses"]
            said = [responses[key] for key in (str(status), f"{status // 100}XX", "default") if key in responses]
            response = follow(said[0])
            content = response.get("content")
            if content is None:  # as Swagger 2 writes it
                schema = response.get("schema", {})
            else:
                schema = next(media.get("schema", {}) for kind, media in content.items() if "json" in kind)
        except (BadReference, KeyError, IndexError, TypeError, AttributeError, StopIteration):
            return {}  # the description has a hole here, or nothing to say
        return Portable(self._document, hidden="writeOnly").convert(schema)


def _differences(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    kind = schema.get("type")
    if kind is None or (value is None and kind in ("object", "array")):
        return
    place = path or "the answer"
    if not _fits(kind, value):
        yield f"{place} is {_name(value)}, not {kind}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{place} is none of the values listed"
    elif kind == "array":
        for number, item in enumerate(value[:LOOKED_AT]):
            yield from _differences(schema.get("items", {}), item, _below(path, str(number)))
    elif kind == "object":
        known = schema.get("properties", {})
        yield from (f"{_below(path, name)} is missing" for name in schema.get("required", ()) if name not in value)
        for name, inner in known.items():
            if name in value:
                yield from _differences(inner, value[name], _below(path, name))
        others = schema.get("additionalProperties", {})
        for name in islice((name for name in value if name not in known), LOOKED_AT if others else 0):
            yield from _differences(others, value[name], _below(path, name))


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _fits(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _KINDS[kind]) or (
        kind == "integer" and isinstance(value, float) and value.is_integer()
    )


def _name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return next(kind for kind, types in _KINDS.items() if isinstance(value, types))
