"""A citation is told to be the same, moved, changed or gone, and what stands there is shown."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from citations import Shelf

from filesystem_retrieval.answers import Claim

TEXT = "".join(f"## Part {number}\n\nSentence {number} about subject {number * 7}.\n\n" for number in range(40))


async def cited(desk: Any, query: str) -> Claim:
    hit = (await desk.use("fs_search", query)).items[0]
    return Claim(
        path=hit.path, root=hit.root, sha256=hit.sha256, first_line=hit.first_line, last_line=hit.last_line
    )


async def verdict(desk: Any, claim: Claim) -> Any:
    await desk.scan()
    (item,) = (await desk.use("fs_verify", [claim])).items
    return item


async def test_nothing_happened(desk: Any) -> None:
    desk.write("a.md", TEXT)
    await desk.scan()
    found = await verdict(desk, await cited(desk, "subject 49"))

    assert (found.state, found.path, found.now) == ("same", "a.md", None)
    assert "subject 49." in found.then


async def test_lines_above_came_or_went(desk: Any) -> None:
    file = desk.write("a.md", TEXT)
    await desk.scan()
    claim = await cited(desk, "subject 140")
    file.write_text("A new beginning.\n\n" + TEXT, encoding="utf-8")

    found = await verdict(desk, claim)

    assert (found.state, found.path, found.first_line) == ("moved", "a.md", claim.first_line + 2)


async def test_the_file_was_renamed_or_copied_away(desk: Any) -> None:
    file = desk.write("a.md", TEXT)
    await desk.scan()
    claim = await cited(desk, "subject 140")
    file.rename(desk.folder / "b.md")

    found = await verdict(desk, claim)

    assert (found.state, found.path, found.first_line) == ("moved", "b.md", claim.first_line)


async def test_the_passage_went_to_another_file_with_other_lines_around_it(desk: Any) -> None:
    file = desk.write("a.md", TEXT)
    await desk.scan()
    claim = await cited(desk, "subject 140")
    (then,) = (await desk.use("fs_verify", [claim])).items
    file.write_text(TEXT.replace(then.then, ""), encoding="utf-8")
    desk.write("other.md", "# Elsewhere\n\n" + then.then)

    found = await verdict(desk, claim)

    assert (found.state, found.path, found.first_line) == ("moved", "other.md", 3)


async def test_its_words_were_changed(desk: Any) -> None:
    file = desk.write("a.md", TEXT)
    await desk.scan()
    claim = await cited(desk, "subject 140")
    file.write_text(TEXT.replace("subject 140.", "subject 141!"), encoding="utf-8")

    found = await verdict(desk, claim)

    assert (found.state, found.first_line) == ("changed", claim.first_line)
    assert "subject 140." in found.then and "subject 141!" in found.now


async def test_it_was_moved_and_changed(desk: Any) -> None:
    file = desk.write("a.md", TEXT)
    await desk.scan()
    claim = await cited(desk, "subject 140")
    file.rename(desk.folder / "b.md")
    await desk.scan()
    (desk.folder / "b.md").write_text(TEXT.replace("subject 140.", "subject 141!"), encoding="utf-8")

    found = await verdict(desk, claim)

    assert (found.state, found.path) == ("changed", "b.md")
    assert "subject 141!" in found.now


@pytest.mark.parametrize("how", ["passage", "file"])
async def test_it_is_gone(desk: Any, how: str) -> None:
    file = desk.write("a.md", TEXT)
    await desk.scan()
    claim = await cited(desk, "subject 140")
    (then,) = (await desk.use("fs_verify", [claim])).items
    if how == "file":
        file.unlink()
    else:
        file.write_text(TEXT.replace(then.then, ""), encoding="utf-8")

    found = await verdict(desk, claim)

    assert (found.state, found.path, found.now) == ("gone", "a.md", None)
    assert "subject 140." in found.then


async def test_one_of_two_equal_passages_went(desk: Any) -> None:
    notice = "All rights reserved, every one of them."
    file = desk.write("a.md", f"# One\n\n{notice}\n\n# Two\n\nOther words.\n\n# Three\n\n{notice}\n")
    await desk.scan()
    read = await desk.use("fs_read", "a.md")
    first = Claim(path="a.md", sha256=read.sha256, first_line=3, last_line=3)
    second = Claim(path="a.md", sha256=read.sha256, first_line=11, last_line=11)
    file.write_text(f"# Two\n\nOther words.\n\n# Three\n\n{notice}\n", encoding="utf-8")

    assert (await verdict(desk, first)).state == "gone"
    kept = await verdict(desk, second)
    assert (kept.state, kept.first_line) == ("moved", 7)


async def test_lines_that_were_read_are_verified_by_the_hash_of_the_file(desk: Any) -> None:
    file = desk.write("a.py", "def one():\n    return 1\n\n\ndef two():\n    return 2\n")
    await desk.scan()
    read = await desk.use("fs_read", "a.py", first_line=5, last_line=6)
    claim = Claim(path="a.py", sha256=read.sha256, first_line=5, last_line=6)
    file.write_text("import os\n\n\ndef one():\n    return os\n\n\ndef two():\n    return 2\n", encoding="utf-8")

    found = await verdict(desk, claim)

    assert (found.state, found.first_line, found.last_line) == ("moved", 8, 9)


async def test_of_a_page_the_text_that_a_reader_sees_counts(desk: Any) -> None:
    file = desk.write("a.html", "<h1>Seas</h1>\n<p>The walrus <b>swims</b> north.</p>\n")
    await desk.scan()
    claim = await cited(desk, "walrus")
    file.write_text("<h1>Seas</h1>\n<p>The walrus <i>swims</i> north.</p>\n", encoding="utf-8")
    assert (await verdict(desk, claim)).state == "same"

    file.write_text("<h1>Seas</h1>\n<p>The walrus <i>sleeps</i>.</p>\n", encoding="utf-8")
    changed = await verdict(desk, claim)
    assert changed.state == "changed" and "walrus sleeps" in changed.now.replace("\n", " ")


async def test_what_was_never_there_is_unknown(desk: Any) -> None:
    desk.write("a.md", TEXT)
    await desk.scan()

    assert (await verdict(desk, Claim(path="a.md", sha256="0" * 64))).state == "unknown"
    assert (await verdict(desk, Claim(path="none.md", sha256="0" * 64))).state == "unknown"


async def test_after_random_edits_moves_and_deletions_every_verdict_is_right(desk: Any) -> None:
    shelf = Shelf(Path(desk.folder), random.Random(4))
    shelf.fill(files=6)
    await desk.scan()
    claims = await shelf.cite(desk.use, 60)
    for _ in range(3):
        shelf.disturb(12)
        await desk.scan()

    answer = await desk.use("fs_verify", [Claim(**claim.arguments) for claim in claims])

    problems = [shelf.problem(claim, found) for claim, found in zip(claims, answer.items, strict=True)]
    assert [problem for problem in problems if problem] == []
    assert {found.state for found in answer.items} == {"same", "moved", "changed", "gone"}
