"""Catalogue, index and disk stay in step, at the least cost, whatever happens on the way."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from filesystem_retrieval.beneath import Signature
from filesystem_retrieval.catalogue import Chunk, Content, File, Known
from usrland.errors import InvalidInput


async def stored(desk: Any) -> tuple[set[tuple[str, str, str]], int, int]:
    """Files with their states and contents, passages of them, rows in the index."""
    files = await desk.library.catalogue.files("local/docs")
    summary = await desk.library.catalogue.summary(["local/docs"], 10)
    rows = await desk.library.index.count()
    return {(file.path, file.state, file.content) for file in files.values()}, summary.chunks, rows


async def test_a_moved_or_copied_file_costs_no_embedding(desk: Any) -> None:
    file = desk.write("guide.md", "# Guide\n\nThe walrus swims north in spring.")
    await desk.index()
    assert len(desk.model.embedded) == 1

    file.rename(desk.folder / "renamed.md")
    desk.write("sub/copy.md", file.read_text() if file.exists() else (desk.folder / "renamed.md").read_text())
    await desk.index()

    (hit,) = (await desk.search("where do sea mammals travel")).items
    assert (hit.path, hit.also_at) == ("renamed.md", ["sub/copy.md"])
    assert len(desk.model.embedded) == 1


async def test_an_edit_embeds_only_what_is_new(desk: Any) -> None:
    sections = [
        f"## Part {number}\n\n" + f"Sentence {number} about subject {number}. " * 20 for number in range(6)
    ]
    desk.write("guide.md", "\n\n".join(sections))
    await desk.index()
    before = len(desk.model.embedded)

    desk.write("guide.md", "\n\n".join([*sections[:5], "## Part 5\n\nSomething else."]))
    await desk.index()

    assert before >= 6
    assert len(desk.model.embedded) - before == 1


async def test_new_changed_and_deleted_files_are_seen_by_the_next_search(desk: Any) -> None:
    assert await desk.found("walrus") == []
    file = desk.write("a.md", "the walrus")
    assert await desk.found("walrus") == ["a.md"]
    desk.write("a.md", "the badger")
    assert await desk.found("walrus") == []
    assert await desk.found("badger") == ["a.md"]
    file.unlink()
    assert await desk.found("badger") == []
    files, chunks, _ = await stored(desk)
    assert (files, chunks) == (set(), 0)


async def test_what_no_version_holds_any_more_leaves_the_index(desk: Any) -> None:
    desk.write("a.md", "the walrus")
    desk.write("b.md", "the badger")
    await desk.index()
    (desk.folder / "a.md").unlink()
    await desk.index()
    assert (await stored(desk))[1:] == (1, 2)

    desk.table["keep_days"] = 1e-9
    desk.restart()
    await desk.index()

    assert (await stored(desk))[1:] == (1, 1)
    assert await desk.found("badger") == ["b.md"]


@pytest.mark.parametrize("change", ["delete", "edit", "edit keeping size and time", "replace by folder"])
async def test_what_changed_since_the_scan_is_never_returned(desk: Any, change: str) -> None:
    file = desk.write("a.md", "the walrus swims")
    await desk.index()
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    match change:
        case "edit":
            file.write_text("the badger digs deep", encoding="utf-8")
        case "edit keeping size and time":
            file.write_text("the badger digs!", encoding="utf-8")
            os.utime(file, ns=times)
        case _:
            file.unlink()
            if change == "replace by folder":
                file.mkdir()
    async with desk.library.indexer._place.turn("indexing"):  # as if another process were indexing
        desk.restart()
        answer = await desk.search("walrus")

    assert answer.items == []
    assert "another process is indexing" in (answer.degraded or "")


def test_a_file_read_in_the_tick_of_its_change_is_not_trusted_by_its_times() -> None:
    def read_at(read_ns: int) -> Known:
        return Known(
            root="r",
            path="p",
            size=1,
            mtime_ns=changed,
            ctime_ns=changed,
            read_ns=read_ns,
            state="ok",
            kind="text",
            sha256="",
            content="",
        )

    changed = 1_000_000_000_000
    now = Signature(size=1, mtime_ns=changed, ctime_ns=changed)

    assert not read_at(changed + 1_000_000).is_like(now)
    assert read_at(changed + 3_000_000_000).is_like(now)


async def test_words_are_searchable_before_any_vector_exists(desk: Any) -> None:
    desk.write("a.md", "the walrus swims")
    await desk.library.index.count()  # its import may take longer than a search waits

    answer = await desk.search("walrus")

    assert [hit.path for hit in answer.items] == ["a.md"]
    assert answer.degraded.startswith("1 of 1 passages wait for their vectors")
    assert desk.model.embedded == []


async def test_meaning_finds_what_words_miss(desk: Any) -> None:
    desk.write("billing.md", "Customers are reimbursed within five working days of a cancellation.")
    desk.write("weather.md", "Rain is expected in the north.")
    await desk.index()
    question = "How do I get my money back?"

    assert await desk.found(question, mode="lexical") == []
    assert await desk.found(question, mode="semantic") == ["billing.md"]
    answer = await desk.search(question)
    assert ([hit.path for hit in answer.items], answer.degraded) == (["billing.md"], None)
    nothing = await desk.search("photosynthesis of deep sea algae")
    assert (nothing.items, nothing.note) == ([], "nothing relevant was found.")


async def test_a_glob_and_a_root_narrow_the_search(desk: Any) -> None:
    for path in ("src/a.py", "src/deep/b.py", "docs/a.md", "copy.md"):
        desk.write(path, f"walrus of {path}" if path != "copy.md" else "walrus of docs/a.md")
    await desk.index()

    assert set(await desk.found("walrus", glob="*.py")) == {"src/a.py", "src/deep/b.py"}
    assert await desk.found("walrus", glob="src/*.py") == ["src/a.py"]
    assert await desk.found("walrus", glob="docs/**") == ["docs/a.md"]
    assert await desk.found("walrus", glob="*.rs") == []
    with pytest.raises(InvalidInput, match="glob"):
        await desk.found("walrus", glob="x" * 600)


async def test_answers_are_paged_without_gaps(desk: Any) -> None:
    from dataclasses import replace

    for number in range(7):
        desk.write(f"{number}.md", f"walrus number {number}")
    await desk.index()

    seen = []
    for offset in (0, 3, 6):
        desk.call = replace(desk.call, offset=offset)
        page = await desk.search("walrus", limit=3, mode="lexical")
        assert page.more == (offset < 6)
        seen += [hit.path for hit in page.items]

    assert sorted(seen) == [f"{number}.md" for number in range(7)]


async def test_a_root_that_cannot_be_reached_keeps_its_index_and_says_so(desk: Any) -> None:
    desk.write("a.md", "the walrus")
    await desk.index()
    away = desk.folder.rename(desk.folder.with_name("away"))

    answer = await desk.search("walrus")
    away.rename(desk.folder)
    desk.model.embedded.clear()
    back = await desk.search("walrus")

    assert (answer.items, answer.degraded) == ([], "root 'docs' cannot be reached now.")
    assert [hit.path for hit in back.items] == ["a.md"]
    assert desk.model.embedded == []


async def test_a_root_taken_out_of_the_settings_is_forgotten(desk: Any) -> None:
    desk.write("a.md", "the walrus")
    await desk.index()
    desk.table["roots"] = {"other": {"folder": str(desk.folder)}}
    desk.restart()
    await desk.index()

    files, chunks, _ = await stored(desk)
    assert (files, chunks) == (set(), 0)
    assert await desk.found("walrus") == ["a.md"]

    desk.table["keep_days"] = 1e-9
    desk.restart()
    await desk.index()
    assert (await stored(desk))[2] == 1


async def test_a_lost_index_is_filled_again_from_what_is_known(desk: Any) -> None:
    desk.write("a.md", "the walrus")
    await desk.index()
    before = await stored(desk)
    desk.restart()
    shutil.rmtree(desk.home / "filesystem-retrieval" / "index")

    await desk.index()

    assert await stored(desk) == before
    assert await desk.found("sea mammal") == ["a.md"]


async def test_raising_a_limit_takes_the_larger_files_in(make_desk: Callable[..., Any]) -> None:
    desk = make_desk(max_file_bytes=10)
    desk.write("a.md", "the walrus swims north")
    assert await desk.found("walrus") == []
    desk.table["max_file_bytes"] = 1_000
    desk.restart()

    assert await desk.found("walrus") == ["a.md"]


async def test_the_background_indexes_embeds_and_ends_when_told(desk: Any) -> None:
    desk.write("billing.md", "Customers are reimbursed within five days.")

    with anyio.fail_after(60):
        async with desk.library.open():
            while not await desk.found("get my money back"):
                await anyio.lowlevel.checkpoint()
            desk.write("later.md", "The walrus swims north.")
            while (await desk.search("sea mammals travelling")).degraded:
                await anyio.lowlevel.checkpoint()
            assert (await desk.found("sea mammals travelling"))[0] == "later.md"


async def test_two_processes_that_index_at_once_leave_one_of_everything(desk: Any) -> None:
    fill(desk)
    processes = [await anyio.open_process(command(desk)) for _ in range(2)]
    for process in processes:
        await process.wait()
    await desk.index()

    files, chunks, rows = await stored(desk)
    assert [process.returncode for process in processes] == [0, 0]
    assert {state for _, state, _ in files} == {"ok"}
    assert (len(files), chunks, rows) == (60, 60, 60)


@pytest.mark.parametrize("after", [1, 2])
async def test_killed_at_any_moment_it_ends_up_as_if_nothing_had_happened(
    desk: Any, make_desk: Callable[..., Any], tmp_path: Path, after: int
) -> None:
    fill(desk)
    async with await anyio.open_process(command(desk)) as process:
        assert process.stdout is not None
        told = b""
        while told.count(b"\n") < after:
            told += await process.stdout.receive()
        process.kill()
    interrupted = await stored(desk)
    await desk.index()
    after_kill = await stored(desk)

    fresh = make_desk()
    fresh.home = tmp_path / "fresh"
    fresh.restart()
    await fresh.index()

    assert 10 <= len(interrupted[0]) < 60
    assert after_kill == await stored(fresh)
    assert await desk.found("walrus number 7") == await fresh.found("walrus number 7")


def fill(desk: Any) -> None:
    for number in range(60):
        desk.write(f"{number}.md", f"# File {number}\n\nThe walrus number {number} swims.")


PROGRAM = """
import anyio, json, sys
from pathlib import Path
import filesystem_retrieval.indexer as indexer
from filesystem_retrieval.server import service
from usrland.settings import Settings

