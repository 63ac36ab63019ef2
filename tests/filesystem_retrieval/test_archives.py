"""Archives are folders: their members are listed, read, searched and cited, and none of them leads elsewhere."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from filesystem_retrieval.answers import Claim
from usrland.errors import InvalidInput, NotFound

PLAN = "# Walrus plan\n\nThe walrus moves in May.\n"


def zipped(members: dict[str, str | bytes], *, compress: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compress) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members: dict[str, str | bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


async def failures(desk: Any) -> dict[str, str]:
    status = await desk.use("fs_status")
    return {each.path: each.reason for each in status.roots[0].failures}


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("old.zip", zipped),
        ("old.tar", lambda members: tarred(members, "w")),
        ("old.tgz", tarred),
        ("old.tar.bz2", lambda members: tarred(members, "w:bz2")),
        ("old.tar.xz", lambda members: tarred(members, "w:xz")),
    ],
)
async def test_members_are_found_and_read_like_files(desk: Any, name: str, make: Callable[..., bytes]) -> None:
    desk.write(
        f"box/{name}", make({"a/plan.md": PLAN, "a/code.py": "def seal():\n    return 1\n", "b.bin": b"\0\1"})
    )
    await desk.index()
    path = f"box/{name}/a/plan.md"

    (passage, *_) = (await desk.search("walrus move")).items
    assert (passage.path, passage.first_line, passage.heading) == (path, 1, "Walrus plan")
    assert (await desk.use("fs_read", path, symbol="Walrus plan")).text == PLAN.rstrip("\n")
    assert [each.title for each in (await desk.use("fs_outline", f"box/{name}/a/code.py")).items] == ["def seal"]
    assert [(each.path, each.line) for each in (await desk.use("fs_grep", "in May")).items] == [(path, 3)]
    listed = (await desk.use("fs_list", path=f"box/{name}")).items
    assert [(each.path.removeprefix(f"box/{name}/"), each.type) for each in listed] == [
        ("a", "folder"),
        ("b.bin", "file"),
    ]
    everything = (await desk.use("fs_list", depth=9)).items
    assert [(each.path, each.size) for each in everything if each.path == path] == [(path, len(PLAN))]
    assert [each.type for each in everything if each.path == f"box/{name}"] == ["archive"]
    assert [each.path for each in (await desk.use("fs_list", glob="plan.md")).items] == [path]
    assert await failures(desk) == {}


async def test_a_member_has_versions_and_its_citations_are_verified(desk: Any) -> None:
    desk.write("old.zip", zipped({"plan.md": PLAN, "kept.md": "Nothing else was kept.\n"}))
    await desk.index()
    cited = (await desk.search("walrus move")).items[0]
    claim = Claim(path=cited.path, sha256=cited.sha256, first_line=cited.first_line)
    assert (await desk.use("fs_verify", [claim])).items[0].state == "same"

    desk.write("old.zip", zipped({"plan.md": PLAN.replace("May", "June"), "kept.md": "Nothing else was kept.\n"}))
    await desk.index()

    assert (await desk.use("fs_verify", [claim])).items[0].now == PLAN.replace("May", "June").rstrip("\n")
    first = (await desk.history("old.zip/plan.md")).items[-1]
    assert (await desk.use("fs_read", "old.zip/plan.md", version=first.version)).text == PLAN.rstrip("\n")
    assert len((await desk.history("old.zip/kept.md")).items) == 1
    (desk.folder / "old.zip").unlink()
    assert await desk.found("walrus move") == []
    with pytest.raises(NotFound):
        await desk.use("fs_read", "old.zip/plan.md")


async def test_what_is_ignored_or_labelled_is_so_in_an_archive_too(
    make_desk: Callable[..., Any], tmp_path: Path
) -> None:
    root = {"folder": str(tmp_path / "docs"), "labels": {"finance": ["*.payroll.md"]}}
    desk = make_desk(roots={"docs": root}, ignore=["*.log"])
    desk.write("old.zip", zipped({"a.md": "walrus", "b.log": "walrus", "c.payroll.md": "walrus pay"}))
    await desk.index()
    from dataclasses import replace

    from usrland.schemas.principal import Principal

    assert set(await desk.found("walrus")) == {"old.zip/a.md", "old.zip/c.payroll.md"}
    desk.call = replace(desk.call, principal=Principal(subject="x", scopes=frozenset({"fs:read"})))
    assert await desk.found("walrus") == ["old.zip/a.md"]
    assert [each.path for each in (await desk.use("fs_list", path="old.zip")).items] == ["old.zip/a.md"]
    assert [each.path for each in (await desk.use("fs_grep", "walrus")).items] == ["old.zip/a.md"]
    for path in ("old.zip/b.log", "old.zip/c.payroll.md"):
        with pytest.raises(NotFound):
            await desk.use("fs_read", path)


OUTSIDE = ["../out.md", "/etc/out.md", "a/../../out.md", "..\\out.md", "C:/out.md", "a//out.md", "a/./out.md"]


@pytest.mark.parametrize("make", [zipped, tarred])
async def test_no_member_has_a_name_that_leads_elsewhere(desk: Any, make: Callable[..., bytes]) -> None:
    name = "old.zip" if make is zipped else "old.tgz"
    desk.write(name, make({**dict.fromkeys(OUTSIDE, "walrus"), "in.md": "walrus"}))
    desk.write("out.md", "the real one")
    await desk.index()

    assert await desk.found("walrus") == [f"{name}/in.md"]
    assert "left out" in (await failures(desk))[name]
    for member in OUTSIDE:
        with pytest.raises(NotFound):
            await desk.use("fs_read", f"{name}/{member}", root="docs")


async def test_links_and_devices_in_an_archive_are_no_files(desk: Any, tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("walrus", encoding="utf-8")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind in (
            ("soft.md", tarfile.SYMTYPE),
            ("hard.md", tarfile.LNKTYPE),
            ("pipe.md", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(tmp_path / "secret.md")
            archive.addfile(info)
    desk.write("links.tar", buffer.getvalue())
    info = zipfile.ZipInfo("soft.md")
    info.external_attr = 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr(info, str(tmp_path / "secret.md"))
    desk.write("links.zip", buffer.getvalue())
    await desk.index()

    assert await failures(desk) == {
        "links.tar": "links and devices are left out (3)", "links.zip": "links and devices are left out (1)"
    }  # fmt: skip
    assert (await desk.use("fs_list", depth=5)).items[-1].path == "links.zip"


async def test_what_would_unpack_to_too_much_is_listed_with_the_reason(desk: Any) -> None:
    bomb = bytes(30 << 20)
    desk.write("bomb.zip", zipped({"a.txt": bomb}))
    desk.write("bomb.tar.gz", tarred({"a.txt": bomb}))
    desk.write("bomb.docx", zipped({"[Content_Types].xml": "<Types/>", "word/document.xml": bomb}))
    desk.write("bomb.xlsx", zipped({"xl/workbook.xml": bomb}))
    desk.write("many.zip", zipped({f"{number}.md": "" for number in range(10_001)}))
    info = tarfile.TarInfo("a.bin")
    info.size = 201 << 20
    os.truncate(desk.write("large.tar", info.tobuf()), info.size + 2048)  # a hole, which takes no room
    desk.write("cut.zip", zipped({"a.md": PLAN})[:-30])
    desk.write("nested.zip", zipped({"in.zip": zipped({"a.md": bomb})}))
    desk.write("fine.md", "walrus")
    await desk.index()

    reasons = await failures(desk)

    assert {path: reason for path, reason in reasons.items() if "200 times" in reason}.keys() == {
        "bomb.zip", "bomb.tar.gz", "bomb.docx", "bomb.xlsx"
    }  # fmt: skip
    assert reasons["many.zip"] == "it has more than 10000 members"
    assert reasons["large.tar"] == "it would unpack to more than 200 MB"
    assert reasons["cut.zip"] == "it is damaged"
    assert reasons["nested.zip/in.zip"] == "it is an archive in an archive that cannot be unpacked"
    assert await desk.found("walrus") == ["fine.md"]
    with pytest.raises(InvalidInput, match="is an archive"):
        await desk.use("fs_read", "nested.zip")


async def test_an_archive_in_an_archive_is_a_folder_too(desk: Any) -> None:
    deep = zipped({"a.md": PLAN})
    for name in ("four.zip", "three.zip", "two.zip"):
        deep = zipped({name: deep})
    desk.write("mail.zip", zipped({"two.tgz": tarred({"docs/b.md": "The seal rests.\n"}), "c.md": "seal"}))
    desk.write("one.zip", deep)
    desk.write("empty.zip", zipped({"in.zip": zipped({}), "bad.zip": b"no archive"}))
    await desk.index()

    assert set(await desk.found("seal")) == {"mail.zip/two.tgz/docs/b.md", "mail.zip/c.md"}
    assert (await desk.use("fs_read", "mail.zip/two.tgz/docs/b.md")).text == "The seal rests."
    assert [each.path for each in (await desk.use("fs_grep", "The seal")).items] == ["mail.zip/two.tgz/docs/b.md"]
    listed = (await desk.use("fs_list", path="mail.zip", depth=3)).items
    assert [(each.path, each.type) for each in listed] == [
        ("mail.zip/c.md", "file"),
        ("mail.zip/two.tgz", "folder"),
        ("mail.zip/two.tgz/docs", "folder"),
        ("mail.zip/two.tgz/docs/b.md", "file"),
    ]
    assert (await failures(desk)).keys() == {
        "one.zip/two.zip/three.zip/four.zip", "empty.zip/in.zip", "empty.zip/bad.zip"
    }  # fmt: skip
    with pytest.raises(InvalidInput, match="is an archive"):
        await desk.use("fs_read", "one.zip/two.zip/three.zip/four.zip")


async def test_a_folder_may_be_named_like_an_archive(desk: Any) -> None:
    desk.write("site.zip/a.md", "walrus")
    await desk.index()

    assert await desk.found("walrus") == ["site.zip/a.md"]
    assert (await desk.use("fs_read", "site.zip/a.md")).text == "walrus"


async def test_a_member_that_lies_about_its_size_is_damaged_and_the_others_are_read(desk: Any) -> None:
    packed = bytearray(zipped({"a.md": PLAN * 9, "b.md": "walrus"}, compress=zipfile.ZIP_STORED))
    size = len(PLAN * 9).to_bytes(4, "little")
    where = packed.rfind(size)  # in the directory at its end
    packed[where : where + 4] = (10).to_bytes(4, "little")
    desk.write("lies.zip", bytes(packed))
    await desk.index()

    assert (await failures(desk)) == {"lies.zip/a.md": "it is damaged"}
    assert await desk.found("walrus") == ["lies.zip/b.md"]
