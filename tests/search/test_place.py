"""An index in a folder, and one in a bucket that several processes share."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from object_store import ObjectStore, object_store

from usrland.database import Database
from usrland.embedding import Embedder, embedder
from usrland.errors import Denied, InvalidInput, Unavailable
from usrland.search import Folder, HybridIndex, IndexRow, Place, place_of
from usrland.search.index import Sizes
from usrland.search.place import Bucket
from usrland.settings import Settings


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    pytest.importorskip("moto.server")
    with object_store(tmp_path_factory.mktemp("store")) as made:
        yield made


@pytest.fixture
def bucket(store: ObjectStore, postgresql: Callable[[], str], tmp_path: Path) -> Iterator[Callable[..., Bucket]]:
    """The same place, as one process more sees it."""
    url, made = postgresql(), list[Database]()

    def make(**more: object) -> Bucket:
        table = {
            "name": store.bucket, "endpoint": store.endpoint, "access_key": store.access_key,
            "secret": "env:INDEX_SECRET", "prefix": tmp_path.name, "allow_private": True,
        }  # fmt: skip
        settings = Settings(
            home=tmp_path,
            tables={"index": {"bucket": {**table, **more}}},
            environment={"INDEX_SECRET": store.secret},
        )
        made.append(Database(url, []))
        place = place_of(settings, "memory-snapshot", made[-1])
        assert isinstance(place, Bucket)
        return place

    yield make
    for database in made:
        database.close()


@pytest.fixture(params=["folder", "bucket"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Place, Place]:
    """One place, seen by two processes."""
    if request.param == "folder":
        return Folder(tmp_path / "index"), Folder(tmp_path / "index")
    make = request.getfixturevalue("bucket")
    return make(), make()


async def test_a_note_is_there_for_everybody_until_it_is_removed(two: tuple[Place, Place]) -> None:
    one, other = two
    assert await one.note("name") is None
    await one.remove_note("name")
    await one.write_note("name", "first")
    await other.write_note("name", "second")
    assert await one.note("name") == "second"
    await other.remove_note("name")
    assert await one.note("name") is None


async def test_one_at_a_time_has_a_turn_and_the_next_does_not_wait_longer_than_it_said(
    two: tuple[Place, Place],
) -> None:
    one, other = two
    async with one.turn("write") as first, other.turn("write", 0.0) as second, other.turn("feed", 0.0) as third:
        assert (first, second, third) == (True, False, True)
    got = anyio.Event()

    async def waiting() -> None:
        async with other.turn("write", 20.0) as mine:
            assert mine
            got.set()

    async with anyio.create_task_group() as tasks:
        with pytest.raises(KeyError):
            async with one.turn("write"):
                tasks.start_soon(waiting)
                await anyio.sleep(0.05)
                assert not got.is_set()
                raise KeyError
        with anyio.fail_after(60):
            await got.wait()


@pytest.mark.timeout(300)
async def test_what_one_process_put_into_a_bucket_all_find(bucket: Callable[..., Bucket]) -> None:
    model = embedder("minilm")
    assert model is not None
    await anyio.to_thread.run_sync(model.load)
    one, other = HybridIndex(bucket(), model), HybridIndex(bucket(), model)

    async def fill(index: HybridIndex, who: str) -> None:
        for number in range(4):
            row = IndexRow(id=f"{who}{number}", scope="s", text=f"the walrus of {who} swims lap {number}")
            await index.upsert([row])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fill, one, "ada")
        tasks.start_soon(fill, other, "eve")

    for index in (one, other):
        assert (await index.sizes()).rows == (await index.sizes()).vectors == 8
        assert await index.count() == 8
        found = await index.search("which animal swims?", scopes=["s"], k=20)
        assert {hit.id for hit in found.hits} == {
            f"{who}{number}" for who in ("ada", "eve") for number in range(4)
        }
    await one.delete(["ada0"])
    await one.optimise(forget=True)
    assert await other.count() == 7
    await other.drop()
    assert await HybridIndex(bucket(), model).count() == 0


async def test_a_store_that_does_not_answer_is_a_system_that_is_not_there(
    bucket: Callable[..., Bucket], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [IndexRow(id="a", scope="s", text="walrus")]
    with pytest.raises(Unavailable, match="bucket of the search index"):
        await HybridIndex(bucket(endpoint="http://127.0.0.1:1"), None).upsert(rows)
    with pytest.raises(Denied, match="private or loopback"):
        await bucket(allow_private=False).note("name")

    index = HybridIndex(bucket(), None)
    await index.upsert(rows)
    lost = bucket(endpoint="http://127.0.0.1:1")
    index._tables = None
    index._place = lost
    with pytest.raises(Unavailable, match="bucket of the search index"):
        await index.search("walrus", scopes=["s"])


async def test_what_lance_says_of_a_lost_bucket_in_a_search_is_told_as_such(
    bucket: Callable[..., Bucket], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = HybridIndex(bucket(), None)
    await index.upsert([IndexRow(id="a", scope="s", text="walrus")])

    async def broken(*_: object) -> None:
        raise RuntimeError("lance error: LanceError(IO): Generic S3 error")

    monkeypatch.setattr(index._tables, "match", broken)
    with pytest.raises(Unavailable, match="bucket of the search index"):
        await index.search("walrus", scopes=["s"])


def test_a_bucket_is_for_those_who_share_a_database(tmp_path: Path) -> None:
    table = {"name": "index", "endpoint": "https://store.example.org", "access_key": "k", "secret": "env:S"}
    settings = Settings(home=tmp_path, tables={"index": {"bucket": table}}, environment={"S": "s" * 12})
    with pytest.raises(InvalidInput, match="share PostgreSQL"):
        place_of(settings, "memory-snapshot", Database(f"sqlite:///{tmp_path}/memory.sqlite", []))
    place = place_of(settings, "memory-snapshot", Database("postgresql://somebody@example.org/team", []))
    assert place.address == "s3://index/memory-snapshot"
    assert place.options is not None and place.options["allow_http"] == "false"


async def test_a_file_that_has_got_another_name_meanwhile_keeps_nobody_from_writing(tmp_path: Path) -> None:
    place = Folder(tmp_path / "index")
    files = tmp_path / "index" / "vectors.lance" / "data"
    await anyio.Path(files).mkdir(parents=True)
    await anyio.Path(files / ".tmp1").symlink_to("taken away")

    await place.sync()


@pytest.mark.skipif(
    None in (importlib.util.find_spec("ray"), importlib.util.find_spec("lance")), reason="ray is not installed"
)
@pytest.mark.timeout(300)
async def test_workers_of_a_ray_read_and_write_a_bucket(bucket: Callable[..., Bucket], minilm: Embedder) -> None:
    index, other = HybridIndex(bucket(), minilm), HybridIndex(bucket(), minilm)
    rows = [IndexRow(id=f"{n}", scope="s", text=f"the walrus swims lap {n}") for n in range(8)]
    await index.upsert(rows, embed=False)

    async def tell(done: int, total: int) -> None:
        if done == total - 2:
            await other.upsert([replace(row, scope="elsewhere") for row in rows[:4]], embed=False)

    assert await index.embed_pending(tell, workers=1, ray="local") == 8

    assert await other.sizes() == Sizes(rows=8, vectors=8)
    found = await other.search("walrus lap 2", scopes=["elsewhere"], mode="semantic")
    assert found.hits[0].id == "2"
    assert found.degraded is None
