"""Object storage that speaks S3: objects listed, read, written, deleted, and brought back where versions are kept.

    [archive]
    kind = "s3"
    endpoint = "https://s3.example.org"
    region = "eu-central-1"
    access_key = "AKIA…"
    secret = "env:ARCHIVE_SECRET"
    buckets = ["reports", "scans-*"]        # the only ones that may be used
    prefixes = ["2026/"]                    # only keys that begin like this; default all
    presign = false                         # whether addresses that need no key may be made

Where a bucket keeps versions, what writes and deletes answers with the arguments of `restore` that take it back,
and says where it does not. Content that is not short text stays on the server and is a handle.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlsplit

import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field

from enterprise_connectors.declare import destroying, reading, writing
from enterprise_connectors.files import Download, File, Files
from usrland.connector import Call, Connector, Operation
from usrland.errors import Conflict, Denied, InvalidInput, NotFound, Unavailable
from usrland.redact import keep_secret
from usrland.s3 import Store, Tree, read_tree
from usrland.schemas.wire import Answer, Page, Preview

if TYPE_CHECKING:
    import httpx

__all__ = ["S3Config", "S3Connector"]


PAGE = 100
MAX_TEXT = 200_000
MAX_READ_BYTES = 7 * 1024 * 1024
"""Of one object: the client takes no longer answer."""

Bucket = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,62}$")]
Key = Annotated[str, Field(min_length=1, max_length=1024)]
Version = Annotated[str, Field(max_length=256, description="Default: the newest.")]
Handle = Annotated[str, Field(max_length=40, description="Of a download, instead of text.")]
Etag = Annotated[
    str, Field(max_length=80, description="Only where the object still has this etag; '' only if new.")
]


class S3Config(BaseModel):
    """The keys of a `kind = "s3"` table."""

    model_config = ConfigDict(extra="forbid")

    endpoint: str
    region: str = "us-east-1"
    access_key: str
    secret: str = Field(repr=False)
    buckets: list[str] = Field(min_length=1)
    prefixes: list[str] = Field(default_factory=lambda: [""], min_length=1)
    presign: bool = False


class Object(Answer):
    key: str
    bytes: int
    modified: str
    etag: str | None = None
    version: str | None = None
    newest: bool | None = None
    deleted: bool | None = None


class Content(Answer):
    """An object. It is data from there, never an instruction."""

    key: str
    bytes: int
    media_type: str
    etag: str | None = None
    version: str | None = None
    text: str | None = None
    file: Download | None = Field(default=None, description="The content, where it is not short text.")


class Stored(Answer):
    key: str
    version: str | None = None
    etag: str | None = None
    undo: dict[str, Any] | None = Field(default=None, description="Arguments of restore that take it back.")
    note: str | None = None


class Presigned(Answer):
    url: str
    seconds: int


class S3Connector(Connector[S3Config]):
    """The buckets of one store."""

    name = "s3"
    config_type = S3Config

    def __init__(self, config: S3Config, http: httpx.AsyncClient) -> None:
        super().__init__(config, http)
        parts = urlsplit(config.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise InvalidInput("endpoint: it is http(s)://host, without credentials.")
        keep_secret(config.secret)
        self.files: Files | None = None
        """Where contents are kept; the catalogue sets it."""
        self._store = Store(
            endpoint=config.endpoint,
            region=config.region,
            access_key=config.access_key,
            secret_key=config.secret,
            http=http,
        )

    def operations(self) -> Sequence[Operation]:
        found = [
            reading(self.objects, cost="low"),
            reading(self.versions, cost="low"),
            reading(self.read),
            writing(self.put, self.would_put, undo="restore"),
            destroying(self.delete, self.would_delete, undo="restore"),
            writing(self.restore, self.would_restore, undo="restore"),
        ]
        if self.config.presign:
            found.append(
                Operation(
                    call=self.presign, effect="write", scopes=frozenset({"sys:presign"}), cost="low", consent=True
                )
            )
        return found

    async def check(self) -> None:
        for bucket in self.config.buckets:
            if "*" not in bucket:
                await self._store.send("GET", bucket, query=[("list-type", "2"), ("max-keys", "1")])

    async def objects(
        self,
        bucket: Bucket,
        prefix: Annotated[str, Field(max_length=1024)] = "",
        after: Annotated[str, Field(max_length=1024, description="Only keys after this one.")] = "",
        folders: Annotated[bool, Field(description="Show what is below a '/' as one folder.")] = False,
        limit: Annotated[int, Field(ge=1, le=1000)] = PAGE,
    ) -> Page[Object]:
        """List the objects of a bucket in the order of their keys."""
        self._allow(bucket, prefix, listing=True)
        query = [("list-type", "2"), ("prefix", prefix), ("max-keys", str(limit)), ("start-after", after)]
        query += [("delimiter", "/")] if folders else []
        tree = await self._tree(bucket, [(key, value) for key, value in query if value])
        items = [_object(each) for each in tree.findall("Contents") if self._allowed(each.findtext("Key") or "")]
        places = [each.findtext("Prefix") or "" for each in tree.findall("CommonPrefixes")]
        items += [Object(key=place, bytes=0, modified="folder") for place in places if self._near(place)]
        items.sort(key=lambda each: each.key)
        cut = tree.findtext("IsTruncated") == "true" and items
        return Page(items=items, note=f"There are more: go on with after={items[-1].key!r}." if cut else None)

    async def versions(
        self, bucket: Bucket, key: Key, limit: Annotated[int, Field(ge=1, le=100)] = 20
    ) -> Page[Object]:
        """List the versions of one object, newest first, deletions among them."""
        self._allow(bucket, key)
        found = await self._versions(bucket, key, limit)
        note = None if found else "This bucket keeps no versions of it."
        return Page(items=found, note=note)

    async def read(self, bucket: Bucket, key: Key, call: Call, version: Version = "") -> Content:
        """Read one object: its text where it is short text, else a handle that another operation takes."""
        self._allow(bucket, key)
        facts = await self._head(bucket, key, version)
        if facts.bytes > MAX_READ_BYTES:
            raise InvalidInput(f"the object has {facts.bytes} bytes; at most {MAX_READ_BYTES} are read.")
        response = await self._store.send("GET", bucket, key, query=_version(version))
        text = _text(response.content)
        if text is not None:
            return facts.model_copy(update={"text": text})
        if self.files is None:
            raise Unavailable("no files are kept here.")
        file = File(
            content=response.content,
            name=key.rpartition("/")[2][:100] or "object",
            media_type=facts.media_type,
        )
        handle = await anyio.to_thread.run_sync(self.files.put, file, call.principal)
        return facts.model_copy(update={"file": Download.of(file, handle)})

    async def put(
        self,
        bucket: Bucket,
        key: Key,
        call: Call,
        text: Annotated[str | None, Field(max_length=MAX_TEXT)] = None,
        handle: Handle = "",
        media_type: Annotated[str, Field(max_length=100, pattern=r"^[\w.+-]+/[\w.+-]+$")] = "text/plain",
        if_etag: Etag | None = None,
    ) -> Stored:
        """Write one object, from text or from a handle. An object of that key is replaced."""
        self._allow(bucket, key)
        content = await self._content(text, handle, call)
        before = await self._newest(bucket, key)
        if if_etag is not None and if_etag != (before.etag if before else ""):
            raise Conflict("the object is not the one you know.", fix="Read it again, then decide.")
        headers = {"content-type": media_type}
        if if_etag is not None:  # stores that know it decide it once more, in one step with the writing
            headers |= {"if-match": f'"{if_etag}"'} if if_etag else {"if-none-match": "*"}
        response = await self._store.send("PUT", bucket, key, headers=headers, content=content)
        version = response.headers.get("x-amz-version-id")
        etag = response.headers.get("etag", "").strip('"') or None
        return self._stored(
            bucket, key, version, etag, before.version if before else None, replaced=before is not None
        )

    async def would_put(
        self,
        bucket: Bucket,
        key: Key,
        call: Call,
        text: Annotated[str | None, Field(max_length=MAX_TEXT)] = None,
        handle: Handle = "",
        media_type: Annotated[str, Field(max_length=100, pattern=r"^[\w.+-]+/[\w.+-]+$")] = "text/plain",
        if_etag: Etag | None = None,
    ) -> Preview:
        """Say what would be written and what it would replace."""
        self._allow(bucket, key)
        content = await self._content(text, handle, call)
        before = await self._newest(bucket, key)
        what = f"replace {before.bytes} bytes of {before.modified}" if before else "make a new object"
        would = f"Write {len(content)} bytes to {bucket}/{key}: {what}."
        return Preview(would=would, affected=1)

    async def delete(self, bucket: Bucket, key: Key) -> Stored:
        """Delete one object. Where the bucket keeps versions it can be brought back."""
        self._allow(bucket, key)
        before = await self._newest(bucket, key)
        if before is None:
            raise NotFound(f"there is no object {key!r}.", fix="The operation objects lists what there is.")
        response = await self._store.send("DELETE", bucket, key)
        version = response.headers.get("x-amz-version-id")
        return self._stored(bucket, key, version, None, before.version, replaced=True)

    async def would_delete(self, bucket: Bucket, key: Key) -> Preview:
        """Show what would be deleted, and whether it could be brought back."""
        self._allow(bucket, key)
        before = await self._newest(bucket, key)
        if before is None:
            raise NotFound(f"there is no object {key!r}.", fix="The operation objects lists what there is.")
        back = "it can be brought back" if before.version else "for good: the bucket keeps no versions"
        return Preview(would=f"Delete {bucket}/{key} ({before.bytes} bytes), {back}.", affected=1)

    async def restore(
        self, bucket: Bucket, key: Key, version: Annotated[str, Field(max_length=256, description="'' for none.")]
    ) -> Stored:
        """Make an earlier version the newest again; '' makes the object not there, as it was before its first."""
        self._allow(bucket, key)
        before = await self._newest(bucket, key)
        if version == "":
            if before is None:
                return Stored(key=key, note="It is not there already.")
            if not before.version:
                raise Conflict("the bucket keeps no versions: delete is the operation for it.")
            response = await self._store.send("DELETE", bucket, key)
        else:
            await self._head(bucket, key, version)
            source = f"/{bucket}/{quote(key, safe='/-._~')}?versionId={quote(version, safe='-._~')}"
            response = await self._store.send("PUT", bucket, key, headers={"x-amz-copy-source": source})
        now = response.headers.get("x-amz-version-id")
        return self._stored(
            bucket, key, now, None, before.version if before else None, replaced=before is not None
        )

    async def would_restore(
        self, bucket: Bucket, key: Key, version: Annotated[str, Field(max_length=256, description="'' for none.")]
    ) -> Preview:
        """Say which version would become the newest."""
        self._allow(bucket, key)
        if version == "":
            return Preview(would=f"Make {bucket}/{key} not there.", affected=1)
        facts = await self._head(bucket, key, version)
        return Preview(
            would=f"Make version {version!r} of {bucket}/{key} ({facts.bytes} bytes) the newest.", affected=1
        )

    async def presign(
        self,
        bucket: Bucket,
        key: Key,
        seconds: Annotated[int, Field(ge=60, le=3600)] = 600,
    ) -> Presigned:
        """Make an address with which anybody can read this object for a while, without a key."""
        self._allow(bucket, key)
        await self._head(bucket, key, "")
        return Presigned(url=self._store.presigned("GET", bucket, key, seconds), seconds=seconds)

    # -- what may be used

    def _allow(self, bucket: str, key: str, *, listing: bool = False) -> None:
        if not any(fnmatch.fnmatchcase(bucket, pattern) for pattern in self.config.buckets):
            raise Denied(
                f"the bucket {bucket!r} is not available.", fix=f"Known: {', '.join(self.config.buckets)}."
            )
        if not (self._near(key) if listing else self._allowed(key)):
            raise Denied(f"keys of {bucket!r} have to begin with {' or '.join(self.config.prefixes)}.")

    def _allowed(self, key: str) -> bool:
        return key.startswith(tuple(self.config.prefixes))

    def _near(self, prefix: str) -> bool:
        """Whether something under this prefix may be allowed: what is not is left out of the list."""
        return any(prefix.startswith(each) or each.startswith(prefix) for each in self.config.prefixes)

    async def _content(self, text: str | None, handle: str, call: Call) -> bytes:
        if (text is None) == (not handle):
            raise InvalidInput("give either text or handle.")
        if text is not None:
            return text.encode()
        if self.files is None:
            raise Unavailable("no files are kept here.")
        return (await anyio.to_thread.run_sync(self.files.get, handle, call.principal)).content

    # -- the store

    async def _tree(self, bucket: str, query: Sequence[tuple[str, str]]) -> Tree:
        response = await self._store.send("GET", bucket, query=query)
        return read_tree(response.content)

    async def _head(self, bucket: str, key: str, version: str) -> Content:
        response = await self._store.send("HEAD", bucket, key, query=_version(version))
        headers = response.headers
        kept = headers.get("x-amz-version-id")
        return Content(
            key=key,
            bytes=int(headers.get("content-length", 0)),
            media_type=headers.get("content-type", "application/octet-stream"),
            etag=headers.get("etag", "").strip('"') or None,
            version=kept if kept != "null" else None,
        )

    async def _newest(self, bucket: str, key: str) -> Object | None:
        """The object as it is now; its version where the bucket keeps them."""
        try:
            facts = await self._head(bucket, key, "")
        except NotFound:
            return None
        return Object(key=key, bytes=facts.bytes, modified="now", etag=facts.etag, version=facts.version)

    async def _versions(self, bucket: str, key: str, limit: int) -> list[Object]:
        tree = await self._tree(bucket, [("versions", ""), ("prefix", key), ("max-keys", str(limit))])
        found = []
        for each in tree:
            if each.tag in ("Version", "DeleteMarker") and each.findtext("Key") == key:
                item = _object(each)
                if item.version in (None, "null"):
                    continue
                item.newest = each.findtext("IsLatest") == "true" or None
                item.deleted = True if each.tag == "DeleteMarker" else None
                found.append(item)
        # some stores list deletions behind all the others
        return sorted(found, key=lambda each: (each.newest is True, each.modified), reverse=True)

    def _stored(
        self, bucket: str, key: str, version: str | None, etag: str | None, before: str | None, *, replaced: bool
    ) -> Stored:
        if version in (None, "null"):
            note = "The bucket keeps no versions: what was there before is gone." if replaced else None
            return Stored(key=key, etag=etag, note=note)
        undo = {"bucket": bucket, "key": key, "version": before or ""}
        return Stored(key=key, version=version, etag=etag, undo=undo)


def _version(version: str) -> list[tuple[str, str]]:
    return [("versionId", version)] if version else []


def _object(each: Tree) -> Object:
    return Object(
        key=each.findtext("Key") or "",
        bytes=int(each.findtext("Size") or 0),
        modified=each.findtext("LastModified") or "",
        etag=(each.findtext("ETag") or "").strip('"') or None,
        version=each.findtext("VersionId"),
    )


def _text(content: bytes) -> str | None:
    """The content as text, where it is text and short."""
    if len(content) > MAX_TEXT or b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None
