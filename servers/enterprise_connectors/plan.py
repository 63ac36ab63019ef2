"""A small plan: calls in order, each with references into the answers before it.

What passes between two calls stays here. A reference is `${step.path}`: the step's id, then keys and positions
with dots, `*` for all of a list. A text that is nothing but one reference becomes the value it stands for, of
whatever type; inside a longer text it becomes text. There are no conditions and no loops but `each`: a plan is
read at once, by a person too, and always ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from enterprise_connectors.projection import project
from usrland.errors import InvalidInput, UsrlandError

__all__ = ["MAX_STEPS", "Done", "Step", "run_plan"]

MAX_STEPS = 20
MAX_EACH = 50

_REFERENCE = re.compile(r"\$\{([a-z][a-z0-9_]*)((?:\.[^.}]+)*)\}")

Make = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Makes one call of a catalogue operation: what sys_call takes → what it answers."""


class Step(BaseModel):
    """One call of a plan."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=30)]
    name: Annotated[str, Field(description="From sys_find.")]
    arguments: Annotated[dict[str, Any], Field(description="May hold ${id.path} of earlier steps.")] = {}
    each: Annotated[str, Field(description="${id.path} of a list: call once per ${item}.")] = ""
    where: Annotated[dict[str, Any], Field(description="With each: only items with these values, by path.")] = {}
    pick: Annotated[list[str], Field(description="Keep only these paths of the answer.")] = []
    go_on: Annotated[
        bool, Field(description="With each: a call that fails gives {error} and the rest are made.")
    ] = False
    hide: Annotated[bool, Field(description="For later steps only; not in the answer.")] = False
    confirm_token: str = ""


@dataclass(slots=True, kw_only=True)
class Done:
    """What has been done of a plan so far."""

    answers: dict[str, Any] = field(default_factory=dict)
    made: int = 0
    failed: str = ""
    """The step that failed, and why. Those after it were not begun."""


async def run_plan(
    steps: Sequence[Step], make: Make, done: Done, *, key: str | None, dry_run: bool = False
) -> None:
    """Run the steps in order into `done`, until one fails.

    With a `key`, every call has its own key made from it, so that a plan may be repeated: what took effect before
    is answered from memory. Raises `InvalidInput` before the first call where the plan itself makes no sense.
    """
    _check(steps)
    for step in steps:
        try:
            done.answers[step.id] = await _step(step, make, done, key, dry_run)
        except UsrlandError as error:
            done.failed = f"{step.id}: {error}"
            return


async def _step(step: Step, make: Make, done: Done, key: str | None, dry_run: bool) -> Any:
    known = dict(done.answers)
    if not step.each:
        return _picked(step, await _call(step, make, done, known, key, dry_run, 0))
    items = _resolved(step.each, known)
    if not isinstance(items, list):
        raise InvalidInput("each: it does not stand for a list.")
    items = [
        item for item in items if all(_at(item, path.split(".")) == value for path, value in step.where.items())
    ]
    if len(items) > MAX_EACH:
        raise InvalidInput(
            f"each: {len(items)} items; at most {MAX_EACH} calls.", fix="Narrow the list with where."
        )
    answers: list[Any] = []
    done.answers[step.id] = answers  # what was done before one fails is told as well
    for number, item in enumerate(items):
        try:
            answer = await _call(step, make, done, {**known, "item": item}, key, dry_run, number)
            answers.append(_picked(step, answer))
        except UsrlandError as error:
            answers.append({"error": str(error)})
            if not step.go_on:
                raise
    return answers


async def _call(
    step: Step, make: Make, done: Done, known: Mapping[str, Any], key: str | None, dry_run: bool, number: int
) -> Mapping[str, Any]:
    call: dict[str, Any] = {"name": step.name, "arguments": _resolved(step.arguments, known)}
    if key is not None:
        call["idempotency_key"] = f"{key}/{step.id}/{number}"
    if step.confirm_token:
        call["confirm_token"] = step.confirm_token
    if dry_run:
        call["dry_run"] = True
    answer = await make(step.name, call)
    done.made += 1
    return answer


def _picked(step: Step, answer: Mapping[str, Any]) -> Any:
    return project(answer, step.pick) if step.pick else answer


def _check(steps: Sequence[Step]) -> None:
    known: set[str] = set()
    for step in steps:
        if step.id in known or step.id == "item":
            raise InvalidInput(f"step {step.id!r}: the id is taken.", fix="Give every step an id of its own.")
        used = {match[1] for match in _REFERENCE.finditer(json.dumps([step.arguments, step.each]))}
        missing = used - known - ({"item"} if step.each else set())
        if missing:
            raise InvalidInput(
                f"step {step.id!r}: nothing before it is called {sorted(missing)[0]!r}.",
                fix=f"Earlier steps: {', '.join(sorted(known)) or 'none'}.",
            )
        if (step.where or step.go_on) and not step.each:
            raise InvalidInput(f"step {step.id!r}: where and go_on go with each.")
        known.add(step.id)


def _resolved(value: Any, known: Mapping[str, Any]) -> Any:
    match value:
        case dict():
            return {key: _resolved(item, known) for key, item in value.items()}
        case list():
            return [_resolved(item, known) for item in value]
        case str():
            whole = _REFERENCE.fullmatch(value)
            if whole:
                return _referred(whole, known)
            return _REFERENCE.sub(lambda match: _text(_referred(match, known)), value)
        case _:
            return value


def _referred(reference: re.Match[str], known: Mapping[str, Any]) -> Any:
    path = reference[2].split(".")[1:]
    found = _at(known[reference[1]], path)
    if found is _NOTHING:
        raise InvalidInput(
            f"{reference[0]}: there is nothing there.", fix="Look at that step's answer alone first."
        )
    return found


_NOTHING: Any = object()


def _at(value: Any, path: Sequence[str]) -> Any:
    for number, part in enumerate(path):
        match value:
            case list() if part == "*":
                found = [_at(item, path[number + 1 :]) for item in value]
                return [item for item in found if item is not _NOTHING]
            case list() if part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            case dict() if part in value:
                value = value[part]
            case _:
                return _NOTHING
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
