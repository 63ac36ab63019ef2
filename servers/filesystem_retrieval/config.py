"""The table `[filesystem-retrieval]` of `usrland.toml`.

[filesystem-retrieval]
roots = { docs = "/srv/docs", code = { folder = "~/code", tenant = "acme" } }
ignore = ["*.log"]
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from usrland.embedding.transformers import PREFIX
from usrland.s3 import BucketTable

__all__ = ["SERVER", "RootTable", "Table"]

SERVER = "filesystem-retrieval"
_LABEL_NAME = r"^[a-z0-9][a-z0-9_-]{0,40}$"
_ROOT_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


class RootTable(BaseModel):
    """One root. Only callers of its tenant see it; a person's own stdio process is of tenant `local`."""

    model_config = ConfigDict(extra="forbid")

    folder: str = ""
    bucket: BucketTable | None = None
    """Instead of a folder."""
    tenant: str = "local"
    writable: bool = False
    """Whether callers with the scope `fs:write` may change files in it."""
    include: list[str] = []
    """Patterns; where there are any, nothing else is there."""
    ignore: list[str] = []
    """Patterns besides those for all roots."""
    kinds: list[str] = []
    """Where there are any, only these are read for searching: markdown, html, text, table, document, archive, code
    or a language. Others are listed, and can be read."""
    max_file_bytes: int | None = Field(default=None, gt=0)
    max_document_bytes: int | None = Field(default=None, gt=0)
    """Default: as for all roots."""
    label: str | None = None
    """Only callers with the scope `fs:label:NAME` know of the root at all."""
    labels: dict[str, list[str]] = {}
    """Patterns of what needs a label besides, as in `.gitignore`: { finance = ["/finance/", "*.payroll.csv"] }.
    The first, in this order, that matches a path or a folder above it decides; "finance+legal" needs both."""

    @field_validator("label")
    @classmethod
    def _is_label(cls, label: str | None) -> str | None:
        if label is not None and not all(re.match(_LABEL_NAME, name) for name in label.split("+")):
            raise ValueError("a label is small letters, digits, '_' and '-', or several of them with '+' between")
        return label

    @field_validator("labels")
    @classmethod
    def _are_labels(cls, labels: dict[str, list[str]]) -> dict[str, list[str]]:
        if not labels:
            return labels
        from filesystem_retrieval.patterns import is_pattern  # not needed to start, otherwise

        for label, patterns in labels.items():
            cls._is_label(label)
            for pattern in patterns:
                if not pattern.strip() or pattern.startswith(("!", "#")) or not is_pattern(pattern):
                    raise ValueError(f"{label}: {pattern!r} is not a pattern that can be labelled by")
        return labels

    @field_validator("folder")
    @classmethod
    def _absolute(cls, folder: str) -> str:
        if folder and not Path(folder).expanduser().is_absolute():
            raise ValueError("must be an absolute path")
        return folder

    @model_validator(mode="after")
    def _is_one(self) -> RootTable:
        if bool(self.folder) == (self.bucket is not None):
            raise ValueError("a root is a folder or a bucket")
        if self.bucket is not None and self.writable:
            raise ValueError("a bucket can only be read")
        return self


class Table(BaseModel):
    """What an operator can say about this server."""

    roots: dict[str, RootTable] = {}
    ignore: list[str] = []
    """Patterns besides those of `.gitignore` and `.usrlandignore`, for all roots."""
    max_file_bytes: int = Field(default=2 * 1024 * 1024, gt=0)
    """Of text. Larger files are listed and can be read in parts, but are not searched."""
    max_document_bytes: int = Field(default=50 * 1024 * 1024, gt=0)
    """Of PDF, DOCX and other formats that need a parser."""
    keep_days: float = Field(default=30, gt=0)
    """How long a version is kept after another has taken its place."""
    chatgpt: bool = False
    """Offer `search` and `fetch` in the shapes that ChatGPT asks for, and no other tools."""
    watch: bool = True
    """Learn of changes from the operating system. Network drives do not tell; what is new there is then found
    within a minute."""
    embedding: str = "minilm"
    rerank: str = ""
    """A cross-encoder, which judges the best of each search: its folder, where it is ONNX (`model.onnx`,
    `tokenizer.json`), or `sentence-transformers:<model>`."""
    rerank_seconds: float = Field(default=0.5, gt=0)
    """How long it may take in one search; what it did not come to follows in the order of before."""
    database: str = ""
    """Default: a SQLite file in the server's own folder."""

    @field_validator("rerank")
    @classmethod
    def _is_model(cls, name: str) -> str:
        if name and not name.startswith(PREFIX) and not Path(name).expanduser().is_absolute():
            raise ValueError(f"must be an absolute path, or {PREFIX}<model>")
        return name

    @field_validator("roots", mode="before")
    @classmethod
    def _folders(cls, roots: object) -> object:
        if isinstance(roots, dict):
            return {name: {"folder": root} if isinstance(root, str) else root for name, root in roots.items()}
        return roots

    @field_validator("roots")
    @classmethod
    def _names(cls, roots: dict[str, RootTable]) -> dict[str, RootTable]:
        for name in roots:
            if not re.match(_ROOT_NAME, name):
                raise ValueError(f"root {name!r}: a name is letters, digits, '.', '_' and '-'")
        return roots
