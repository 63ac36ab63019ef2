"""The command line: what a person sees, and what a script reads, of the calls that a kernel makes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from typer.testing import CliRunner

from filesystem_retrieval.commands import _say_notes
from filesystem_retrieval.library import STILL_READING
from usrland.cli import application
from usrland.cli.findings import check_indexes
from usrland.cli.servers import installed_servers
from usrland.errors import Denied, InvalidInput, UsrlandError
from usrland.settings import Settings

Run = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A root, and a home whose settings name it."""
    folder, home = tmp_path / "docs", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    roots = f'roots = {{ docs = "{folder}" }}'
    (home / "usrland.toml").write_text(f"[filesystem-retrieval]\n{roots}\nembedding = 'none'\n", encoding="utf-8")
    (folder / "refunds.md").write_text("# Refunds\n\nWithin 14 days.\n", encoding="utf-8")
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("USRLAND_HOME", str(tmp_path / "home"))

    def call(*arguments: str, text: str | None = None, exit_code: int = 0) -> str:
        done = CliRunner().invoke(application(arguments[:1]), arguments, input=text)
        if isinstance(done.exception, UsrlandError):
            raise done.exception
        assert done.exit_code == exit_code, (done.output, done.exception)
        return done.output

    return call


def test_a_folder_is_indexed_searched_read_and_its_citations_verified(run: Run, folder: Path) -> None:
    assert json.loads(run("index", "--json"))["files"] == 1
    found = run("search", "refunds", "--json")
    assert json.loads(found)["items"][0]["path"] == "refunds.md"
    assert "docs/refunds.md:1-3" in run("search", "refunds")
    assert run("read", "refunds.md", "--lines", "3").splitlines()[0] == "Within 14 days."
    assert run("verify", text=found).split() == ["same", "docs/refunds.md:1-3"]

    (folder / "refunds.md").write_text("# Refunds\n\nNever.\n", encoding="utf-8")

    said = run("verify", text=found, exit_code=1)
    assert "changed" in said and "Never." in said
    assert json.loads(run("verify", "--json", text=found, exit_code=1))[0]["state"] == "changed"
    assert json.loads(run("status", "--json"))["roots"][0]["indexed"] == 1
    assert "docs" in run("status")


def test_indexing_is_paused_and_resumed(run: Run, folder: Path) -> None:
    assert "--resume" in run("index", "--pause")
    assert "paused" in run("index")
    assert "paused" in run("status")
    assert json.loads(run("index", "--json"))["files"] == 0
    with pytest.raises(InvalidInput, match="--pause"):
        run("index", "--pause", "--resume")

    done = json.loads(run("index", "--resume", "--json"))

    assert (done["files"], done["paused"]) == (1, False)
    assert "paused" not in run("status")


def test_a_row_of_a_workbook_is_named_by_its_sheet(run: Run, folder: Path) -> None:
    workbook = openpyxl.Workbook()
    workbook.active.title = "Costs"
    workbook.active.append(["coffee machine", 799])
    workbook.save(folder / "costs.xlsx")

    assert "docs/costs.xlsx:2-2 sheet 'Costs', rows 1-1" in run("search", "coffee machine")


def test_a_person_is_told_how_to_have_everything_read_first(capsys: pytest.CaptureFixture[str]) -> None:
    _say_notes({"note": "nothing relevant was found so far.", "degraded": STILL_READING})
    _say_notes({"degraded": None})

    assert capsys.readouterr().out.splitlines() == [
        "nothing relevant was found so far.",
        STILL_READING,
        "`usrland index` reads all of them first.",
    ]


def test_the_doctor_knows_whether_the_index_fits_the_files(run: Run, folder: Path, tmp_path: Path) -> None:
    settings = Settings.load()
    server = next(each for each in installed_servers() if each.name == "filesystem-retrieval")

    def found() -> list[tuple[str, str]]:
        return [(each.level, each.fact) for each in check_indexes(settings, [server])]

    (folder / "bad.docx").write_bytes(b"PK none")
    run("index")
    assert found() == [
        ("ok", "root docs: 2 files, 1 of them unreadable (usrland status), all indexed as they stand"),
        ("ok", "the search index holds all 1 passages"),
    ]

    (folder / "bad.docx").unlink()
    (folder / "new.md").write_text("new", encoding="utf-8")
    (folder / "refunds.md").write_text("# Refunds\n\nNever again.\n", encoding="utf-8")
    run("index", "--pause")
    assert found()[:2] == [
        ("warning", "root docs: 2 files; since the last indexing 1 new, 1 changed, 1 gone"),
        ("warning", "indexing is paused"),
    ]

    run("index", "--resume")
    shutil.rmtree(tmp_path / "home" / "filesystem-retrieval" / "index")
    assert found()[1] == ("error", "the search index lacks 3 of 3 passages")
    shutil.rmtree(folder)
    assert found()[0] == ("error", "root docs: its folder cannot be entered")


def test_what_is_called_from_the_command_line_is_recorded_like_any_call(run: Run) -> None:
    run("search", "refunds")
    run("read", "refunds.md")

    calls = json.loads(run("trace", "--json"))

    assert [call["operation"] for call in calls] == ["fs_search", "fs_read"]


def test_a_person_may_do_no_more_on_the_command_line_than_their_profile_says(run: Run, tmp_path: Path) -> None:
    with (tmp_path / "home" / "usrland.toml").open("a", encoding="utf-8") as settings:
        settings.write('\n[identity]\nscopes = ["memory:read"]\n')

    with pytest.raises(Denied, match="missing scope: fs:read"):
        run("read", "refunds.md")


def test_own_questions_are_asked_of_the_roots_and_a_wrong_expectation_lowers_the_figures(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    (folder / "weather.md").write_text("# Weather\n\nRain in the north.\n", encoding="utf-8")
    asked = [
        {"query": "refunds", "path": "refunds.md"},
        {"query": "rain", "paths": ["docs/weather.md"]},
        {"query": "rain north", "path": "refunds.md"},
    ]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(map(json.dumps, asked)), encoding="utf-8")

    (figures,) = json.loads(run("eval", "retrieval", str(questions), "--mode", "lexical", "--json"))

    assert figures["questions"] == 3
    assert figures["nothing_found"] == 1
    assert figures["recall_at_10"] == figures["first_rank"] == figures["ndcg_at_10"] == round(2 / 3, 4)


def test_a_collection_is_measured_in_a_home_of_its_own(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "collection"
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": "a/1", "title": "Pears", "text": "grow"}, {"_id": "b?", "title": "", "text": "apples"}]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)), encoding="utf-8")
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "pears"}), encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta/1\t2\n", encoding="utf-8")

    table = run("eval", "retrieval", str(folder), "--embedding", "none", "--work", str(tmp_path / "work"))

    assert "1 questions" in table
    assert [line.split()[:3] for line in table.splitlines()[2:]] == [
        ["none", mode, "1.000"] for mode in ("hybrid", "lexical", "semantic")
    ]
    assert json.loads(run("status", "--json"))["roots"][0]["root"] == "docs"
    with pytest.raises(InvalidInput, match="cannot be read"):
        run("eval", "retrieval", str(tmp_path / "nothing.jsonl"))
