"""`search` and `fetch` in the shapes that ChatGPT asks of a server, in place of all other tools."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from filesystem_retrieval.resources import uri_of
from usrland.connector import Call, Operation
from usrland.schemas.wire import Answer

if TYPE_CHECKING:
    from filesystem_retrieval.library import Library

__all__ = ["ChatGptTools"]

READ = frozenset({"fs:read"})
RESULTS = 10
MOST_TOKENS = 20_000
_FROM = "#L"


class Result(BaseModel):
    """One document."""

    id: str
    title: str
    url: str
    text: str = Field(description="The best passage in it.")


class Results(Answer):
    """Documents, best first."""

    results: list[Result]
    note: str | None = Field(default=None, description="What the answer may lack.")


class Document(Answer):
    """The text of a document, or as much of it as fits."""

    id: str
    title: str
    text: str
    url: str
    metadata: dict[str, str]


class ChatGptTools:
    """Each opens the library at its first use."""

    def __init__(self, library: Callable[[], Awaitable[Library]]) -> None:
        self._library = library

    def operations(self) -> Sequence[Operation]:
        return [
            Operation(call=self.search, effect="read", scopes=READ, quotes="files"),
            Operation(call=self.fetch, effect="read", scopes=READ, quotes="files", max_tokens=MOST_TOKENS),
        ]

    async def search(
        self, query: Annotated[str, Field(description="A question or keywords.", min_length=1)], call: Call
    ) -> Results:
        """Find documents by meaning and words. Pass an id to fetch to read one."""
        from filesystem_retrieval.searching import Wish, search

        found = await search(await self._library(), call, Wish(query=query, limit=RESULTS, by_document=True))
        return Results(
            results=[
                Result(
                    id=f"{each.root}/{each.path}",
                    title=f"{each.path}: {each.heading}" if each.heading else each.path,
                    url=uri_of(each.root, each.path),
                    text=each.text,
                )
                for each in found.items
            ],
            note=found.degraded or found.note,
        )

    async def fetch(
        self,
        id: Annotated[str, Field(description="From search, or metadata.next of a long document.")],
        call: Call,
    ) -> Document:
        """Read a document that search has found."""
        from filesystem_retrieval.reader import read_file

        name, mark, line = id.rpartition(_FROM)
        name, first = (name, int(line)) if mark and line.isdigit() else (id, 1)
        root, _, path = name.partition("/")
        file = await read_file(
            await self._library(),
            replace(call, max_tokens=call.max_tokens - 500),  # for what stands beside the text
            path,
            root=root,
            first_line=first if first > 1 else None,
            last_line=None,
            page=None,
            symbol=None,
            version=None,
        )
        metadata = {"sha256": file.sha256, "lines": f"{file.first_line}-{file.last_line} of {file.total_lines}"}
        if file.last_line < file.total_lines:
            metadata["next"] = f"{file.root}/{file.path}{_FROM}{file.last_line + 1}"
        return Document(
            id=id, title=file.path, text=file.text, url=uri_of(file.root, file.path), metadata=metadata
        )
