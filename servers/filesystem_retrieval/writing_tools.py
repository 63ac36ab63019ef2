"""The tools that change files, listed only where some root may be written to.

None of them destroys: what a file held is a version first. So none asks for consent unless an operator wants it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field

from filesystem_retrieval.answers import Written
from filesystem_retrieval.arguments import Path, Root
from usrland.connector import Call, Operation
from usrland.schemas.wire import Preview

if TYPE_CHECKING:
    from filesystem_retrieval.library import Library

__all__ = ["WritingTools"]

WRITE = frozenset({"fs:write"})

Expected = Annotated[
    str | None,
    Field(description="sha256 or version of the file as you read it. Needed to replace one; else it must be new."),
]


class WritingTools:
    """Each opens the library at its first use."""

    def __init__(self, library: Callable[[], Awaitable[Library]]) -> None:
        self._library = library

    def operations(self) -> Sequence[Operation]:
        titled: Mapping[Callable[..., Awaitable[BaseModel]], str] = {
            self.fs_write: "Write a file",
            self.fs_edit: "Change a part of a file",
            self.fs_move: "Move or rename a file",
            self.fs_undo: "Undo a change of a file",
        }
        return [
            Operation(
                call=each,
                title=title,
                effect="write",
                scopes=WRITE,
                preview=self._preview(each.__name__),
                undo="fs_undo",
            )
            for each, title in titled.items()
        ]

    async def fs_write(
        self, path: Path, content: str, call: Call, root: Root = None, expected: Expected = None
    ) -> Written:
        """Create a new text file with some content, or replace one that you have read. To change a part of it use
        fs_edit."""
        return await self._change("fs_write", call, path=path, content=content, root=root, expected=expected)

    async def fs_edit(
        self,
        path: Path,
        old: Annotated[str, Field(description="Exactly as it stands in the file.")],
        new: str,
        call: Call,
        root: Root = None,
        everywhere: Annotated[bool, Field(description="Default: old must stand there once.")] = False,
        expected: Annotated[str | None, Field(description="As for fs_write, but not needed.")] = None,
    ) -> Written:
        """Change the text of a file: correct something in it, or replace an exact piece with another. Read it
        first."""
        return await self._change(
            "fs_edit", call, path=path, old=old, new=new, root=root, everywhere=everywhere, expected=expected
        )

    async def fs_move(
        self,
        path: Path,
        to: Annotated[str, Field(description="Its new path in the same root, where nothing is.")],
        call: Call,
        root: Root = None,
    ) -> Written:
        """Rename a file, or move it to another folder."""
        return await self._change("fs_move", call, path=path, to=to, root=root)

    async def fs_undo(
        self,
        path: Path,
        call: Call,
        root: Root = None,
        version: Annotated[
            int | None, Field(description="Restore this one. Default: what was before the last change.")
        ] = None,
    ) -> Written:
        """Undo the last change of a file, made by fs_write, fs_edit or fs_move, or restore any version from
        fs_history. Can itself be undone."""
        return await self._change("fs_undo", call, path=path, root=root, version=version)

    async def _change(self, tool: str, call: Call, **arguments: Any) -> Written:
        from filesystem_retrieval.writing import REQUESTS

        return await REQUESTS[tool](library=await self._library(), call=call, **arguments).run()

    def _preview(self, tool: str) -> Callable[..., Awaitable[Preview]]:
        async def preview(**arguments: Any) -> Preview:
            from filesystem_retrieval.writing import REQUESTS

            return await REQUESTS[tool](library=await self._library(), **arguments).preview()

        return preview
