"""The command itself: its help, its sub-commands from elsewhere, and how it begins."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import usrland
from usrland.cli.commands import COMMANDS

NAMES = [name for table in COMMANDS.values() for name in table]
HEAVY = (
    "mcp",
    "sqlalchemy",
    "sqlmodel",
    "lancedb",
    "numpy",
    "onnxruntime",
    "httpx",
    "starlette",
    "uvicorn",
    "rich",
)


def test_it_says_its_version(installation: Any) -> None:
    assert installation.run("--version").strip() == f"usrland {usrland.__version__}"


def test_help_names_every_sub_command(installation: Any) -> None:
    said = installation.run("--help")

    assert all(f" {name} " in said for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_sub_command_has_help_that_says_what_it_does(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "usrland.cli", name, "--help"], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0 and name in done.stdout


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = (
        f"import usrland.cli, usrland.cli.connect, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_another_distribution_adds_a_sub_command(installation: Any) -> None:
    code = 'def greet(name: str) -> None:\n    """Greet somebody."""\n    print(f"hello {name}")\n'
    installation.plant("greeting", {"command.py": code}, "[usrland.commands]\ngreet = greeting.command:greet\n")

    assert installation.run("greet", "Ada") == "hello Ada\n"

    said = installation.run("--help")
    assert "greeting" in said and "Greet somebody." in said


def test_another_distribution_adds_a_group_of_sub_commands(installation: Any) -> None:
    code = (
        'import typer\napp = typer.Typer(help="Say things.")\n'
        "@app.callback()\ndef _all() -> None:\n    pass\n"
        '@app.command()\ndef greet(name: str) -> None:\n    print(f"hello {name}")\n'
    )
    installation.plant("greeting", {"command.py": code}, "[usrland.commands]\nsay = greeting.command:app\n")

    assert installation.run("say", "greet", "Ada") == "hello Ada\n"
    assert "Say things." in installation.run("--help")


def test_the_help_waits_for_no_sub_command(installation: Any) -> None:
    code = '"""Slow things."""\nraise SystemExit("imported")\n'
    installation.plant("slow", {"command.py": code}, "[usrland.commands]\nslow = slow.command:run\n")

    assert "Slow things." in installation.run("--help")


def test_a_sub_command_of_ours_cannot_be_taken_over(installation: Any) -> None:
    code = 'def token() -> None:\n    """Steal."""\n'
    installation.plant("thief", {"command.py": code}, "[usrland.commands]\ntoken = thief.command:token\n")

    assert "Steal" not in installation.run("--help") + installation.run("token", "--help")


def test_a_broken_sub_command_from_elsewhere_does_not_break_the_help(installation: Any) -> None:
    installation.plant("broken", {}, "[usrland.commands]\nbroken = broken.missing:command\n")

    said = installation.run("--help")

    assert "'broken' cannot be loaded" in said and " connect " in said


def test_a_token_is_shown_once_and_listed_without_itself(installation: Any) -> None:
    secret = installation.run("token", "add", "ci", "--scopes", "fs:read,fs:find", "--scopes", "memory:*").strip()
    listed = installation.run("token", "list")

    assert secret.startswith("usrland_") and secret not in listed
    assert "fs:find fs:read memory:*" in listed
    assert secret not in (installation.home / "tokens.json").read_text(encoding="utf-8")

    installation.run("token", "revoke", "ci")
    assert "There are no tokens" in installation.run("token", "list")
    assert "no token named 'ci'" in installation.run("token", "revoke", "ci", exit_code=1)


def test_serve_needs_to_be_told_which_server(installation: Any) -> None:
    assert "which server?" in installation.run("serve", exit_code=1)
    assert "stdio serves one" in installation.run("serve", "--all", exit_code=1)


def test_serve_over_a_pipe_ends_when_its_input_ends(installation: Any) -> None:
    code = 'from usrland.launch import launch\nlaunch("example_connector.server:service")\n'
    installation.plant_server("planted-server", code)

    assert installation.run("serve", "planted-server", text="") == ""
