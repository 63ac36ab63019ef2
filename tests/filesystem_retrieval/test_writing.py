"""Files are changed only by who knows what they hold, and every change can be taken back."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from filesystem_retrieval import slots
from filesystem_retrieval.patterns import DRAFT
from usrland.errors import Conflict, Denied, InvalidInput, NotFound, Unavailable
from usrland.host import running
from usrland.settings import Settings

TOOLS = {"fs_write", "fs_edit", "fs_move", "fs_undo"}


def names(desk: Any) -> list[str]:
    return sorted(path.name for path in desk.folder.iterdir())


async def test_what_was_written_is_on_the_disk_found_and_known_by_its_version(writable: Any) -> None:
    made = await writable.use("fs_write", "notes/plan.md", content="The walrus swims.\n")

    assert (writable.folder / "notes" / "plan.md").read_text() == "The walrus swims.\n"
    assert (made.changed, made.version_before, made.lines_added) == (True, None, 1)
    await writable.scan()
    (hit,) = (await writable.use("fs_search", "walrus")).items
    assert hit.path == "notes/plan.md"
    read = await writable.use("fs_read", "notes/plan.md")
    assert (read.version, read.sha256) == (made.version, made.sha256)
    (only,) = (await writable.use("fs_history", "notes/plan.md")).items
    assert (only.version, only.how, only.by) == (made.version, "written", "t")


async def test_without_the_grant_nothing_is_listed_and_nothing_is_written(desk: Any, make_desk: Any) -> None:
    assert not TOOLS & {operation.name for operation in desk.server.operations}

    other = desk.folder.parent / "other"
    other.mkdir()
    roots = {"docs": {"folder": str(desk.folder)}, "other": {"folder": str(other), "writable": True}}
    mixed = make_desk(roots=roots)

    assert {operation.name for operation in mixed.server.operations} >= TOOLS
    desk.write("a.md", "one")
    for tool, arguments in (
        ("fs_write", {"path": "new.md", "content": "x"}),
        ("fs_edit", {"path": "a.md", "old": "one", "new": "two"}),
        ("fs_move", {"path": "a.md", "to": "b.md"}),
        ("fs_undo", {"path": "a.md", "version": 1}),
    ):
        with pytest.raises((Denied, NotFound)):
            await mixed.use(tool, root="docs", **arguments)
    assert names(desk) == ["a.md"]


async def test_the_scope_is_needed_as_well(writable: Any, connect: Any, someone: Any) -> None:
    settings = Settings(home=writable.home, tables={"filesystem-retrieval": writable.table})
    reader = someone("fs:read")
    async with running(writable.server, settings, principal=reader) as host, connect(host) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        answer = await client.call_tool("fs_write", {"path": "a.md", "content": "x"})

    assert not TOOLS & tools
    assert answer.is_error and answer.structured_content["error"]["missing_scopes"] == ["fs:write"]
    assert names(writable) == []


async def test_a_file_is_replaced_only_by_who_says_what_it_held(writable: Any, connect: Any) -> None:
    writable.write("a.md", "one")
    read = await writable.use("fs_read", "a.md")
    settings = Settings(home=writable.home, tables={"filesystem-retrieval": writable.table})

    async with running(writable.server, settings) as host, connect(host) as client:

        async def write(content: str, **more: str) -> Any:
            return await client.call_tool("fs_write", {"path": "a.md", "content": content, **more})

        unread = await write("two")
        right = await write("two", expected=read.sha256[:12])
        stale = await write("three", expected=read.sha256)
        by_version = await write("three", expected=str(right.structured_content["version"]))

    assert unread.structured_content["error"]["code"] == "conflict"
    assert not right.is_error
    error = stale.structured_content["error"]
    assert error["code"] == "conflict"
    assert error["details"] == {
        "path": "a.md",
        "version": right.structured_content["version"],
        "sha256": right.structured_content["sha256"],
    }
    assert not by_version.is_error
    assert (writable.folder / "a.md").read_text() == "three"


async def test_a_write_that_is_repeated_changes_nothing(writable: Any) -> None:
    first = await writable.use("fs_write", "a.md", content="one")
    again = await writable.use("fs_write", "a.md", content="one")

    assert (again.changed, again.version) == (False, first.version)
    assert (await writable.use("fs_history", "a.md")).total == 1


async def test_a_retried_call_with_a_key_has_one_effect(writable: Any, connect: Any) -> None:
    settings = Settings(home=writable.home, tables={"filesystem-retrieval": writable.table})
    writable.write("a.md", "x")
    async with running(writable.server, settings) as host, connect(host) as client:
        arguments = {"path": "a.md", "old": "x", "new": "xx", "idempotency_key": "k"}
        first = await client.call_tool("fs_edit", arguments)
        again = await client.call_tool("fs_edit", arguments)

    assert again.structured_content == first.structured_content
    assert (writable.folder / "a.md").read_text() == "xx"


@pytest.mark.parametrize(
    ("content", "old", "new", "after"),
    [
        (b"a\nb\nc\n", "b", "B", b"a\nB\nc\n"),
        (b"a\r\nb\r\nc\r\n", "a\nb", "a\nB", b"a\r\nB\r\nc\r\n"),
        (b"\xef\xbb\xbfna\xc3\xafve", "naïve", "wise", b"\xef\xbb\xbfwise"),
        ("\ufeffeins zwei".encode("utf-16-le"), "zwei", "drei", "\ufeffeins drei".encode("utf-16-le")),
        ("\ufeffeins zwei".encode("utf-16-be"), "zwei", "drei", "\ufeffeins drei".encode("utf-16-be")),
        (b"caf\xe9 noir", "noir", "cr\xe8me", b"caf\xe9 cr\xe8me"),
        (b"tail", "tail", "", b""),
    ],
)
async def test_an_edit_keeps_the_encoding_and_the_line_ends(
    writable: Any, content: bytes, old: str, new: str, after: bytes
) -> None:
    writable.write("a.txt", content)

    await writable.use("fs_edit", "a.txt", old=old, new=new)

    assert (writable.folder / "a.txt").read_bytes() == after


@pytest.mark.parametrize(
    ("content", "arguments", "error"),
    [
        (b"a b a", {"old": "a", "new": "x"}, InvalidInput),
        (b"a b a", {"old": "c", "new": "x"}, Conflict),
        (b"a b a", {"old": "", "new": "x"}, InvalidInput),
        (b"a b a", {"old": "b", "new": "x", "expected": "0" * 64}, Conflict),
        (b"a b a", {"old": "b", "new": "x", "expected": "123"}, NotFound),
        (b"a\0b", {"old": "b", "new": "x"}, InvalidInput),
        (b"caf\xe9", {"old": "caf", "new": "\u65e5"}, InvalidInput),
    ],
)
async def test_an_edit_that_is_not_exact_changes_nothing(
    writable: Any, content: bytes, arguments: dict[str, str], error: type[Exception]
) -> None:
    writable.write("a.txt", content)

    with pytest.raises(error):
        await writable.use("fs_edit", "a.txt", **arguments)

    assert (writable.folder / "a.txt").read_bytes() == content
    assert names(writable) == ["a.txt"]


async def test_every_occurrence_is_replaced_when_that_is_meant(writable: Any) -> None:
    writable.write("a.txt", "a b a")
    await writable.use("fs_edit", "a.txt", old="a", new="x", everywhere=True)
    assert (writable.folder / "a.txt").read_text() == "x b x"


async def test_a_dry_run_tells_and_changes_nothing(writable: Any, connect: Any) -> None:
    writable.write("a.md", "one\n")
    settings = Settings(home=writable.home, tables={"filesystem-retrieval": writable.table})
    async with running(writable.server, settings) as host, connect(host) as client:

        async def dry(tool: str, **arguments: Any) -> Any:
            result = await client.call_tool(tool, {**arguments, "dry_run": True})
            return result.structured_content

        edit = await dry("fs_edit", path="a.md", old="one", new="two")
        write = await dry("fs_write", path="sub/b.md", content="new\n")
        same = await dry("fs_edit", path="a.md", old="one", new="one")
        move = await dry("fs_move", path="a.md", to="c.md")
        refused = await dry("fs_write", path="a.md", content="two")

    assert "-one" in edit["examples"][0] and "+two" in edit["examples"][0]
    assert "would be made" in write["would"]
    assert (same["affected"], move["affected"]) == (0, 1)
    assert refused["error"]["code"] == "conflict"
    assert sorted(path.name for path in writable.folder.rglob("*")) == ["a.md"]


async def test_a_moved_file_keeps_its_history(writable: Any) -> None:
    first = await writable.use("fs_write", "a.md", content="one")
    moved = await writable.use("fs_move", "a.md", to="deep/b.md")
    edited = await writable.use("fs_edit", "deep/b.md", old="one", new="two")

    assert sorted(path.name for path in writable.folder.rglob("*.md")) == ["b.md"]
    items = (await writable.use("fs_history", "deep/b.md")).items
    assert [(each.how, each.path) for each in items] == [
        ("edited", "deep/b.md"),
        ("moved", "deep/b.md"),
        ("written", "a.md"),
    ]
    assert [each.version for each in items] == [edited.version, moved.version, first.version]
    (left, *_) = (await writable.use("fs_history", "a.md")).items
    assert (left.how, left.other_path) == ("left", "deep/b.md")
    assert await writable.use("fs_read", "a.md", version=first.version)


async def test_a_move_never_replaces_anything(writable: Any) -> None:
    writable.write("a.md", "one")
    writable.write("b.md", "two")

    with pytest.raises(Conflict):
        await writable.use("fs_move", "a.md", to="b.md")
    with pytest.raises(Conflict):
        await writable.use("fs_move", "a.md", to="a.md")

    assert ((writable.folder / "a.md").read_text(), (writable.folder / "b.md").read_text()) == ("one", "two")


async def test_undo_takes_back_the_last_change_and_itself(writable: Any) -> None:
    writable.write("a.md", "one")
    await writable.use("fs_edit", "a.md", old="one", new="two")
    file = writable.folder / "a.md"

    await writable.use("fs_undo", "a.md")
    assert file.read_text() == "one"
    await writable.use("fs_undo", "a.md")
    assert file.read_text() == "two"

    await writable.use("fs_move", "a.md", to="b.md")
    await writable.use("fs_undo", "b.md")
    assert file.read_text() == "two" and not (writable.folder / "b.md").exists()


async def test_undo_of_a_new_file_removes_it_and_brings_it_back(writable: Any) -> None:
    made = await writable.use("fs_write", "a.md", content="one")

    undone = await writable.use("fs_undo", "a.md")
    assert undone.sha256 is None and not (writable.folder / "a.md").exists()
    await writable.use("fs_undo", "a.md", version=made.version)
    assert (writable.folder / "a.md").read_text() == "one"


async def test_undo_does_not_take_back_what_others_have_done_since(writable: Any) -> None:
    await writable.use("fs_write", "a.md", content="one")
    made = await writable.use("fs_edit", "a.md", old="one", new="two")
    writable.write("a.md", "theirs")

    with pytest.raises(Conflict):
        await writable.use("fs_undo", "a.md")
    await writable.scan()
    with pytest.raises(Conflict):
        await writable.use("fs_undo", "a.md")
    assert (writable.folder / "a.md").read_text() == "theirs"

    back = await writable.use("fs_undo", "a.md", version=made.version_before)
    assert (writable.folder / "a.md").read_text() == "one"
    theirs = await writable.use("fs_read", "a.md", version=back.version_before)
    assert theirs.text == "theirs"


async def test_what_nobody_had_read_yet_is_a_version_before_it_is_replaced(writable: Any) -> None:
    writable.write("a.txt", "unseen")
    await writable.use("fs_edit", "a.txt", old="unseen", new="seen")

    (_, before) = (await writable.use("fs_history", "a.txt")).items

    assert (await writable.use("fs_read", "a.txt", version=before.version)).text == "unseen"
    assert (before.how, before.by) == ("found", None)


@pytest.mark.parametrize(
    "path",
    [
        "../out.md",
        "/etc/out.md",
        "a/../../out.md",
        "a//b.md",
        "a/",
        "",
        ".",
        "..",
        "a\0b",
        "\ud800",
        "link/out.md",
        "dangling",
    ],
)
async def test_nothing_is_written_outside(writable: Any, path: str) -> None:
    outside = writable.folder.parent / "outside"
    outside.mkdir()
    (writable.folder / "link").symlink_to(outside)
    (writable.folder / "dangling").symlink_to(outside / "new.md")
    before = sorted(writable.folder.parent.rglob("*"))

    with pytest.raises((NotFound, InvalidInput, Denied)):
        await writable.use("fs_write", path, content="x")

    assert [each for each in sorted(writable.folder.parent.rglob("*")) if "home" not in each.parts] == [
        each for each in before if "home" not in each.parts
    ]


@pytest.mark.parametrize(
    "path",
    [".env", "secret/new.md", "secret/deep/er.md", ".git/hooks/pre-commit", ".gitignore", "sub/.usrlandignore",
     f"{DRAFT}x"],
)  # fmt: skip
async def test_what_is_ignored_and_what_decides_that_cannot_be_written(writable: Any, path: str) -> None:
    writable.write(".gitignore", ".env\nsecret/\n")
    writable.write(".env", "KEY=1")
    writable.write("a.md", "x")
    before = {file: file.read_bytes() for file in writable.folder.rglob("*") if file.is_file()}

    with pytest.raises(Denied):
        await writable.use("fs_write", path, content="x", expected="0" * 8)
    with pytest.raises((Denied, NotFound)):
        await writable.use("fs_edit", path, old="K", new="x")
    with pytest.raises(Denied):
        await writable.use("fs_move", "a.md", to=path)

    assert {file: file.read_bytes() for file in writable.folder.rglob("*") if file.is_file()} == before


async def test_a_link_inside_is_followed_and_stays_one(writable: Any) -> None:
    writable.write("real/a.md", "one")
    (writable.folder / "link.md").symlink_to("real/a.md")

    done = await writable.use("fs_edit", "link.md", old="one", new="two")

    assert done.path == "real/a.md"
    assert (writable.folder / "link.md").is_symlink()
    assert (writable.folder / "real" / "a.md").read_text() == "two"


async def test_the_mode_of_a_file_is_kept(writable: Any) -> None:
    writable.write("run.sh", "one").chmod(0o750)
    await writable.use("fs_edit", "run.sh", old="one", new="two")
    assert stat.S_IMODE((writable.folder / "run.sh").stat().st_mode) == 0o750


async def test_a_change_by_somebody_else_in_the_last_moment_is_noticed(
    writable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = writable.write("a.md", "one")
    draft = slots.Slot.draft

    def meanwhile(self: slots.Slot, name: str, content: bytes, like: Any) -> None:
        draft(self, name, content, like)
        file.write_text("theirs", encoding="utf-8")

    monkeypatch.setattr(slots.Slot, "draft", meanwhile)
    with pytest.raises(Conflict):
        await writable.use("fs_edit", "a.md", old="one", new="two")

    assert file.read_text() == "theirs"
    assert names(writable) == ["a.md"]


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, Unavailable), (errno.EACCES, Denied), (errno.EIO, Unavailable)]
)
async def test_what_the_system_refuses_leaves_everything_as_it_was(
    writable: Any, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    file = writable.write("a.md", "one")
    await writable.scan()

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(slots.os, "write", refuse)
        with pytest.raises(error):
            await writable.use("fs_edit", "a.md", old="one", new="two")

    assert (file.read_text(), names(writable)) == ("one", ["a.md"])
    assert (await writable.use("fs_history", "a.md")).total == 1
    await writable.use("fs_edit", "a.md", old="one", new="two")
    assert file.read_text() == "two"


async def test_a_file_system_without_links_is_served_as_well(
    writable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(slots.os, "link", refuse)
    await writable.use("fs_write", "a.md", content="one")
    await writable.use("fs_write", "b.md", content="two")
    with pytest.raises(Conflict):
        await writable.use("fs_move", "a.md", to="b.md")
    await writable.use("fs_move", "a.md", to="c.md")

    assert names(writable) == ["b.md", "c.md"]


async def test_a_file_too_large_to_be_kept_is_not_replaced(make_desk: Any, tmp_path: Path) -> None:
    roots = {"docs": {"folder": str(tmp_path / "docs"), "writable": True}}
    desk = make_desk(roots=roots, max_document_bytes=1000)
    desk.write("a.txt", "x" * 1001)

    with pytest.raises(InvalidInput):
        await desk.use("fs_write", "a.txt", content="y", expected="0" * 8)
