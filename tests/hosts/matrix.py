"""Every server × transport × client × era must give the same answers, byte for byte.

    python tests/hosts/matrix.py [--only TEXT ...] [--json FILE] [--markdown FILE]

Installs the clients it lacks (see `kit`), prepares a home per server (see `cases`), lets every client list the
tools and resources and make the same calls, and compares what each of them received with what the first one
did. Ends with 1 where a cell failed or differs. A client that cannot be installed here is `n-a`, with the reason,
and fails nothing. Not part of the ordinary test run: it needs a package registry the first time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, get_args

from cases import CASES, Case
from clients import CLIENTS, Answers, Client, Failed, Plan, Transport
from kit import Kit, Missing
from serving import command, serving

TRANSPORTS: tuple[Transport, ...] = get_args(Transport)
_TOOL = ("name", "title", "description", "inputSchema", "annotations")
_RESOURCE = ("uri", "name", "title", "description", "mimeType")


@dataclass(frozen=True)
class Cell:
    server: str
    client: str
    era: str
    transport: Transport
    outcome: str
    """ok, differs, failed or n-a."""
    told: str = ""
    """The version that was negotiated, where the client tells; what is wrong, where something is."""

    @property
    def good(self) -> bool:
        return self.outcome in ("ok", "n-a")


# -- what is compared


def facts(answers: Answers) -> dict[str, bytes]:
    """What a model or a host gets to see, by where it was said, as canonical JSON."""
    parts: dict[str, Any] = {
        f"tool {index}: {tool['name']}": {key: tool.get(key) for key in _TOOL}
        for index, tool in enumerate(answers["tools"])
    }
    parts |= {f"resource {r['uri']}": {key: r.get(key) for key in _RESOURCE} for r in answers["resources"]}
    parts |= {f"reading {index}": read["contents"] for index, read in enumerate(answers["read"])}
    for index, call in enumerate(answers["calls"]):
        parts[f"call {index}"] = {
            "content": call["content"],
            "structuredContent": call.get("structuredContent"),
            "isError": bool(call.get("isError")),
        }
    return {name: canonical(part) for name, part in parts.items()}


def canonical(value: Any) -> bytes:
    return json.dumps(_plain(value), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    """JavaScript writes 1.0 as 1; that is all that may differ."""
    match value:
        case dict():
            return {key: _plain(inner) for key, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


def difference(expected: Mapping[str, bytes], received: Mapping[str, bytes]) -> str:
    """Where two clients were told different things; empty where they were not."""
    names = [name for name in {**expected, **received} if expected.get(name) != received.get(name)]
    if not names:
        return ""
    one, other = expected.get(names[0], b"(missing)"), received.get(names[0], b"(missing)")
    at = next(i for i, (left, right) in enumerate(zip_longest(one, other)) if left != right)
    window = slice(max(0, at - 60), at + 60)
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{names[0]}{more}: …{_text(one[window])}… became …{_text(other[window])}…"


def _text(part: bytes) -> str:
    return part.decode(errors="replace")


# -- running


@dataclass(frozen=True)
class Run:
    programs: Mapping[str, list[str] | Missing]
    """How each client is run, or why it is not here."""
    only: Sequence[str]
    jobs: int

    def wanted(self, *words: str) -> bool:
        line = " ".join(words).lower()
        return all(word.lower() in line for word in self.only)

    def server(self, case: Case) -> Iterator[Cell]:
        """All cells of one server. The first client that answers over stdio says what is expected."""
        with folder() as scratch, folder() as home:
            ask = Asker(self.programs, command(case.launch, home), scratch)
            with case.prepare(home, ask) as calls, serving(case.launch, home) as addresses:
                reference = facts(ask(calls))
                urls = {"stdio": None, "sse": addresses.sse, "http": addresses.http}

                def cell(client: Client, era: str, transport: Transport) -> Cell:
                    plan = Plan(transport, era, ask.command, urls[transport], calls)
                    outcome, told = self._tried(client, plan, scratch, reference)
                    return Cell(case.name, client.name, era, transport, outcome, told)

                todo = [
                    (client, era, transport)
                    for client in CLIENTS
                    for era in client.eras
                    for transport in TRANSPORTS
                    if self.wanted(case.name, client.name, era, transport)
                ]
                with ThreadPoolExecutor(self.jobs) as pool:
                    yield from pool.map(lambda what: cell(*what), todo)

    def _tried(self, client: Client, plan: Plan, scratch: Path, reference: Mapping[str, bytes]) -> tuple[str, str]:
        program = self.programs[client.name]
        if isinstance(program, Missing):
            return "n-a", str(program)
        try:
            answers = client.run(program, plan, scratch)
        except Failed as reason:
            return "failed", str(reason)
        negotiated = answers.get("negotiated") or ""
        if negotiated and negotiated not in client.eras[plan.era]:
            return "failed", f"asked for {plan.era}, negotiated {negotiated}"
        told = difference(reference, facts(answers))
        return ("differs", told) if told else ("ok", negotiated)


@dataclass(frozen=True)
class Asker:
    """Calls made while a home is prepared, and those that say what is expected."""

    programs: Mapping[str, list[str] | Missing]
    command: Sequence[str]
    scratch: Path

    def __call__(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> Answers:
        first = CLIENTS[0]
        plan = Plan("stdio", next(iter(first.eras)), self.command, None, calls)
        program = self.programs[first.name]
        assert not isinstance(program, Missing)  # it is the Python that runs this
        return first.run(program, plan, self.scratch)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="usrland-hosts-", ignore_cleanup_errors=True) as name:
        yield Path(name)


# -- reporting


def table(cells: Sequence[Cell]) -> str:
    """A row per client and era, a column per server and transport; what went wrong below."""
    columns = list(dict.fromkeys((cell.server, cell.transport) for cell in cells))
    eras = list(dict.fromkeys((cell.client, cell.era) for cell in cells))
    found = {(cell.client, cell.era, cell.server, cell.transport): cell for cell in cells}
    lines = [["client", "era", *(f"{server} {transport}" for server, transport in columns)]]
    for client, era in eras:
        line = [found.get((client, era, *column)) for column in columns]
        lines.append([client, era, *(_mark(cell) for cell in line)])
    wrong = [cell for cell in cells if cell.told and cell.outcome != "ok"]
    notes = [f"- {c.server} {c.transport}, {c.client} {c.era}: {c.outcome}: {c.told[:400]}" for c in wrong]
    counted = ", ".join(
        f"{sum(cell.outcome == outcome for cell in cells)} {outcome}"
        for outcome in ("ok", "differs", "failed", "n-a")
    )
    return "\n".join([rows(lines), "", counted, *notes]) + "\n"


def rows(lines: list[list[str]]) -> str:
    """A table that is plain text and Markdown; the first line is its head."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def _mark(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return f"ok {cell.told}".strip() if cell.outcome == "ok" else cell.outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", default=[], help="cells that name this (repeat: and this)")
    parser.add_argument("--cases", type=Path, help="a Python file with other CASES")
    parser.add_argument("--json", type=Path, help="write the cells here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="cells at the same time")
    options = parser.parse_args()
    run = Run(programs(Kit.here()), options.only, options.jobs)
    cells: list[Cell] = []
    for case in chosen_cases(options.cases):
        for cell in run.server(case):
            cells.append(cell)
            line = f"{cell.server} {cell.transport}, {cell.client} {cell.era}: {cell.outcome} {cell.told}"
            sys.stderr.write(line[:200] + "\n")
    sys.stdout.write(table(cells))
    if options.json:
        options.json.write_text(json.dumps([asdict(cell) for cell in cells], indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(table(cells), encoding="utf-8")
    return 0 if cells and all(cell.good for cell in cells) else 1


def programs(kit: Kit) -> dict[str, list[str] | Missing]:
    return {client.name: _installed(client, kit) for client in CLIENTS}


def _installed(client: Client, kit: Kit) -> list[str] | Missing:
    try:
        return client.install(kit)
    except Missing as reason:
        return reason


def chosen_cases(file: Path | None) -> Sequence[Case]:
    if file is None:
        return CASES
    spec = importlib.util.spec_from_file_location("other_cases", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cases: Sequence[Case] = module.CASES
    return cases


if __name__ == "__main__":
    sys.exit(main())
