"""`usrland init`: a home that explains itself, and a file of one's own that stays one's own."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from usrland.audit.exporting import AuditTable
from usrland.cli.findings import LIBRARY_TABLES
from usrland.cli.init import CONNECTORS, SETTINGS, add_folders
from usrland.cli.servers import installed_servers
from usrland.errors import InvalidInput
from usrland.identity import OAuth, Profile
from usrland.settings import ServerTable, Settings

OWN = """\
# my settings, please leave them

[filesystem-retrieval]   # the files
roots = { notes = "/srv/notes", code = { folder = "/srv/code", tenant = "acme" } }  # more to come

  [server]
drain_seconds = 1.0 # quick
"""


def test_a_first_start_makes_both_files_and_adds_the_folders(installation: Any) -> None:
    documents = installation.project / "My Documents"
    documents.mkdir()

    said = installation.run("init", documents, "My Documents")

    settings = tomllib.loads((installation.home / "usrland.toml").read_text(encoding="utf-8"))
    assert settings["filesystem-retrieval"]["roots"] == {"my-documents": str(documents)}
    assert (installation.home / "connectors.toml").read_text(encoding="utf-8") == CONNECTORS
    assert installation.home.stat().st_mode & 0o777 == 0o700
    assert "usrland connect" in said


def test_a_second_start_changes_nothing(installation: Any) -> None:
    installation.run("init")
    (installation.home / "usrland.toml").write_text(OWN, encoding="utf-8")

    said = installation.run("init")

    assert (installation.home / "usrland.toml").read_text(encoding="utf-8") == OWN
    assert "kept" in said and "made" not in said


def test_a_folder_that_is_none_and_the_whole_disk_are_refused(installation: Any) -> None:
    assert "is no folder" in installation.run("init", "nowhere", exit_code=1)
    assert "whole disk" in installation.run("init", "/", exit_code=1)


def test_adding_a_folder_keeps_every_comment() -> None:
    text, added = add_folders(OWN, [Path("/home/ada/Work"), Path("/srv/notes"), Path("/srv/code")])

    assert added == {"work": "/home/ada/Work"}
    assert tomllib.loads(text)["filesystem-retrieval"]["roots"] == {
        "notes": "/srv/notes",
        "code": {"folder": "/srv/code", "tenant": "acme"},
        "work": "/home/ada/Work",
    }
    assert text.replace(', work = "/home/ada/Work"', " ") == OWN


@pytest.mark.parametrize(
    "text",
    ["", "# nothing yet\n", "[filesystem-retrieval]\n", '[filesystem-retrieval.roots]\na = "/a"  # first\n'],
)
def test_a_folder_finds_its_place_in_any_file(text: str) -> None:
    after, _ = add_folders(text, [Path("/b")])

    assert tomllib.loads(after)["filesystem-retrieval"]["roots"]["b"] == "/b"
    assert all(line in after for line in text.splitlines())


def test_folders_of_one_name_are_told_apart() -> None:
    _, added = add_folders("", [Path("/a/docs"), Path("/b/docs"), Path("/c/Docs!"), Path("/d/💡")])

    assert added == {"docs": "/a/docs", "docs-2": "/b/docs", "docs-3": "/c/Docs!", "root": "/d/💡"}


def test_a_broken_file_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not valid TOML"):
        add_folders("roots = {", [Path("/a")])
    with pytest.raises(InvalidInput, match="roots is no table"):
        add_folders('[filesystem-retrieval]\nroots = "/a"', [Path("/b")])


def test_what_the_comments_suggest_is_valid(tmp_path: Path) -> None:
    (tmp_path / "usrland.toml").write_text(_uncommented(SETTINGS), encoding="utf-8")
    settings = Settings.load(tmp_path, environment={})

    assert settings.section("identity", Profile).subject == "ada"
    assert settings.section("server", ServerTable).allowed_hosts == ["usrland.internal"]
    assert settings.section("oauth", OAuth).tenant_claim == "org"
    assert settings.section("audit", AuditTable).checkpoints
    assert settings.tables.keys() <= LIBRARY_TABLES | {server.name for server in installed_servers()}
    assert tomllib.loads(_uncommented(CONNECTORS)).keys() == {"crm", "tickets", "tasks"}


def _uncommented(text: str) -> str:
    return re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE)


def test_the_systems_that_the_comments_suggest_are_valid() -> None:
    kinds = {entry.name: entry for entry in entry_points(group="usrland.connectors")}
    for table in tomllib.loads(_uncommented(CONNECTORS)).values():
        own = {key: value for key, value in table.items() if key not in ("kind", "about", "write")}
        kinds[table["kind"]].load().config_type.model_validate(own)
