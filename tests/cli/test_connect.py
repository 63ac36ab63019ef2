"""`usrland connect` on files as people have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from usrland.cli import hostfile
from usrland.cli.connect import our_entries
from usrland.cli.host import Places
from usrland.cli.hosts import HOSTS, find_host
from usrland.cli.servers import Server
from usrland.errors import Conflict, InvalidInput, NotFound
from usrland.probe import Launch

DESKTOP = find_host("claude-desktop")
ENTRY = {"command": "/opt/python", "args": ["-m", "memory_snapshot"], "env": {}}

AS_PEOPLE_HAVE_THEM = {
    "nothing": "",
    "blank": " \n",
    "empty": "{}",
    "empty on two lines": "{\n}\n",
    "without servers": '{\n  "theme": "dark"\n}\n',
    "no servers yet": '{"mcpServers": {}}',
    "on one line": '{"theme":"dark","mcpServers":{"git":{"command":"git-mcp"}},"last":1e3}',
    "four spaces": '{\n    "mcpServers": {\n        "git": {\n            "command": "g"\n        }\n    }\n}\n',
    "tabs": '{\n\t"mcpServers": {\n\t\t"git": {\n\t\t\t"command": "git-mcp"\n\t\t}\n\t}\n}',
    "windows": '\ufeff{\r\n  "mcpServers": {\r\n    "git": {"command": "C:\\\\git.exe"}\r\n  }\r\n}\r\n',
    "odd": '{ "a" : [ 1,2 ,\n 3 ]\n,"mcpServers"   :{"git":\n{ "command":"git-mcp" } }\n  , "z":{"}":"{"}}',
    "unicode": '{\n  "mcpServers": {\n    "größe \\u00e9 😀": {"command": "☃", "env": {"K": "s\\"x\\\\"}}\n  }\n}',
    "ours already": '{\n  "mcpServers": {\n    "memory-snapshot": {"command": "old"},\n    "git": {}\n  }\n}',
}


@pytest.mark.parametrize("before", AS_PEOPLE_HAVE_THEM.values(), ids=AS_PEOPLE_HAVE_THEM.keys())
def test_connecting_changes_nothing_but_our_entry(tmp_path: Path, before: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(before.encode())
    expected = json.loads(before.lstrip("\ufeff").strip() or "{}")
    expected.setdefault("mcpServers", {})["memory-snapshot"] = ENTRY

    hostfile.write(hostfile.plan(file, DESKTOP, {"memory-snapshot": ENTRY}))

    after = file.read_bytes().decode()
    assert json.loads(after.lstrip("\ufeff")) == expected
    if "memory-snapshot" not in before and before.strip() not in ("", "{}", "{\n}"):
        assert _same(before, after) + _same(before[::-1], after[::-1]) >= len(before), "only an insertion"
    assert after.startswith("\ufeff") == before.startswith("\ufeff")
    assert after.count("\r\n") == (after.count("\n") if "\r\n" in before else 0)


def _same(one: str, other: str) -> int:
    """How many characters they begin with alike."""
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


@pytest.mark.parametrize("before", AS_PEOPLE_HAVE_THEM.values(), ids=AS_PEOPLE_HAVE_THEM.keys())
def test_undo_brings_back_every_byte(tmp_path: Path, before: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(before.encode())
    file.chmod(0o640)

    hostfile.write(hostfile.plan(file, DESKTOP, {"memory-snapshot": ENTRY}))
    hostfile.undo(file)

    assert file.read_bytes() == before.encode()
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("before", AS_PEOPLE_HAVE_THEM.values(), ids=AS_PEOPLE_HAVE_THEM.keys())
def test_taking_our_entries_out_leaves_every_byte_of_the_rest(tmp_path: Path, before: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(before.encode())

    hostfile.write(hostfile.plan(file, DESKTOP, {"memory-snapshot": ENTRY, "other": ENTRY}))
    hostfile.write(hostfile.plan(file, DESKTOP, {"other": None, "memory-snapshot": None}))

    after = file.read_bytes().decode()
    if "memory-snapshot" in before:
        assert json.loads(after) == {"mcpServers": {"git": {}}}
    else:
        assert after == before


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"mcpServers": {', "line 1 column 17"),
        ('{\n  "a": 1,\n}', "line 3 column 1"),
        ('{"a": 1 // why\n}', "not valid JSON"),
        ("[]", "not a JSON object but list"),
        ('{"mcpServers": []}', "'mcpServers' holds no object"),
        ('{"mcpServers": {"git": {}, "git": {"command": "x"}}}', "'git' is there twice"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_a_broken_file_is_refused_with_the_place_and_left_alone(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "config.json"
    content = text.encode(errors="surrogateescape")
    file.write_bytes(content)

    with pytest.raises(InvalidInput, match=reason):
        hostfile.plan(file, DESKTOP, {"memory-snapshot": ENTRY})

    assert file.read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 1


def test_undo_without_a_change_of_ours_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no backup"):
        hostfile.undo(tmp_path / "missing" / "config.json")


def test_undo_does_not_take_back_what_somebody_wrote_since(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    hostfile.write(hostfile.plan(file, DESKTOP, {"memory-snapshot": ENTRY}))
    file.write_text('{"mcpServers": {}, "new": 1}', encoding="utf-8")

    with pytest.raises(Conflict, match="changed after usrland wrote it"):
        hostfile.undo(file)

    assert json.loads(file.read_text(encoding="utf-8")) == {"mcpServers": {}, "new": 1}


def test_undo_goes_back_change_by_change_to_no_file_at_all(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "config.json"
    hostfile.write(hostfile.plan(file, DESKTOP, {"memory-snapshot": ENTRY}))
    first = file.read_bytes()
    hostfile.write(hostfile.plan(file, DESKTOP, {"other": ENTRY}))

    hostfile.undo(file)
    assert file.read_bytes() == first
    hostfile.undo(file)
    assert list(file.parent.iterdir()) == []


def test_a_file_that_changed_between_plan_and_write_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text("{}", encoding="utf-8")
    change = hostfile.plan(file, DESKTOP, {"memory-snapshot": ENTRY})
    file.write_text('{"new": 1}', encoding="utf-8")

    with pytest.raises(Conflict, match="another program"):
        hostfile.write(change)

    assert file.read_text(encoding="utf-8") == '{"new": 1}'
    assert len(list(tmp_path.iterdir())) == 1


def test_a_linked_file_stays_a_link(tmp_path: Path) -> None:
    kept, link = tmp_path / "dotfiles.json", tmp_path / "config.json"
    kept.write_text("{}", encoding="utf-8")
    link.symlink_to(kept)

    hostfile.write(hostfile.plan(link, DESKTOP, {"memory-snapshot": ENTRY}))
    assert link.is_symlink() and "memory-snapshot" in kept.read_text(encoding="utf-8")

    hostfile.undo(link)
    assert link.is_symlink() and kept.read_text(encoding="utf-8") == "{}"


def test_a_backup_is_for_its_owner_only_since_it_may_hold_secrets(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"mcpServers": {"git": {"env": {"TOKEN": "x"}}}}', encoding="utf-8")

    backup = hostfile.write(hostfile.plan(file, DESKTOP, {"memory-snapshot": ENTRY}))

    assert backup.stat().st_mode & 0o777 == 0o600
    assert backup.read_text(encoding="utf-8") == '{"mcpServers": {"git": {"env": {"TOKEN": "x"}}}}'


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "/home/ada/.config/Claude/claude_desktop_config.json"),
        ("linux", {"XDG_CONFIG_HOME": "/xdg"}, "/xdg/Claude/claude_desktop_config.json"),
        ("darwin", {}, "/home/ada/Library/Application Support/Claude/claude_desktop_config.json"),
        (
            "win32",
            {"APPDATA": "C:/Users/ada/AppData/Roaming"},
            "C:/Users/ada/AppData/Roaming/Claude/claude_desktop_config.json",
        ),
        ("win32", {}, "/home/ada/AppData/Roaming/Claude/claude_desktop_config.json"),
    ],
)
def test_claude_desktop_is_found_on_each_system(platform: str, environment: dict[str, str], expected: str) -> None:
    places = Places(home=Path("/home/ada"), project=Path("/work"), platform=platform, environment=environment)

    assert find_host("claude-desktop").file("user", places) == Path(expected)


def test_claude_code_has_a_file_of_its_own_for_each_scope() -> None:
    places = Places(home=Path("/home/ada"), project=Path("/work"), platform="linux")
    host = find_host("claude-code")

    assert host.file("user", places) == Path("/home/ada/.claude.json")
    assert host.file("project", places) == Path("/work/.mcp.json")
    with pytest.raises(InvalidInput, match="no project scope"):
        find_host("claude-desktop").file("project", places)


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_an_entry_is_read_back_as_it_was_written(host: Any) -> None:
    launch = Launch(
        command="/opt/python", arguments=("-m", "memory_snapshot"), environment={"USRLAND_HOME": "/data"}
    )

    assert host.read_entry(host.write_entry("memory", launch)) == launch


def test_an_entry_is_ours_by_what_it_runs_and_not_by_its_name() -> None:
    entries = {
        "memory-snapshot": {"command": "docker", "args": ["run", "memory_snapshot"]},
        "my memory": {"type": "stdio", "command": "/opt/python", "args": ["-m", "memory_snapshot"]},
        "published": {"command": "uvx", "args": ["--from", "usrland==1", "usrland", "serve", "memory-snapshot"]},
        "team": {"type": "http", "url": "https://usrland.example/memory-snapshot/mcp"},
        "remote": {"url": "https://mcp.example/"},
        "broken": 7,
    }
    server = Server(name="memory-snapshot", where="memory_snapshot.server:service")

    assert our_entries(find_host("claude-code"), entries, [server]) == ["my memory", "published", "team"]


def test_the_command_writes_absolute_commands_and_takes_them_back(installation: Any) -> None:
    installation.plant_server("planted-server", "")
    file = installation.desktop_file
    file.parent.mkdir(parents=True)
    file.write_text('{"mcpServers": {"git": {"command": "git-mcp"}}}\n', encoding="utf-8")
    arguments = ("connect", "claude-desktop", "--server", "planted-server")

    shown = installation.run(*arguments, "--dry-run")
    assert '+{"mcpServers": {"git": {"command": "git-mcp"}, "planted-server"' in shown
    assert "planted" not in file.read_text(encoding="utf-8")

    installation.run(*arguments)
    entries = json.loads(file.read_text(encoding="utf-8"))["mcpServers"]
    assert entries["git"] == {"command": "git-mcp"}
    assert entries["planted-server"] == {
        "command": str(installation.python),
        "args": ["-m", "planted_server"],
        "env": {"USRLAND_HOME": str(installation.home)},
    }
    assert "already" in installation.run(*arguments)

    installation.run("disconnect", "claude-desktop")
    assert json.loads(file.read_text(encoding="utf-8")) == {"mcpServers": {"git": {"command": "git-mcp"}}}

    installation.run("disconnect", "claude-desktop", "--undo")
    installation.run("connect", "claude-desktop", "--undo")
    assert file.read_text(encoding="utf-8") == '{"mcpServers": {"git": {"command": "git-mcp"}}}\n'


def test_the_project_scope_writes_into_the_current_folder(installation: Any) -> None:
    installation.plant_server("planted-server", "")

    installation.run("connect", "claude-code", "--scope", "project", "--server", "planted-server")

    entries = json.loads((installation.project / ".mcp.json").read_text(encoding="utf-8"))["mcpServers"]
    assert entries["planted-server"]["type"] == "stdio"


def test_a_broken_file_and_an_unknown_host_are_told_in_a_sentence(installation: Any) -> None:
    installation.desktop_file.parent.mkdir(parents=True)
    installation.desktop_file.write_text("{", encoding="utf-8")

    said = installation.run("connect", "claude-desktop", exit_code=1)
    assert "not valid JSON" in said and "nothing was changed" in said and "Traceback" not in said
    assert "Known: claude-desktop, claude-code, vscode" in installation.run("connect", "notepad", exit_code=1)
    assert "there is no server 'nope'" in installation.run(
        "connect", "claude-code", "--server", "nope", exit_code=1
    )
