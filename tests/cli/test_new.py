"""`usrland new`: what an author gets, used as an author would."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from usrland.cli.new import check_name, project, rename
from usrland.errors import InvalidInput

FILES = {
    "README.md",
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


@pytest.mark.timeout(400)
def test_a_new_connector_installs_is_found_passes_its_contract_and_is_typed(installation: Any) -> None:
    installation.run("new", "acme-crm", "--directory", "crm")
    folder = installation.project / "crm"

    _run(
        installation, "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", ".", folder=folder
    )
    assert "acme_crm_connector" in installation.run(
        "connect", "claude-code", "--server", "acme-crm-connector", "--dry-run"
    )
    assert "acme-crm:write" in installation.run("syscalls", "--server", "acme-crm-connector")
    assert "is taken by acme_crm_connector" in installation.run("new", "acme-crm", exit_code=1)

    assert " passed" in _run(installation, "pytest", "-q", "-p", "no:cacheprovider", folder=folder)
    assert "no issues" in _run(installation, "mypy", folder=folder)


def _run(installation: Any, module: str, *arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [installation.python, "-m", module, *arguments],
        cwd=folder,
        env={"HOME": str(installation.user), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=380,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
