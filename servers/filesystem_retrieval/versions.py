"""Versions: what stood at each path, from when on, and the bytes of it.

A version is cut when a scan reads a content that was not there before, and by every write through this server.
It belongs to a path; a file that is gone has a last version without content, so that history says when. Bytes
are kept once per root, however many versions share them, in the same database as everything else: one
transaction says "this is a version" and holds what it said, and a copy of the database is a whole copy.

A version is kept for as long as it is in force, and from then on for as many days as the operator says.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, and_, delete, exists, func, insert, or_, update
from sqlmodel import Field, SQLModel, col, select

from filesystem_retrieval.answers import How
from filesystem_retrieval.reading import sha256_of
from usrland.database import Database, in_batches
from usrland.errors import Unavailable

if TYPE_CHECKING:
    from sqlmodel import Session

__all__ = ["Blob", "Change", "Cut", "Version", "Versions", "bytes_of", "cut", "keep", "latest", "packed"]

_FAST = 1
_CHAIN = 20
"""Paths a file may have had; history looks no further back."""
_NEWEST = 2**62


class Version(SQLModel, table=True):
    """What stands at a path from `at_ns` on. `sha256` is empty where nothing does."""

    __tablename__ = "fs_version"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    root: str
    path: str
    sha256: str
    content: str = ""
    """As the catalogue names it; empty where the content cannot be searched."""
    kind: str
    size: int = Field(sa_type=BigInteger)
    at_ns: int = Field(sa_type=BigInteger)
    how: str
    other_path: str | None = None
    """Where it came from or went to."""
    subject: str | None = None
    call: str | None = None
    """Who changed it and in which call of the audit log, where it was changed through this server."""


class Blob(SQLModel, table=True):
    """The bytes of a version, packed where that makes them smaller."""

    __tablename__ = "fs_blob"

    root: str = Field(primary_key=True)
    sha256: str = Field(primary_key=True)
    packed: bool
    data: bytes


class Change(SQLModel, table=True):
    """A change that has begun; removed when its versions are cut. Whoever finds one finishes or drops it."""

    __tablename__ = "fs_change"

    id: str = Field(primary_key=True)
    root: str
    path: str
    sha256: str
    """Of what will stand at `path`; empty where nothing will."""
    kind: str
    size: int = Field(sa_type=BigInteger)
    at_ns: int = Field(sa_type=BigInteger)
    how: str
    other_path: str | None = None
    """Where it comes from."""
    subject: str
    call: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A version to be cut."""

    path: str
    sha256: str
    content: str = ""
    kind: str
    size: int
    at_ns: int
    how: How = "found"
    other_path: str | None = None
    subject: str | None = None
    call: str | None = None


def packed(root: str, sha256: str, data: bytes) -> Blob:
    """The bytes as they are kept."""
    smaller = zlib.compress(data, _FAST)
    if len(smaller) < len(data):
        return Blob(root=root, sha256=sha256, packed=True, data=smaller)
    return Blob(root=root, sha256=sha256, packed=False, data=data)


def keep(session: Session, root: str, blobs: Sequence[Blob]) -> None:
    """Store these bytes, once."""
    new = {blob.sha256: blob for blob in blobs}
    for part in in_batches(new):
        known = select(Blob.sha256).where(Blob.root == root, col(Blob.sha256).in_(part))
        for sha256 in session.exec(known).all():
            del new[sha256]
    if new:
        session.execute(insert(Blob), [blob.model_dump() for blob in new.values()])


def latest(session: Session, root: str, paths: Collection[str]) -> Mapping[str, Version]:
    """The last version of each path that has one."""
    found = {}
    for part in in_batches(paths):
        last = select(func.max(Version.id)).where(Version.root == root, col(Version.path).in_(part))
        query = select(Version).where(col(Version.id).in_(last.group_by(col(Version.path))))
        found.update({version.path: version for version in session.exec(query)})
    return found


