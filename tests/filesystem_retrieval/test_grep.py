"""Exact strings and patterns, from the disk."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import re2

from filesystem_retrieval import roots, shelves
from filesystem_retrieval.grep import grep, held_by_every_match
from filesystem_retrieval.roots import Folder
from filesystem_retrieval.shelves import Shelves
from usrland.errors import InvalidInput


async def test_plain_text_is_plain_and_a_pattern_is_a_pattern(desk: Any) -> None:
    desk.write("a.py", "x = f(1.5)\ny = f(125)\n")

    plain = await desk.use("fs_grep", "f(1.5)")
    pattern = await desk.use("fs_grep", r"^y = f\(1.5\)$", regex=True)

    assert [(line.path, line.line, line.text) for line in plain.items] == [("a.py", 1, "x = f(1.5)")]
    assert [line.line for line in pattern.items] == [2]


async def test_neighbours_come_along_when_asked(desk: Any) -> None:
    desk.write("a.txt", "one\ntwo\nthree\nfour\nfive")

    (line,) = (await desk.use("fs_grep", "three", context_lines=1)).items
    (first,) = (await desk.use("fs_grep", "one", context_lines=9)).items

    assert (line.before, line.after) == (["two"], ["four"])
    assert (first.before, first.after) == (None, ["two", "three", "four", "five"])


async def test_each_line_counts_once_and_pages_meet(desk: Any) -> None:
    desk.write("a.txt", "walrus walrus\n" * 450)

    seen: list[int] = []
    more = True
    while more:
        desk.call = replace(desk.call, offset=len(seen))
        page = await desk.use("fs_grep", "walrus")
        seen += [line.line for line in page.items]
        more = page.more

    assert seen == list(range(1, 451))


async def test_a_glob_narrows_and_binary_files_are_passed_over(desk: Any) -> None:
    desk.write("a.md", "walrus")
    desk.write("b.txt", "walrus")
    desk.write("c.bin", b"walrus\0")
    desk.write("d.txt", "walrüs".encode("utf-16"))

    assert [line.path for line in (await desk.use("fs_grep", "walrus", glob="*.md")).items] == ["a.md"]
    assert [line.path for line in (await desk.use("fs_grep", "walr[uü]s", regex=True)).items] == [
        "a.md",
        "b.txt",
        "d.txt",
    ]
    assert (await desk.use("fs_grep", "badger")).note == "no line matches."


async def test_a_hostile_pattern_takes_no_longer_than_the_text(desk: Any) -> None:
    desk.write("a.txt", "a" * 100_000 + "!")

    with anyio.fail_after(60):
        assert (await desk.use("fs_grep", "(a+)+$", regex=True)).items == []


async def test_a_long_line_is_shown_around_its_match(desk: Any) -> None:
    desk.write("a.json", "x" * 5_000 + "walrus" + "y" * 5_000)

    (line,) = (await desk.use("fs_grep", "walrus")).items

    assert "walrus" in line.text
    assert len(line.text) < 400


@pytest.mark.parametrize("pattern", ["(", "(?=x)", r"(x)\1", "x" * 2_000])
async def test_what_re2_cannot_match_is_refused(desk: Any, pattern: str) -> None:
    with pytest.raises(InvalidInput, match="pattern"):
        await desk.use("fs_grep", pattern, regex=True)


@pytest.mark.parametrize(
    ("pattern", "needed"),
    [
        (r"class \w+Error\(", "class "),
        (r"zz\w+qq\(\d+\)", "qq("),
        (r"colou?r", "colo"),
        (r"ab{2,3}c", "a"),
        (r"(walrus|seal) herd", " herd"),
        (r"walrus|seal", ""),
        (r"(?i)walrus", ""),
        (r"(?:big )?walrus", "walrus"),
        (r"[walrus]+x[^]a]y", "x"),
        (r"a\\b", "a\\b"),
        (r"\Qa.b\E*", ""),
        (r"walrus\x41?", ""),
        ("walrüs.", "walrüs"),
    ],
)
def test_what_every_match_holds_is_known(pattern: str, needed: str) -> None:
    assert held_by_every_match(pattern) == needed


def test_no_match_is_without_what_every_match_holds() -> None:
    chance = random.Random(7)
    pieces = [
        "a",
        "b",
        "ab",
        r"\.",
        ".",
        "[ab]",
        "[^b]",
        "(a|b)",
        "(ab)",
        "?",
        "*",
        "+",
        "{0,1}",
        "|",
        r"\w",
        r"\b",
        "^",
    ]
    options = re2.Options()
    options.log_errors = False
    held = 0
    for _ in range(20_000):
        pattern = "".join(chance.choices(pieces, k=chance.randint(1, 6)))
        try:
            compiled = re2.compile(pattern, options=options)
        except re2.error:
            continue
        needed = held_by_every_match(pattern)
        for match in compiled.finditer("".join(chance.choices("ab. ", k=12))):
            assert needed in match[0], pattern
            held += bool(needed)
    assert held > 1_000


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252", "cp932", "iso2022_jp", "koi8_r"])
@pytest.mark.parametrize(("pattern", "regex"), [("walrus", False), (r"wal\w+s", True), (r"(walrus)", True)])
async def test_words_are_found_in_every_encoding(desk: Any, codec: str, pattern: str, regex: bool) -> None:
    foreign = {"cp932": "セイウチは海にいる", "iso2022_jp": "セイウチは海にいる", "koi8_r": "морж живёт в море"}
    words = foreign.get(codec, "café à la crème")
    text = f"{words}\n{words} walrus {words}\n"
    desk.write("a.txt", text.encode(codec))

    (line,) = (await desk.use("fs_grep", pattern, regex=regex)).items

    assert (line.line, line.text) == (2, text.split("\n")[1])


async def test_the_end_of_the_last_line_is_no_line(desk: Any) -> None:
    desk.write("a.txt", "one\n\nthree\n")

    assert [line.line for line in (await desk.use("fs_grep", "^$", regex=True)).items] == [2]
    assert [line.line for line in (await desk.use("fs_grep", "$", regex=True)).items] == [1, 2, 3]


async def test_lines_beside_a_match_at_the_end_are_those_there_are(desk: Any) -> None:
    desk.write("a.txt", "one\n\nthree\nfour")

    (line,) = (await desk.use("fs_grep", "four", context_lines=3)).items

    assert (line.before, line.after) == (["one", "", "three"], None)


async def test_documents_and_large_files_are_looked_through(desk: Any) -> None:
    desk.write("a.eml", b"Subject: herd\r\nFrom: a@b.c\r\n\r\nThe Walrus_100% sleeps.\r\n")
    desk.write("b.txt", "x" * 3_000_000 + "\nwalrus_100%\n")
    desk.write("c.dat", b"\0" * 100_000 + b"\nwalrus_100%\n")
    await desk.index()

    async def paths(pattern: str) -> list[str]:
        return [line.path for line in (await desk.use("fs_grep", pattern)).items]

    assert await paths("alrus_100%") == ["a.eml", "b.txt"]
    assert await paths("walrus_100%") == ["b.txt"]
    assert await paths("walrus0100%") == []


async def test_ignored_files_and_links_are_not_read(desk: Any, tmp_path: Any) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("walrus")
    desk.write(".gitignore", "hidden/\n*.log\n")
    desk.write("hidden/a.txt", "walrus")
    desk.write("in/b.log", "walrus")
    desk.write("in/.gitignore", "!b.log\nc.txt\n")
    desk.write("in/c.txt", "walrus")
    desk.write("in/d.txt", "walrus")
    (desk.folder / "link").symlink_to(outside)
    (desk.folder / "in/link.txt").symlink_to(outside / "secret.txt")
    os.mkfifo(desk.folder / "in/pipe.txt")

    assert [line.path for line in (await desk.use("fs_grep", "walrus")).items] == ["in/b.log", "in/d.txt"]


async def test_our_own_data_in_a_root_is_not_looked_through(make_desk: Any, tmp_path: Any) -> None:
    desk = make_desk(roots={"all": str(tmp_path)}, watch=False)
    desk.write("a.txt", "walrus")
    (desk.home / "notes.txt").write_text("walrus", encoding="utf-8")

    assert [line.path for line in (await desk.use("fs_grep", "walrus")).items] == ["docs/a.txt"]


PATTERNS = (
    ("walrus", False),
    ("walrüs", False),
    (r"^walrus \w+$", True),
    (r"wal.us|seal", True),
    (r"us seal\b", True),
    (r"^$", True),
)
TEXTS = (
    "walrus seal",
    "seal\nwalrus",
    "a walrüs",
    "wal",
    "rus\n\nseal",
    "walrus seal".encode("utf-16"),
    "walrüs".encode("latin-1"),
    b"walrus\0seal",
    b"",
)


def a_moment_later(folder: Path) -> None:
    """When the clock of the file system has moved on."""
    probe = folder.parent / "probe"
    probe.write_bytes(b"")
    begun = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == begun:
        probe.write_bytes(b"")


def change(chance: random.Random, folder: Path) -> None:
    """One thing that people and programs do to files."""
    there = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".gitignore")
    new = folder / chance.choice(["", "a", "a/b", "c"]) / f"{chance.choice('opq')}.{chance.choice(['md', 'py'])}"
    text = chance.choice(TEXTS)
    content = text.encode() if isinstance(text, str) else text
    match chance.randrange(7):
        case 0 if there:
            chance.choice(there).unlink()
        case 1 if there:
            new.parent.mkdir(parents=True, exist_ok=True)
            chance.choice(there).rename(new)
        case 2 if there:  # a change that hides its time
            path = chance.choice(there)
            times = path.stat()
            path.write_bytes(content)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        case 3:
            (folder / chance.choice(["", "a"]) / ".gitignore").write_text(
                chance.choice(["", "p.*", "b/", "!p.md"])
            )
        case 4 if there:
            path = chance.choice(there)
            path.unlink()
            path.symlink_to(folder / "o.md")
        case _:
            new.parent.mkdir(parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            new.write_bytes(content)


async def lines(desk: Any, pattern: str, *, regex: bool = False) -> Any:
    """By the test's own library, whose shelves can be seen and exchanged."""
    return (await grep(desk.library, desk.call, pattern, regex=regex, root=None, glob=None, context=1)).items


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("room", [4_000, 1 << 20])
async def test_what_is_held_in_memory_never_shows(
    desk: Any, monkeypatch: pytest.MonkeyPatch, seed: int, room: int
) -> None:
    for module in (shelves, roots):  # or nothing that has just been written would be held
        monkeypatch.setattr(module, "CLOCK_TICK_NS", 0)
    chance = random.Random(seed)
    held, none = Shelves(max_bytes=room), Shelves(max_bytes=0)
    sizes = set()
    (desk.folder / "a").mkdir()
    for _ in range(60):
        change(chance, desk.folder)
        a_moment_later(desk.folder)
        for pattern, regex in PATTERNS:
            answers = []
            for each in (held, none):
                desk.library.shelves = each
                answers.append(await lines(desk, pattern, regex=regex))
            assert answers[0] == answers[1]
        sizes.add(held.size)
    assert 0 < max(sizes) <= room
    assert none.size == 0


async def test_files_that_have_not_changed_are_not_opened_again(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (shelves, roots):
        monkeypatch.setattr(module, "CLOCK_TICK_NS", 0)
    for name in ("a.md", "b.md", "c/d.md"):
        desk.write(name, f"walrus of {name}")
    a_moment_later(desk.folder)
    await lines(desk, "walrus")
    opened: list[str] = []
    plainly = Folder.open

    def noted(folder: Folder, name: str) -> int:
        opened.append(folder.path_of(name))
        return plainly(folder, name)

    monkeypatch.setattr(Folder, "open", noted)
    desk.write("b.md", "walrus again")

    assert [line.path for line in await lines(desk, "walrus")] == ["a.md", "b.md", "c/d.md"]
    assert opened == ["b.md"]


async def test_what_is_gone_is_not_held(desk: Any) -> None:
    desk.write("a/b.md", "walrus")
    desk.write("c.md", "walrus")
    await lines(desk, "walrus")
    before = desk.library.shelves.size

    (desk.folder / "a" / "b.md").unlink()
    (desk.folder / "a").rmdir()
    await lines(desk, "walrus")

    assert 0 < desk.library.shelves.size < before
