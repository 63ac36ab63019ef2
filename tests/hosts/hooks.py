"""Real hosts run the hooks that `usrland connect --hooks` installs: does memory reach the model, and is it kept?

    python tests/hosts/hooks.py [--only NAME ...] [--keep FOLDER]

Each host gets a home of its own with something remembered in it. A scripted model on loopback answers; what the
host told it must hold what was remembered, though no tool was called. Where the host can be told to compact
without a person, that must leave a snapshot. Ends with 1 where a host failed; one that cannot be installed here is
`n-a`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from agents import AGENTS, SERVERS, Agent, bare_environment, run_to_end
from kit import Kit, Missing
from scripted_model import Script, Step, playing

HOSTS = ("claude-code", "codex", "gemini-cli", "qwen-code")
SAID = "The ferry to Dover leaves at 07:00"
COMPACT: Mapping[str, Sequence[str]] = {"claude-code": ["--continue", "-p", "/compact"]}
"""What a host is started with to compact the session it had before."""
TRUST: Mapping[str, Sequence[str]] = {"codex": ["--dangerously-bypass-hook-trust"]}
"""Codex runs hooks once a person has looked at them; a run without one has to say so."""
REMEMBER = """\
import anyio, sys
from usrland.cli.calling import calling
from usrland.settings import Settings
async def work():
    async with calling("memory-snapshot", Settings.load()) as caller:
        await caller.call("memory_remember", items=[{"text": sys.argv[1]}])
anyio.run(work)
"""


def tried(agent: Agent, kit: Kit, home: Path) -> list[str]:
    """What went wrong; nothing where all is well. Raises `Missing`."""
    command = _native(agent.install(kit))
    (home / "empty").mkdir(parents=True)
    bare = bare_environment(home)
    usrland = [sys.executable, "-m", "usrland.cli"]
    run_to_end([*usrland, "init", str(home / "empty")], home, bare)
    run_to_end([sys.executable, "-c", REMEMBER, SAID], home, bare)
    wrong = []
    with playing(Script((Step("memory_status", {}, "branch"),))) as script:
        agent.configure(home, script.url)
        run_to_end([*usrland, "connect", agent.name, "--server", "memory-snapshot", "--hooks"], home, bare)
        environment = {**bare, **agent.environment(home, script.url)}
        environment["PATH"] = f"{kit.node.parent}{os.pathsep}{environment['PATH']}"
        given = [word for word in agent.arguments if not _of_another_server(word)]
        words = [word.replace("{url}", script.url).replace("{home}", str(home)) for word in given]
        words = [
            word for place, word in enumerate(words) if word != "-c" or words[place + 1 : place + 2] != ["-c"]
        ]
        said = run_to_end([*command, *words[:1], *TRUST.get(agent.name, ()), *words[1:]], home, environment)
        if not any(SAID in json.dumps(request, ensure_ascii=False) for request in script.requests):
            wrong.append(f"the model was not told what is remembered: {said[-300:]!r}")
        if agent.name in COMPACT:
            said += run_to_end([*command, *COMPACT[agent.name]], home, environment)
            if "memory_snapshot" not in run_to_end([*usrland, "trace", "--json"], home, bare):
                wrong.append(f"the compaction left no snapshot: {said[-300:]!r}")
        (home / "said.txt").write_text(said, encoding="utf-8")
        (home / "requests.json").write_text(json.dumps(script.requests, indent=1), encoding="utf-8")
    return wrong


def _native(command: Sequence[str]) -> list[str]:
    """The program itself, where it comes in a package of its own and a script would have linked it."""
    package = Path(command[0]).resolve().parent.parent
    found = sorted(package.parent.glob(f"{package.name}-*/{Path(command[0]).name}"))
    return [str(found[0]), *command[1:]] if found else list(command)


def _of_another_server(word: str) -> bool:
    return any(f"mcp_servers.{name}." in word for name in SERVERS if name != "memory-snapshot")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(HOSTS), choices=HOSTS)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        where = options.keep or Path(folder)
        for agent in AGENTS:
            if agent.name not in options.only:
                continue
            try:
                wrong = tried(agent, Kit.here(), where / agent.name)
            except Missing as reason:
                sys.stdout.write(f"{agent.name} {agent.version}: n-a, {reason}\n")
                continue
            failed = failed or bool(wrong)
            sys.stdout.write(f"{agent.name} {agent.version}: {'; '.join(wrong) or 'ok'}\n")
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
