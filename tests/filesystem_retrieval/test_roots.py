"""What a caller may see: roots, tenants, ignored files, and which paths name what."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from usrland.connector import Call
from usrland.errors import InvalidInput, NotFound
from usrland.schemas.principal import Principal


def of_tenant(call: Call, tenant: str) -> Call:
    return replace(call, principal=Principal(subject="t", tenant=tenant, scopes=frozenset({"*"})))


async def everything(desk: Any) -> list[str]:
    listing = await desk.use("fs_list", depth=50)
    return [entry.path for entry in listing.items if entry.type == "file"]


async def test_without_any_root_every_tool_says_how_to_add_one(make_desk: Callable[..., Any]) -> None:
    desk = make_desk(roots={})

    for tool, arguments in (
        ("fs_search", ["x"]),
        ("fs_read", ["x"]),
        ("fs_list", []),
        ("fs_grep", ["x"]),
        ("fs_status", []),
    ):
        with pytest.raises(InvalidInput, match="no folder") as error:
            await desk.use(tool, *arguments)
        assert "usrland init" in error.value.fix


@pytest.mark.parametrize(
    "table",
    [
        {"roots": {"docs": "relative/path"}},
        {"roots": {"a/b": "/srv"}},
        {"roots": {"docs": {"folder": "/srv", "unknown": 1}}},
        {"max_file_bytes": 0},
        {"rots": {}},
    ],
)
def test_a_wrong_setting_is_named_before_anything_starts(make_desk: Callable[..., Any], table: Any) -> None:
    with pytest.raises(InvalidInput, match=r"roots|max_file_bytes|rots"):
        make_desk(**table)


async def test_nested_ignore_files_hide_what_git_would(desk: Any) -> None:
    desk.write(".gitignore", "*.log\n/build/\n!keep.log\nsecrets/\n")
    desk.write("sub/.gitignore", "!loud.log\nlocal.md\n[\n")
    desk.write("sub/.usrlandignore", "drafts/\n")
    for path in (
        "keep.log",
        "noise.log",
        "build/out.md",
        "sub/build/kept.md",
        "sub/loud.log",
        "sub/local.md",
        "local.md",
        "secrets/key.md",
        "sub/secrets/key.md",
        "sub/drafts/plan.md",
        "drafts/plan.md",
        "node_modules/pkg/readme.md",
        ".git/config",
        "sub/.venv/lib.py",
    ):
        desk.write(path, "walrus")
    await desk.index()

    seen = [
        ".gitignore",
        "drafts/plan.md",
        "keep.log",
        "local.md",
        "sub/.gitignore",
        "sub/.usrlandignore",
        "sub/build/kept.md",
        "sub/loud.log",
    ]
    assert sorted(await everything(desk)) == seen
    hits = (await desk.search("walrus", limit=50)).items
    found = {path for hit in hits for path in (hit.path, *(hit.also_at or ()))}
    assert found == {path for path in seen if "ignore" not in path}
    grepped = (await desk.use("fs_grep", "walrus")).items
    assert sorted(line.path for line in grepped) == [path for path in seen if "ignore" not in path]
    for hidden in ("noise.log", "build/out.md", ".git/config", "secrets/key.md", "node_modules/pkg/readme.md"):
        with pytest.raises(NotFound, match="there is no"):
            await desk.use("fs_read", hidden)


async def test_the_operator_can_ignore_more_and_no_folder_can_undo_it(make_desk: Callable[..., Any]) -> None:
    desk = make_desk(ignore=["*.secret"])
    desk.write(".gitignore", "!*.secret\n")
    desk.write("key.secret", "walrus")

    assert await everything(desk) == [".gitignore"]


async def test_a_file_that_becomes_ignored_is_not_found_any_more(desk: Any) -> None:
    desk.write("plan.md", "walrus")
    await desk.index()
    assert await desk.found("walrus") == ["plan.md"]

    desk.write(".gitignore", "plan.md\n")

    assert await desk.found("walrus") == []


async def test_a_link_to_what_is_hidden_or_outside_leads_nowhere(desk: Any, tmp_path: Path) -> None:
    (tmp_path / "outside.md").write_text("walrus outside", encoding="utf-8")
    desk.write(".gitignore", "hidden.md\n")
    desk.write("hidden.md", "walrus hidden")
    desk.write("plain.md", "walrus plain")
    for name, target in (("a.md", "hidden.md"), ("b.md", "../outside.md"), ("c.md", "plain.md"), ("d", "..")):
        (desk.folder / name).symlink_to(target)
    os.mkfifo(desk.folder / "pipe.md")
    await desk.index()

    assert await desk.found("walrus") == ["plain.md"]
    assert (await desk.use("fs_read", "c.md")).path == "plain.md"
    for path in ("a.md", "b.md", "d/outside.md", "pipe.md", "../outside.md", str(tmp_path / "outside.md")):
        with pytest.raises(NotFound, match="leads upwards" if ".." in path else "there is no"):
            await desk.use("fs_read", path)
    with pytest.raises(NotFound):
        await desk.use("fs_list", path="d")


def test_a_file_that_became_a_link_since_the_walk_is_not_opened(desk: Any) -> None:
    desk.write(".gitignore", "hidden.md\n")
    desk.write("hidden.md", "walrus")
    file = desk.write("plain.md", "badger")
    (root,) = desk.library.roots
    (found,) = [found for found in root.walk() if found.path == "plain.md"]
    file.unlink()
    file.symlink_to("hidden.md")

    with pytest.raises(NotFound), root.open_found(found):
        raise AssertionError


async def test_our_own_data_is_nobodys_document(make_desk: Callable[..., Any], tmp_path: Path) -> None:
    desk = make_desk(roots={"all": {"folder": str(tmp_path)}})
    desk.write("guide.md", "walrus")
    (desk.home / "usrland.toml").write_text("walrus = 1", encoding="utf-8")
    await desk.index()

    assert await desk.found("walrus") == ["docs/guide.md"]
    with pytest.raises(NotFound):
        await desk.use("fs_read", "home/usrland.toml")


async def test_a_root_is_seen_by_its_tenant_alone(make_desk: Callable[..., Any], tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "plan.md").write_text("walrus of theirs", encoding="utf-8")
    desk = make_desk(
        roots={
            "docs": str(tmp_path / "docs"),
            "theirs": {"folder": str(theirs), "tenant": "acme"},
        }
    )
    desk.write("plan.md", "walrus of ours")
    await desk.index()

    assert [hit.root for hit in (await desk.search("walrus")).items] == ["docs"]
    with pytest.raises(InvalidInput, match="'theirs'") as error:
        await desk.search("walrus", root="theirs")
    assert error.value.fix == "Roots: docs."
    for path in ("theirs/plan.md", "../theirs/plan.md"):
        with pytest.raises(NotFound):
            await desk.use("fs_read", path)
    desk.call = of_tenant(desk.call, "acme")
    assert [hit.root for hit in (await desk.search("walrus")).items] == ["theirs"]
    desk.call = of_tenant(desk.call, "nobody")
    with pytest.raises(InvalidInput, match="no folder"):
        await desk.search("walrus")


async def test_a_path_names_one_thing_or_the_roots_it_could_be_in(
    make_desk: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "code").mkdir()
    desk = make_desk(roots={"docs": str(tmp_path / "docs"), "code": str(tmp_path / "code")})
    desk.write("only.md", "one")
    desk.write("both.md", "docs")
    (tmp_path / "code" / "both.md").write_text("code", encoding="utf-8")

    assert (await desk.use("fs_read", "only.md")).root == "docs"
    assert (await desk.use("fs_read", "docs/only.md")).path == "only.md"
    assert (await desk.use("fs_read", "code/both.md")).text == "code"
    assert (await desk.use("fs_read", "both.md", root="docs")).text == "docs"
    with pytest.raises(InvalidInput, match=r"root 'code'.*root 'docs'"):
        await desk.use("fs_read", "both.md")
    with pytest.raises(InvalidInput, match="'other'"):
        await desk.use("fs_read", "both.md", root="other")
    assert [(entry.root, entry.type) for entry in (await desk.use("fs_list")).items] == [
        ("code", "root"),
        ("docs", "root"),
    ]
    assert [entry.path for entry in (await desk.use("fs_list", path="docs")).items] == ["both.md", "only.md"]


async def test_listing_goes_as_deep_as_asked_and_by_pages(desk: Any) -> None:
    for number in range(700):
        desk.write(f"many/{number:03}.txt", "x")
    desk.write("a/b/c.md", "x")

    top = await desk.use("fs_list")
    two = await desk.use("fs_list", path="a", depth=2)
    markdown = await desk.use("fs_list", glob="*.md")
    first = await desk.use("fs_list", path="many")
    desk.call = replace(desk.call, offset=len(first.items))
    second = await desk.use("fs_list", path="many")

    assert [(entry.path, entry.type) for entry in top.items] == [("a", "folder"), ("many", "folder")]
    assert [entry.path for entry in two.items] == ["a/b", "a/b/c.md"]
    assert [entry.path for entry in markdown.items] == ["a/b/c.md"]
    assert (first.more, second.more) == (True, False)
    names = [entry.path for entry in (*first.items, *second.items)]
    assert names == [f"many/{number:03}.txt" for number in range(700)]
