"""S3-compatible object storage, against a moto server that checks every signature."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from moto_store import moto_store

from usrland.errors import Conflict, ConsentNeeded, Denied, InvalidInput, NotFound

Serve = Callable[..., AbstractAsyncContextManager[Any]]


@dataclass(frozen=True)
class Storage:
    url: str
    access_key: str
    secret: str
    client: Any


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    """A store of our own, a role that may use it, and another client of it."""
    pytest.importorskip("moto.server")
    with moto_store() as store:
        access_key, secret = store.role()
        yield Storage(store.url, access_key, secret, store.client("s3", access_key, secret))


@pytest.fixture(params=["versioned", "plain"])
def bucket(storage: Storage, request: pytest.FixtureRequest) -> str:
    name = f"usrland-{secrets.token_hex(4)}"
    storage.client.create_bucket(Bucket=name)
    if request.param == "versioned":
        storage.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def table(storage: Storage, bucket: str, more: str = "") -> str:
    return (
        f'[arc]\nkind = "s3"\nendpoint = "{storage.url}"\naccess_key = "{storage.access_key}"\n'
        f'secret = "env:S"\nbuckets = ["{bucket}"]\nwrite = true\nallow_private = true\n{more}'
    )


KEY = "2026/Ü b+c&d=(1)~'.txt"


async def asked(run: Any, operation: str, **arguments: Any) -> dict[str, Any]:
    with pytest.raises(ConsentNeeded) as needed:
        await run(operation, **arguments)
    return dict(await run(operation, **arguments, confirm_token=needed.value.token))


async def test_objects_are_written_listed_read_deleted_and_brought_back(
    serve: Serve, storage: Storage, bucket: str, request: pytest.FixtureRequest
) -> None:
    versioned = "plain" not in request.node.callspec.id
    at: dict[str, Any] = {"bucket": bucket, "key": KEY}
    async with serve(table(storage, bucket), S=storage.secret) as run:
        first = await run("arc_put", **at, text="one", if_etag="")
        with pytest.raises(Conflict):
            await run("arc_put", **at, text="again", if_etag="")
        preview = await run("arc_put", **at, text="two", dry_run=True)
        second = await run("arc_put", **at, text="two", if_etag=first["etag"])
        listed = await run("arc_objects", bucket=bucket, prefix="2026/Ü")
        folders = await run("arc_objects", bucket=bucket, folders=True)
        read = await run("arc_read", **at)
        would = await run("arc_delete", **at, dry_run=True)
        deleted = await asked(run, "arc_delete", **at)
        with pytest.raises(NotFound):
            await run("arc_read", **at)
        if versioned:
            await run("arc_restore", **deleted["undo"])
            back = await run("arc_read", **at)
            await run("arc_restore", **second["undo"])
            earlier = await run("arc_read", **at)
            await run("arc_restore", **first["undo"])
            history = (await run("arc_versions", **at))["items"]

    seen = [each["Key"] for each in storage.client.list_objects_v2(Bucket=bucket).get("Contents", [])]
    assert [each["key"] for each in listed["items"]] == [KEY]
    assert [each["key"] for each in folders["items"]] == ["2026/"]
    assert "replace 3 bytes" in preview["would"] and read["text"] == "two" and seen == []
    if versioned:
        assert "brought back" in would["would"]
        assert (back["text"], earlier["text"]) == ("two", "one")
        assert history[0]["deleted"] and history[0]["newest"] and len(history) == 6
    else:
        assert "for good" in would["would"] and "is gone" in deleted["note"] and "undo" not in second


async def test_content_that_is_no_text_is_a_handle_and_a_handle_is_content(
    serve: Serve, storage: Storage, bucket: str
) -> None:
    storage.client.put_object(Bucket=bucket, Key="scan.png", Body=b"\x89PNG\0", ContentType="image/png")
    async with serve(table(storage, bucket), S=storage.secret) as run:
        got = await run("arc_read", bucket=bucket, key="scan.png")
        await run("arc_put", bucket=bucket, key="copy.png", handle=got["file"]["handle"], media_type="image/png")

    copied = storage.client.get_object(Bucket=bucket, Key="copy.png")
    assert "text" not in got and got["file"]["bytes"] == 5
    assert copied["Body"].read() == b"\x89PNG\0" and copied["ContentType"] == "image/png"


@pytest.mark.parametrize("bucket", ["plain"], indirect=True)
async def test_only_what_the_configuration_names_is_there(serve: Serve, storage: Storage, bucket: str) -> None:
    storage.client.put_object(Bucket=bucket, Key="secret/x", Body=b"x")
    storage.client.put_object(Bucket=bucket, Key="open/x", Body=b"x")
    async with serve(table(storage, bucket, 'prefixes = ["open/"]\n'), S=storage.secret) as run:
        everything = await run("arc_objects", bucket=bucket)
        for key in ("secret/x", "open", "open/../secret/x", "open/./x", "open/%2e%2e/../x"):
            with pytest.raises((Denied, InvalidInput)):
                await run("arc_read", bucket=bucket, key=key)
        with pytest.raises(Denied):
            await run("arc_objects", bucket=f"{bucket}-other")
        with pytest.raises(NotFound):
            await run("sys_call", name="arc_presign", arguments={"bucket": bucket, "key": "open/x"})

    assert [each["key"] for each in everything["items"]] == ["open/x"]


@pytest.mark.parametrize("bucket", ["plain"], indirect=True)
async def test_an_address_without_a_key_is_made_only_where_it_is_granted_and_as_others_make_it(
    serve: Serve, storage: Storage, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.client.put_object(Bucket=bucket, Key=KEY, Body=b"x")
    async with serve(table(storage, bucket, "presign = true\n"), S=storage.secret) as run:
        made = await asked(run, "sys_call", name="arc_presign", arguments={"bucket": bucket, "key": KEY})

    stamp = dict(parse_qsl(urlsplit(made["url"]).query))["X-Amz-Date"]
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: datetime.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    signer = import_module("botocore.auth").S3SigV4QueryAuth(
        import_module("botocore.credentials").Credentials(storage.access_key, storage.secret),
        "s3",
        "us-east-1",
        600,
    )
    theirs = import_module("botocore.awsrequest").AWSRequest("GET", made["url"].partition("?")[0])
    signer.add_auth(theirs)
    assert dict(parse_qsl(urlsplit(theirs.url).query)) == dict(parse_qsl(urlsplit(made["url"]).query))
    assert storage.secret not in made["url"]


@pytest.mark.parametrize("bucket", ["plain"], indirect=True)
async def test_a_wrong_key_is_refused_and_never_shown(serve: Serve, storage: Storage, bucket: str) -> None:
    async with serve(table(storage, bucket), S="wrong-word-1") as run:
        with pytest.raises(Denied, match="SignatureDoesNotMatch") as refused:
            await run("arc_objects", bucket=bucket)
    async with serve(table(storage, bucket).replace("allow_private = true\n", ""), S=storage.secret) as run:
        with pytest.raises(Denied, match="not contacted"):
            await run("arc_objects", bucket=bucket)

    assert "wrong-word-1" not in str(refused.value)