def cut(session: Session, root: str, cuts: Sequence[Cut]) -> None:
    """Cut versions where they say something new: not for what is the last version already, and not for what
    was read before that was cut."""
    last = latest(session, root, [each.path for each in cuts])
    new = []
    for each in cuts:
        before = last.get(each.path)
        if before is None and not each.sha256:
            continue
        if before is not None and (before.sha256 == each.sha256 or before.at_ns > each.at_ns):
            continue
        new.append(_row(root, each))
    if new:
        session.execute(insert(Version), new)


def bytes_of(session: Session, root: str, sha256: str) -> bytes | None:
    """The bytes of a version; `None` where they are not kept any more.

    Raises `Unavailable` where they are not what was stored: nothing damaged is given out as what once stood.
    """
    blob = session.get(Blob, (root, sha256))
    if blob is None:
        return None
    try:
        data = zlib.decompress(blob.data) if blob.packed else blob.data
    except zlib.error:
        data = b""
    if sha256_of(data) != sha256:
        raise Unavailable(f"the kept bytes {sha256[:12]} are damaged.", fix="Ask the operator for a backup.")
    return data


class Versions:
    """Queries by what they are for."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def get(self, roots: Collection[str], version: int) -> Version | None:
        def work(session: Session) -> Version | None:
            found = session.get(Version, version)
            return found if found is not None and found.root in roots else None

        return await self.database.read(work)

    async def last(self, root: str, path: str) -> Version | None:
        """What stands at the path now, as far as it is known."""
        return await self.database.read(lambda session: latest(session, root, [path]).get(path))

    async def content(self, root: str, sha256: str) -> bytes | None:
        return await self.database.read(lambda session: bytes_of(session, root, sha256))

    async def history(self, root: str, path: str) -> Sequence[Version]:
        """Versions of this path and of those the file had before, newest first."""
        return await self.database.read(lambda session: _history(session, root, path))

    async def moved_to(self, root: str, path: str) -> str | None:
        """Where the file that stood at this path went, as far as it is known."""

        def work(session: Session) -> str | None:
            here = path
            for _ in range(_CHAIN):
                last = latest(session, root, [here]).get(here)
                if last is None or last.how != "left" or last.other_path is None:
                    break
                here = last.other_path
            return here if here != path else None

        return await self.database.read(work)

    async def as_of(self, root: str, at_ns: int) -> Mapping[str, Version]:
        """What stood in the root at that time, by path."""

        def work(session: Session) -> Mapping[str, Version]:
            last = select(func.max(Version.id)).where(Version.root == root, Version.at_ns <= at_ns)
            query = select(Version).where(col(Version.id).in_(last.group_by(col(Version.path))))
            return {version.path: version for version in session.exec(query) if version.sha256}

        return await self.database.read(work)

    async def prune(self, before_ns: int) -> int:
        """Let go of what was not in force any more at that time; how many versions went."""

        def work(session: Session) -> int:
            newer = Version.__table__.alias()  # type: ignore[attr-defined]  # SQLModel does not declare it
            same_path = and_(newer.c.root == col(Version.root), newer.c.path == col(Version.path))
            replaced = exists().where(same_path, newer.c.id > col(Version.id), newer.c.at_ns < before_ns)
            over = and_(col(Version.sha256) == "", col(Version.at_ns) < before_ns)
            count = session.exec(select(func.count()).select_from(Version).where(or_(replaced, over))).one()
            if count:
                session.exec(delete(Version).where(or_(replaced, over)))
                _forget_blobs(session)
            return int(count)

        return await self.database.write(work)

    async def sizes(self, root: str) -> tuple[int, int]:
        """How many versions are kept of a root, and in how many bytes."""

        def work(session: Session) -> tuple[int, int]:
            count = select(func.count()).select_from(Version).where(Version.root == root)
            size = select(func.coalesce(func.sum(func.length(Blob.data)), 0)).where(Blob.root == root)
            return int(session.exec(count).one()), int(session.exec(size).one())

        return await self.database.read(work)

    # -- changes through this server; their callers are in a thread already

    def begin(self, change: Change, before: Cut | None, blobs: Sequence[Blob]) -> None:
        """Write down what is about to happen, and what stood there before."""

        def work(session: Session) -> None:
            keep(session, change.root, blobs)
            if before is not None:
                cut(session, change.root, [before])
            session.add(Change(**change.model_dump()))

        self.database.write_now(work)

    def finish(self, change: Change, content: str) -> tuple[int, int | None]:
        """It has happened: cut its versions. Returns the new one, and the one before it at the same path.

        They are of now and not of when the change began: what a scan read in between is older than they are.
        """
        now_ns = time.time_ns()

        def work(session: Session) -> tuple[int, int | None]:
            paths = [change.path] if change.other_path is None else [change.path, change.other_path]
            last = latest(session, change.root, paths)
            before = last.get(change.path)
            made = {**change.model_dump(exclude={"id"}), "content": content, "at_ns": now_ns}
            if before is not None and before.sha256 == change.sha256 and before.at_ns > change.at_ns:
                # a scan was faster and took it for somebody else's
                session.exec(update(Version).where(col(Version.id) == before.id).values(**made))
                earlier = select(func.max(Version.id)).where(
                    Version.root == change.root, Version.path == change.path, col(Version.id) < before.id
                )
                result = before.id, session.exec(earlier).one()
            else:
                row = Version(**made)
                session.add(row)
                session.flush()
                result = row.id, before.id if before is not None else None
            if change.other_path is not None:
                _leave(session, change, last.get(change.other_path), now_ns)
            session.exec(delete(Change).where(col(Change.id) == change.id))
            assert result[0] is not None
            return result[0], result[1]

        return self.database.write_now(work)

    def drop(self, change: Change) -> None:
        """It has not happened, and will not."""
        self.database.write_now(lambda session: session.exec(delete(Change).where(col(Change.id) == change.id)))

    def unfinished(self) -> Sequence[Change]:
        return self.database.read_now(lambda session: list(session.exec(select(Change))))


def _leave(session: Session, change: Change, last: Version | None, now_ns: int) -> None:
    """Say that the file went from its old path to its new one."""
    gone = {"sha256": "", "size": 0, "at_ns": now_ns, "how": "left"}
    paths = {"path": change.other_path, "other_path": change.path}
    row = {**change.model_dump(exclude={"id"}), **gone, **paths}
    if last is not None and not last.sha256 and last.at_ns > change.at_ns:  # a scan has seen it go
        session.exec(update(Version).where(col(Version.id) == last.id).values(**row))
    else:
        session.add(Version(**row))


def _row(root: str, cut: Cut) -> dict[str, object]:
    return {"root": root, **{name: getattr(cut, name) for name in Cut.__slots__}}


def _history(session: Session, root: str, path: str) -> Sequence[Version]:
    found: dict[int, Version] = {}
    below = _NEWEST
    for _ in range(_CHAIN):
        earlier = and_(col(Version.root) == root, col(Version.id) < below)
        for version in session.exec(select(Version).where(earlier, Version.path == path)):
            found[version.id or 0] = version
        arrivals = select(Version).where(earlier, Version.other_path == path, Version.how == "left")
        source = session.exec(arrivals.order_by(col(Version.id).desc()).limit(1)).first()
        if source is None:
            break
        path, below = source.path, source.id or 0
    return [found[number] for number in sorted(found, reverse=True)]


def _forget_blobs(session: Session) -> None:
    """Let go of bytes that no version has, and none that is about to be."""
    root, sha256 = col(Blob.root), col(Blob.sha256)
    used = exists().where(col(Version.root) == root, col(Version.sha256) == sha256)
    coming = exists().where(col(Change.root) == root, col(Change.sha256) == sha256)
    session.exec(delete(Blob).where(~used, ~coming))
