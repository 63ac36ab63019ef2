"""A bucket of an S3-compatible store is a root like a folder, against a moto server."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from moto_store import moto_store

from usrland.errors import InvalidInput, NotFound


@pytest.fixture
def store() -> Iterator[Any]:
    """A store with an empty bucket; `down()` ends it."""
    pytest.importorskip("moto.server")
    with moto_store() as store:
        client = store.client()
        client.create_bucket(Bucket="reports")

        class Reports:
            url = store.url
            down = store.down

            def put(self, key: str, content: str | bytes) -> None:
                body = content.encode() if isinstance(content, str) else content
                client.put_object(Bucket="reports", Key=key, Body=body)

            def delete(self, key: str) -> None:
                client.delete_object(Bucket="reports", Key=key)

        yield Reports()


@pytest.fixture
def make_reports(
    store: Any, make_desk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> Callable[..., Any]:
    monkeypatch.setattr("filesystem_retrieval.buckets.SYNC_SECONDS", 0.0)
    (tmp_path / "secret").write_text("secret\n", encoding="utf-8")

    def make(**more: Any) -> Any:
        bucket = {
            "name": "reports",
            "endpoint": store.url,
            "access_key": "key",
            "secret": f"file:{tmp_path / 'secret'}",
            "allow_private": True,
            **more.pop("bucket", {}),
        }
        return make_desk(roots={"reports": {"bucket": bucket, **more}}, watch=False)

    return make


async def test_objects_are_listed_searched_read_and_cited_like_files(store: Any, make_reports: Any) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("old.md", "The otter slept.\n")
    store.put("2026/walrus.md", "# Walrus\n\nThe walrus eats clams.\n")
    store.put("2026/grüße & co.txt", "a seal\n")
    store.put("pack.zip", packed.getvalue())
    store.put("folder/", "")
    desk = make_reports()
    await desk.index()

    hit = (await desk.search("walrus clams")).items[0]
    assert (hit.root, hit.path, hit.heading) == ("reports", "2026/walrus.md", "Walrus")
    assert await desk.found("otter") == ["pack.zip/old.md"]
    assert (await desk.use("fs_read", "2026/grüße & co.txt")).text == "a seal"
    assert [each.path for each in (await desk.use("fs_grep", "seal")).items] == ["2026/grüße & co.txt"]

    store.put("2026/walrus.md", "# Walrus\n\nThe walrus sleeps.\n")
    store.delete("pack.zip")
    desk.library.indexer.expect_change()
    assert await desk.found("otter", mode="lexical") == []
    assert (await desk.use("fs_read", "2026/walrus.md")).text.endswith("sleeps.")
    assert len((await desk.history("2026/walrus.md")).items) == 2


async def test_what_is_behind_a_prefix_and_under_a_label_is_all_there_is(store: Any, make_reports: Any) -> None:
    for key in ("2025/a.md", "2026/b.md", "2026/pay/c.md"):
        store.put(key, "walrus\n")
    desk = make_reports(bucket={"prefix": "2026/"}, labels={"finance": ["pay/"]})
    await desk.index()

    assert set(await desk.found("walrus")) == {"b.md", "pay/c.md"}
    from dataclasses import replace

    from usrland.schemas.principal import Principal

    desk.call = replace(desk.call, principal=Principal(subject="x", scopes=frozenset({"fs:read"})))
    assert await desk.found("walrus") == ["b.md"]


async def test_a_key_that_is_no_path_and_an_object_that_is_too_large_are_told(
    store: Any, make_reports: Any
) -> None:
    for key in ("../out.md", "a//b.md", "/etc/passwd", "x/./y.md", "a", "a/c.md"):
        store.put(key, "walrus\n")
    store.put("large.md", "walrus " * 200)
    desk = make_reports(max_document_bytes=1_000, max_file_bytes=1_000)
    await desk.index()

    assert await desk.found("walrus") == ["a/c.md"]
    (status,) = (await desk.use("fs_status")).roots
    assert status.note == "5 objects are left out, whose keys are no paths."
    assert [(each.path, each.reason) for each in status.failures] == [("large.md", "it is larger than 1000 bytes")]
    assert [(each.path, each.size) for each in (await desk.use("fs_list")).items] == [
        ("a", None),
        ("large.md", 1400),
    ]
    with pytest.raises(InvalidInput, match="larger than 1000 bytes"):
        await desk.use("fs_read", "large.md")


async def test_while_the_store_is_away_what_is_known_is_found_and_the_answer_says_so(
    store: Any, make_reports: Any
) -> None:
    store.put("a.md", "walrus\n")
    desk = make_reports()
    await desk.index()
    store.down()

    answer = await desk.search("walrus")

    assert [each.path for each in answer.items] == ["a.md"]
    assert "'reports' cannot be reached now" in answer.degraded
    assert not (await desk.use("fs_status")).roots[0].reachable


async def test_a_bucket_is_never_written_to(make_reports: Any, make_desk: Callable[..., Any]) -> None:
    with pytest.raises(InvalidInput, match="only be read"):
        make_reports(writable=True)
    with pytest.raises(InvalidInput, match="a folder or a bucket"):
        make_desk(roots={"docs": {}})
    with pytest.raises(NotFound):
        await make_reports().use("fs_read", "../objects.json", root="reports")
