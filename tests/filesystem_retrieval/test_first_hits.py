"""In a folder that nothing is known of yet, something is found before the search index is there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from filelock import FileLock

from usrland.schemas.principal import Principal
from usrland.search.index import OPENING


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """More files than those of the first batch are more than a search waits for."""
    monkeypatch.setattr("filesystem_retrieval.indexer.LONG_FILES", 0)


SEARCHING = """
import anyio, json, sys
from pathlib import Path
from filesystem_retrieval.config import SERVER, Table
from filesystem_retrieval.library import Library
from filesystem_retrieval.searching import Wish, search
from usrland.connector import Call
from usrland.schemas.principal import Principal
from usrland.settings import Settings

async def main(home, folder):
    settings = Settings(home=home)
    library = Library.of(settings, Table(roots={"docs": folder}, embedding="none"))
    call = Call(id="t", principal=Principal(subject="t", scopes=frozenset({"*"})), operation="x")
    for step in ("first", "indexed"):
        found = await search(library, call, Wish(query="how walruses swim", mode="lexical"))
        best = found.items[0].path if found.items else None
        print(json.dumps([step, best, found.degraded, "lancedb" in sys.modules]))
        if step == "first":
            await library.index_once()
            library.indexer.expect_change()

anyio.run(main, Path(sys.argv[1]), sys.argv[2])
"""


def test_the_first_hits_need_no_lancedb(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(400):
        (folder / f"{number:03}.py").write_text(f"number = {number}\n", encoding="utf-8")
    (folder / "walrus.md").write_text("The walrus swims north in spring.", encoding="utf-8")
    command = [sys.executable, "-c", SEARCHING, str(tmp_path / "home"), str(folder)]

    done = subprocess.run(command, check=True, capture_output=True, text=True)

    first, indexed = map(json.loads, done.stdout.splitlines())
    assert first[:2] == ["first", "walrus.md"]
    assert OPENING in first[2] and "still being read" in first[2]
    assert first[3] is False, "LanceDB was imported"
    assert indexed == ["indexed", "walrus.md", None, True]


async def test_files_that_need_no_other_process_are_read_first_and_none_twice(desk: Any, many: None) -> None:
    for number in range(30):
        desk.write(f"{number:02}.py", f"def seal_{number}(): swim({number})")
    desk.write("a.html.zip", b"PK damaged")
    for number in range(3):
        desk.write(f"sub/{number}.md", f"The seal number {number} swims.")

    first = await desk.found("seal swims", limit=50)
    counts = await desk.library.index_once()

    assert set(first) >= {"sub/0.md", "sub/1.md", "sub/2.md"}
    assert len(first) == 20
    assert counts.files == 34  # what was written down before is read again, since its rows are not in the index
    assert await desk.library.index.count() == await desk.library.catalogue.passages() == 33
    assert sorted(set(await desk.found("seal swims", limit=50))) == sorted(
        [*(f"{number:02}.py" for number in range(30)), *(f"sub/{number}.md" for number in range(3))]
    )


async def test_what_is_found_before_the_index_is_there_stands_as_it_is_told(desk: Any, many: None) -> None:
    for number in range(30):
        desk.write(f"{number:02}.md", f"The seal number {number} swims.")
    assert len(await desk.found("seal", limit=50)) == 20

    with FileLock(desk.home / "filesystem-retrieval" / "index" / "write.lock"), anyio.fail_after(30):
        (desk.folder / "00.md").unlink()
        desk.write("01.md", "Another text altogether.")
        found = await desk.found("seal", limit=50)
        narrowed = await desk.found("seal", glob="0[2-4].md", limit=50)

    assert len(found) == 19  # another one is in the first batch now
    assert not {"00.md", "01.md"} & set(found)
    assert sorted(narrowed) == ["02.md", "03.md", "04.md"]


@pytest.mark.parametrize("held", [frozenset({"fs:read"}), frozenset({"fs:read", "fs:label:finance"})])
async def test_labels_and_tenants_hold_before_the_index_is_there(
    make_desk: Callable[..., Any], tmp_path: Path, many: None, held: frozenset[str]
) -> None:
    (tmp_path / "acme").mkdir()
    desk = make_desk(
        roots={
            "docs": {"folder": str(tmp_path / "docs"), "labels": {"finance": ["/finance/"]}},
            "theirs": {"folder": str(tmp_path / "acme"), "tenant": "acme"},
        }
    )
    for number in range(30):
        desk.write(f"finance/{number:02}.md", f"The seal number {number} swims.")
    place = desk.home / "filesystem-retrieval" / "index"
    place.mkdir(parents=True)
    with FileLock(place / "write.lock"), anyio.fail_after(60):
        assert len(await desk.found("seal", limit=50)) == 20
        desk.call = replace(desk.call, principal=Principal(subject="t", scopes=held))
        seen = await desk.search("seal", limit=50)
        theirs = Principal(subject="t", tenant="acme", scopes=frozenset({"*"}))
        desk.call = replace(desk.call, principal=theirs)
        elsewhere = await desk.search("seal", limit=50)

    assert len(seen.items) == (20 if "fs:label:finance" in held else 0)
    assert OPENING in seen.degraded
    assert (elsewhere.items, OPENING in elsewhere.degraded) == ([], True)
    assert elsewhere.note == "nothing relevant was found so far."


async def test_of_few_files_a_search_waits_until_they_are_in_the_index(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.write("guide.md", "The walrus swims north.")
    await desk.library.catalogue.passages()
    monkeypatch.setattr("filesystem_retrieval.library.REFRESH_SECONDS", 0.0)
    place = desk.home / "filesystem-retrieval" / "index"
    place.mkdir(parents=True)
    lock = FileLock(place / "write.lock")
    lock.acquire()

    async def release() -> None:
        await anyio.sleep(0.5)  # the search's moment is over, and the index is not open yet
        monkeypatch.setattr("filesystem_retrieval.library.REFRESH_SECONDS", 60.0)
        lock.release()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(release)
        answer = await desk.search("walrus", mode="lexical")

    assert ([item.path for item in answer.items], answer.degraded) == (["guide.md"], None)
