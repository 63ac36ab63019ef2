"""`usrland doctor` against servers that are ill in the ways servers are."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from usrland.cli import findings as checks
from usrland.cli.findings import Finding
from usrland.errors import Unavailable
from usrland.probe import Launch, Probe
from usrland.settings import Settings

LAUNCH = 'from usrland.launch import launch\nlaunch("example_connector.server:service")\n'


def findings(installation: Any, *arguments: str, exit_code: int) -> dict[str, list[dict[str, Any]]]:
    """The findings by what was checked; the exit code is checked too."""
    report = installation.run_json("doctor", "--json", *arguments, exit_code=exit_code)
    assert report["ok"] == (exit_code == 0)
    by_check: dict[str, list[dict[str, Any]]] = {}
    for finding in report["findings"]:
        assert finding["level"] == "ok" or finding["fix"], finding
        by_check.setdefault(finding["check"], []).append(finding)
    return by_check


def test_a_well_server_is_timed_in_both_eras_and_as_the_host_starts_it(installation: Any) -> None:
    installation.run("init")
    installation.plant_server("well", LAUNCH)
    installation.run("connect", "claude-desktop", "--server", "well")

    found = findings(installation, "--server", "well", "--as-host", "claude-desktop", exit_code=0)

    (well,) = found["well"]
    assert well["fact"].startswith("3 tools in ")
    assert "2025-06-18 and 2026-07-28" in well["fact"]
    assert any("keeps its logs in" in finding["fact"] for finding in found["claude-desktop"])


def test_a_server_that_prints_is_found_with_the_line(installation: Any) -> None:
    installation.plant_server("noisy", 'print("loading the model…", flush=True)\n' + LAUNCH)
    installation.run("connect", "claude-code", "--server", "noisy")

    found = findings(installation, "--server", "noisy", "--as-host", "claude-code", exit_code=1)

    noise = found["noisy"][0]
    assert "no JSON-RPC" in noise["fact"] and noise["lines"] == ["loading the model…"]


def test_a_server_that_dies_is_found_with_its_last_lines(installation: Any) -> None:
    installation.plant_server("dying", 'raise SystemExit("the licence has expired")\n')
    installation.run("connect", "claude-code", "--server", "dying")

    found = findings(installation, "--server", "dying", "--as-host", "claude-code", exit_code=1)

    (dying,) = found["dying"]
    assert "exit code 1" in dying["fact"] and dying["lines"] == ["the licence has expired"]
    assert "-m dying" in dying["fix"]


def test_a_server_that_stays_when_its_host_has_gone_is_found(installation: Any) -> None:
    stay = "import atexit, time\natexit.register(time.sleep, 60)\n"
    installation.plant_server("staying", stay + LAUNCH)
    installation.run("connect", "claude-code", "--server", "staying")

    found = findings(installation, "--server", "staying", "--as-host", "claude-code", exit_code=1)

    assert "did not end when its host did" in found["staying"][-1]["fact"]


def test_an_interpreter_that_is_gone_is_found(installation: Any) -> None:
    installation.plant_server("moved", LAUNCH)
    entry = {"command": "/opt/gone/bin/python", "args": ["-m", "moved"], "env": {}}
    installation.desktop_file.parent.mkdir(parents=True)
    installation.desktop_file.write_text(json.dumps({"mcpServers": {"moved": entry}}), encoding="utf-8")

    found = findings(installation, "--server", "moved", "--as-host", "claude-desktop", exit_code=1)

    (gone,) = [finding for finding in found["claude-desktop"] if finding["level"] == "error"]
    assert "'/opt/gone/bin/python', which is not there" in gone["fact"] and gone["fixable"]
    assert "moved" not in found, "it is not started"


def test_what_is_safe_is_repaired(installation: Any) -> None:
    installation.plant_server("moved", LAUNCH)
    installation.run("init")
    installation.home.chmod(0o755)
    entry = {"command": "/opt/gone/bin/python", "args": ["-m", "moved"], "env": {"USRLAND_HOME": "/old"}}
    file = installation.desktop_file
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"theme": 1, "mcpServers": {"mine": entry}}), encoding="utf-8")

    said = installation.run("doctor", "--fix", "--server", "moved", "--as-host", "claude-desktop")

    assert "fixed    home" in said and "fixed    claude-desktop" in said
    assert installation.home.stat().st_mode & 0o077 == 0
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["theme"] == 1 and content["mcpServers"]["mine"]["command"] == str(installation.python)
    installation.run("connect", "claude-desktop", "--undo")
    assert "/opt/gone" in file.read_text(encoding="utf-8")


def test_each_hosts_own_command_is_started_once(installation: Any) -> None:
    installation.run("init")
    installation.plant_server("well", LAUNCH)
    installation.run("connect", "cursor", "codex", "--server", "well")
    entry = f'[mcp_servers.old]\ncommand = "{installation.python}"\nargs = ["-m", "well", "--no-such-option"]\n'
    with (installation.user / ".codex" / "config.toml").open("a", encoding="utf-8") as file:
        file.write(entry)

    found = findings(installation, "--server", "well", exit_code=1)

    assert found["well"][0]["fact"].startswith("3 tools in "), "as this Python starts it, and both hosts"
    (old,) = found["old (as codex)"]
    assert "exit code 2" in old["fact"] and any("--no-such-option" in line for line in old["lines"])
    assert found.keys().isdisjoint({"well (as codex)", "well (as cursor)"})
    assert {"cursor", "codex"} <= found.keys()


def test_a_broken_database_is_found(installation: Any) -> None:
    installation.run("init")
    installation.plant_server("well", LAUNCH)
    folder = installation.home / "memory-snapshot"
    folder.mkdir()
    (folder / "memory.sqlite").write_bytes(b"SQLite format 3\0" + b"\7" * 5_000)
    (folder / "whole.sqlite").write_bytes(b"")

    found = findings(installation, "--server", "well", exit_code=1)

    broken, whole = found["database"]
    assert broken["level"] == "error" and "memory-snapshot/memory.sqlite" in broken["fact"]
    assert whole["fact"] == "memory-snapshot/whole.sqlite is whole"


def test_what_the_host_wrote_down_of_a_server_is_shown(installation: Any) -> None:
    installation.run("init")
    installation.plant_server("well", LAUNCH)
    installation.run("connect", "claude-desktop", "--server", "well")
    logs = installation.desktop_file.parent / "logs"
    logs.mkdir()
    (logs / "mcp-server-well.log").write_text("starting\nspawn ENOENT\n", encoding="utf-8")

    found = findings(installation, "--server", "well", "--as-host", "claude-desktop", exit_code=0)

    assert ["starting", "spawn ENOENT"] in [finding["lines"] for finding in found["claude-desktop"]]


def test_a_finding_that_is_bad_cannot_be_made_without_a_way_out() -> None:
    with pytest.raises(ValueError, match="has a way out"):
        Finding(check="x", level="warning", fact="y")


@pytest.mark.parametrize(("waiting", "said"), [(37.0, "37 programs for 2 processors"), (1.0, "")])
def test_a_slow_start_is_not_blamed_on_the_server_alone(
    monkeypatch: pytest.MonkeyPatch, waiting: float, said: str
) -> None:
    def slow(launch: Launch, era: Any, **more: Any) -> Probe:
        return Probe(era=era, tools=({"name": "task_find"},), wall_seconds=7.0, exit_code=0)

    monkeypatch.setattr(checks, "probe", slow)
    monkeypatch.setattr("os.getloadavg", lambda: (waiting, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 2)

    (found,) = checks.check_server("slow", Launch(command="python"))

    assert found.level == "warning" and "1 tools in 7.0 s" in found.fact
    assert ("busy" in found.fix) == bool(said) and said in found.fix


def test_tools_beyond_what_a_conversation_should_carry_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tuple({"name": f"task_{at}"} for at in range(14))
    monkeypatch.setattr(checks, "probe", lambda launch, era, **more: Probe(era=era, tools=tools, exit_code=0))

    many, _ = checks.check_server("many", Launch(command="python"))

    assert (many.level, many.fact) == ("warning", "14 tools") and "at most 13" in many.fix


def test_a_server_that_knows_no_new_era_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def old(launch: Launch, era: Any, **more: Any) -> Probe:
        failure = "unsupported protocol version." if era == "2026-07-28" else ""
        return Probe(era=era, failure=failure, tools=({"name": "task_find"},), exit_code=0)

    monkeypatch.setattr(checks, "probe", old)

    found, start = checks.check_server("old", Launch(command="python"))

    assert (found.level, found.fact) == ("error", "unsupported protocol version")
    assert found.fix.startswith("Update the package mcp.") and start.fact.endswith("protocol 2025-06-18")


def test_a_home_that_is_not_there_is_made(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")

    (home,) = [each for each in checks.check_installation(settings) if each.check == "home"]

    assert home.fix == "usrland init" and home.repair is not None
    home.repair()
    (home,) = [each for each in checks.check_installation(settings) if each.check == "home"]
    assert home.level == "ok" and home.facts()["fixable"] is False


def test_a_disk_that_is_nearly_full_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=3e8))

    (home,) = [each for each in checks.check_installation(Settings(home=tmp_path)) if "free" in each.fact]

    assert (home.level, home.fix) == ("warning", "Make room.") and "0.3 GB free" in home.fact


def test_a_database_that_is_whole_and_one_that_is_not(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.sqlite").write_bytes(b"")
    (tmp_path / "served" / "b.sqlite").write_bytes(b"SQLite format 3\0" + b"\7" * 5_000)

    whole, broken = checks.check_databases(Settings(home=tmp_path))

    assert (whole.level, broken.level) == ("ok", "error") and "restore it from a backup" in broken.fix


def test_a_model_that_cannot_be_read_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise Unavailable("the model is not there.", fix="pip install it")

    monkeypatch.setattr("usrland.embedding.embedder", lambda: SimpleNamespace(load=missing))
    (found,) = checks.check_model()
    assert (found.level, found.fact, found.fix) == ("error", "the model is not there.", "pip install it")

    monkeypatch.setattr("usrland.embedding.embedder", lambda: None)
    assert list(checks.check_model()) == [], "words alone need none"


def test_a_host_that_starts_nothing_of_ours_is_told_how_to(installation: Any) -> None:
    found = findings(installation, "--as-host", "claude-desktop", exit_code=1)

    assert "usrland connect claude-desktop" in [finding["fix"] for finding in found["claude-desktop"]]


@pytest.mark.parametrize(
    ("text", "check", "level", "fact"),
    [
        ("roots = {", "settings", "error", "not valid TOML"),
        ("[filesytem-retrieval]\n", "settings", "warning", "nobody reads [filesytem-retrieval]"),
    ],
)
def test_settings_with_a_mistake_are_found(
    installation: Any, text: str, check: str, level: str, fact: str
) -> None:
    installation.home.mkdir()
    (installation.home / "usrland.toml").write_text(text, encoding="utf-8")

    found = findings(installation, "--as-host", "claude-desktop", exit_code=1)

    assert found[check][0]["level"] == level and fact in found[check][0]["fact"]


def test_a_hosts_broken_file_is_found(installation: Any) -> None:
    installation.desktop_file.parent.mkdir(parents=True)
    installation.desktop_file.write_text("{", encoding="utf-8")

    found = findings(installation, "--as-host", "claude-desktop", exit_code=1)

    assert "not valid JSON" in found["claude-desktop"][0]["fact"]
