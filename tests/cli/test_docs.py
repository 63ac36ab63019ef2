"""The pages that a newcomer follows: their commands run, their code is code that is there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from usrland.cli.host import Host
from usrland.cli.hosts import HOSTS

DOCS = Path(__file__).parents[2] / "docs"
TUTORIAL = DOCS / "tutorial" / "first-ten-minutes.md"
HOSTS_PAGE = DOCS / "reference" / "hosts.md"
TEAM = DOCS / "how-to" / "serve-a-team.md"
HOW_TO = DOCS / "how-to" / "write-a-connector.md"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )


def commands(page: Path) -> list[list[str]]:
    return [shlex.split(line) for block in blocks(page, "sh") for line in block.splitlines()]


@pytest.mark.timeout(300)
def test_every_command_of_the_tutorial_runs_in_its_order(installation: Any) -> None:
    notes = installation.user / "notes"
    notes.mkdir()
    (notes / "refunds.md").write_text("# Refunds\n\nWithin 14 days.\n", encoding="utf-8")

    ran = []
    for program, *arguments in commands(TUTORIAL):
        if program == "usrland":
            ran.append(arguments[0])
            installation.run(*[argument.replace("~", str(installation.user)) for argument in arguments])

    assert ran == ["init", "connect", "connect", "doctor", "doctor", "trace", "audit", "connect"]
    assert not installation.desktop_file.exists()


@pytest.mark.timeout(300)
def test_every_command_of_the_platform_engineer_runs_over_two_hundred_endpoints(installation: Any) -> None:
    path = {"parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}]}
    paths = {
        f"/orders{at}/{{id}}": {**path, "get": {"operationId": f"get_order_{at}", "summary": f"Read order {at}"}}
        for at in range(200)
    }
    description = {"openapi": "3.1.0", "info": {"title": "Shop", "version": "1"}, "paths": paths}
    (installation.user / "shop.json").write_text(json.dumps(description), encoding="utf-8")
    (table,) = blocks(TEAM, "toml")

    for program, *arguments in commands(TEAM):
        assert program == "usrland"
        said = installation.run(*arguments)
        if arguments == ["init"]:
            (installation.home / "connectors.toml").write_text(table, encoding="utf-8")
            (installation.home / "shop.token").write_text("hunter2-token", encoding="utf-8")
        if arguments[:2] == ["syscalls", "--accept"]:
            assert "200 operations are reviewed" in said
        if arguments[:2] == ["lock", "--check"]:
            assert "all as they were" in said
        assert "hunter2-token" not in said


def test_the_reference_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True, timeout=100
    )

    assert done.returncode == 0, done.stderr


def test_the_commands_of_the_how_to_are_the_ones_that_new_names(installation: Any) -> None:
    said = installation.run("new", "acme-crm")

    named = [shlex.split(line) for line in said.splitlines() if line.startswith("  ")]
    assert [command for command in commands(HOW_TO) if command in named] == named


@pytest.mark.parametrize("code", blocks(HOW_TO, "python"))
def test_every_piece_of_code_in_the_how_to_stands_in_the_template(code: str) -> None:
    template = resources.files("example_connector")
    files = [file.read_text(encoding="utf-8") for file in template.iterdir() if file.name.endswith(".py")]
    files.append(
        (Path(__file__).parents[1] / "example_connector" / "test_contract.py").read_text(encoding="utf-8")
    )

    assert any(code.rstrip() in text for text in files)


def test_the_tables_in_the_how_to_are_valid() -> None:
    for table in blocks(HOW_TO, "toml"):
        assert tomllib.loads(table)


def row(host: Host) -> str:
    """What the page of hosts says of one."""
    file = host.files["user"]["linux"][0].replace("{home}", "~").replace("{config}", "~/.config")
    file = file.replace("{claude}", "~").replace("{codex}", "~/.codex").replace("{continue_dev}", "~/.continue")
    scopes = " and ".join(host.files)
    address = "no" if host.remote is None else "yes" if host.headers else "without a token"
    return f"| {host.title} | `{host.name}` | `{file}` | {scopes} | {address} |"


def test_the_page_of_hosts_says_what_the_command_does() -> None:
    rows = [line for line in HOSTS_PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]

    assert rows[1 : 1 + len(HOSTS)] == [row(host) for host in HOSTS]
