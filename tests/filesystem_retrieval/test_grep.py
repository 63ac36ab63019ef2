"""Exact strings and patterns, from the disk."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio
import pytest

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

    with anyio.fail_after(20):
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
