"""`usrland new`: what an author gets, used as an author would."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
import subprocess
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from usrland.cli.new import check_name, project, rename
from usrland.errors import InvalidInput
from usrland.probe import Launch, ServerProcess

CLIENT = {"name": "test", "version": "1"}
DOCS = Path(__file__).parents[2] / "docs"

FILES = {
    ".github/workflows/check.yml",
    "README.md",
    "manifests/source.toml",
    "pyproject.toml",
    "tests/test_contract.py",
    "acme_crm_connector/__init__.py",
    "acme_crm_connector/__main__.py",
    "acme_crm_connector/connector.py",
    "acme_crm_connector/py.typed",
    "acme_crm_connector/server.py",
    "acme_crm_connector/store.py",
}


def test_a_new_project_has_these_files_and_no_word_of_the_template() -> None:
    files = dict(project("acme-crm"))

    assert files.keys() == FILES
    assert [path for path, text in files.items() if "example" in text.lower()] == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import example_connector.store", "import acme_crm_connector.store"),
        ("class ExampleConfig", "class AcmeCrmConfig"),
        ('name = "example-connector"', 'name = "acme-crm-connector"'),
        ('"example:read"', '"acme-crm:read"'),
        ("examples and counterexample stay", "examples and counterexample stay"),
    ],
)
def test_each_spelling_of_the_name_is_replaced(before: str, after: str) -> None:
    assert rename(before, "acme-crm") == after


@pytest.mark.parametrize(
    "name", ["Acme", "acme_crm", "acme--crm", "-acme", "9lives", "", "a" * 31, "größe", "a/b"]
)
def test_a_name_that_cannot_be_a_package_is_refused_with_one_that_can(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot name a connector") as refused:
        check_name(name)

    assert "acme-crm" in refused.value.fix


def test_a_kind_that_is_taken_and_a_doubled_word_are_refused() -> None:
    with pytest.raises(InvalidInput, match="the kind 'sql' is taken by"):
        check_name("sql")
    with pytest.raises(InvalidInput, match="crm-connector-connector"):
        check_name("crm-connector")


def test_the_projects_contract_test_is_the_one_that_our_own_suite_runs() -> None:
    ours = Path(__file__).parents[1] / "example_connector" / "test_contract.py"

    assert dict(project("example"))["tests/test_contract.py"] == ours.read_text(encoding="utf-8")


def test_a_folder_with_something_in_it_is_left_alone(installation: Any) -> None:
    kept = installation.project / "acme-crm-connector" / "README.md"
    kept.parent.mkdir()
    kept.write_text("mine", encoding="utf-8")

    assert "is not empty" in installation.run("new", "acme-crm", exit_code=1)
    assert [path.name for path in kept.parent.iterdir()] == ["README.md"]


@pytest.mark.timeout(900)
def test_a_new_connector_installs_is_found_passes_its_contract_and_is_typed(installation: Any) -> None:
    installation.run("new", "acme-crm", "--directory", "crm")
    folder = installation.project / "crm"

    install(installation, folder)
    assert "acme_crm_connector" in installation.run(
        "connect", "claude-code", "--server", "acme-crm-connector", "--dry-run"
    )
    assert "acme-crm:write" in installation.run("syscalls", "--server", "acme-crm-connector")
    assert "is taken by acme_crm_connector" in installation.run("new", "acme-crm", exit_code=1)

    assert " passed" in _run(installation, "pytest", "-q", "-p", "no:cacheprovider", folder=folder)
    assert "no issues" in _run(installation, "mypy", folder=folder)


def description(operations: int) -> dict[str, Any]:
    """An API with so many operations, which names where it is."""
    path = {"parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}]}
    paths = {
        f"/things{at}/{{id}}": {**path, "get": {"operationId": f"get_thing_{at}", "summary": f"Read thing {at}"}}
        for at in range(operations)
    }
    title = 'Things "2" \\ {x}'
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "servers": [{"url": "https://things.example/v1/"}],
        "paths": paths,
    }


@pytest.mark.timeout(900)
def test_the_tutorial_makes_an_api_of_214_operations_a_connector_with_five_tools(installation: Any) -> None:
    (installation.project / "api.json").write_text(json.dumps(description(214)), encoding="utf-8")
    folder = installation.project / "things-connector"

    said = follow(DOCS / "tutorial" / "rest-api.md", installation, {"connect": lambda: write_token(installation)})

    program = (folder / "things_connector" / "server.py").read_text(encoding="utf-8")
    assert 'title="Things 2 x"' in program, "a title is text and no part of a program"
    assert " passed" in said["pytest"] and "no issues" in said["mypy"]
    assert "/things0/{id}" in said["usrland man"]
    assert re.search(r"[1-5] tools in ", said["usrland doctor"])
    listed = installation.run_json("syscalls", "--server", "things-connector", "--json")
    assert sum(each["listed"] for each in listed) <= 5
    assert sum(not each["listed"] for each in listed) == 214
    installation.run("manifests", folder / "manifests")
    entry = json.loads((folder / "manifests" / "things-connector" / "server.json").read_text(encoding="utf-8"))
    assert entry["packages"][0]["identifier"] == "things-connector" and "icons" not in entry


def write_token(installation: Any) -> None:
    installation.run("init")
    append_toml(installation, "rest-api.md")
    (installation.home / "things.token").write_text("secret-token", encoding="utf-8")


def append_toml(installation: Any, page: str) -> None:
    """What the page tells a person to write."""
    text = (DOCS / "tutorial" / page).read_text(encoding="utf-8")
    (table,) = re.findall(r"^```toml\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    with (installation.home / "usrland.toml").open("a", encoding="utf-8") as settings:
        settings.write("\n" + table)


@pytest.mark.timeout(200)
def test_the_tutorial_makes_a_database_a_connector_and_writes_no_password(installation: Any) -> None:
    def say_where() -> None:
        database = installation.user / "fleet.sqlite"
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript("CREATE TABLE ships (name TEXT); CREATE TABLE hidden (x INT)")
        installation.run("init")
        append_toml(installation, "sql-database.md")
        (installation.home / "fleet.url").write_text(f"sqlite:///{database}\n", encoding="utf-8")

    said = follow(DOCS / "tutorial" / "sql-database.md", installation, {"syscalls": say_where})

    assert "fleet_query" in said["usrland syscalls"] and "tools in " in said["usrland doctor"]
    launch = Launch(
        command=str(installation.python),
        arguments=("-m", "fleet_connector"),
        environment={"HOME": str(installation.user)},
    )
    with ServerProcess(launch) as server:
        server.request("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": CLIENT})
        server.notify("notifications/initialized")
        asked = {"name": "sys_call", "arguments": {"name": "fleet_tables", "arguments": {}}}
        answer = server.request("tools/call", asked)["result"]["content"][0]["text"]
    assert "ships" in answer and "hidden" not in answer

    installation.run("new", "other", "--from-sql", "postgresql://ada:hunter2@db.example/fleet")
    made = [file for file in (installation.project / "other-connector").rglob("*") if file.is_file()]
    assert made and not any("hunter2" in file.read_text(encoding="utf-8") for file in made)


def install(installation: Any, folder: Path) -> str:
    """Install the project in that folder: a copy, so that it is done again after its code has changed."""
    offline = ("install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--force-reinstall", ".")
    return _run(installation, "pip", *offline, folder=folder)


def follow(page: Path, installation: Any, before: Mapping[str, Callable[[], None]]) -> dict[str, str]:
    """Type every command of the page, in its order; what was said, by program (and sub-command).

    `before` holds what the text tells a person to do by hand, by the sub-command that comes next, or by the number
    of the block of commands.
    """
    folder = installation.project
    waiting = dict(before)
    said: dict[str, str] = {}
    text = page.read_text(encoding="utf-8")
    for number, block in enumerate(re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL), 1):
        waiting.pop(str(number), lambda: None)()
        for program, *arguments in map(shlex.split, block.splitlines()):
            if program == "usrland":
                waiting.pop(arguments[0], lambda: None)()
                said[f"usrland {arguments[0]}"] = installation.run(*arguments)
            elif program == "cd":
                folder = folder / arguments[0]
            elif program == "pip":  # what it would fetch is here already
                said["pip"] = install(installation, folder)
            else:
                quick = {"pytest": ("-q", "-p", "no:cacheprovider")}.get(program, ())
                said[program] = _run(installation, program, *quick, folder=folder)
    assert not waiting
    return said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--from-openapi", "no-such-file.json"], "cannot be read"),
        (["--from-openapi", "notes.yaml"], "is no OpenAPI description"),
        (["--from-openapi", "broken.json"], "neither JSON nor YAML"),
        (["--from-openapi", "nowhere.yaml"], "--base-url https"),
        (["--from-openapi", "hostile.yaml"], "--base-url https"),
        (["--from-sql", "fleet"], "is no database URL"),
        (["--from-sql", "sqlite:////x", "--from-openapi", "notes.yaml"], "leads to one system"),
    ],
)
def test_what_cannot_become_a_connector_is_refused_and_nothing_is_made(
    installation: Any, arguments: list[str], reason: str
) -> None:
    texts = {"notes.yaml": "a: 1\n", "broken.json": "{", "nowhere.yaml": "swagger: '2.0'\npaths: {}\n"}
    texts["hostile.yaml"] = "swagger: '2.0'\nhost: 'x\"; import os; \"'\n"
    for name, text in texts.items():
        (installation.project / name).write_text(text, encoding="utf-8")

    assert reason in installation.run("new", "things", *arguments, exit_code=1)

    assert not (installation.project / "things-connector").exists()


def _run(installation: Any, module: str, *arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [installation.python, "-m", module, *arguments],
        cwd=folder,
        env={
            "HOME": str(installation.user),
            "PATH": "/usr/bin:/bin",
            "MYPY_CACHE_DIR": str(installation.user.parents[1] / "mypy-cache"),  # the same for all tests
        },
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_the_tutorial_by_hand_ends_in_an_operation_that_a_client_calls(installation: Any) -> None:
    page = (DOCS / "tutorial" / "hand-written.md").read_text(encoding="utf-8")
    method, answer, imports, declared, samples = re.findall(
        r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL
    )
    folder = installation.project / "harbour-connector"

    def write() -> None:
        file = folder / "harbour_connector" / "connector.py"
        text = file.read_text(encoding="utf-8")
        text = text.replace("class HarbourConnector(", f"{answer}\n\nclass HarbourConnector(")
        text = text.replace(
            "from collections.abc import Sequence\n", f"{imports}from collections.abc import Sequence\n"
        )
        text = text.replace("        return [\n", f"        return [\n{declared}", 1)
        file.write_text(text + "\n" + method, encoding="utf-8")
        test = folder / "tests" / "test_contract.py"
        kept = test.read_text(encoding="utf-8").partition("    samples: ClassVar")[0]
        test.write_text(kept + samples, encoding="utf-8")
        install(installation, folder)

    said = follow(DOCS / "tutorial" / "hand-written.md", installation, {"2": write})

    assert " passed" in said["pytest"] and "no issues" in said["mypy"]
    assert "4 tools in " in said["usrland doctor"], said["usrland doctor"]
