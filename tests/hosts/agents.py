"""Real hosts do a task of several steps over all three servers, configured by our own `connect`.

    python tests/hosts/agents.py [--only NAME ...] [--transport http] [--markdown FILE] [--keep FOLDER]

Each host is installed from its registry outside the repository (see `kit`), given a home of its own, a
configuration as its user would have, and `usrland connect`. A scripted model on loopback then asks for one
tool after the other, and what each answer must hold is compared. Ends with 1 where a host failed; one that
cannot be installed here is `n-a`, with the reason. No model API, no key, no network but the registry.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from kit import DRIVERS, Kit, Missing
from scripted_model import Script, Step, playing

SECONDS = 300
HEARD = "heard.txt"
"""Where `listening` notes what it hears, in the prefix of the Python that it is put into."""
TOKEN = "USRLAND_TOKEN"
SERVERS = ("enterprise-connectors", "filesystem-retrieval", "memory-snapshot")
SHIPS = (
    "CREATE TABLE ships (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO ships VALUES (1, 'Möwe'), (2, 'Dover');"
)
STEPS = (
    Step("fs_read", {"path": "harbour/README.md"}, "A crane costs 40 euros"),
    Step("sys_find", {"request": "which ships are there"}, "fleet_query"),
    Step("sys_call", {"name": "fleet_query", "arguments": {"sql": "SELECT name FROM ships ORDER BY id"}}, "Möwe"),
    Step(
        "memory_remember", {"items": [{"text": "The ferry to Dover leaves at 07:00", "key": "ferry"}]}, "item_id"
    ),
    Step("memory_recall", {"query": "when does the ferry leave?"}, "07:00"),
    Step("fs_read", {"path": "../outside.txt", "root": "harbour"}, "fs_list"),
    Step("sys_call", {"name": "fleet_query", "arguments": {"sql": "DROP TABLE ships"}}, "only one SELECT"),
)
"""The last two must be refused, and the refusal must say what to do."""


@dataclass(frozen=True)
class Agent:
    """One host: where it comes from, what its user's configuration says, how it is run once."""

    name: str
    version: str
    install: Callable[[Kit], list[str]]
    """The command that runs it; raises `Missing`."""
    configure: Callable[[Path, str], None]
    """Writes what the user had before; gets the home and the model's address."""
    arguments: Sequence[str]
    environment: Callable[[Path, str], Mapping[str, str]] = lambda home, url: {}
    connect: str = ""
    """What `usrland connect` is told. Default: the name."""


@dataclass(frozen=True)
class Result:
    agent: Agent
    outcome: str
    """ok, failed or n-a."""
    steps: int = 0
    offered: int = 0
    eras: tuple[str, ...] = ()
    """The protocol versions that our servers were spoken to in."""
    told: str = ""


def _nothing(home: Path, url: str) -> None:
    """This host starts without a file."""


def _claude_code(kit: Kit) -> list[str]:
    """By the wrapper it brings for those who let no install script run."""
    (program,) = kit.host("@anthropic-ai/claude-code", "2.1.328", "claude")
    return [str(kit.node), str(Path(program).resolve().parents[1] / "cli-wrapper.cjs")]


def _opencode_program(kit: Kit) -> list[str]:
    """The program for this machine, which an install script would have put in the place of a note."""
    (note,) = kit.host("opencode-ai", "1.18.33", "opencode")
    found = sorted(Path(note).parents[1].glob("opencode-*-baseline/bin/opencode"))
    if not found:
        raise Missing("opencode-ai brought no program for this machine")
    return [str(found[0])]


def _gemini(home: Path, url: str) -> None:
    folder = home / ".gemini"
    folder.mkdir()
    text = '{\n  // how to sign in\n  "security": {"auth": {"selectedType": "gemini-api-key"}}\n}\n'
    (folder / "settings.json").write_text(text, encoding="utf-8")
    (folder / "trustedFolders.json").write_text(json.dumps({str(home): "TRUST_FOLDER"}), encoding="utf-8")


