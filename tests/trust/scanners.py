"""What a security review runs over the product, in one command; none of it is needed by the tests.

    python tests/trust/scanners.py                       what is installed, and what is not
    python tests/trust/scanners.py --bin DIR --bin DIR   programs are looked for there, too (they do not agree on
                                                         their dependencies: give each an environment of its own)

bandit (PyPI) and semgrep (PyPI, with the rules in rules.yaml) read the code; mcp-scanner (PyPI
cisco-ai-mcp-scanner) reads what the servers say of themselves, by its offline analysers; mcp-fuzzer (PyPI) calls
every tool with what no schema allows; the official conformance suite looks at Host and Origin
(`tests/hosts/conformance.py`, needs Node).
Ends with 1 where anything was found, and says what did not run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import jsonschema
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from lived_in import live  # noqa: E402

CODE = ["shared", "servers"]
SERVERS = ("filesystem_retrieval", "enterprise_connectors", "memory_snapshot")
RULES = ROOT / "tests" / "trust" / "rules.yaml"
FUZZ_RUNS = 100
"""Of each tool, twice. So many that what the first search loads is no growth of memory beside them."""
BLOTTED = "[REDACTED]"
SAMPLE = """
import asyncio, logging, marshal, os, pickle, re, ssl, subprocess, yaml
from pathlib import Path
logger = logging.getLogger()
def a(x): subprocess.run(x, shell=True)
def b(x): return eval(x)
def c(table, x): return table.delete(f"id = '{x}'")
def d(): return os.environ["SECRET"]
def e(client): return client(verify=False)
def f(secret): logger.info("it is %s", secret)
class T:
    async def fs_read(self, path, call: Call, root=None):
        return open(path)
    async def fs_grep(self, pattern, call: Call):
        return re.compile(pattern)
