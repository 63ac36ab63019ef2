"""`usrland route-test`: does a small model find the right operation from the descriptions alone?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from usrland.cli.console import say, say_json, say_table
from usrland.cli.syscalls import Syscall, all_syscalls
from usrland.embedding import embedder
from usrland.errors import InvalidInput, NotFound
from usrland.routing import FIRST_WORDS, Figures, Judge, Routed, by_likelihood, by_meaning, figures, routed
from usrland.settings import Settings

__all__ = ["route_test"]


def route_test(
    requests: Annotated[
        Path, typer.Argument(help="YAML: under the name of each operation a list of requests that mean it.")
    ],
    server: Annotated[
        list[str] | None, typer.Option("--server", metavar="NAME", help="Only this server; may be repeated.")
    ] = None,
    at_least: Annotated[
        float, typer.Option(min=0, max=1, help="Exit code 1 where fewer are found among the first three.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="For another program.")] = False,
) -> None:
    """Ask a small model here which operation each request means. What it mixes up needs better words."""
    asked = read_requests(requests)
    known = all_syscalls(Settings.load(), server or [])
    operations = [each.operation for each in _candidates(known, asked)]
    found = list(routed(_judges(), operations, asked))
    result = figures(found)
    if as_json:
        say_json(_facts(result, found))
    else:
        _show(result, found, len(operations))
    if result.among_three < at_least:
        raise typer.Exit(1)


def _judges() -> list[Judge]:
    from usrland.embedding.smollm import SmolLM

    meaning = embedder()
    judges = [by_likelihood(SmolLM.load())]
    return judges if meaning is None else [*judges, by_meaning(meaning), by_meaning(meaning, FIRST_WORDS)]


def read_requests(file: Path) -> Mapping[str, Sequence[str]]:
    """Raises `NotFound` or `InvalidInput`."""
    try:
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {str(file)!r}.", fix="Write one: see the page on connectors.") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidInput(f"{file} is no YAML.", fix="As in: task_find: [Which tasks are open?]") from error
    if not isinstance(content, dict) or not content:
        raise InvalidInput(f"{file} holds no requests.", fix="As in: task_find: [Which tasks are open?]")
    for name, texts in content.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
            raise InvalidInput(f"{file}: {name}: not a list of texts.", fix="As in: task_find: [Which are open?]")
    return content


def _candidates(known: Sequence[Syscall], asked: Mapping[str, Sequence[str]]) -> list[Syscall]:
    """The tools a model would see, and whatever else is asked for."""
    names = {each.operation.name for each in known}
    unknown = sorted(name for name in asked if name not in names)
    if unknown:
        raise InvalidInput(f"there is no operation {unknown[0]!r} here.", fix="See them with: usrland syscalls.")
    return [each for each in known if each.listed or each.operation.name in asked]


def _facts(result: Figures, found: Sequence[Routed]) -> dict[str, Any]:
    return {
        "requests": result.requests,
        "first": result.first,
        "among_three": result.among_three,
        "confusions": [
            {"meant": meant, "taken": taken, "times": times} for meant, taken, times in result.confusions
        ],
        "missed": [
            {"request": each.request, "meant": each.meant, "ranked": each.ranked[:3]}
            for each in found
            if each.place >= 3
        ],
    }


def _show(result: Figures, found: Sequence[Routed], operations: int) -> None:
    say_table(
        ["meant", "taken for", "times"], [[meant, taken, str(times)] for meant, taken, times in result.confusions]
    )
    for each in found:
        if each.place >= 3:
            say(f"not among the first three: {each.request!r}, {each.meant}; got {', '.join(each.ranked[:3])}")
    say(
        f"\n{result.requests} requests, {operations} operations: "
        f"first {result.first:.3f}, among the first three {result.among_three:.3f}"
    )