indexer.BATCH_FILES = 10  # more moments to be killed at

async def main():
    settings = Settings(home=Path(sys.argv[1]), tables={"filesystem-retrieval": json.loads(sys.argv[2])})

    async def tell(what, done, total):
        print(what, done, total, flush=True)

    await service(settings).state["index_once"](tell)

anyio.run(main)
"""


def command(desk: Any) -> list[str]:
    import json

    return [sys.executable, "-c", PROGRAM, str(desk.home), json.dumps(desk.table)]


async def test_who_only_ever_indexes_from_the_command_line_keeps_the_index_tidy(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usrland.search.index.KEEP_VERSIONS", timedelta(milliseconds=1))
    kept = []
    for night in range(9):
        desk.write("a.md", f"the walrus of night {night}")
        desk.restart()
        await desk.library.index_once()
        kept.append(await (await desk.library.index._open()).versions())

    assert max(kept[3:]) <= max(kept[:3]), kept
    assert await desk.found("walrus") == ["a.md"]


async def test_only_what_was_written_down_first_is_ever_in_the_index(desk: Any) -> None:
    """The order is: catalogue, index, acknowledgement. Stop it between the last two."""
    desk.write("a.md", "the walrus")
    finish = desk.library.catalogue.finish

    async def die(*_: Any) -> None:
        raise KeyboardInterrupt

    desk.library.catalogue.finish = die
    with pytest.raises(KeyboardInterrupt):
        await desk.library.indexer.scan()
    desk.library.catalogue.finish = finish

    files, chunks, rows = await stored(desk)
    assert ({state for _, state, _ in files}, chunks, rows) == ({"pending"}, 1, 1)
    assert await desk.found("walrus") == ["a.md"]
    assert ({state for _, state, _ in (await stored(desk))[0]}, await desk.library.index.count()) == ({"ok"}, 1)


def test_the_migration_makes_the_tables_that_the_models_name(desk: Any) -> None:
    from sqlalchemy import inspect

    made = inspect(desk.library.catalogue._database.open())

    for model in (File, Content, Chunk):
        columns = {column["name"]: column["nullable"] for column in made.get_columns(model.__tablename__)}
        assert columns == {column.name: column.nullable for column in model.__table__.columns}  # type: ignore[union-attr]  # set by SQLModel


async def test_indexing_rests_while_it_is_paused_and_what_is_found_says_so(desk: Any) -> None:
    desk.write("old.md", "The walrus sleeps.")
    await desk.index()
    desk.library.indexer.pause(True)
    desk.restart()
    desk.write("new.md", "The walrus wakes.")

    answer = await desk.search("walrus")
    status = await desk.use("fs_status")

    assert [passage.path for passage in answer.items] == ["old.md"]
    assert "paused" in answer.degraded and "--resume" in status.degraded
    assert (await desk.library.index_once()).paused
    desk.library.indexer.pause(False)
    desk.library.indexer.pause(False)
    answer = await desk.search("walrus")
    assert {passage.path for passage in answer.items} == {"old.md", "new.md"}
    assert "paused" not in (answer.degraded or "")


async def test_a_pause_in_the_middle_loses_nothing_and_forgets_nothing(desk: Any) -> None:
    desk.write("gone.md", "The walrus went.")
    await desk.index()
    (desk.folder / "gone.md").unlink()
    for number in range(50):
        desk.write(f"{number}.md", f"The seal number {number}.")

    async def pausing(what: str, done: int, total: int) -> None:
        desk.library.indexer.pause(True)

    counts = await desk.library.index_once(pausing)

    assert (counts.files, counts.forgotten, counts.paused) == (20, 0, True)
    assert not desk.library._is_current()
    desk.library.indexer.pause(False)
    counts = await desk.library.index_once()
    assert (counts.passages, counts.forgotten, counts.paused) == (30, 1, False)
    assert len(desk.model.embedded) == 51


async def test_the_making_of_vectors_can_be_paused(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usrland.search.index.EMBED_BATCH", 10)
    monkeypatch.setattr("usrland.search.index.COMMIT_ROWS", 10)
    for number in range(30):
        desk.write(f"{number}.md", f"The seal number {number}.")

    async def pausing(what: str, done: int, total: int) -> None:
        desk.library.indexer.pause(what == "vectors" and done == 20)

    assert (await desk.library.index_once(pausing)).vectors == 20
    assert (await desk.library.index.sizes()).vectors == 20
    desk.library.indexer.pause(False)
    assert (await desk.library.index_once()).vectors == 10


async def test_a_search_waits_for_few_files_and_not_for_many(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("filesystem_retrieval.library.REFRESH_SECONDS", 60.0)
    monkeypatch.setattr("filesystem_retrieval.indexer.LONG_FILES", 50)
    for number in range(60):
        desk.write(f"sub/{number}.md", f"The seal number {number}.")
    assert "read" not in ((await desk.search("seal")).degraded or "")
    assert desk.library.indexer.last.read == 60

    for number in range(100):  # read first, since they do not stand in a folder
        desk.write(f"{number}.md", f"The walrus number {number}.")
    answer = await desk.search("walrus", limit=50)

    assert len(answer.items) == 20
    assert "still being read" in answer.degraded
    assert not desk.library.indexer.busy
    desk.library.indexer.busy = True  # as while the background goes on
    assert "still being read" in (await desk.search("walrus")).degraded
    desk.library.indexer.busy = False
    monkeypatch.setattr("filesystem_retrieval.indexer.LONG_FILES", 500)
    await desk.index()
    assert "read" not in ((await desk.search("walrus", limit=50)).degraded or "")


async def test_what_many_writes_leave_on_the_disk_goes_once_nothing_changes(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filesystem_retrieval.library.QUIET_SECONDS", 0.0)
    monkeypatch.setattr("usrland.search.index.KEEP_VERSIONS", timedelta(seconds=2))  # too young at first
    for number in range(3):
        desk.write(f"{number}.md", f"The walrus number {number} swims.")
        await desk.index()
    desk.write("last.md", "The last walrus swims.")

    def versions() -> list[int]:
        return [len(list(path.iterdir())) for path in desk.home.rglob("_versions")]

    assert max(versions()) > 2
    with anyio.fail_after(60):
        async with desk.library.open():
            while max(versions()) > 2 or not await desk.found("last walrus"):  # noqa: ASYNC110 - nothing tells it
                await anyio.sleep(0.05)


async def test_what_a_process_that_ended_has_left_on_the_disk_goes_when_the_next_one_has_nothing_to_do(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filesystem_retrieval.library.QUIET_SECONDS", 0.0)
    monkeypatch.setattr("usrland.search.index.KEEP_VERSIONS", timedelta(milliseconds=1))
    monkeypatch.setattr("filesystem_retrieval.catalogue.CLOCK_TICK_NS", 0)  # what was just written is read once
    for number in range(6):
        desk.write(f"{number}.md", f"The walrus number {number} swims.")
        await desk.library.indexer.scan()
        await desk.library.indexer.embed()
    await desk.library.indexer.scan()
    desk.library.indexer.take_touched()  # as the next process, which finds nothing changed

    def versions() -> list[int]:
        return [len(list(path.iterdir())) for path in desk.home.rglob("_versions")]

    assert max(versions()) > 6
    with anyio.fail_after(60):
        async with desk.library.open():
            while max(versions()) > 2:
                assert not desk.library.indexer.last.changed
                await anyio.sleep(0.05)
