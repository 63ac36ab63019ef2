"""A catalogue is filled into one index: two homes over one database, and homes whose index is not theirs."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlmodel import Session, col, select, update

from filesystem_retrieval.catalogue import Content
from filesystem_retrieval.health import health
from filesystem_retrieval.lease import IndexUse, Lease
from filesystem_retrieval.status import status
from filesystem_retrieval.verifying import verify
from usrland.errors import Unavailable
from usrland.search import Folder

SHARED = "index of another replica"


@pytest.fixture(params=["postgresql", "sqlite"])
def home(request: pytest.FixtureRequest, make_desk: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    """Make a home by its name; all of them share a catalogue and a folder."""
    sqlite = f"sqlite:///{tmp_path}/shared.sqlite"
    database = sqlite if request.param == "sqlite" else request.getfixturevalue("postgresql")()
    first, made = make_desk(database=database), []

    def make(name: str, **options: Any) -> Any:
        desk = type(first)(home=tmp_path / name, folder=first.folder, table=first.table, model=first.model)
        desk.restart(**options)
        made.append(desk)
        return desk

    yield make
    for desk in made:
        desk.library.versions.database.close()


def index_of(desk: Any) -> Path:
    folder: Path = desk.home / "filesystem-retrieval" / "index"
    return folder


async def use_of(desk: Any) -> IndexUse:
    use: IndexUse = await desk.library.versions.database.read(lambda session: session.exec(select(IndexUse)).one())
    return use


async def forgotten(desk: Any) -> None:
    """As if nobody had used the index for an hour."""

    def work(session: Session) -> None:
        session.exec(update(IndexUse).values(used_at=col(IndexUse.used_at) - 3600))

    await desk.library.versions.database.write(work)


async def test_a_second_home_says_that_it_lacks_files_and_changes_nothing(home: Any) -> None:
    first, second = home("first"), home("second")
    first.write("a.md", "the walrus swims")
    assert await first.found("walrus") == ["a.md"]
    before = await use_of(first)

    for _ in range(2):
        with pytest.raises(Unavailable, match=SHARED) as refused:
            await second.search("walrus")
        assert "[index.bucket]" in refused.value.fix
    assert SHARED in ((await status(second.library, second.call)).degraded or "")
    assert ("error", SHARED) in [(how, SHARED) for how, fact, _ in await health(second.library) if SHARED in fact]
    with pytest.raises(Unavailable, match=SHARED):
        await second.index()
    with pytest.raises(Unavailable, match=SHARED):
        await verify(second.library, second.call, [])

    assert (await use_of(first)).name == before.name
    assert await second.library.index.count() == 0
    first.write("b.md", "the badger digs")
    assert await first.found("badger") == ["b.md"]
    assert not [said for said in await health(first.library) if said[0] == "error"]


async def test_while_indexing_is_paused_a_second_home_says_so_too(home: Any) -> None:
    first, second = home("first"), home("second")
    first.write("a.md", "the walrus swims")
    await first.index()
    second.library.indexer.pause(True)

    with pytest.raises(Unavailable, match=SHARED):
        await second.search("walrus")
    assert SHARED in ((await status(second.library, second.call)).degraded or "")


async def test_a_home_takes_over_from_one_that_is_gone_and_finds_everything(home: Any) -> None:
    first, second = home("first"), home("second")
    first.write("a.md", "the walrus swims")
    gone = first.write("old.md", "the auk is extinct")
    await first.index()
    gone.unlink()
    await first.index()
    with pytest.raises(Unavailable):
        await second.search("walrus")

    await forgotten(second)

    assert await second.found("walrus") == ["a.md"]
    assert await second.library.index.count() == 2, "versions as well"
    with pytest.raises(Unavailable, match=SHARED):  # as one that comes back after a sleep
        await first.search("walrus")
    second.write("b.md", "the badger digs")
    assert await second.found("badger") == ["b.md"]


async def test_the_background_of_a_second_home_goes_on_and_takes_over(home: Any) -> None:
    first, second = home("first"), home("second")
    second.table["watch"] = False  # nothing else wakes it
    second.restart()
    first.write("a.md", "the walrus swims")
    await first.index()
    name = (await use_of(first)).name

    with anyio.fail_after(60):
        async with second.library.open():
            while not second.library.indexer.barred:  # noqa: ASYNC110 - told by nobody
                await anyio.sleep(0.01)
            assert (await use_of(first)).name == name
            await forgotten(first)
            while second.library.indexer.barred:  # noqa: ASYNC110 - told by nobody
                await anyio.sleep(0.01)
    assert await second.found("walrus") == ["a.md"]


async def test_two_living_homes_do_not_take_over_from_one_another(home: Any) -> None:
    first, second = home("first"), home("second")
    for number in range(30):
        first.write(f"{number}.md", f"the walrus swims to {number}")

    with anyio.fail_after(60):
        async with AsyncExitStack() as open_homes:
            for desk in (first, second):
                await open_homes.enter_async_context(desk.library.open())
            while first.library.indexer.barred == second.library.indexer.barred:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            name = (await use_of(first)).name
            one, other = (first, second) if second.library.indexer.barred else (second, first)
            for number in range(3):
                one.write("more.md", f"the badger digs {number}")
                while not (answer := await one.search("badger")).items:
                    assert answer.degraded
                with pytest.raises(Unavailable, match=SHARED):
                    await other.search("badger")
            assert (await use_of(first)).name == name


async def test_a_home_that_slept_cannot_mark_what_is_in_its_own_index(home: Any) -> None:
    first, second = home("first"), home("second")
    first.write("a.md", "the walrus swims")
    await first.index()
    await forgotten(second)
    await second.index()
    content = Content(root="local/docs", content="c.text.1", kind="text")

    with pytest.raises(Unavailable, match="another search index"):
        await first.library.catalogue.begin("local/docs", [], [content], [], [], [])
    with pytest.raises(Unavailable, match="another search index"):
        await first.library.catalogue.finish("local/docs", ["c.text.1"], [])
    assert await second.library.catalogue.content("local/docs", "c.text.1") is None


async def test_a_living_home_says_so_without_scanning(home: Any) -> None:
    first = home("first")
    first.write("a.md", "the walrus swims")
    await first.index()
    await forgotten(first)
    before = await use_of(first)

    await first.library.lease.renew()

    assert (await use_of(first)).used_at > before.used_at + 3000


async def test_what_a_second_home_writes_is_kept_and_the_first_finds_it(home: Any) -> None:
    first, second = home("first"), home("second")
    first.table["roots"]["docs"]["writable"] = True
    first.restart()
    second.restart()
    first.write("a.md", "the walrus swims")
    await first.index()

    written = await second.use("fs_write", "b.md", "the badger digs")
    edited = await second.use("fs_edit", "a.md", old="walrus", new="heron")

    (await second.server.state["library"]()).versions.database.close()
    assert await first.found("badger") == ["b.md"]
    assert await first.found("heron") == ["a.md"]
    place = first.library.place(first.call.principal, "a.md", None)
    history = await first.library.versions.history(place.key, "a.md")
    assert [version.id for version in history[:2]] == [edited.version, edited.version_before]
    assert written.version


async def test_two_processes_of_one_home_share_its_index(home: Any) -> None:
    one, other = home("first"), home("first")
    one.write("a.md", "the walrus swims")
    assert await one.found("walrus") == ["a.md"]
    one.write("b.md", "the badger digs")
    assert await other.found("badger") == ["b.md"]
    one.write("c.md", "the heron wades")
    assert await one.found("heron") == ["c.md"]
    assert await one.library.index.count() == 3


async def test_a_copy_of_a_home_is_another_home(home: Any) -> None:
    first = home("first")
    first.write("a.md", "the walrus swims")
    await first.index()
    shutil.copytree(first.home, first.home.parent / "second")
    second = home("second")

    with pytest.raises(Unavailable, match=SHARED):
        await second.search("walrus")
    assert await first.found("walrus") == ["a.md"]


async def test_a_home_fills_its_lost_index_again_once_nobody_says_that_it_is_in_use(home: Any) -> None:
    first = home("first")
    first.write("a.md", "the walrus swims")
    await first.index()
    shutil.rmtree(index_of(first))
    with pytest.raises(Unavailable, match=SHARED):
        await home("first").search("walrus")

    again = home("first", lease_seconds=0.0)

    assert await again.found("walrus") == ["a.md"]


async def test_a_process_that_loses_its_index_need_not_wait(home: Any, tmp_path: Path) -> None:
    database = home("first").library.versions.database
    places = [Folder(tmp_path / name) for name in ("one", "other")]
    one, other = [Lease(database, place, shared=True, renew_seconds=0.0) for place in places]
    assert (await one.hold(), await other.hold()) == ("ours", "another's")

    await places[0].remove_note("name")

    assert (await one.hold(), await other.hold()) == ("free", "another's")
    distrusted: list[Session] = []
    assert await one.take(distrusted.append) == "ours"
    assert (await one.hold(), await other.hold()) == ("ours", "another's")
    assert await other.take(distrusted.append) == "another's"
    assert len(distrusted) == 1


async def test_an_index_of_before_there_were_names_is_not_read_again(home: Any) -> None:
    first = home("first")
    first.write("a.md", "the walrus swims")
    await first.index()
    (index_of(first) / "name").unlink()
    await first.library.versions.database.write(lambda session: session.delete(session.get(IndexUse, 1)))
    again = home("first")

    assert (await again.library.index_once()).passages == 0
    assert await again.found("walrus") == ["a.md"]
    assert (await use_of(again)).name.startswith((index_of(first) / "name").read_text(encoding="utf-8"))


async def test_two_homes_that_begin_at_once_are_told_apart(home: Any, tmp_path: Path) -> None:
    desk = home("first")
    for number in range(200):
        desk.write(f"{number}.md", f"the walrus swims to {number}")
    settings = (
        "[filesystem-retrieval]\nembedding = 'none'\ndatabase = 'env:CATALOGUE'\n"
        f"[filesystem-retrieval.roots]\ndocs = '{desk.folder}'\n"
    )

    async def indexed(name: str) -> tuple[int | None, str]:
        (tmp_path / name).mkdir(mode=0o700, exist_ok=True)
        (tmp_path / name / "usrland.toml").write_text(settings, encoding="utf-8")
        more = {"USRLAND_HOME": str(tmp_path / name), "CATALOGUE": desk.table["database"]}
        command = (sys.executable, "-m", "usrland.cli", "index")
        process = await asyncio.create_subprocess_exec(*command, env=os.environ | more, stdout=PIPE, stderr=PIPE)
        out, err = await process.communicate()
        return process.returncode, (out + err).decode()

    one, other = await asyncio.gather(indexed("one"), indexed("other"))

    refused = one if one[0] else other
    assert sorted((one[0], other[0])) == [0, 1], (one, other)
    assert "search index of another replica" in " ".join(refused[1].split()), refused


async def test_a_lost_index_of_the_home_is_filled_again_even_where_it_holds_as_much(desk: Any) -> None:
    desk.write("a.md", "the walrus swims")
    await desk.index()
    other = type(desk)(
        home=desk.home.parent / "other",
        folder=desk.home.parent / "elsewhere",
        table={"roots": {"docs": {"folder": str(desk.home.parent / "elsewhere")}}, "embedding": "none"},
        model=desk.model,
    )
    other.write("b.md", "the badger digs")
    await other.index()
    desk.restart()
    shutil.rmtree(index_of(desk))
    shutil.copytree(index_of(other), index_of(desk))

    assert await desk.found("walrus") == ["a.md"]
    assert await desk.library.index.count() == 1, "nothing of the other index is left"


async def test_a_catalogue_of_one_home_is_written_to_only_for_its_name(desk: Any) -> None:
    desk.write("a.md", "the walrus swims")
    await desk.index()
    before = await use_of(desk)
    desk.restart()

    assert await desk.found("walrus") == ["a.md"]
    after = await use_of(desk)
    assert (after.name, after.used_at) == (before.name, before.used_at)
