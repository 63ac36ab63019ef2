"""The fourteen hosts, on files as they write them: comments, odd formatting, other people's servers."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from usrland.cli import hostfile
from usrland.cli.connect import our_entries
from usrland.cli.host import Address, Host, Places
from usrland.cli.hosts import HOSTS, find_host
from usrland.cli.jsontext import JsonText
from usrland.cli.servers import Server
from usrland.errors import InvalidInput
from usrland.probe import Launch

NAME = "memory-snapshot"
SERVER = Server(name=NAME, where="memory_snapshot.server:service")
LAUNCH = Launch(
    command="/opt/größe/python",
    arguments=("-m", "memory_snapshot"),
    environment={"USRLAND_HOME": '/data/it\'s "x"'},
)
ADDRESS = Address(url="https://usrland.example/memory-snapshot/mcp", token_variable="USRLAND_TOKEN")

FILES = Path(__file__).parent / "host_files"
"""A folder for each host, with files as it and its users write them."""


def cases() -> list[Any]:
    return [
        pytest.param(host, file.read_bytes().decode(), id=f"{host.name}-{file.stem}")
        for host in HOSTS
        for file in sorted((FILES / host.name).iterdir())
    ]


READERS: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".yaml": yaml.safe_load}


def named(host: Host, text: str) -> dict[str, Any]:
    """The entries by name, read with a parser of its own where the format has one."""
    suffix = Path(host.files["user"]["linux"][0]).suffix
    content = READERS[suffix](text.replace("\r\n", "\n")) if suffix in READERS else host.format.parse(text)
    entries = (content or {}).get(host.container) or {}
    return {each.get("name", "-"): each for each in entries} if isinstance(entries, list) else entries


def test_every_host_has_a_file_here() -> None:
    assert {host.name for host in HOSTS} == {folder.name for folder in FILES.iterdir()}


@pytest.mark.parametrize(("host", "before"), cases())
def test_connecting_adds_our_entry_and_keeps_every_line(tmp_path: Path, host: Host, before: str) -> None:
    file = tmp_path / "config"
    file.write_bytes(before.encode())
    entry = host.write_entry(NAME, LAUNCH)

    hostfile.write(hostfile.plan(file, host, {NAME: entry}))

    after = file.read_bytes().decode()
    assert named(host, after) == {**named(host, before), NAME: entry}
    written = iter(after)
    kept = before.replace("{}", "").replace("[]", "")  # an empty container may become one on several lines
    assert all(character in written for character in kept), "every character stays, in its order"
    assert after.count("\r\n") == (after.count("\n") if "\r\n" in before else 0)
    assert host.read_entry(hostfile.read(file, host)[NAME]) == LAUNCH
    assert not hostfile.plan(file, host, {NAME: entry}), "a second time changes nothing"


@pytest.mark.parametrize(("host", "before"), cases())
def test_disconnecting_brings_back_every_byte(tmp_path: Path, host: Host, before: str) -> None:
    file = tmp_path / "config"
    file.write_bytes(before.encode())
    entry = host.write_entry(NAME, LAUNCH)

    hostfile.write(hostfile.plan(file, host, {NAME: entry, "other": host.write_entry("other", LAUNCH)}))
    hostfile.write(hostfile.plan(file, host, {NAME: {**entry, "env": {}}}))
    ours = our_entries(host, hostfile.read(file, host), [SERVER])
    hostfile.write(hostfile.plan(file, host, {**dict.fromkeys(ours, None), "other": None}))

    assert file.read_bytes().decode() == before


@pytest.mark.parametrize(("host", "before"), cases())
def test_disconnecting_after_somebody_else_wrote_keeps_what_they_wrote(
    tmp_path: Path, host: Host, before: str
) -> None:
    file = tmp_path / "config"
    file.write_bytes(before.encode())
    entry = host.write_entry(NAME, LAUNCH)
    hostfile.write(hostfile.plan(file, host, {NAME: entry}))
    text = file.read_bytes().decode()
    file.write_bytes(host.format.put(text, host.container, "newer", host.write_entry("newer", LAUNCH)).encode())

    hostfile.write(hostfile.plan(file, host, {NAME: None}))

    after = file.read_bytes().decode()
    assert named(host, after) == {**named(host, before), "newer": host.write_entry("newer", LAUNCH)}
    comments = [line.strip() for line in before.splitlines() if line.strip().startswith(("#", "//"))]
    assert all(comment in after for comment in comments)


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_a_file_that_is_not_there_is_made_and_taken_away(tmp_path: Path, host: Host) -> None:
    file = tmp_path / "folder" / "config"

    hostfile.write(hostfile.plan(file, host, {NAME: host.write_entry(NAME, LAUNCH)}))
    assert named(host, file.read_text(encoding="utf-8")).keys() == {NAME}
    assert file.read_text(encoding="utf-8").startswith(host.new_file)

    hostfile.write(hostfile.plan(file, host, {NAME: None}))
    assert not file.exists()


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("vscode", '{"servers": {} /* open }', "not valid JSON"),
        ("windsurf", '{"mcpServers": {}} // strict', "not valid JSON"),
        ("gemini-cli", '{"mcpServers": {},} // it stops at that comma', "not valid JSON"),
        ("zed", '{"context_servers": {"a": {}, /* */ "a": {}}}', "'a' is there twice"),
        ("codex", "[mcp_servers.git\n", "not valid TOML"),
        ("codex", "mcp_servers = 7\n", "'mcp_servers' holds no table"),
        ("codex", 'mcp_servers = { git = { command = "g" } }\n', "cannot be changed in one place"),
        ("codex", 'mcp_servers.memory-snapshot.command = "g"\n', "cannot be changed in one place"),
        ("goose", "extensions:\n\t- a", "not valid YAML"),
        ("goose", "extensions:\n  git: {}\n  git: {}\n", "'git' is there twice"),
        ("goose", "extensions:\n- a\n", "'extensions' holds no mapping"),
        ("goose", "a: 1\n---\nb: 2\n", "not valid YAML"),
        ("goose", "- a\n", "not a YAML mapping"),
        ("continue", "mcpServers: {git: {}}\n", "'mcpServers' holds no list"),
        ("continue", "mcpServers:\n- name: a\n- name: a\n", "'a' is there twice"),
    ],
)
def test_what_cannot_be_changed_safely_is_refused_and_left_alone(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    host = find_host(name)
    file = tmp_path / "config"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(InvalidInput, match=reason) as refused:
        hostfile.plan(file, host, {NAME: host.write_entry(NAME, LAUNCH)})

    assert refused.value.fix
    assert file.read_text(encoding="utf-8") == text


# -- a thousand files that nobody wrote by hand


def blank(chance: random.Random) -> str:
    return chance.choice(["", " ", "\n", "\n\n  ", "\t"])


def comment(chance: random.Random) -> str:
    return chance.choice(["", "", '// {"a": 1}, \'x\n', "/* , } */", "/*\n*/ "])


def as_json(chance: random.Random, value: Any, style: JsonText) -> str:
    """Some way to write the value."""

    def gap() -> str:
        return blank(chance) + (comment(chance) + blank(chance) if style.comments else "")

    def last() -> str:
        return "," if style.last_commas and chance.random() < 0.3 else ""

    match value:
        case dict() if value:
            inner = f"{gap()},{gap()}".join(
                f"{json.dumps(key)}{gap()}:{gap()}{as_json(chance, each, style)}" for key, each in value.items()
            )
            return f"{{{gap()}{inner}{gap()}{last()}{gap()}}}"
        case list() if value:
            inner = f"{gap()},{gap()}".join(as_json(chance, each, style) for each in value)
            return f"[{gap()}{inner}{last()}{gap()}]"
        case dict() | list():
            return chance.choice(["{}", f"{{{gap()}}}"]) if isinstance(value, dict) else "[]"
        case _:
            return json.dumps(value, ensure_ascii=chance.random() < 0.5)


def as_toml(chance: random.Random, entries: dict[str, Any]) -> str:
    parts = [f'model = "m"{chance.choice(["", " # [a.b]"])}']
    for name, entry in entries.items():
        header = chance.choice([f"[mcp_servers.{json.dumps(name)}]", f" [ mcp_servers . {json.dumps(name)} ] # c"])
        body = [f"{key} = {spread(each) if chance.random() < 0.5 else plain(each)}" for key, each in entry.items()]
        parts += [*chance.choice([[], ["# above"], ["", "# above", ""]]), header, *body]
    parts += chance.choice([[], ["[tui]", "x = '''", "[mcp_servers.no]'''", "# end"], ["[[hooks]]", "a = 1"]])
    return chance.choice(["\n", "\r\n"]).join(parts) + chance.choice(["", "\n", "\n\n"])


def plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def spread(value: Any) -> str:
    return json.dumps(value, indent=1) if isinstance(value, list) else plain(value)


def as_yaml(chance: random.Random, host: Host, entries: dict[str, Any]) -> str:
    held: Any = (
        [{"name": name, **entry} for name, entry in entries.items()] if host.container == "mcpServers" else entries
    )
    content: dict[str, Any] = {"a": ["x", {"y": "z"}]} if chance.random() < 0.5 else {}
    content |= {host.container: held, "z": "a: b\nlong text"}
    style = {"default_flow_style": chance.choice([None, False, False]), "indent": chance.choice([2, 3, 4])}
    if chance.random() < 0.2:
        return str(yaml.safe_dump(content, sort_keys=False, default_flow_style=True))
    parts = [
        yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, **style)
        for key, value in content.items()
    ]
    if any(part.startswith("{") for part in parts):
        return str(yaml.safe_dump(content, sort_keys=False))
    return chance.choice(["", "# a comment\n", "\n"]).join(parts)


def test_no_entry_is_lost_in_a_thousand_files(tmp_path: Path) -> None:
    chance = random.Random(7)
    values: list[Any] = ["g", "a,}b", 'q"\\', "größe 🚢", "# //", ["-m", "x]"], [], 7, True]
    file = tmp_path / "config"
    for at in range(1_000):
        host = HOSTS[at % len(HOSTS)]
        names = chance.sample(["git", "my server", "a.b", "x", "größe", "q'"], chance.randrange(4))
        entries = {
            name: {f"k{i}": chance.choice(values) for i in range(1, chance.randrange(2, 5))} for name in names
        }
        if host.format is find_host("codex").format:
            text = as_toml(chance, entries)
        elif host.new_file or host.name == "goose":
            text = as_yaml(chance, host, entries)
        else:
            content = {"theme": ["a", {"b": None}], host.container: entries, "z": 1.5}
            assert isinstance(host.format, JsonText)
            text = as_json(chance, content, host.format)
        file.write_bytes(text.encode())
        entry = host.write_entry(NAME, LAUNCH)

        after = hostfile.plan(file, host, {NAME: entry}).after
        assert after is not None
        assert named(host, after.decode()) == {**named(host, text), NAME: entry}, text
        edited = host.format.remove(after.decode(), host.container, NAME)
        assert named(host, edited) == named(host, text), text
        if at % 20 == 0:  # to the disk and back: every write waits for it
            hostfile.write(hostfile.plan(file, host, {NAME: entry}))
            assert file.read_bytes() == after
            hostfile.write(hostfile.plan(file, host, {NAME: None}))
            assert file.read_bytes().decode() == text


# -- by address


@pytest.mark.parametrize("host", [host for host in HOSTS if host.headers], ids=lambda host: host.name)
def test_an_address_is_written_with_the_name_of_the_variable_and_never_the_token(host: Host) -> None:
    entry = host.write_remote(NAME, ADDRESS)

    assert host.read_address(entry) == ADDRESS.url
    assert "USRLAND_TOKEN" in json.dumps(entry)
    assert our_entries(host, {"any": entry}, [SERVER]) == ["any"]


@pytest.mark.parametrize("host", [host for host in HOSTS if not host.headers], ids=lambda host: host.name)
def test_a_host_that_would_need_the_token_in_its_file_refuses_it(host: Host) -> None:
    with pytest.raises(InvalidInput) as refused:
        host.write_remote(NAME, ADDRESS)

    assert "without --url" in refused.value.fix


def test_a_hosts_own_variables_move_its_files() -> None:
    def file(host: str, **environment: str) -> Path:
        places = Places(home=Path("/h"), project=Path("/p"), platform="linux", environment=environment)
        return find_host(host).file("user", places)

    assert file("claude-code", CLAUDE_CONFIG_DIR="/elsewhere") == Path("/elsewhere/.claude.json")
    assert file("codex", CODEX_HOME="/codex") == Path("/codex/config.toml")
    assert file("continue", CONTINUE_GLOBAL_DIR="/c") == Path("/c/config.yaml")
    assert file("zed", XDG_CONFIG_HOME="/x") == Path("/x/zed/settings.json")


def test_of_two_files_a_host_reads_the_one_that_is_there_is_taken(tmp_path: Path) -> None:
    places = Places(home=tmp_path, project=tmp_path, platform="linux")
    host = find_host("opencode")
    assert host.file("project", places).name == "opencode.jsonc"

    (tmp_path / "opencode.json").write_text("{}", encoding="utf-8")
    assert host.file("project", places).name == "opencode.json"


# -- the command


def test_without_a_host_the_command_shows_which_are_here(installation: Any) -> None:
    (installation.user / ".cursor").mkdir()
    installation.plant_server("planted-server", "")
    installation.run("connect", "--found", "--server", "planted-server")

    shown = {line.split()[0]: line.split()[1:3] for line in installation.run("connect").splitlines() if line}

    assert shown["cursor"] == ["here", "planted-server"]
    assert shown["codex"] == ["-", "-"]
    installation.run("disconnect", "--found")
    assert not (installation.user / ".cursor" / "mcp.json").exists()


def test_several_hosts_get_an_address_and_no_secret(installation: Any) -> None:
    installation.plant_server("planted-server", "")
    asked = ("--server", "planted-server", "--url", "https://u.example/", "--token-env", "TOKEN_OF_MINE")

    installation.run("connect", "codex", "claude-code", *asked)

    codex = tomllib.loads((installation.user / ".codex" / "config.toml").read_text(encoding="utf-8"))
    assert codex["mcp_servers"] == {
        "planted-server": {"url": "https://u.example/planted-server/mcp", "bearer_token_env_var": "TOKEN_OF_MINE"}
    }
    claude = json.loads((installation.user / ".claude.json").read_text(encoding="utf-8"))
    assert claude["mcpServers"]["planted-server"]["headers"] == {"Authorization": "Bearer ${TOKEN_OF_MINE}"}
    assert "no longer has planted-server" in installation.run("disconnect", "codex")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["connect", "cursor", "--url", "u.example"], "is no address"),
        (["connect", "cursor", "--url", "https://ada:secret@u.example"], "is no address"),
        (
            ["connect", "cursor", "--url", "https://u.example", "--token-env", "eyJhbGciOi.x"],
            "name of an environment",
        ),
        (["connect", "cursor", "--token-env", "TOKEN"], "is for --url"),
        (["connect", "claude-desktop", "--url", "https://u.example"], "reaches none by address"),
        (["disconnect"], "which host?"),
        (["connect", "--found"], "none of the hosts we know is installed"),
    ],
)
def test_what_is_asked_wrongly_is_told_in_a_sentence(
    shared_installation: Any, arguments: list[str], reason: str
) -> None:
    said = shared_installation.run(*arguments, exit_code=1)

    assert reason in said and "eyJhbGciOi" not in said
