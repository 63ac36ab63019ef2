"""What a search can be told: where to look, how sure to be, what to be like, and how to answer."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from crossing import cross_encoder

from filesystem_retrieval.indexer import language_of
from usrland.errors import InvalidInput, NotFound


@pytest.fixture
async def zoo(make_desk: Callable[..., Any], tmp_path: Path) -> Any:
    root = {"folder": str(tmp_path / "docs"), "labels": {"keepers": ["staff/"]}}
    desk = make_desk(roots={"docs": root})
    desk.write("walrus.md", "# Walrus\n\nThe walrus eats clams.\n")
    desk.write("walrus.py", "def feed_walrus():\n    return 'clams'\n")
    desk.write("walrus.csv", "animal,food\nwalrus,clams\n")
    desk.write("staff/walrus.txt", "The walrus eats clams at nine.\n")
    for name, day in (("walrus.md", 1), ("walrus.py", 2), ("walrus.csv", 3), ("staff/walrus.txt", 4)):
        moment = datetime(2026, 3, day, tzinfo=UTC).timestamp()
        os.utime(desk.folder / name, (moment, moment))
    await desk.index()
    return desk


@pytest.mark.parametrize(
    ("filters", "paths"),
    [
        ({"kind": "markdown"}, {"walrus.md"}),
        ({"kind": "code"}, {"walrus.py"}),
        ({"kind": "python"}, {"walrus.py"}),
        ({"kind": "table"}, {"walrus.csv"}),
        ({"kind": "html"}, set()),
        ({"label": "keepers"}, {"staff/walrus.txt"}),
        ({"label": "nobody"}, set()),
        ({"after": datetime(2026, 3, 3, tzinfo=UTC)}, {"walrus.csv", "staff/walrus.txt"}),
        ({"before": datetime(2026, 3, 1, 12)}, {"walrus.md"}),
        ({"after": datetime(2026, 3, 2, tzinfo=UTC), "glob": "*.py", "kind": "code"}, {"walrus.py"}),
    ],
)
async def test_a_search_looks_only_where_it_is_told_to(zoo: Any, filters: Any, paths: set[str]) -> None:
    assert set(await zoo.found("walrus clams", **filters)) == paths


async def test_a_root_may_hold_less_than_its_folder(make_desk: Callable[..., Any], tmp_path: Path) -> None:
    root = {"folder": str(tmp_path / "docs"), "include": ["*.md", "*.py", "*.csv"], "ignore": ["drafts/"]}
    desk = make_desk(roots={"docs": {**root, "kinds": ["markdown", "code"], "max_file_bytes": 100}})
    for path in ("a.md", "b.py", "c.csv", "d.txt", "drafts/e.md"):
        desk.write(path, "walrus")
    desk.write("long.md", "walrus " * 20)
    await desk.index()

    assert set(await desk.found("walrus")) == {"a.md", "b.py"}
    listed = [each.path for each in (await desk.use("fs_list", depth=9)).items]
    assert listed == ["a.md", "b.py", "c.csv", "long.md"]
    assert (await desk.use("fs_read", "c.csv")).text == "walrus"
    with pytest.raises(NotFound):
        await desk.use("fs_read", "d.txt")
    status = (await desk.use("fs_status")).roots[0]
    assert [(each.path, each.reason) for each in status.failures] == [("long.md", "it is larger than 100 bytes")]
    with pytest.raises(InvalidInput, match="no 'pictures'"):
        make_desk(roots={"docs": {**root, "kinds": ["pictures"]}})


async def test_a_kind_that_there_is_not_is_named_with_those_there_are(zoo: Any) -> None:
    with pytest.raises(InvalidInput, match="no 'pdf'") as error:
        await zoo.found("walrus", kind="pdf")
    assert "document" in error.value.fix and "python" in error.value.fix


async def test_nothing_below_the_asked_confidence_is_returned(zoo: Any) -> None:
    every = (await zoo.search("walrus clams at nine")).items
    middle = sorted(each.confidence for each in every)[len(every) // 2] - 0.001  # they are rounded

    sure = (await zoo.search("walrus clams at nine", floor=middle)).items

    assert {each.path for each in sure} == {each.path for each in every if each.confidence >= middle}
    assert 0 < len(sure) < len(every)
    assert (await zoo.search("walrus", floor=1.0)).note == "nothing relevant was found."


async def test_a_search_by_document_shows_each_file_once_with_its_best_passage(zoo: Any) -> None:
    parts = "\n".join(f"## Part {number}\n\n{'The otter sleeps on its back. ' * 25}\n" for number in range(6))
    zoo.write("otter.md", parts)
    zoo.write("other.md", "An otter was seen.\n")
    await zoo.index()
    every = (await zoo.search("otter sleeps", limit=20)).items

    once = (await zoo.search("otter sleeps", by_document=True)).items

    assert [each.path for each in once] == list(dict.fromkeys(each.path for each in every))
    (otter,) = [each for each in once if each.path == "otter.md"]
    of_otter = [each for each in every if each.path == "otter.md"]
    assert otter.sha256 == of_otter[0].sha256 and otter.others == len(of_otter) - 1 > 2


async def test_an_explanation_names_the_words_and_how_near_the_meaning_is(zoo: Any) -> None:
    words = (await zoo.search("walrus clams", explain=True, kind="markdown")).items[0].why

    assert "clams, walrus" in words and "meaning" in words
    assert (await zoo.search("walrus")).items[0].why is None


async def test_passages_like_a_given_one_are_found_without_itself(zoo: Any) -> None:
    zoo.write("diary.md", "# Monday\n\nRain.\n\n# Tuesday\n\nThe walrus ate all its clams today.\n")
    await zoo.index()

    like = [each.path for each in (await zoo.search("", like="walrus.md:3", limit=20)).items]

    assert "diary.md" in like and "walrus.py" in like and "walrus.md" not in like
    for place in ("docs/walrus.md", "walrus.md:1"):
        assert "walrus.md" not in await zoo.found("", like=place)
    with pytest.raises(NotFound):
        await zoo.found("", like="nothing.md:3")
    with pytest.raises(InvalidInput, match="no passage at line 99"):
        await zoo.found("", like="walrus.md:99")
    with pytest.raises(InvalidInput, match="query"):
        await zoo.found(" ")


@pytest.fixture
def heard(make_desk: Callable[..., Any], tmp_path: Path) -> Any:
    """A desk whose cross-encoder likes clams above all."""
    return make_desk(rerank=str(cross_encoder(tmp_path / "model")), rerank_seconds=60)


async def test_a_cross_encoder_orders_what_was_found(heard: Any) -> None:
    for number in range(6):
        heard.write(f"{number}.md", f"The walrus sleeps on the ice of the {number}. day.")
    heard.write("far.md", "Of what lies on the ice a walrus mostly finds clams")
    await heard.index()

    assert (await heard.found("walrus sleeps on the ice", limit=2))[0] == "far.md"
    assert (await heard.found("walrus sleeps on the ice", limit=2, by_document=True))[0] == "far.md"
    assert "far.md" not in await heard.found("walrus sleeps on the ice", limit=2, mode="lexical")


async def test_where_the_cross_encoder_is_missing_the_order_is_that_of_before_and_the_answer_says_so(
    heard: Any, tmp_path: Path
) -> None:
    heard.write("a.md", "The walrus sleeps.")
    heard.write("b.md", "A walrus finds clams.")
    await heard.index()
    before = await heard.found("walrus sleeps", mode="lexical")
    (tmp_path / "model" / "model.onnx").unlink()

    answer = await heard.search("walrus sleeps")

    assert [each.path for each in answer.items] == before
    assert "reranking model holds no model.onnx: the order is that of before." in answer.degraded


async def test_everyday_words_of_a_short_question_weigh_less_in_code_than_in_text(desk: Any) -> None:
    for ending in ("py", "txt"):
        desk.write(
            f"folder.{ending}", "def clear(folder):\n    for path in folder.iterdir():\n        path.unlink()\n"
        )
        desk.write(f"rows.{ending}", "def rows(all):\n    # delete all files, all files deleted\n    return all\n")
    await desk.index()

    async def words_weigh(query: str, kind: str, ending: str) -> float:
        answer = await desk.search(query, kind=kind, explain=True, floor=0.0)
        (found,) = [each for each in answer.items if each.path == f"rows.{ending}"]
        by_words, by_meaning = re.findall(r"(?:words|meaning) ([\d.]+)", found.why)
        return float((found.score - float(by_meaning)) / float(by_words))

    text = await words_weigh("delete all files", "text", "txt")
    assert await words_weigh("delete all files", "python", "py") < 0.7 * text
    assert await words_weigh("delete all files with delete_all", "python", "py") > 0.7 * text
    assert language_of("id:0c.python.3:7") == "python"
    assert language_of("id:0c.markdown.3:7") is None
