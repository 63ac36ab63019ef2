"""`usrland index`, `search`, `read`, `verify`, `status`, `eval`: what a kernel calls, for people and scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer

from filesystem_retrieval.config import SERVER
from usrland.cli.console import progress, say, say_json, say_table
from usrland.errors import InvalidInput
from usrland.settings import Settings

__all__ = ["evaluation", "index", "read", "search", "status", "verify"]

evaluation = typer.Typer(help="Measure what the servers find, on your own documents.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="For another program.")]
Root = Annotated[str | None, typer.Option("--root", metavar="NAME", help="Only in this root.")]

_COLOURS = {"same": "green", "moved": "yellow", "changed": "red", "gone": "red", "unknown": "magenta"}
_CITED = ("root", "path", "sha256", "first_line", "last_line")
AT_ONCE = 100
"""Citations in one call."""


def index(
    workers: Annotated[int, typer.Option(min=1, help="Processes that embed; each loads the model.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Workers of the Ray at HOST:PORT; 'local' starts one here.",
        ),
    ] = None,
    pause: Annotated[
        bool, typer.Option("--pause", help="Have the servers leave indexing be, also after a restart.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="End the pause, and index.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read everything that is new in the roots and give it vectors; ends when all of it can be searched.

    While it is paused, searches find what was indexed before, and say so.
    """
    from filesystem_retrieval.library import Counts
    from filesystem_retrieval.server import service

    if pause and resume:
        raise InvalidInput("--pause: not together with --resume.", fix="Choose one.")
    if pause or resume:
        anyio.run(service(Settings.load()).state["pause"], pause)
    if pause:
        say("Indexing is paused; `usrland index --resume` goes on.")
        return

    async def work() -> Counts:
        with progress() as tell:
            counts: Counts = await service(Settings.load()).state["index_once"](tell, workers=workers, ray=ray)
            return counts

    done = anyio.run(work)
    if as_json:
        say_json(
            {
                "files": done.files,
                "passages": done.passages,
                "vectors": done.vectors,
                "forgotten": done.forgotten,
                "unreachable": list(done.unreachable),
                "paused": done.paused,
            }
        )
        return
    say(f"{done.files} files read, {done.forgotten} gone; new: {done.passages} passages, {done.vectors} vectors.")
    for name in done.unreachable:
        say(f"root {name!r} cannot be reached", "red")
    if done.paused:
        say("Indexing is paused, so not everything was read; `usrland index --resume` goes on.", "yellow")


