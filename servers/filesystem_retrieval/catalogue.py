"""The catalogue: which files there are, what they hold, and the passages of it. This is the truth; the search
index is made from it.

Passages belong to a content and not to a file: a file that is moved or copied brings no new content, so nothing
is parsed or embedded again. They stay for as long as a version holds the content, and are then `past`. A content
is `indexed` once its passages are in the search index, a file is `ok` once its content is; whoever dies in
between leaves `pending`, and the next scan does that work again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import anyio.to_thread
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    update,
)
from sqlalchemy import select as columns_of
from sqlmodel import Field, SQLModel, col, select

from filesystem_retrieval.beneath import CLOCK_TICK_NS, Signature
from filesystem_retrieval.lease import Lease
from filesystem_retrieval.versions import Blob, Cut, Version, cut, keep
from usrland.database import Database, in_batches

if TYPE_CHECKING:
    from sqlmodel import Session

__all__ = [
    "MIGRATIONS",
    "Catalogue",
    "Chunk",
    "Content",
    "Drift",
    "Fetch",
    "File",
    "Known",
    "Piece",
    "Summary",
    "distrust",
]

MIGRATIONS = Path(__file__).parent / "migrations"

_PIECES_AT_ONCE = 32

ResultT = TypeVar("ResultT")

PassageKey = tuple[str, str, int]
"""Root, content and ordinal."""


class Known(NamedTuple):
    """What the catalogue says of a file. Every scan reads all of them, and whole rows cost eight times as much."""

    root: str
    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    read_ns: int
    state: str
    kind: str
    sha256: str
    content: str

    @property
    def signature(self) -> Signature:
        return Signature(size=self.size, mtime_ns=self.mtime_ns, ctime_ns=self.ctime_ns)

    def is_like(self, now: Signature) -> bool:
        """Whether the file still holds what was read, as far as its size and times can tell."""
        if self.ctime_ns > self.read_ns - CLOCK_TICK_NS:
            return False
        return (self.size, self.mtime_ns, self.ctime_ns) == (now.size, now.mtime_ns, now.ctime_ns)


class File(SQLModel, table=True):
    """A file as it was when it was last read."""

    __tablename__ = "fs_file"

    root: str = Field(primary_key=True)
    path: str = Field(primary_key=True)
    size: int = Field(sa_type=BigInteger)
    mtime_ns: int = Field(sa_type=BigInteger)
    ctime_ns: int = Field(sa_type=BigInteger)
    read_ns: int = Field(sa_type=BigInteger)
    state: str
    """`pending`, `ok` or `failed`; then `reason` says why."""
    reason: str | None = None
    kind: str
    sha256: str = ""
    content: str = ""


class Content(SQLModel, table=True):
    """What some files of a root hold. `text` is kept where a parser made it, as are its `pages` (JSON)."""

    __tablename__ = "fs_content"

    root: str = Field(primary_key=True)
    content: str = Field(primary_key=True)
    kind: str
    indexed: bool = False
    past: bool = False
    """No file holds it any more, only versions do."""
    text: str | None = None
    pages: str | None = None


class Chunk(SQLModel, table=True):
    """One passage of a content."""

    __tablename__ = "fs_chunk"

    root: str = Field(primary_key=True)
    content: str = Field(primary_key=True)
    ordinal: int = Field(primary_key=True)
    first_byte: int = Field(sa_type=BigInteger)
    last_byte: int = Field(sa_type=BigInteger)
    first_line: int
    last_line: int
    page: int | None = None
    sheet: str | None = None
    first_row: int | None = None
    last_row: int | None = None
    heading: str | None = None
    sha256: str
    text: str


class Piece(NamedTuple):
    """What is shown of a passage."""

    root: str
    content: str
    ordinal: int
    first_line: int
    last_line: int
    page: int | None
    sheet: str | None
    first_row: int | None
    last_row: int | None
    heading: str | None
    sha256: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How far one root is."""

    states: Mapping[str, int]
    chunks: int
    failures: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Contents that are not where they belong in the search index."""

    over: Sequence[str]
    """Among the present, although only versions hold them."""
    lost: Sequence[str]
    """Past, and not in the index."""
    unkept: Sequence[str]
    """Held by nothing."""


Holders = Mapping[str, Mapping[str, Sequence[Known]]]
"""Files by root and content."""

Fetch = Callable[[Collection[PassageKey]], tuple[Mapping[PassageKey, Piece], Holders]]
"""Passages, and the files that hold their contents, as `files_with`. Passages that are gone are left out."""


class Catalogue:
    """Queries by what they are for. Every one names the root: nothing is looked up across roots.

    What depends on what is in the search index raises `Unavailable` where that is not the one of the `lease`.
    """

    def __init__(self, database: Database, lease: Lease) -> None:
        self._database = database
        self._lease = lease

    async def files(self, root: str) -> dict[str, Known]:
        """All files of a root, by path."""

        def work(session: Session) -> dict[str, Known]:
            columns = [getattr(File, name) for name in Known._fields]
            rows = session.execute(columns_of(*columns).where(col(File.root) == root))
            return {row[1]: Known(*row) for row in rows}

        return await self._database.read(work)

    async def documents_with(self, roots: Sequence[str], text: str) -> dict[tuple[str, str], Known]:
        """Documents whose text holds this one, upper and lower case perhaps mixed up, by root and path."""

        def work(session: Session) -> dict[tuple[str, str], Known]:
            columns = [getattr(File, name) for name in Known._fields]
            both = and_(col(Content.root) == File.root, col(Content.content) == File.content)
            query = (
                columns_of(*columns)
                .join(Content, both)
                .where(col(File.state) == "ok", col(File.kind) == "document")
            )
            query = query.where(col(File.root).in_(roots), col(Content.text).contains(text, autoescape=True))
            return {(row[0], row[1]): Known(*row) for row in session.execute(query)}

        return await self._database.read(work)

    async def indexed(self, root: str) -> dict[str, bool]:
        """Contents whose passages are in the search index, and whether they are past."""

        def work(session: Session) -> dict[str, bool]:
            query = select(Content.content, Content.past).where(Content.root == root, col(Content.indexed))
            return dict(session.exec(query).all())

        return await self._database.read(work)

    async def content(self, root: str, content: str) -> Content | None:
        return await self._database.read(lambda session: session.get(Content, (root, content)))

    async def files_with(self, root: str, contents: Collection[str]) -> Mapping[str, Sequence[Known]]:
        """Files that were read and hold one of these contents, by content, in the order of their paths."""
        return await self._database.read(lambda session: _files_with(session, root, contents))

    async def found(self, look: Callable[[Fetch], ResultT]) -> ResultT:
        """What `look` makes of passages that it fetches.

        It is called in the same thread: a search waits for turns of threads more than for what is done in them.
        """

        def work(session: Session) -> ResultT:
            def fetch(keys: Collection[PassageKey]) -> tuple[Mapping[PassageKey, Piece], Holders]:
                contents: dict[str, set[str]] = {}
                for root, content, _ in keys:
                    contents.setdefault(root, set()).add(content)
                holders = {root: _files_with(session, root, of) for root, of in contents.items()}
                return _pieces(session, list(keys)), holders

            return look(fetch)

        return await anyio.to_thread.run_sync(self._database.read_now, work)

    async def chunks_with(self, root: str, sha256: str) -> Sequence[Chunk]:
        """Passages of that hash, of whichever contents."""

        def work(session: Session) -> Sequence[Chunk]:
            return list(session.exec(select(Chunk).where(Chunk.root == root, Chunk.sha256 == sha256)))

        return await self._database.read(work)

    async def begin(
        self,
        root: str,
        files: Sequence[File],
        contents: Sequence[Content],
        chunks: Sequence[Chunk],
        cuts: Sequence[Cut],
        blobs: Sequence[Blob],
    ) -> None:
        """Write down what was read, in place of what was known of the same files and contents; cut versions."""

        def work(session: Session) -> None:
            self._lease.fence(session)
            for part in in_batches(content.content for content in contents):
                session.exec(delete(Chunk).where(_of(Chunk, root, part)))
                session.exec(delete(Content).where(_of(Content, root, part)))
            for part in in_batches(file.path for file in files):
                session.exec(delete(File).where(col(File.root) == root, col(File.path).in_(part)))
            for table, rows in ((Content, contents), (Chunk, chunks), (File, files)):
                if rows:
                    session.execute(insert(table), [row.model_dump() for row in rows])
            keep(session, root, blobs)
            cut(session, root, cuts)

        await self._database.write(work)

    async def finish(self, root: str, contents: Collection[str], paths: Collection[str]) -> None:
        """The passages of these contents are in the index now, and these files with them."""

        def work(session: Session) -> None:
            self._lease.fence(session)
            for part in in_batches(contents):
                session.exec(update(Content).where(_of(Content, root, part)).values(indexed=True))
            for part in in_batches(paths):
                here = and_(col(File.root) == root, col(File.path).in_(part), col(File.state) == "pending")
                session.exec(update(File).where(here).values(state="ok"))

        await self._database.write(work)

    async def forget_files(self, root: str, gone: Sequence[Cut]) -> None:
        def work(session: Session) -> None:
            self._lease.fence(session)
            for part in in_batches(each.path for each in gone):
                session.exec(delete(File).where(col(File.root) == root, col(File.path).in_(part)))
            cut(session, root, gone)

        await self._database.write(work)

    async def drift(self, root: str) -> Drift:
        """What a scan has to put right, once it knows all files."""

        def work(session: Session) -> Drift:
            held = exists().where(col(File.root) == Content.root, col(File.content) == Content.content)
            kept = exists().where(col(Version.root) == Content.root, col(Version.content) == Content.content)
            past: ColumnElement[bool] = col(Content.past)  # type: ignore[assignment]  # it is one

            def those(*conditions: ColumnElement[bool]) -> list[str]:
                return list(session.exec(select(Content.content).where(col(Content.root) == root, *conditions)))

            return Drift(
                over=those(~past, ~held, kept),
                lost=those(past, ~held, kept, ~col(Content.indexed)),
                unkept=those(~held, ~kept),
            )

        return await self._database.read(work)

    async def mark_past(self, root: str, contents: Collection[str], *, past: bool) -> None:
        def work(session: Session) -> None:
            self._lease.fence(session)
            for part in in_batches(contents):
                session.exec(update(Content).where(_of(Content, root, part)).values(past=past))

        await self._database.write(work)

    async def chunks_of(self, root: str, content: str) -> Sequence[Chunk]:
        """All passages of a content, in its order."""

        def work(session: Session) -> Sequence[Chunk]:
            query = select(Chunk).where(Chunk.root == root, Chunk.content == content)
            return list(session.exec(query.order_by(col(Chunk.ordinal))))

        return await self._database.read(work)

    async def forget_contents(self, root: str, contents: Collection[str]) -> None:
        def work(session: Session) -> None:
            self._lease.fence(session)
            for part in in_batches(contents):
                session.exec(delete(Chunk).where(_of(Chunk, root, part)))
                session.exec(delete(Content).where(_of(Content, root, part)))

        await self._database.write(work)

    async def roots(self) -> set[str]:
        """Every root that anything is stored about."""

        def work(session: Session) -> set[str]:
            return {*session.exec(select(File.root).distinct()), *session.exec(select(Content.root).distinct())}

        return await self._database.read(work)

    async def passages(self) -> int:
        """How many passages should be in the index."""

        def work(session: Session) -> int:
            both = and_(col(Content.root) == Chunk.root, col(Content.content) == Chunk.content)
            query = select(func.count()).select_from(Chunk).join(Content, both).where(col(Content.indexed))
            return int(session.exec(query).one())

        return await self._database.read(work)

    async def distrust_index(self) -> None:
        """Have everything put into the index again; vectors that are still there are not made again."""
        await self._database.write(distrust)

    async def summary(self, roots: Sequence[str], failures: int) -> Summary:
        def work(session: Session) -> Summary:
            here = col(File.root).in_(roots)
            states = select(File.state, func.count()).where(here).group_by(File.state)
            failed = select(File).where(here, File.state == "failed").order_by(col(File.path))
            both = and_(col(Content.root) == Chunk.root, col(Content.content) == Chunk.content)
            chunks = select(func.count()).select_from(Chunk).join(Content, both)
            chunks = chunks.where(col(Chunk.root).in_(roots), ~col(Content.past))
            return Summary(
                states=dict(session.exec(states).all()),
                chunks=int(session.exec(chunks).one()),
                failures=[(file.path, file.reason or "") for file in session.exec(failed.limit(failures))],
            )

        return await self._database.read(work)


def distrust(session: Session) -> None:
    """`Catalogue.distrust_index`, in a transaction of the caller."""
    session.exec(update(Content).values(indexed=False))
    session.exec(update(File).where(col(File.state) == "ok").values(state="pending"))


def _files_with(session: Session, root: str, contents: Collection[str]) -> Mapping[str, Sequence[Known]]:
    found: dict[str, list[Known]] = {}
    for part in in_batches(contents):
        for row in session.execute(_holding(), {"root": root, "contents": part}):
            file = Known(*row)
            found.setdefault(file.content, []).append(file)
    for files in found.values():  # asked for in an order, SQLite would look through all files of the root for it
        files.sort(key=lambda file: file.path)
    return found


@cache
def _holding() -> Select[Any]:
    columns = [getattr(File, name) for name in Known._fields]
    held = col(File.content).in_(bindparam("contents", expanding=True))
    return columns_of(*columns).where(col(File.root) == bindparam("root"), col(File.state) != "failed", held)


def _pieces(session: Session, keys: Sequence[PassageKey]) -> Mapping[PassageKey, Piece]:
    found = {}
    for part in in_batches(keys, _PIECES_AT_ONCE):
        values = {
            f"{name}{at}": value for at, key in enumerate(part) for name, value in zip("rco", key, strict=True)
        }
        for row in session.execute(_pieces_at(len(part)), values):
            piece = Piece(*row)
            found[piece.root, piece.content, piece.ordinal] = piece
    return found


@cache
def _pieces_at(count: int) -> Select[Any]:
    """For so many keys, composed once: that takes longer than to run it.

    Not a list of tuples, for which SQLite looks through the whole table.
    """
    columns = [getattr(Chunk, name) for name in Piece._fields]
    key = (col(Chunk.root), col(Chunk.content), col(Chunk.ordinal))
    wanted = (
        and_(*(column == bindparam(f"{name}{at}") for name, column in zip("rco", key, strict=True)))
        for at in range(count)
    )
    return columns_of(*columns).where(or_(*wanted))


def _of(table: type[Content] | type[Chunk], root: str, contents: Sequence[str]) -> ColumnElement[bool]:
    return and_(col(table.root) == root, col(table.content).in_(contents))
