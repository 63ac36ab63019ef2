"""Labels: what a caller may not see is as good as absent, in every tool and in every refusal."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from filesystem_retrieval.answers import Claim
from filesystem_retrieval.resources import label_scopes
from usrland.errors import Denied, InvalidInput, NotFound, UsrlandError
from usrland.schemas.principal import Principal

SECRET = "QUETZAL"
"""Stands in what is labelled, and in no call that is made."""
LATER = datetime(2999, 1, 1, tzinfo=UTC)
LABELS = {"finance": ["/finance/", "*.payroll.md"], "legal": ["contracts/"]}


def holding(desk: Any, *labels: str) -> None:
    """From now on somebody calls who holds these labels."""
    scopes = frozenset({"fs:read", "fs:write", *(f"fs:label:{label}" for label in labels)})
    desk.call = replace(desk.call, principal=Principal(subject="x", scopes=scopes))


async def said(desk: Any, tool: str, *arguments: Any, **named: Any) -> str:
    """The answer, or the refusal, as text."""
    try:
        return str((await desk.use(tool, *arguments, **named)).model_dump_json())
    except UsrlandError as error:
        return f"{error.code}: {error} {error.details}"


@pytest.fixture
def desk(make_desk: Callable[..., Any], tmp_path: Path) -> Any:
    root = {"folder": str(tmp_path / "docs"), "writable": True, "labels": LABELS}
    desk = make_desk(roots={"docs": root})
    desk.write("open.md", "# Budget\n\nThe canteen's budget.\n")
    desk.write("finance/plan.md", f"# Budget {SECRET}\n\nThe canteen's budget is {SECRET}.\n")
    desk.write("finance/sub/old.md", f"canteen {SECRET}\n")
    desk.write("may.payroll.md", f"# Payroll {SECRET}\n\nThe canteen's budget.\n")
    desk.write("a/contracts/acme.md", f"The canteen's contract. {SECRET}\n")
    desk.write("a/copy.md", "# Budget\n\nThe canteen's budget.\n")
    desk.write("finance/copy.md", "# Budget\n\nThe canteen's budget.\n")
    (desk.folder / "door").symlink_to("finance")
    (desk.folder / "window.md").symlink_to("finance/plan.md")
    return desk


PATHS = (
    "finance/plan.md",
    "docs/finance/plan.md",
    "may.payroll.md",
    "door/plan.md",
    "window.md",
    "a/contracts/acme.md",
)


async def everything(desk: Any) -> AsyncIterator[tuple[str, str]]:
    """What all tools say to all that this caller could try."""
    for mode in ("hybrid", "lexical", "semantic"):
        for named in ({}, {"glob": "finance/**"}, {"root": "docs"}, {"as_of": LATER}):
            yield "fs_search", (await desk.search("canteen budget plan", mode=mode, **named)).model_dump_json()
    for named in ({"depth": 9}, {"glob": "*"}, {"path": "finance"}, {"path": "door"}, {"path": "a/contracts"}):
        yield "fs_list", await said(desk, "fs_list", **named)
    for pattern in ("canteen", "."):
        yield "fs_grep", await said(desk, "fs_grep", pattern, regex=pattern == ".", context_lines=2)
    yield "fs_status", await said(desk, "fs_status")
    for path in PATHS:
        for tool in ("fs_read", "fs_outline", "fs_history", "fs_undo"):
            for root in (None, "docs"):
                yield tool, await said(desk, tool, path, root=root)
        for version in range(1, 14):
            yield "fs_read", await said(desk, "fs_read", path, version=version)
            yield "fs_undo", await said(desk, "fs_undo", "open.md", version=version)
            yield "fs_history", await said(desk, "fs_history", path, version=version, against=0)
        yield "fs_edit", await said(desk, "fs_edit", path, "canteen", "x")
        yield "fs_write", await said(desk, "fs_write", path, "x", root="docs")
        yield "fs_move", await said(desk, "fs_move", path, "here.md")
    yield "fs_verify", await said(desk, "fs_verify", desk.claims)


async def prepared(desk: Any) -> None:
    """Have versions and citations of everything, and a file that was moved where others do not see it."""
    desk.write("plan-b.md", "The canteen's other budget is a long line that is easy to know again.\n")
    await desk.index()
    (desk.folder / "plan-b.md").rename(desk.folder / "finance" / f"{SECRET}-b.md")
    await desk.index()
    holding(desk, "finance", "legal")
    found = await desk.search("canteen budget", limit=20)
    desk.claims = [
        Claim(path=each.path, sha256=each.sha256, first_line=each.first_line)
        for each in found.items
        if SECRET not in each.path
    ]
    assert {claim.path for claim in desk.claims} >= {"finance/plan.md", "may.payroll.md", "a/contracts/acme.md"}


async def test_nothing_says_what_the_caller_holds_no_label_for(desk: Any) -> None:
    await prepared(desk)

    assert any([SECRET in text async for _, text in everything(desk)])
    for labels in ((), ("legal",), ("other",)):
        holding(desk, *labels)
        if "legal" in labels:
            (desk.folder / "a/contracts/acme.md").write_text("The canteen's contract.\n", encoding="utf-8")
        else:
            assert not [text async for _, text in everything(desk) if SECRET in text]
            assert (desk.folder / "finance/plan.md").read_text(encoding="utf-8").startswith("# Budget")


async def test_with_one_label_its_files_are_there_and_others_are_not(desk: Any) -> None:
    await desk.index()

    holding(desk, "legal")
    assert set(await desk.found("canteen", limit=20)) == {"a/contracts/acme.md", "a/copy.md"}
    holding(desk, "finance")
    assert set(await desk.found("canteen", limit=20)) == {
        "a/copy.md", "finance/copy.md", "finance/plan.md", "finance/sub/old.md", "may.payroll.md"
    }  # fmt: skip
    holding(desk)
    (passage,) = (await desk.search("canteen", limit=20)).items
    assert (passage.path, passage.also_at) == ("a/copy.md", ["open.md"])
    assert (await desk.use("fs_status")).roots[0].indexed == 2


async def test_what_is_foreign_and_what_is_absent_are_answered_alike(desk: Any) -> None:
    await prepared(desk)
    holding(desk)
    pairs = (
        ("finance/plan.md", "nothing/plan.md"),
        ("docs/finance/plan.md", "docs/nothing/plan.md"),
        ("may.payroll.md", "may.nothing.md"),
        ("finance", "nothing"),
        ("window.md", "nothing.md"),
        ("door/plan.md", "loft/plan.md"),
    )
    for foreign, absent in pairs:
        for root in (None, "docs"):
            for tool, more in (
                ("fs_read", {}),
                ("fs_read", {"version": 3}),
                ("fs_outline", {}),
                ("fs_list", {}),
                ("fs_history", {}),
                ("fs_history", {"version": 3}),
                ("fs_undo", {}),
                ("fs_undo", {"version": 3}),
                ("fs_edit", {"old": "a", "new": "b"}),
                ("fs_move", {"to": "elsewhere.md"}),
            ):
                told = [await said(desk, tool, path=path, root=root, **more) for path in (foreign, absent)]
                assert told[0].replace(foreign, "*") == told[1].replace(absent, "*"), (tool, more, told)
        claims = [[{"path": path, "sha256": "0" * 64}] for path in (foreign, absent)]
        told = [await said(desk, "fs_verify", [Claim.model_validate(claim[0])]) for claim in claims]
        assert told[0].replace(foreign, "*") == told[1].replace(absent, "*")


async def test_a_refused_write_does_not_tell_whether_something_is_there(desk: Any) -> None:
    await desk.index()
    holding(desk)

    for path, other in (
        ("finance/plan.md", "finance/none.md"),
        ("finance", "finance/x/y"),
        ("door/a/b.md", "door/c"),
    ):
        told = [await said(desk, "fs_write", each, "x", root="docs") for each in (path, other)]
        assert told[0].startswith("denied") and told[0].replace(path, "*") == told[1].replace(other, "*")
    told = [await said(desk, "fs_move", "open.md", each, root="docs") for each in ("finance/plan.md", "finance/z")]
    assert told[0].startswith("denied") and told[0].replace("finance/plan.md", "*") == told[1].replace(
        "finance/z", "*"
    )
    assert not (desk.folder / "finance" / "a").exists() and not (desk.folder / "finance" / "x").exists()


async def test_nobody_moves_a_file_to_where_others_see_it(desk: Any) -> None:
    holding(desk, "finance")

    for path, target in (("finance/plan.md", "public.md"), ("open.md", "finance/open.md")):
        with pytest.raises(Denied, match="different labels"):
            await desk.use("fs_move", path, target, root="docs")
        assert (desk.folder / path).exists()


async def test_a_whole_root_may_need_a_label(make_desk: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "hr").mkdir()
    (tmp_path / "hr" / "a.md").write_text(SECRET, encoding="utf-8")
    roots = {"docs": {"folder": str(tmp_path / "docs")}, "hr": {"folder": str(tmp_path / "hr"), "label": "hr"}}
    desk = make_desk(roots=roots)
    holding(desk, "hr")
    assert await desk.found(SECRET) == ["a.md"]

    holding(desk)

    assert await desk.found(SECRET) == []
    assert [entry.root for entry in (await desk.use("fs_list")).items] == []
    foreign, absent = [await said(desk, "fs_read", "a.md", root=root) for root in ("hr", "no")]
    assert foreign.replace("'hr'", "*") == absent.replace("'no'", "*") and "hr" not in absent


async def test_what_was_open_once_is_not_told_after_it_was_labelled(
    make_desk: Callable[..., Any], tmp_path: Path
) -> None:
    folder = {"folder": str(tmp_path / "docs"), "writable": True}
    desk = make_desk(roots={"docs": folder})
    desk.write("plan.md", f"The canteen's budget is {SECRET}.\n")
    desk.write("seen.md", "The canteen's menu, in so many words that it is known again.\n")
    await desk.index()
    (desk.folder / "seen.md").rename(desk.folder / f"{SECRET}.md")
    await desk.index()
    before = time.time()

    desk.table = {**desk.table, "roots": {"docs": {**folder, "labels": {"finance": ["plan.md", f"{SECRET}.md"]}}}}
    desk.restart()
    holding(desk)
    told = [
        (await desk.search("canteen", as_of=datetime.fromtimestamp(before, UTC))).model_dump_json(),
        *[await said(desk, "fs_history", path) for path in ("plan.md", "seen.md")],
        *[await said(desk, "fs_read", "plan.md", version=version) for version in range(1, 6)],
        *[
            await said(desk, "fs_undo", path, version=version)
            for path in ("seen.md", "new.md")
            for version in (1, 2)
        ],
        await said(desk, "fs_undo", "seen.md"),
    ]
    assert SECRET not in "".join(told)
    holding(desk, "finance")
    await desk.index()
    assert (await desk.found("canteen budget"))[0] == "plan.md"


@pytest.mark.parametrize("labels", [{"A": ["x"]}, {"a": ["!x"]}, {"a": [" "]}, {"a": ["#x"]}])
def test_a_label_that_would_not_hold_is_refused_at_the_start(
    make_desk: Callable[..., Any], tmp_path: Path, labels: Any
) -> None:
    with pytest.raises(InvalidInput, match=r"label|pattern"):
        make_desk(roots={"docs": {"folder": str(tmp_path), "labels": labels}})


async def test_a_version_is_not_restored_to_another_path(desk: Any) -> None:
    holding(desk, "finance")
    history = (await desk.history("finance/plan.md")).items

    with pytest.raises(NotFound, match="has no version"):
        await desk.use("fs_undo", "finance/sub/old.md", version=history[0].version)


async def test_a_path_may_need_two_labels(make_desk: Callable[..., Any], tmp_path: Path) -> None:
    labels = {"finance+legal": ["/finance/contracts/"], "finance": ["/finance/"], "legal": ["contracts/"]}
    desk = make_desk(roots={"docs": {"folder": str(tmp_path / "docs"), "labels": labels}})
    paths = ["open.md", "finance/plan.md", "finance/contracts/acme.md", "a/contracts/old.md"]
    for number, path in enumerate(paths):
        desk.write(path, f"The canteen has {number} tables.\n")
    await desk.index()

    async def seen(*held: str, **named: Any) -> list[str]:
        holding(desk, *held)
        found = set(await desk.found("canteen tables", **named))
        assert found == {line.path for line in (await desk.use("fs_grep", "canteen")).items} or named
        return [str(paths.index(path)) for path in paths if path in found]

    assert await seen() == ["0"]
    assert await seen("finance") == ["0", "1"]
    assert await seen("legal") == ["0", "3"]
    assert await seen("finance", "legal") == ["0", "1", "2", "3"]
    assert await seen("finance", "legal", label="legal") == ["2", "3"]
    root = desk.library.roots[0]
    assert label_scopes(root, paths[2]) == {"fs:read", "fs:label:finance", "fs:label:legal"}
