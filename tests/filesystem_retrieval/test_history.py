"""What stood there once can be listed, compared, read and searched, for as long as the operator says."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from usrland.errors import NotFound


async def test_a_search_as_of_a_time_finds_what_stood_there_then(desk: Any) -> None:
    file = desk.write("a.md", "the walrus swims")
    desk.write("b.md", "the badger digs")
    await desk.scan()
    then = datetime.now(UTC)
    file.write_text("the penguin stands", encoding="utf-8")
    (desk.folder / "b.md").rename(desk.folder / "c.md")
    desk.write("d.md", "a walrus too")
    await desk.scan()

    async def found(query: str, **more: Any) -> list[str]:
        return [item.path for item in (await desk.use("fs_search", query, **more)).items]

    assert (await found("walrus"), await found("badger")) == (["d.md"], ["c.md"])
    assert (await found("walrus", as_of=then), await found("badger", as_of=then)) == (["a.md"], ["b.md"])
    assert await found("penguin", as_of=then) == []
    assert await found("walrus", as_of=then, glob="b*") == []
    (hit,) = (await desk.use("fs_search", "walrus", as_of=then)).items
    assert (await desk.use("fs_read", "a.md", version=hit.version)).text == "the walrus swims"
    assert await found("walrus", as_of=datetime(2001, 1, 1, tzinfo=UTC)) == []


async def test_what_a_version_changed_is_shown(desk: Any) -> None:
    file = desk.write("a.md", "one\ntwo\nthree\n")
    await desk.scan()
    file.write_text("one\n2\nthree\n", encoding="utf-8")
    await desk.scan()
    file.write_text("one\n2\nthree\nfour\n", encoding="utf-8")

    newest, older, oldest = (await desk.history("a.md")).items
    changed = (await desk.use("fs_history", "a.md", version=older.version)).diff
    made = (await desk.use("fs_history", "a.md", version=oldest.version)).diff
    across = (await desk.use("fs_history", "a.md", version=newest.version, against=oldest.version)).diff
    to_now = (await desk.use("fs_history", "a.md", version=older.version, against=0)).diff

    assert "-two" in changed and "+2" in changed and "four" not in changed
    assert "+one" in made and "-one" not in made
    assert "-two" in across and "+four" in across
    assert "+four" in to_now and "-two" not in to_now


async def test_a_file_that_is_gone_keeps_its_history(desk: Any) -> None:
    file = desk.write("a.md", "one")
    await desk.scan()
    file.unlink()
    await desk.scan()

    gone, found = (await desk.use("fs_history", "a.md")).items

    assert (gone.how, gone.sha256, found.how) == ("gone", None, "found")
    assert (await desk.use("fs_read", "a.md", version=found.version)).text == "one"
    with pytest.raises(NotFound):
        await desk.use("fs_read", "a.md", version=gone.version)


async def test_a_file_renamed_by_others_is_followed_even_when_it_was_edited_as_well(desk: Any) -> None:
    lines = [f"line {number}" for number in range(10)]
    file = desk.write("a.md", "\n".join(lines))
    await desk.scan()
    file.unlink()
    desk.write("sub/b.md", "\n".join([*lines[:8], "other"]))
    await desk.scan()

    assert [(each.path, each.how) for each in (await desk.use("fs_history", "sub/b.md")).items] == [
        ("sub/b.md", "found"),
        ("a.md", "found"),
    ]


async def test_what_has_become_ignored_is_out_of_sight_with_all_its_versions(desk: Any) -> None:
    desk.write("a.md", "the walrus")
    await desk.scan()
    (version,) = (await desk.use("fs_history", "a.md")).items
    then = datetime.now(UTC)
    desk.write(".gitignore", "a.md\n")
    await desk.scan()

    with pytest.raises(NotFound):
        await desk.use("fs_history", "a.md")
    with pytest.raises(NotFound):
        await desk.use("fs_read", "a.md", version=version.version)
    assert (await desk.use("fs_search", "walrus", as_of=then)).items == []


async def test_versions_of_another_tenant_do_not_exist(make_desk: Any, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "s.md").write_text("canary", encoding="utf-8")
    theirs = {"folder": str(tmp_path / "theirs"), "tenant": "acme"}
    desk = make_desk(roots={"docs": {"folder": str(tmp_path / "docs")}, "theirs": theirs})
    desk.write("a.md", "ours")
    await desk.scan()

    for number in range(1, 6):
        for path in ("s.md", "theirs/s.md"):
            with pytest.raises(NotFound):
                await desk.use("fs_read", path, version=number)
    with pytest.raises(NotFound):
        await desk.use("fs_history", "s.md")


async def test_an_old_version_goes_when_its_time_is_over(make_desk: Any) -> None:
    desk = make_desk(keep_days=1e-9)
    file = desk.write("a.md", "one")
    await desk.scan()
    file.write_text("two", encoding="utf-8")
    await desk.scan()
    desk.restart()
    await desk.scan()

    (only,) = (await desk.use("fs_history", "a.md")).items
    assert (await desk.use("fs_read", "a.md", version=only.version)).text == "two"
    with pytest.raises(NotFound):
        await desk.use("fs_read", "a.md", version=only.version - 1)


async def test_versions_are_kept_in_postgresql_as_well(make_desk: Any, postgresql: Any, tmp_path: Path) -> None:
    roots = {"docs": {"folder": str(tmp_path / "docs"), "writable": True}}
    desk = make_desk(database=postgresql(), roots=roots)
    desk.write("a.md", "the walrus swims")
    await desk.scan()

    edited = await desk.use("fs_edit", "a.md", old="walrus", new="badger")
    await desk.use("fs_move", "a.md", to="b.md")
    await desk.use("fs_undo", "b.md")
    await desk.use("fs_undo", "a.md", version=edited.version_before)
    await desk.scan()

    assert (desk.folder / "a.md").read_text(encoding="utf-8") == "the walrus swims"
    (latest, *_) = (await desk.use("fs_history", "a.md")).items
    assert (latest.how, latest.by) == ("restored", "t")
    assert (await desk.use("fs_read", "a.md", version=edited.version)).text == "the badger swims"
    assert [item.path for item in (await desk.use("fs_search", "walrus")).items] == ["a.md"]
    (await desk.server.state["library"]()).versions.database.close()
