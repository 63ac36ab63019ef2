"""The official conformance suite against the servers as they are.

    python tests/hosts/conformance.py [--only TEXT ...] [--json FILE] [--markdown FILE]
    python tests/hosts/conformance.py --required [--markdown FILE]

With `--required`: every server scenario that the suite requires of either revision, against the server in
`fixtures`, which has what they ask for and is served by the real host with `[server] sessions`. Ends with 1 where
the suite does.

Without it: the servers as they are. Most scenarios of the suite call tools that only a test server has; run
against a real one they fail, or pass without having tested anything. So only those are run that mean something
for any server, each at every revision of the protocol it belongs to. What they cannot test without a fixture the
suite calls a failure too; here it is "part": it says so itself, or stands in `FIXTURES`.
Ends with 1 where anything else failed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from clients import HANDSHAKE, MODERN
from kit import CONFORMANCE, Kit, Missing
from matrix import Asker, chosen_cases, folder, programs, rows
from serving import command, serving

REVISIONS = (HANDSHAKE[-1], *MODERN)
SCENARIOS = (
    "server-initialize",
    "ping",
    "tools-list",
    "resources-list",
    "prompts-list",
    "completion-complete",
    "server-sse-multiple-streams",
    "server-session-lifecycle",
    "dns-rebinding-protection",
    "server-stateless",
    "caching",
    "sep-2164-resource-not-found",
    "http-header-validation",
    "http-custom-header-server-validation",
    "input-required-result-unsupported-methods",
)
FIXTURES = {"sep-2575-server-rejects-undeclared-capability": "asks for the tool test_missing_capability"}
"""Checks that fail for want of a fixture, where the suite does not say so itself ("Not testable: …")."""
SCENARIO_SECONDS = 90
REQUIRED_SECONDS = 400


@dataclass(frozen=True)
class Result:
    server: str
    scenario: str
    revision: str
    outcome: str
    """pass, part (what could be tested passed, the rest needs a fixture), fail or n-a."""
    passed: int = 0
    told: tuple[str, ...] = ()
    """What did not pass, and why."""


def run(program: Sequence[str], server: str, url: str, scenario: str, revision: str) -> Result:
    with folder() as out:
        asked = ["server", "--url", url, "--scenario", scenario, "--spec-version", revision, "-o", str(out)]
        done = subprocess.run(
            [*program, *asked],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=SCENARIO_SECONDS,
            check=False,
        )
        if "not applicable at spec version" in done.stdout + done.stderr:
            return Result(server, scenario, revision, "n-a", told=("not part of this revision",))
        files = list(out.rglob("checks.json"))
        if not files:
            said = (done.stdout + done.stderr).strip().splitlines()[-3:]
            return Result(server, scenario, revision, "fail", told=tuple(said))
        checks = [check for file in files for check in json.loads(file.read_text(encoding="utf-8"))]
    return judged(server, scenario, revision, checks)


def judged(server: str, scenario: str, revision: str, checks: Sequence[dict[str, object]]) -> Result:
    told, outcome = [], "pass"
    passed = [check for check in checks if check["status"] == "SUCCESS"]
    for check in checks:
        name, status = str(check["id"]), check["status"]
        details = check.get("details")
        note = details.get("message") or details.get("note") if isinstance(details, dict) else None
        text = str(check.get("errorMessage") or note or check.get("description"))
        match status:
            case "FAILURE" if name in FIXTURES or text.startswith("Not testable"):
                outcome = outcome if outcome == "fail" else "part"
                told.append(f"{name}: {FIXTURES.get(name, text)}")
            case "FAILURE":
                outcome = "fail"
                told.append(f"{name}: {text}")
            case "WARNING" | "SKIPPED":
                told.append(f"{name} ({str(status).lower()}): {text}")
            case "INFO" if not passed:
                told.append(f"{name}: {text}")
            case _:
                pass
    if outcome != "fail" and all(check["id"] == "wire-schema-valid" for check in passed):
        outcome = "n-a"  # well-formed answers, but nothing of what the scenario is about was tried
    return Result(server, scenario, revision, outcome, len(passed), tuple(told))


def table(results: Sequence[Result]) -> str:
    """A row per scenario and revision, a column per server; every remark below, once."""
    servers = list(dict.fromkeys(result.server for result in results))
    found = {(result.scenario, result.revision, result.server): result for result in results}
    lines = [["scenario", "revision", *servers]]
    for scenario, revision in dict.fromkeys((result.scenario, result.revision) for result in results):
        marks = [found[scenario, revision, server] for server in servers if (scenario, revision, server) in found]
        if any(mark.told != ("not part of this revision",) for mark in marks):
            lines.append([scenario, revision, *(_mark(result) for result in marks)])
    remarks: dict[str, list[str]] = {}
    for result in results:
        for remark in result.told:
            remarks.setdefault(f"{result.scenario} {result.revision}: {remark}", []).append(result.server)
    notes = [
        f"- {remark} ({', '.join(who)})" for remark, who in remarks.items() if not remark.endswith("this revision")
    ]
    return "\n".join([rows(lines), "", *notes]) + "\n"


def required(program: Sequence[str], markdown: Path | None) -> int:
    """The suite's own verdict on each revision's required set."""
    lines, code = [["revision", "required scenarios", "passed", "checks passed", "verdict"]], 0
    fixtures = [sys.executable, str(Path(__file__).with_name("fixtures.py"))]
    with folder() as home, folder() as out:
        (home / "usrland.toml").write_text("[server]\nsessions = true\n", encoding="utf-8")
        with serving(fixtures, home) as addresses:
            for revision in REVISIONS:
                asked = ["server", "--url", addresses.http, "--requirements", revision, "-o", str(out)]
                done = subprocess.run(
                    [*program, *asked], capture_output=True, text=True, timeout=REQUIRED_SECONDS, check=False
                )
                summary, _, unscored = done.stdout.partition("=== SUMMARY ===")[2].partition("Not scored for")
                apart = set(re.findall(r"^\s+\S (\S+) \(", unscored, re.MULTILINE))
                scored = [
                    found
                    for found in re.findall(r"^(\S) (\S+): (\d+) passed, (\d+) failed", summary, re.MULTILINE)
                    if found[1] not in apart
                ]
                passed = [found for found in scored if found[3] == "0"]
                told = [f"{found[1]}: {found[3]} failed" for found in scored if found not in passed]
                sys.stderr.write("\n".join([*told, ""]) if scored else done.stdout + done.stderr)
                verdict = "pass" if done.returncode == 0 and scored else "fail"
                checks = sum(int(found[2]) for found in scored)
                lines.append([revision, str(len(scored)), str(len(passed)), str(checks), verdict])
                code = code or (verdict == "fail")
    sys.stdout.write(rows(lines) + "\n")
    if markdown:
        markdown.write_text(rows(lines) + "\n", encoding="utf-8")
    return int(code)


def _mark(result: Result) -> str:
    return result.outcome if result.outcome == "n-a" else f"{result.outcome} ({result.passed})"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", default=[], help="scenarios or servers that name this")
    parser.add_argument("--required", action="store_true", help="the full required sets, against the fixtures")
    parser.add_argument("--cases", type=Path, help="a Python file with other CASES")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    options = parser.parse_args()
    kit = Kit.here()
    try:
        program = kit.script(CONFORMANCE, "dist/index.js")
    except Missing as reason:
        sys.stderr.write(f"n-a: {reason}\n")
        return 0
    if options.required:
        return required(program, options.markdown)
    results = []
    for result in _results(kit, program, options.cases, options.only):
        results.append(result)
        sys.stderr.write(f"{result.server} {result.scenario} {result.revision}: {_mark(result)}\n")
    sys.stdout.write(table(results))
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(table(results), encoding="utf-8")
    return 0 if results and all(result.outcome != "fail" for result in results) else 1


def _results(kit: Kit, program: Sequence[str], cases: Path | None, only: Sequence[str]) -> Iterator[Result]:
    for case in chosen_cases(cases):
        wanted = [name for name in SCENARIOS if all(word in f"{case.name} {name}" for word in only)]
        if not wanted:
            continue
        with folder() as scratch, folder() as home:
            ask = Asker(programs(kit), command(case.launch, home), scratch)
            with case.prepare(home, ask), serving(case.launch, home) as addresses:
                for revision in REVISIONS:
                    for scenario in wanted:
                        yield run(program, case.name, addresses.http, scenario, revision)


if __name__ == "__main__":
    sys.exit(main())