def _opencode(home: Path, url: str) -> None:
    folder = home / ".config" / "opencode"
    folder.mkdir(parents=True)
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{url}/v1", "apiKey": "none"},
        "models": {"scripted": {"name": "scripted", "tool_call": True}},
    }
    settings = {"provider": {"scripted": provider}, "model": "scripted/scripted", "autoupdate": False}
    (folder / "opencode.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def _continue(home: Path, url: str) -> None:
    folder = home / ".continue"
    folder.mkdir()
    model = {
        "name": "scripted",
        "provider": "openai",
        "model": "scripted",
        "apiKey": "none",
        "apiBase": f"{url}/v1",
        "roles": ["chat"],
        "capabilities": ["tool_use"],
    }
    settings = {"name": "Mine", "version": "1.0.0", "schema": "v1", "models": [model]}
    (folder / "config.yaml").write_text("# mine\n" + yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def _codex_arguments() -> list[str]:
    endpoint = 'name="scripted",base_url="{url}/v1",env_key="OPENAI_API_KEY",wire_api="responses"'
    provider = f"model_providers.scripted={{{endpoint}}}"
    # a single turn would otherwise be over before a server has started
    waits = [word for name in SERVERS for word in ("-c", f"mcp_servers.{name}.required=true")]
    told = ["-c", "model_provider=scripted", "-c", provider, *waits, "-m", "scripted"]
    return ["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", *told, "go"]


def _library(name: str, version: str, driver: str, *requirements: str) -> Agent:
    """A library in the shortest program its documentation shows; the file is one that several of them read."""
    return Agent(
        name=name,
        version=version,
        install=lambda kit: [*kit.library(name, *requirements), str(DRIVERS / driver)],
        configure=_nothing,
        arguments=["{home}/.claude.json", "{url}"],
        connect="claude-code",
    )


AGENTS = (
    Agent(
        name="claude-code",
        version="2.1.328",
        install=_claude_code,
        configure=_nothing,
        arguments=[
            "-p",
            "go",
            "--output-format",
            "json",
            "--allowedTools",
            ",".join(f"mcp__{s}" for s in SERVERS),
        ],
        environment=lambda home, url: {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "none",
            "ENABLE_TOOL_SEARCH": "false",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        },
    ),
    Agent(
        name="codex",
        version="0.169.0",
        install=lambda kit: kit.host("@openai/codex", "0.169.0", "codex"),
        configure=_nothing,
        arguments=_codex_arguments(),
        environment=lambda home, url: {"OPENAI_API_KEY": "none"},
    ),
    Agent(
        name="gemini-cli",
        version="0.61.0",
        install=lambda kit: kit.host("@google/gemini-cli", "0.61.0", "gemini"),
        configure=_gemini,
        arguments=["-m", "gemini-2.5-pro", "--yolo", "-p", "go"],
        environment=lambda home, url: {"GEMINI_API_KEY": "none", "GOOGLE_GEMINI_BASE_URL": url},
    ),
    Agent(
        name="qwen-code",
        version="0.24.4",
        install=lambda kit: kit.host("@qwen-code/qwen-code", "0.24.4", "qwen"),
        configure=_nothing,
        arguments=["--auth-type", "openai", "-m", "scripted", "--yolo", "-p", "go"],
        environment=lambda home, url: {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "none"},
    ),
    Agent(
        name="opencode",
        version="1.18.33",
        install=_opencode_program,
        configure=_opencode,
        arguments=["run", "go"],
    ),
    Agent(
        name="continue",
        version="1.5.47",
        install=lambda kit: kit.host("@continuedev/cli", "1.5.47", "cn"),
        configure=_continue,
        arguments=["--config", "{home}/.continue/config.yaml", "--auto", "-p", "go"],
        environment=lambda home, url: {"CONTINUE_TELEMETRY_ENABLED": "0"},
    ),
    _library("openai-agents", "0.24.0", "agent_openai.py", "openai-agents==0.24.0"),
    _library("pydantic-ai", "2.68.0", "agent_pydantic.py", "pydantic-ai-slim[openai,mcp]==2.68.0"),
    _library(
        "langchain-mcp-adapters",
        "0.3.2",
        "agent_langchain.py",
        "langchain-mcp-adapters==0.3.2",
        "langchain==1.*",
        "langchain-openai==1.*",
    ),
    _library("strands-agents", "1.62.0", "agent_strands.py", "strands-agents[openai]==1.62.0"),
    Agent(
        name="mcporter",
        version="0.12.3",
        install=lambda kit: kit.host_driver("mcporter", "0.12.3", "mcporter.mjs"),
        configure=_nothing,
        arguments=["{home}/.claude.json", "{url}"],
        connect="claude-code",
    ),
)


def tried(agent: Agent, kit: Kit, folder: Path, transport: str) -> Result:
    """Install, configure, connect, run, compare."""
    try:
        command = agent.install(kit)
    except Missing as reason:
        return Result(agent, "n-a", told=str(reason))
    home = folder / agent.name
    home.mkdir()
    python = _listening_python(home)
    prepare(home, python)
    with playing(Script(STEPS)) as script, reached(home, python, transport) as (told_by, variables):
        agent.configure(home, script.url)
        _usrland(home, python, "connect", agent.connect or agent.name, *told_by)
        environment = {**bare_environment(home), **variables, **agent.environment(home, script.url)}
        # what a host is started with in a terminal: its own node, and a home
        environment["PATH"] = f"{kit.node.parent}{os.pathsep}{environment['PATH']}"
        words = [word.replace("{url}", script.url).replace("{home}", str(home)) for word in agent.arguments]
        said = run_to_end([*command, *words], home, environment)
    (home / "said.txt").write_text(said, encoding="utf-8")
    (home / "requests.json").write_text(json.dumps(script.requests, indent=1), encoding="utf-8")
    told = difference(script) or ("" if script.answers else said[-600:])
    offered = len([name for name in script.offered if any(part in name for part in ("fs_", "sys_", "memory_"))])
    return Result(agent, "failed" if told else "ok", len(script.answers), offered, _eras(python), told)


def _listening_python(home: Path) -> Path:
    """An interpreter that has our servers, and notes in which protocol version each request comes."""
    folder = home / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=SECONDS)
    (packages,) = folder.glob("lib/python*/site-packages")
    shutil.copyfile(Path(__file__).with_name("listening.py"), packages / "listening.py")
    outer = [path for path in sys.path if path and path != str(Path(__file__).parent)]
    (packages / "outer.pth").write_text("\n".join([*outer, "import listening"]), encoding="utf-8")
    return folder / "bin" / "python"


def _eras(python: Path) -> tuple[str, ...]:
    heard = python.parent.parent / HEARD
    lines = heard.read_text(encoding="utf-8").splitlines() if heard.exists() else []
    return tuple(sorted({line.split()[0] for line in lines if line.split()[1] == "tools/call"}))


def difference(script: Script) -> str:
    """Where an answer is not what it must be; empty where all are."""
    if not script.answers:
        return "the host never offered our tools to the model"
    for at, step in enumerate(script.steps):
        if at >= len(script.answers):
            return f"the host stopped before step {at + 1}, {step.tool}"
        if step.expected not in script.answers[at]:
            return f"step {at + 1}, {step.tool}: no {step.expected!r} in {script.answers[at][:400]!r}"
    return ""


def prepare(home: Path, python: Path) -> None:
    """A folder to read and a database to ask, made known by our own command."""
    (home / "harbour").mkdir()
    (home / "harbour" / "README.md").write_text("# Harbour\n\nA crane costs 40 euros.\n", encoding="utf-8")
    with closing(sqlite3.connect(home / "fleet.sqlite")) as connection:
        connection.executescript(SHIPS)
    _usrland(home, python, "init", str(home / "harbour"))
    with (home / ".usrland" / "connectors.toml").open("a", encoding="utf-8") as file:
        file.write(f'[fleet]\nkind = "sql"\nabout = "Ships"\nurl = "sqlite:///{home / "fleet.sqlite"}"\n')


@contextmanager
def reached(home: Path, python: Path, transport: str) -> Iterator[tuple[list[str], dict[str, str]]]:
    """How `connect` is told of the servers, and what the host then needs. Over HTTP they run meanwhile."""
    if transport == "stdio":
        yield [], {}
        return
    token = _usrland(home, python, "token", "add", "tester", "--scopes", "fs:*,memory:*,sys:*,fleet:*").strip()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(python), "-m", "usrland.cli", "serve", "--all", "--transport", "http", "--port", str(port)]
    with (
        (home / "serve.txt").open("w") as log,
        subprocess.Popen(command, env=bare_environment(home), stderr=log) as process,
    ):
        try:
            _wait(f"http://127.0.0.1:{port}/healthz")
            yield ["--url", f"http://127.0.0.1:{port}", "--token-env", TOKEN], {TOKEN: token}
        finally:
            process.terminate()