def search(
    query: Annotated[str, typer.Argument(help="A question or keywords.")],
    root: Root = None,
    glob: Annotated[str | None, typer.Option(help="Only these files: '*.md', 'src/**/*.py'.")] = None,
    mode: Annotated[str, typer.Option(help="hybrid, lexical or semantic.")] = "hybrid",
    as_of: Annotated[datetime | None, typer.Option(help="What stood there at that time.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=50)] = 8,
    as_json: AsJson = False,
) -> None:
    """Find passages in documents and code by meaning and words."""
    answer = _call(
        "fs_search",
        query=query,
        root=root,
        glob=glob,
        mode=mode,
        as_of=as_of.astimezone().isoformat() if as_of else None,
        limit=limit,
    )
    if as_json:
        say_json(answer)
        return
    for passage in answer["items"]:
        say(_place(passage), "bold cyan")
        if passage.get("heading"):
            say(f"  {passage['heading']}", "dim")
        say(_indented(passage["text"]))
        say()
    _say_notes(answer)


def read(
    path: Annotated[str, typer.Argument(help="Path in a root, or 'root/path'.")],
    root: Root = None,
    lines: Annotated[
        str | None, typer.Option(metavar="FIRST-LAST", help="Only these lines: 10-20, 10-, 10.")
    ] = None,
    page: Annotated[int | None, typer.Option(min=1, help="Of a PDF.")] = None,
    symbol: Annotated[str | None, typer.Option(help="A definition or a heading.")] = None,
    version: Annotated[int | None, typer.Option(help="An earlier state of the file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read a file or a part of it; PDF and office documents as text."""
    first, last = _span(lines)
    answer = _call(
        "fs_read",
        path=path,
        root=root,
        first_line=first,
        last_line=last,
        page=page,
        symbol=symbol,
        version=version,
    )
    if as_json:
        say_json(answer)
        return
    say(answer.get("text", answer.get("partial", "")))
    _say_notes(answer)


def verify(
    citations: Annotated[
        str,
        typer.Argument(help="A file of citations as `usrland search --json` writes them; '-' is standard input."),
    ] = "-",
    as_json: AsJson = False,
) -> None:
    """Check whether cited passages still stand. The exit code is 1 where one does not."""
    claims = _claims(sys.stdin.read() if citations == "-" else _text_of(citations))
    verdicts: list[Mapping[str, Any]] = []
    for start in range(0, len(claims), AT_ONCE):
        verdicts += _all("fs_verify", citations=claims[start : start + AT_ONCE])
    if as_json:
        say_json(verdicts)
    for verdict in () if as_json else verdicts:
        say(f"{verdict['state']:8} {_place(verdict)}", _COLOURS[verdict["state"]])
        if verdict.get("now"):
            say(_indented(f"then: {verdict.get('then', '')}\nnow:  {verdict['now']}"))
    if any(verdict["state"] not in ("same", "moved") for verdict in verdicts):
        raise typer.Exit(1)


def status(as_json: AsJson = False) -> None:
    """Say what is indexed, what waits, and which files could not be read and why."""
    answer = _call("fs_status")
    if as_json:
        say_json(answer)
        return
    say_table(
        ["root", "indexed", "pending", "failed", "passages", ""],
        [
            [
                each["root"],
                *(str(each[name]) for name in ("indexed", "pending", "failed", "passages")),
                "" if each["reachable"] else "cannot be reached",
            ]
            for each in answer["roots"]
        ],
    )
    for each in answer["roots"]:
        for failure in each["failures"]:
            say(f"{each['root']}/{failure['path']}: {failure['reason']}", "yellow")
    say(f"embedding: {answer['embedding']}")
    _say_notes(answer)


@evaluation.callback()
def _evaluation() -> None:
    pass  # keeps the name `retrieval`, as long as it is the only one


@evaluation.command()
def retrieval(
    dataset: Annotated[
        Path,
        typer.Argument(help="A BEIR-style folder, or a file of your questions and the paths that answer them."),
    ],
    embedding: Annotated[
        list[str] | None, typer.Option(help="A model to compare; several times for several. Default: the one set.")
    ] = None,
    mode: Annotated[list[str] | None, typer.Option(help="hybrid, lexical or semantic. Default: all.")] = None,
    suffix: Annotated[str, typer.Option(help="What a collection's documents are: '.py' for Python.")] = ".txt",
    work: Annotated[
        Path | None, typer.Option(help="Keeps what is indexed, for another run. Default: thrown away.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask questions with known answers, and say how far up the answers stand.

    nDCG and recall are of the first ten files; 'first' is the mean of one divided by the place of the first right
    file; 'none' counts the questions to which no right file was found at all.
    """
    from dataclasses import asdict
    from tempfile import TemporaryDirectory

    from filesystem_retrieval.evaluation import MODES, Figures, evaluate, read_trial

    if unknown := set(mode or ()) - set(MODES):
        raise InvalidInput(f"--mode: there is no {sorted(unknown)[0]!r}.", fix=f"Choose of {', '.join(MODES)}.")
    trial = read_trial(dataset, suffix)

    async def run(folder: Path) -> list[Figures]:
        with progress() as tell:
            return await evaluate(trial, Settings.load(), folder, embedding or (), mode or MODES, tell)

    with TemporaryDirectory(prefix="usrland-eval-") as folder:
        figures = anyio.run(run, work or Path(folder))
    if as_json:
        say_json([asdict(each) for each in figures])
        return
    say(f"{figures[0].questions} questions")
    say_table(
        ["embedding", "mode", "nDCG@10", "recall@10", "first", "none", "p50 ms", "p95 ms"],
        [
            [
                each.embedding,
                each.mode,
                *(f"{value:.3f}" for value in (each.ndcg_at_10, each.recall_at_10, each.first_rank)),
                *(f"{value:.0f}" for value in (each.nothing_found, each.p50_ms, each.p95_ms)),
            ]
            for each in figures
        ],
    )


def _call(operation: str, **arguments: Any) -> Mapping[str, Any]:
    """One call, through the path that a kernel's calls take."""
    from usrland.cli.calling import calling

    async def work() -> Mapping[str, Any]:
        async with calling(SERVER, Settings.load()) as caller:
            return await caller.call(operation, **arguments)

    return anyio.run(work)


def _all(operation: str, **arguments: Any) -> Sequence[Mapping[str, Any]]:
    """The items of all pages."""
    items: list[Mapping[str, Any]] = []
    cursor = None
    while True:
        answer = _call(operation, cursor=cursor, **arguments)
        items += answer["items"]
        cursor = answer.get("cursor")
        if cursor is None:
            return items


def _claims(text: str) -> list[dict[str, Any]]:
    with suppress(ValueError, TypeError, KeyError):
        given = json.loads(text)
        rows = given["items"] if isinstance(given, dict) else given
        return [{name: row[name] for name in _CITED if row.get(name) is not None} for row in rows]
    raise InvalidInput(
        "citations: not a list of citations in JSON.", fix="Write one with: usrland search QUERY --json > FILE"
    )


def _text_of(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"citations: {file!r} cannot be read: {error.strerror}.") from error


def _span(lines: str | None) -> tuple[int | None, int | None]:
    if lines is None:
        return None, None
    first, dash, last = lines.partition("-")
    try:
        return int(first), int(last) if last else None if dash else int(first)
    except ValueError:
        raise InvalidInput(f"--lines: {lines!r} is not FIRST-LAST.", fix="Write 10-20, 10- or 10.") from None


def _place(item: Mapping[str, Any]) -> str:
    lines = f":{item['first_line']}-{item['last_line']}" if item.get("last_line") else ""
    place = f"{item['root']}/{item['path']}{lines}"
    if item.get("sheet"):
        return f"{place} sheet {item['sheet']!r}, rows {item['first_row']}-{item['last_row']}"
    return f"{place} page {item['page']}" if item.get("page") else place


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _say_notes(answer: Mapping[str, Any]) -> None:
    from filesystem_retrieval.library import STILL_READING

    for name in ("note", "degraded"):
        if answer.get(name):
            say(answer[name], "yellow")
    if STILL_READING in (answer.get("degraded") or ""):  # a server would go on meanwhile; this process ends
        say("`usrland index` reads all of them first.", "yellow")
