"""Looking over what is kept of files, and making catalogue and index anew."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from usrland import Keeping

if TYPE_CHECKING:
    from sqlmodel import Session

    from filesystem_retrieval.library import Library

__all__ = ["keeping"]

_AT_ONCE = 200


def keeping(library: Callable[[], Awaitable[Library]]) -> Keeping:
    async def check(read_data: bool) -> Sequence[str]:
        versions = (await library()).versions
        try:
            return await versions.database.read(lambda session: _problems(session, read_data))
        finally:
            versions.database.close()

    async def rebuild() -> str:
        """The index is filled again from the catalogue, and what the catalogue lacks from the files."""
        opened = await library()
        await opened.index.drop()
        counts = await opened.index_once()
        return f"the search index was made anew: {counts.files} files"

    return Keeping(check=check, rebuild=rebuild, derived=frozenset({"index", "buckets"}))


def _problems(session: Session, read_data: bool) -> list[str]:
    from sqlalchemy import and_
    from sqlmodel import col, select

    from filesystem_retrieval.versions import Blob, Version

    lost = (
        select(Version.root, Version.path, Version.id)
        .join(Blob, and_(col(Blob.root) == Version.root, col(Blob.sha256) == Version.sha256), isouter=True)
        .where(Version.sha256 != "", col(Blob.sha256).is_(None), Version.size <= _kept_size(session))
    )
    problems = [
        f"{root}/{path}: the bytes of version {number} are missing" for root, path, number in session.exec(lost)
    ]
    return problems + (_changed(session) if read_data else [])


def _kept_size(session: Session) -> int:
    """Files larger than any that is kept were not meant to be."""
    from sqlmodel import func, select

    from filesystem_retrieval.versions import Blob, Version

    known = select(func.max(Version.size)).where(Version.sha256.in_(select(Blob.sha256)))  # type: ignore[attr-defined]
    return int(session.exec(known).one() or 0)


def _changed(session: Session) -> list[str]:
    from sqlmodel import select

    from filesystem_retrieval.reading import sha256_of
    from filesystem_retrieval.versions import Blob

    problems = []
    for root, sha256, packed, data in session.exec(
        select(Blob.root, Blob.sha256, Blob.packed, Blob.data).execution_options(yield_per=_AT_ONCE)
    ):
        try:
            content = zlib.decompress(data) if packed else bytes(data)
        except zlib.error:
            content = b"\x00"
        if sha256_of(content) != sha256:
            problems.append(f"{root}: the kept bytes {sha256[:12]} were changed")
    return problems
