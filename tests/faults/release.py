"""Every fault and promise before a release, one after the other, and a table of what became of them.

    python tests/faults/release.py              all of them, about two hours on two processors
    python tests/faults/release.py --short      the same with small numbers
    python tests/faults/release.py --only R1 --only R19

Needs the PostgreSQL of this machine and gcc. The table goes to standard output as Markdown, what the commands said
to the folder named by --out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MOST_SECONDS = 3_600.0


@dataclass(frozen=True)
class Row:
    """One fault, what it is a proof of, and what is run: `short` and `full` numbers for the same command."""

    id: str
    fault: str
    promises: str
    command: Sequence[str]
    full: Sequence[str] = ()
    short: Sequence[str] = ()


def _script(name: str, *words: str) -> Sequence[str]:
    return (str(HERE / name), *words)


def _tests(*names: str) -> Sequence[str]:
    return ("-m", "pytest", "-q", *(f"tests/{name}" for name in names))


ROWS = (
    Row("R1", "killed at random, memory", "P1",
        _script("acknowledged_writes.py"), ("--runs", "20"), ("--runs", "2")),
    Row("R1", "killed at random, files", "P1 P2",
        _script("files.py", "kill"), ("--times", "100"), ("--times", "6")),
    Row("R2", "killed at every commit", "P1", _script("every_step.py", "kill"), (), ("--step", "60")),
    Row("R2", "a server killed at a write or sync", "P1",
        _script("disk.py", "kill"), ("--points", "20"), ("--points", "2")),
    Row("R3", "the disk is full", "P3", _script("every_step.py", "ENOSPC"), ("--step", "5"), ("--step", "100")),
    Row("R4", "the disk is broken", "P3", _script("every_step.py", "EIO"), ("--step", "5"), ("--step", "100")),
    Row("R5", "a flipped bit", "P6", _script("bit_rot.py"), ("--flips", "400"), ("--flips", "24")),
    Row("R6", "a loss of power", "P1 P2", _script("every_step.py", "power"), ("--step", "5"), ("--step", "100")),
    Row("R6", "a lost index", "P2",
        _tests("filesystem_retrieval/test_indexing.py", "memory_snapshot/test_recall.py")),
    Row("R7", "several writers", "P1", _tests("library/test_audit.py", "library/test_opening_together.py")),
    Row("R8", "SIGTERM, the end of the input", "P4", _tests("library/test_transport.py")),
    Row("R9", "a parent that dies", "P4", _tests("library/test_transport.py")),
    Row("R10", "a caller who goes away", "P4", _tests("library/test_call.py", "library/test_host.py")),
    Row("R11", "slow and silent callers", "P5", _tests("trust/test_bounds.py")),
    Row("R12", "bodies that do not come", "P5", _tests("trust/test_bounds.py")),
    Row("R13", "lines that are no messages", "P5",
        _script("lines.py"), ("--lines", "20000"), ("--lines", "1000")),
    Row("R14", "a hostile kernel", "P5 P7",
        _script("hostile_kernel.py"), ("--calls", "30000"), ("--calls", "600")),
    Row("R14", "two tenants at once", "P7", _script("tenants.py"), ("--calls", "500"), ("--calls", "50")),
    Row("R15", "random operations, a model", "P6",
        _script("memory_sequences.py"), ("--sequences", "1000"), ("--sequences", "20")),
    Row("R15", "versions and verdicts", "P6",
        _script("files.py", "verify"), ("--times", "1000"), ("--times", "30")),
    Row("R16", "documents that attack", "P5",
        _tests("filesystem_retrieval/test_archives.py", "trust/test_product.py")),
    Row("R16", "wrecked documents", "P5",
        _script("parsers.py"), ("--seconds", "900"), ("--seconds", "30")),
    Row("R17", "a clock that jumps", "P6",
        _script("clock.py"), ("--writes", "50"), ("--writes", "3")),
    Row("R17", "a clock that was set back", "P6",
        _tests("memory_snapshot/test_journal.py", "trust/test_quotas.py", "trust/test_places.py")),
    Row("R18", "a system behind that fails", "P5",
        _tests("enterprise_connectors/test_http.py", "library/test_oauth.py")),
    Row("R19", "replicas, one killed every 10 s", "P1",
        _script("replicas.py"), ("--seconds", "300"), ("--seconds", "30")),
    Row("R19", "half an hour of use", "P5",
        _script("soak.py"), ("--minutes", "30"), ("--minutes", "1")),
    Row("R19", "connections killed before the reply", "P1",
        _script("killed_replies.py"), ("--times", "1000"), ("--times", "20")),
    Row("R20", "killed in a migration", "P1", _tests("library/test_database.py")),
    Row("R21", "restoring a copy", "P6", _tests("trust/test_keeping.py")),
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", action="append", help="R1 to R21; default: all")
    parser.add_argument("--out", type=Path, default=Path("release-faults"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = [row for row in ROWS if not options.only or row.id in options.only]
    failed = 0
    _say("| id | fault | promise | command | outcome | seconds |")
    _say("|---|---|---|---|---|---|")
    for number, row in enumerate(rows):
        words = [*row.command, *(row.short if options.short else row.full)]
        begun = time.monotonic()
        code, said = _run(words, options.out / f"{number:02}-{row.id}.txt")
        failed += code != 0
        shown = " ".join(words).replace(f"{ROOT}/", "").removeprefix("-m ")
        outcome = "as it should be" if code == 0 else f"**{said}**"
        _say(
            f"| {row.id} | {row.fault} | {row.promises} | `{shown}` | {outcome} | {time.monotonic() - begun:.0f} |"
        )
    _say(f"\n{len(rows) - failed} of {len(rows)} as they should be")
    return 1 if failed else 0


def _run(words: Sequence[str], out: Path) -> tuple[int, str]:
    with out.open("w", encoding="utf-8") as file:
        try:
            done = subprocess.run(
                [sys.executable, *words],
                cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=MOST_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return 1, f"not done within {MOST_SECONDS:g} seconds"
    lines = out.read_text(encoding="utf-8").strip().splitlines()
    return done.returncode, lines[-1] if lines else f"ended with {done.returncode}"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
