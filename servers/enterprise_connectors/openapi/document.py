"""An API description as it lies on the disk: read, and its references followed.

A description may be spread over files. References are followed inside the folder of the description and never
out of it, nor to a URL: the document of a stranger does not decide what this machine reads or asks for. One that
leads elsewhere, or to nothing, is a problem of the operation that uses it and of no other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from enterprise_connectors.openapi.swagger import as_openapi
from usrland.errors import InvalidInput

__all__ = ["BadReference", "Document", "prose"]

MAX_HOPS = 32
MAX_FILES = 2_000
MAX_FILE_BYTES = 32 * 1024 * 1024

_LINK = re.compile(r"!?\[([^\]]*)\]\([^)\s]*\)")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


def prose(text: Any, max_characters: int) -> str:
    """A description as one line of text: what links and markup say, without their cost in tokens."""
    plain = " ".join(_TAG.sub(" ", _LINK.sub(r"\1", str(text or ""))).split())
    return plain if len(plain) <= max_characters else f"{plain[: max_characters - 1]}…"


class BadReference(Exception):
    """Raised for a `$ref` that leads nowhere we go."""


class Document:
    """One parsed description, and the files beside it that it refers to, read when they are asked for."""

    def __init__(self, content: Mapping[str, Any], folder: Path | None = None) -> None:
        self._folder = folder
        self._files: dict[str, Any] = {"": content}
        self.content = content
        if "swagger" in content:
            self.content = as_openapi(content, self.follow)

    @classmethod
    def load(cls, file: Path) -> Document:
        """Read JSON or YAML; raises `InvalidInput` where it is no OpenAPI 3 or Swagger 2 description."""
        try:
            content = _parsed(file.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"spec: {file.name!r} cannot be read.") from error
        version = str(content.get("openapi", content.get("swagger", ""))) if isinstance(content, dict) else ""
        if not version.startswith(("3.", "2.0")):
            raise InvalidInput(f"spec: {file.name!r} is not an OpenAPI 3 or Swagger 2.0 description.")
        return cls(content, file.resolve().parent)

    def follow(self, node: Any) -> Any:
        """The node itself, or what its `$ref` leads to."""
        for _ in range(MAX_HOPS):
            if not isinstance(node, dict) or not isinstance(node.get("$ref"), str):
                return node
            node = self._at(node["$ref"])
        raise BadReference("a reference that leads in a circle")

    def _at(self, reference: str) -> Any:
        file, _, pointer = reference.partition("#")
        node = self._file(file) if file else self._files[""]
        if pointer and not pointer.startswith("/"):
            raise BadReference(f"a reference by name: {reference[:80]!r}")
        for part in pointer.split("/")[1:]:
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            # a step on the way may be a reference itself
            node = self.follow(node)
            try:
                node = node[int(key)] if isinstance(node, list) else node[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise BadReference(f"a reference to nothing: {reference[:80]!r}") from None
        return node

    def _file(self, name: str) -> Any:
        """A file beside the description, its own references made relative to the description's folder."""
        if name not in self._files:
            if self._folder is None or "://" in name or len(self._files) >= MAX_FILES:
                raise BadReference(f"a reference out of the document: {name[:80]!r}")
            path = (self._folder / unquote(name)).resolve()
            if not path.is_relative_to(self._folder):
                raise BadReference(f"a reference out of the description's folder: {name[:80]!r}")
            try:
                if path.stat().st_size > MAX_FILE_BYTES:
                    raise BadReference(f"a reference to a file that is too large: {name[:80]!r}")
                content = _parsed(path.read_text(encoding="utf-8-sig"))
            except (OSError, UnicodeDecodeError, InvalidInput):
                raise BadReference(f"a reference to a file that cannot be read: {name[:80]!r}") from None
            self._files[name] = _rebased(content, str(path.relative_to(self._folder)), self._folder)
        return self._files[name]


def _rebased(node: Any, file: str, folder: Path) -> Any:
    """The same content with every reference written as seen from `folder`."""
    match node:
        case dict():
            return {
                key: _reference(value, file, folder)
                if key == "$ref" and isinstance(value, str)
                else _rebased(value, file, folder)
                for key, value in node.items()
            }
        case list():
            return [_rebased(item, file, folder) for item in node]
        case _:
            return node


def _reference(reference: str, file: str, folder: Path) -> str:
    target, mark, pointer = reference.partition("#")
    if "://" in target:
        return reference
    if not target:
        return f"{file}{mark}{pointer}"
    path = (folder / file).parent.joinpath(unquote(target)).resolve()
    if not path.is_relative_to(folder):
        return reference if target.startswith("/") else f"../{target}{mark}{pointer}"
    return f"{path.relative_to(folder)}{mark}{pointer}"


def _parsed(text: str) -> Any:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            pass  # YAML may begin with a brace as well
    from enterprise_connectors.openapi.yaml import parse

    return parse(text)