"""


@dataclass
class Looked:
    """What one scanner saw."""

    name: str
    ran: str
    """What it looked at, or why it did not run."""
    findings: list[str] = field(default_factory=list)
    missing: bool = False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, action="append", default=[], help="a folder with programs")
    parser.add_argument("--only", action="append", choices=SCANNERS, help="default: all")
    options = parser.parse_args()
    path = os.pathsep.join([*map(str, options.bin), os.environ.get("PATH", "")])
    looked = []
    for name in options.only or SCANNERS:
        program, scan = SCANNERS[name]
        found = shutil.which(program, path=path)
        each = scan(found) if found else Looked(name, f"{program} is not installed", missing=True)
        looked.append(each)
        sys.stdout.write(f"{each.name}: {each.ran}: {_verdict(each)}\n")
        for finding in each.findings[:20]:
            sys.stdout.write(f"  {finding}\n")
    return 1 if any(each.findings for each in looked) else 0


def _verdict(looked: Looked) -> str:
    return "not run" if looked.missing else f"{len(looked.findings)} findings"


def _done(*command: object, seconds: float = 900) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)


# -- the code


def bandit(program: str) -> Looked:
    done = _done(program, "-q", "-r", *CODE, "-ll", "-f", "json")
    report = json.loads(done.stdout)
    findings = [
        f"{each['filename']}:{each['line_number']}: {each['test_id']} {each['issue_text']}"
        for each in report["results"]
    ]
    lines = report["metrics"]["_totals"]["loc"]
    return Looked("bandit", f"{lines} lines, severity medium and high", findings)


def semgrep(program: str) -> Looked:
    """Every rule must find its own mistake in a file made for that: a rule that finds nothing proves nothing."""
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder) / "servers" / "filesystem_retrieval" / "sample.py"
        sample.parent.mkdir(parents=True)
        sample.write_text(SAMPLE, encoding="utf-8")
        seen = {each["check_id"].rpartition(".")[2] for each in _semgrep(program, Path(folder), "servers")}
    known = {
        line.partition("id: ")[2] for line in RULES.read_text(encoding="utf-8").splitlines() if "- id: " in line
    }
    findings = [f"the rule {name} does not find its own mistake" for name in sorted(known - seen)]
    findings += [
        f"{each['path']}:{each['start']['line']}: {each['check_id'].rpartition('.')[2]}"
        for each in _semgrep(program, ROOT, *CODE)
    ]
    return Looked("semgrep", f"{len(known)} rules of ours", findings)


def _semgrep(program: str, folder: Path, *code: str) -> list[dict[str, Any]]:
    command = [program, "scan", "--config", str(RULES), "--metrics", "off", "--disable-version-check", "--json"]
    done = subprocess.run(
        [*command, "--no-git-ignore", *code], cwd=folder, capture_output=True, text=True, timeout=900, check=False
    )
    report = json.loads(done.stdout)
    errors = [each for each in report["errors"] if each.get("level") == "error"]
    if errors:
        raise RuntimeError(f"semgrep: {errors[:3]}")
    return list(report["results"])


# -- the servers


def cisco(program: str) -> Looked:
    findings, tools = [], 0
    with tempfile.TemporaryDirectory() as folder:
        home = _home(Path(folder))
        for server in SERVERS:
            words = [f"--stdio-arg={word}" for word in ("-m", server, "--home", str(home))]
            analysers = ["--analyzers", "yara,schema", "--format", "raw", "--log-level", "error"]
            done = _done(program, *analysers, "stdio", "--stdio-command", sys.executable, *words)
            report = json.loads(done.stdout[done.stdout.index("{") :])
            tools += len(report["scan_results"])
            findings += [
                f"{server} {each['tool_name']}: {each['findings']}"
                for each in report["scan_results"]
                if not each["is_safe"] or each["status"] != "completed"
            ]
    if not tools:
        findings.append("it saw no tool")
    return Looked("mcp-scanner", f"{tools} tools, yara and schema", findings)


def fuzzer(program: str) -> Looked:
    """What it calls accepted and malformed is held against the schema of the tool: it also sends good calls.

    Its report blots out what is named like a secret, a number of tokens too; so all that it sends is written down.
    """
    findings, calls = [], 0
    with tempfile.TemporaryDirectory() as folder:
        home = _home(Path(folder))
        for server in SERVERS:
            out = Path(folder) / server
            wire = Path(folder) / f"{server}.jsonl"
            # the process that it starts, and whose memory it looks at, becomes the server
            endpoint = f"bash -c 'exec {sys.executable} -m {server} --home {home} < <(exec tee {wire})'"
            command = [program, "--mode", "tools", "--protocol", "stdio", "--endpoint", endpoint, "--seed", "1"]
            command += ["--runs", str(FUZZ_RUNS), "--phase", "both", "--no-corpus", "--output-dir", str(out)]
            done = _done(*command, "--log-level", "ERROR", seconds=1800)
            report = json.loads((out / "findings.json").read_text(encoding="utf-8"))
            calls += sum(
                int(line.split()[-1]) for line in done.stdout.splitlines() if "Total Fuzzing Runs" in line
            )
            schemas, made = anyio.run(_schemas, server, home), _calls(wire)
            findings += [
                f"{server} {each['target']}: {each['category']}: {json.dumps(each['evidence'])[:400]}"
                for each in report["findings"]
                if each["category"] != "accepted_malformed"
                or not all(
                    jsonschema.Draft202012Validator(schemas[each["target"]]).is_valid(sent)
                    for sent in _sent(each["evidence"]["input"], made[each["target"]])
                )
            ]
    if not calls:
        findings.append("it made no call")
    return Looked("mcp-fuzzer", f"{calls} calls of all tools", findings)


def conformance(_: str) -> Looked:
    done = _done(sys.executable, "tests/hosts/conformance.py", "--only", "dns-rebinding-protection", seconds=900)
    said = [line for line in done.stdout.splitlines() if line.startswith(("|", "-"))]
    return Looked("conformance", "dns-rebinding-protection", said if done.returncode else [])


def _sent(told: dict[str, Any], made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What may have been sent, given what the report tells of it: several where they differ in what it hides."""
    if BLOTTED not in told.values():
        return [told]
    return [
        call
        for call in made
        if call.keys() == told.keys() and all(told[name] in (value, BLOTTED) for name, value in call.items())
    ] or [told]


def _calls(wire: Path) -> dict[str, list[dict[str, Any]]]:
    """Tool → the arguments of each call."""
    calls: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in wire.read_text(encoding="utf-8").splitlines():
        message = json.loads(line)
        if message.get("method") == "tools/call":
            calls[message["params"]["name"]].append(message["params"]["arguments"])
    return calls


async def _schemas(server: str, home: Path) -> dict[str, dict[str, Any]]:
    parameters = StdioServerParameters(command=sys.executable, args=["-m", server, "--home", str(home)])
    with open(os.devnull, "w") as nowhere:  # noqa: ASYNC230, PTH123 - it only goes to a process
        async with Client(stdio_client(parameters, errlog=nowhere)) as client:
            return {tool.name: tool.input_schema for tool in (await client.list_tools()).tools}


def _home(folder: Path) -> Path:
    anyio.run(live, folder)
    with closing(sqlite3.connect(folder / "shop.sqlite")) as connection:
        connection.execute("CREATE TABLE ships (id INTEGER PRIMARY KEY, name TEXT)")
        connection.commit()
    (folder / "home" / "connectors.toml").write_text(
        f'[shop]\nkind = "sql"\nwrite = true\nurl = "sqlite:///{folder / "shop.sqlite"}"\n', encoding="utf-8"
    )
    return folder / "home"


SCANNERS: dict[str, tuple[str, Callable[[str], Looked]]] = {
    "bandit": ("bandit", bandit),
    "semgrep": ("semgrep", semgrep),
    "mcp-scanner": ("mcp-scanner", cisco),
    "mcp-fuzzer": ("mcp-fuzzer", fuzzer),
    "conformance": ("npm", conformance),
}


if __name__ == "__main__":
    sys.exit(main())
