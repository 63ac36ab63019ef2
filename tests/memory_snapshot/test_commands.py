"""`usrland memory`, run as a host or a person runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from typer.testing import CliRunner, Result

from memory_snapshot.server import service
from usrland import InvalidInput
from usrland.cli import application
from usrland.host import running
from usrland.settings import Settings

TURNS = [
    {"type": "user", "sessionId": "s1", "uuid": "u1", "timestamp": "2026-05-08T10:00:00Z",
     "message": {"role": "user", "content": "The pump is a Grundfos 32-80"}},
    {"type": "assistant", "sessionId": "s1", "uuid": "u2", "timestamp": "2026-05-08T10:00:05Z",
     "message": {"role": "assistant", "content": [{"type": "text", "text": "Noted: a Grundfos 32-80."},
                                                  {"type": "tool_use", "id": "t", "name": "x", "input": {}}]}},
    {"type": "user", "sessionId": "s1", "uuid": "u3", "timestamp": "2026-05-08T10:01:00Z",
     "message": {"role": "user", "content": "My token is ghp_" + "a1B2" * 9}},
    {"type": "progress", "sessionId": "s1"},
]  # fmt: skip


Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "usrland.toml").write_text('[memory-snapshot]\nembedding = "none"\n', encoding="utf-8")
    return folder


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("USRLAND_HOME", str(home))

    def run(*arguments: str, text: str = "") -> Result:
        return CliRunner().invoke(application(["memory"]), ["memory", *arguments], input=text)

    return run


def call(home: Path, name: str, **arguments: Any) -> dict[str, Any]:
    """By a server of its own, which is closed again."""

    async def work() -> dict[str, Any]:
        settings = Settings.load(home, {})
        async with running(service(settings), settings) as host, Client(host.server) as client:
            result = await client.call_tool(name, arguments)
        assert not result.is_error, result.content
        return result.structured_content or {}

    return anyio.run(work)


@pytest.fixture
def transcript(tmp_path: Path) -> str:
    file = tmp_path / "s1.jsonl"
    file.write_text("".join(json.dumps(turn) + "\n" for turn in TURNS), encoding="utf-8")
    return str(file)


def test_what_is_said_before_a_compaction_is_back_after_it(run: Run, home: Path, transcript: str) -> None:
    told = {"session_id": "s1", "transcript_path": transcript, "trigger": "auto"}
    first = run("hook", "restore", "--host", "claude-code", text='{"source": "startup"}')
    kept = run("hook", "snapshot", "--host", "claude-code", text=json.dumps(told))
    again = run("hook", "snapshot", "--host", "claude-code", text=json.dumps(told))
    back = run("hook", "restore", "--host", "claude-code", text='{"source": "compact"}')
    goes_on = run("hook", "restore", "--host", "claude-code", text='{"source": "resume"}')
    cursor = run("hook", "restore", "--host", "cursor", "--home", str(home), text="")

    assert json.loads(first.stdout) == json.loads(goes_on.stdout) == {}
    assert "1 turns were not kept" in json.loads(kept.stdout)["systemMessage"]
    assert again.exit_code == 0
    said = json.loads(back.stdout)["hookSpecificOutput"]
    assert said["hookEventName"] == "SessionStart"
    assert said["additionalContext"].count("Grundfos 32-80") == 2
    assert "ghp_" not in said["additionalContext"]
    assert "Grundfos" in json.loads(cursor.stdout)["additional_context"]


def test_a_hook_is_recorded_and_its_snapshot_says_why(run: Run, home: Path, transcript: str) -> None:
    told = {"sessionId": "s1", "transcript_path": transcript, "trigger": "manual"}
    run("hook", "snapshot", text=json.dumps(told))
    log = call(home, "memory_history")

    assert log["items"][0]["reason"] == "pre_compact"
    assert log["items"][0]["text"] == "before a compaction (manual) of session s1"
    assert log["items"][0]["items"] == 2


@pytest.mark.parametrize(
    "told", ["", "no json", "[]", '{"transcript_path": "/nowhere"}', '{"transcript_path": 3}']
)
def test_whatever_a_host_says_it_goes_on(run: Run, told: str) -> None:
    for event in ("restore", "snapshot"):
        done = run("hook", event, text=told)
        assert (done.exit_code, json.loads(done.stdout)) == (0, {})


def test_a_memory_that_cannot_be_opened_is_told_to_the_person_and_breaks_nothing(run: Run, home: Path) -> None:
    settings = home / "usrland.toml"
    settings.write_text('[memory-snapshot]\ndatabase = "postgresql://127.0.0.1:1/none"\n', encoding="utf-8")
    done = run("hook", "restore", text="{}")

    assert done.exit_code == 0
    assert json.loads(done.stdout)["systemMessage"].startswith("memory: ")


def test_a_head_that_was_kept_finds_a_journal_that_was_put_back(run: Run, home: Path, tmp_path: Path) -> None:
    call(home, "memory_remember", items=[{"text": "tea"}])
    store = home / "memory-snapshot" / "memory.sqlite"
    old = store.read_bytes()
    call(home, "memory_remember", items=[{"text": "coffee"}])
    kept = tmp_path / "kept"
    kept.write_text(run("head").stdout, encoding="utf-8")
    good = run("check", "--head", str(kept))
    store.write_bytes(old)
    bad = run("check", "--head", str(kept))

    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert "2 events, 2 versions" in good.stdout
    assert "cut off or replaced" in bad.stdout


def test_the_search_index_is_made_anew_by_one_command(run: Run, home: Path) -> None:
    call(home, "memory_remember", items=[{"text": "the heron stands in the reeds"}])
    before = {file.name for file in (home / "memory-snapshot" / "index").rglob("*")}
    done = run("reindex")

    assert done.exit_code == 0, done.output
    assert {file.name for file in (home / "memory-snapshot" / "index").rglob("*")} != before


def test_the_picture_is_a_file_for_its_owner_and_replaces_nothing(run: Run, home: Path, tmp_path: Path) -> None:
    out = tmp_path / "memory.html"
    call(home, "memory_snapshot", message="made tea", items=[{"text": "tea"}])
    first = run("graph", "--out", str(out))
    second = run("graph", "--out", str(out))
    third = run("graph", "--out", str(out), "--overwrite")

    assert (first.exit_code, second.exit_code, third.exit_code) == (0, 1, 0)
    assert "made tea" in out.read_text(encoding="utf-8")
    assert out.stat().st_mode & 0o077 == 0
    assert isinstance(second.exception, InvalidInput)