def _wait(url: str) -> None:
    until = time.monotonic() + SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return


def _usrland(home: Path, python: Path, *arguments: str) -> str:
    command = [str(python), "-m", "usrland.cli", *arguments]
    done = subprocess.run(
        command, cwd=home, env=bare_environment(home), capture_output=True, text=True, timeout=SECONDS
    )
    if done.returncode:
        raise RuntimeError(f"usrland {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def bare_environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


def run_to_end(command: Sequence[str], home: Path, environment: Mapping[str, str]) -> str:
    """What it prints, and how it ended."""
    try:
        done = subprocess.run(
            command,
            cwd=home,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end within {SECONDS} seconds"
    return f"{done.stdout}\n{done.stderr}\nexit code {done.returncode}\n"


def table(results: Sequence[Result]) -> str:
    lines = ["| host | version | protocol | tools offered | steps | outcome |", "|---|---|---|---|---|---|"]
    for each in results:
        steps = f"{each.steps} of {len(STEPS)}"
        outcome = each.outcome + (f": {each.told[:300]}" if each.told else "")
        who = f"{each.agent.name} | {each.agent.version} | {', '.join(each.eras)}"
        lines.append(f"| {who} | {each.offered} | {steps} | {outcome} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", default=[], help="this host (may be repeated)")
    parser.add_argument("--transport", choices=["stdio", "http"], default="stdio", help="default: stdio")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--keep", type=Path, help="leave each host's home and all requests here")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="usrland-agents-"))
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    try:
        for agent in AGENTS:
            if not options.only or agent.name in options.only:
                results.append(tried(agent, Kit.here(), folder, options.transport))
                sys.stderr.write(f"{agent.name}: {results[-1].outcome} {results[-1].told}\n")
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(table(results))
    if options.markdown:
        options.markdown.write_text(table(results), encoding="utf-8")
    return 1 if any(each.outcome == "failed" for each in results) else 0


if __name__ == "__main__":
    sys.exit(main())
