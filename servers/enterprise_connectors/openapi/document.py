"""An OpenAPI document as it lies on the disk: read, and its references followed.

Only references into the document itself are followed. One that leads to another file or to a URL is a
problem of the operation that uses it and of no other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from usrland.errors import InvalidInput

__all__ = ["BadReference", "Document", "prose"]

MAX_HOPS = 32

_LINK = re.compile(r"!?\[([^\]]*)\]\([^)\s]*\)")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


def prose(text: Any, max_characters: int) -> str:
    """A description as one line of text: what links and markup say, without their cost in tokens."""
    plain = " ".join(_TAG.sub(" ", _LINK.sub(r"\1", str(text or ""))).split())
    return plain if len(plain) <= max_characters else f"{plain[: max_characters - 1]}…"


class BadReference(Exception):
    """Raised for a `$ref` that leads nowhere we go."""


class Document:
    """One parsed description."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content

    @classmethod
    def load(cls, file: Path) -> Document:
        """Read JSON or YAML; raises `InvalidInput` where it is not an OpenAPI 3 description."""
        try:
            content = _parsed(file.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"spec: {file.name!r} cannot be read.") from error
        version = str(content.get("openapi", "")) if isinstance(content, dict) else ""
        if not version.startswith("3."):
            old = " It is Swagger 2.0." if isinstance(content, dict) and "swagger" in content else ""
            raise InvalidInput(
                f"spec: {file.name!r} is not an OpenAPI 3 description.{old}", fix="Convert it to OpenAPI 3 first."
            )
        return cls(content)

    def follow(self, node: Any) -> Any:
        """The node itself, or what its `$ref` leads to."""
        for _ in range(MAX_HOPS):
            if not isinstance(node, dict) or not isinstance(node.get("$ref"), str):
                return node
            node = self._at(node["$ref"])
        raise BadReference("a reference that leads in a circle")

    def _at(self, reference: str) -> Any:
        if not reference.startswith("#/"):
            raise BadReference(f"a reference out of the document: {reference[:80]!r}")
        node: Any = self.content
        for part in reference[2:].split("/"):
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            try:
                node = node[int(key)] if isinstance(node, list) else node[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise BadReference(f"a reference to nothing: {reference[:80]!r}") from None
        return node


def _parsed(text: str) -> Any:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            pass  # YAML may begin with a brace as well
    from enterprise_connectors.openapi.yaml import parse

    return parse(text)
