"""`usrland connect --hooks` on files as people have them."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from usrland.cli import application, hostfile
from usrland.cli.hooks import HOOKS, offered, with_ours, without_ours
from usrland.errors import InvalidInput
from usrland.settings import Settings

THEIRS: dict[str, str] = {
    "claude-code": '{\n  "model": "x",\n  "hooks": {\n    "SessionStart": [\n      {"matcher": "startup",\n'
    '       "hooks": [{"type": "command", "command": "echo hi"}]}\n    ],\n    "Stop": []\n  }\n}\n',
    "gemini-cli": '// mine\n{\n\t"hooks": {\n\t\t"PreCompress": [{"hooks": [{"type": "command", "command": "x"}]}]'
    "\n\t}\n}",
    "cursor": '{"version": 1, "hooks": {"sessionStart": [{"command": "./mine.sh"}], "stop": [{"command": "y"}]}}',
}


def command_line(monkeypatch: pytest.MonkeyPatch, home: Path, *arguments: str, text: str = "") -> str:
    monkeypatch.setenv("HOME", str(home))
    for name in ("USRLAND_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME"):
        monkeypatch.delenv(name, raising=False)
    done = CliRunner().invoke(application(arguments[:1]), arguments, input=text, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("host", HOOKS)
@pytest.mark.parametrize("before", [True, False], ids=["with hooks of others", "without a file"])
def test_hooks_come_and_go_and_leave_every_byte_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, before: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    template = HOOKS[host].files["user"]["linux"][0]
    places = {"home": tmp_path, "claude_home": tmp_path / ".claude", "codex": tmp_path / ".codex"}
    file = Path(template.format(**places))
    text = THEIRS.get(host, '{"hooks": {"Stop": []}}\n')
    if before:
        file.parent.mkdir(parents=True)
        file.write_text(text, encoding="utf-8")
    said = command_line(monkeypatch, tmp_path, "connect", host, "--server", "memory-snapshot", "--hooks")
    again = command_line(monkeypatch, tmp_path, "connect", host, "--server", "memory-snapshot", "--hooks")
    known = hostfile.read(file, HOOKS[host])
    lines = list(commands(known))

    assert "now runs" in said and "already has the hooks" in again
    assert len([line for line in lines if " memory hook restore " in line]) == 1
    assert len([line for line in lines if " memory hook snapshot " in line]) == 1
    ours = shlex.split(next(line for line in lines if "restore" in line))
    assert ours[:2] == [sys.executable, "-m"] and ours[-2:] == ["--host", host]
    if before:
        theirs = hostfile.read(_copy(tmp_path, text), HOOKS[host])
        assert set(commands(theirs)) <= set(lines)
    command_line(monkeypatch, tmp_path, "disconnect", host)
    assert (file.read_text(encoding="utf-8") if file.exists() else None) == (text if before else None)


def commands(known: dict[str, Any]) -> list[str]:
    groups = [entry for entries in known.values() for entry in entries]
    return [one["command"] for group in groups for one in group.get("hooks", [group])]


def _copy(folder: Path, text: str) -> Path:
    file = folder / "copy.json"
    file.write_text(text, encoding="utf-8")
    return file


def test_only_the_hooks_can_be_taken_out_and_a_later_change_of_others_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command_line(monkeypatch, tmp_path, "connect", "claude-code", "--server", "memory-snapshot", "--hooks")
    file = tmp_path / ".claude" / "settings.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["hooks"]["SessionStart"].append({"hooks": [{"type": "command", "command": "mine"}]})
    file.write_text(json.dumps(content), encoding="utf-8")
    said = command_line(monkeypatch, tmp_path, "disconnect", "claude-code", "--hooks")

    after = json.loads(file.read_text(encoding="utf-8"))
    assert "no longer runs our hooks" in said
    assert after == {"hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": "mine"}]}]}}
    assert "memory-snapshot" in (tmp_path / ".claude.json").read_text(encoding="utf-8")


def test_a_host_without_hooks_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert "no hooks installed" in command_line(monkeypatch, tmp_path, "connect", "zed", "--hooks")


def test_a_home_that_is_elsewhere_is_named_in_the_command(tmp_path: Path) -> None:
    line = offered("codex", Settings(home=tmp_path / "a b"))["session_start"]

    assert shlex.split(line)[-2:] == ["--home", str(tmp_path / "a b")]


def test_what_is_no_list_is_left_alone() -> None:
    for change in (lambda: with_ours(HOOKS["codex"], {"SessionStart": {}}, {"session_start": "x"}),
                   lambda: without_ours(HOOKS["codex"], {"PreCompact": "x"})):  # fmt: skip
        with pytest.raises(InvalidInput, match="no list"):
            change()
