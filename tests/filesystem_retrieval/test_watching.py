"""Changes are told by the operating system: a search sees them without looking the folders over."""

from __future__ import annotations

import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from filesystem_retrieval.roots import Root
from filesystem_retrieval.searching import Wish, search


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(60):
        while True:
            if await holds():
                return
            await anyio.sleep(0.02)


@asynccontextmanager
async def watched(desk: Any) -> AsyncIterator[None]:
    """The library at work, its watch begun and what was there read."""
    async with desk.library.open():

        async def current() -> bool:
            return desk.library.watch.is_live and desk.library._is_current()

        await until(current)
        yield


async def until_found(desk: Any, query: str, paths: list[str]) -> None:
    async def found() -> bool:
        answer = await search(desk.library, desk.call, Wish(query=query))
        return [each.path for each in answer.items] == paths

    await until(found)


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The roots that have been walked over."""
    walked: list[str] = []
    walk = Root.walk

    def counted(self: Root, *arguments: Any) -> Any:
        walked.append(self.name)
        return walk(self, *arguments)

    monkeypatch.setattr(Root, "walk", counted)
    return walked


async def test_changes_are_found_and_without_any_no_folder_is_walked(desk: Any, walks: list[str]) -> None:
    desk.write("a.md", "walrus")
    async with watched(desk):
        before = len(walks)
        for _ in range(5):
            await until_found(desk, "walrus", ["a.md"])
        assert len(walks) == before

        desk.write("b/c/d.md", "otter")  # in folders that are new
        await until_found(desk, "otter", ["b/c/d.md"])
        desk.write("b/c/e.md", "seal")
        await until_found(desk, "seal", ["b/c/e.md"])
        (desk.folder / "b" / "c").rename(desk.folder / "z")
        await until_found(desk, "seal", ["z/e.md"])
        shutil.rmtree(desk.folder / "z")
        await until_found(desk, "otter", [])
        desk.write(".gitignore", "a.md\n")
        await until_found(desk, "walrus", [])


async def test_what_is_ignored_or_linked_wakes_nobody(desk: Any, tmp_path: Path, walks: list[str]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    desk.write("a.md", "walrus")
    desk.write("node_modules/x.md", "walrus")
    (desk.folder / "door").symlink_to(outside)
    async with watched(desk):
        before = len(walks)
        desk.write("node_modules/y.md", "walrus")
        (outside / "z.md").write_text("walrus", encoding="utf-8")
        desk.write("b.md", "otter")
        await until_found(desk, "otter", ["b.md"])
        folders, _ = desk.library.watch._folders()
        assert folders == {str(desk.folder)}
        assert len(walks) - before <= 3


async def test_where_nothing_can_be_watched_a_search_looks_the_folders_over(
    desk: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("watchfiles.watch", refused)
    caplog.set_level(logging.WARNING)
    desk.write("a.md", "walrus")
    async with desk.library.open():
        await until_found(desk, "walrus", ["a.md"])
        desk.write("b.md", "otter")
        await until_found(desk, "otter", ["b.md"])
    assert "not watched" in caplog.text and not desk.library.watch.is_live


async def test_a_root_that_comes_later_is_watched_then(make_desk: Callable[..., Any], tmp_path: Path) -> None:
    desk = make_desk(roots={"docs": {"folder": str(tmp_path / "docs")}, "usb": {"folder": str(tmp_path / "usb")}})
    desk.write("a.md", "walrus")
    async with desk.library.open():
        await until_found(desk, "walrus", ["a.md"])
        assert not desk.library.watch.is_live
        (tmp_path / "usb").mkdir()
        (tmp_path / "usb" / "b.md").write_text("otter", encoding="utf-8")

        async def live() -> bool:
            return bool(desk.library.watch.is_live)

        await until(live)
        await until_found(desk, "otter", ["b.md"])


async def test_watching_can_be_turned_off(make_desk: Callable[..., Any]) -> None:
    desk = make_desk(watch=False)
    desk.write("a.md", "walrus")

    assert desk.library.watch is None
    assert await desk.found("walrus") == ["a.md"]
