"""`sys_batch` and `sys_jobs`: several calls at once, waited for or not.

Both are only a way to say more in one go. Every call of a plan goes through the call path by itself, under its own
scopes, consent and audit; what needs consent fails with a token that its step can carry when the plan is repeated.
A plan that failed on its way is repeated with the same `resume`, changed or not: what took effect is not done
again. The call path's own idempotency key cannot do that: it stands for one answer to one call.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

import anyio.to_thread
from pydantic import Field

from enterprise_connectors.catalogue import Catalogue
from enterprise_connectors.jobs import Job, Jobs, State
from enterprise_connectors.plan import MAX_STEPS, Done, Make, Step, run_plan
from usrland.connector import Call, Operation
from usrland.errors import InvalidInput, NotFound
from usrland.schemas.principal import Principal
from usrland.schemas.wire import Answer, Preview

__all__ = ["plan_operations"]

CALL = frozenset({"sys:call"})
BATCH_SECONDS = 60.0
WAIT_SECONDS = 20.0

Steps = Annotated[list[Step], Field(min_length=1, max_length=MAX_STEPS)]


Resume = Annotated[str, Field(description="Same text on a repeat: what took effect is not done again.")]


class BatchAnswer(Answer):
    """What a plan gave."""

    answers: dict[str, Any] = Field(description="By step; without those that were hidden.")
    made: int = Field(description="Calls that were answered.")
    failed: str | None = Field(default=None, description="Where it stopped and why; later steps were not begun.")


class JobAnswer(Answer):
    """One plan in the background."""

    job: str
    state: State
    steps: str = Field(description="Answered of all.")
    seconds: int
    failed: str | None = None
    answers: dict[str, Any] | None = None


class JobList(Answer):
    jobs: list[JobAnswer]


def plan_operations(catalogue: Catalogue, jobs: Jobs) -> list[Operation]:
    """The two operations over one catalogue."""

    async def sys_batch(steps: Steps, call: Call, resume: Resume = "") -> BatchAnswer:
        """Run several operations in one go, in order, up to 20: for each item of a list, or where one needs what
        was found or made before (${id.path}); intermediate answers stay here. Stops at the first that fails."""
        done = Done()
        await run_plan(steps, _make(catalogue, call), done, key=_key(catalogue, resume or call.idempotency_key))
        return BatchAnswer(answers=_shown(steps, done), made=done.made, failed=done.failed or None)

    async def would_batch(steps: Steps, call: Call, resume: Resume = "") -> Preview:
        """Reads run, and what writes or destroys only says what it would do."""
        done = Done()
        await run_plan(steps, _make(catalogue, call), done, key=None, dry_run=True)
        said = [f"{step.id}: {str(done.answers[step.id])[:300]}" for step in steps if step.id in done.answers]
        return Preview(
            would=f"Run {len(steps)} steps.",
            affected=done.made,
            examples=[*said, *([f"would stop at {done.failed}"] if done.failed else [])],
        )

    async def sys_jobs(
        action: Literal["start", "status", "result", "cancel", "list"],
        call: Call,
        steps: Annotated[list[Step], Field(max_length=MAX_STEPS, description="For start; as in sys_batch.")] = [],  # noqa: B006
        job: Annotated[str, Field(description="For status, result and cancel.")] = "",
        resume: Resume = "",
    ) -> JobList:
        """Run what takes long in the background: start a plan, ask whether it is finished, fetch its result (waits
        up to 20 s), or cancel it. It outlives this connection."""
        match action:
            case "list":
                return JobList(jobs=[_job(each) for each in await jobs.of(call.principal)])
            case "start":
                if not steps:
                    raise InvalidInput("steps: a job needs at least one.")
                # keyed in any case: nobody is there to see whether a call took effect
                key = _key(catalogue, resume or call.idempotency_key or call.id)
                plain = [step.model_dump(mode="json", exclude_defaults=True) for step in steps]
                again = await anyio.to_thread.run_sync(_may_be_repeated, catalogue, steps, call.principal)
                known = await jobs.start(
                    call.principal,
                    plain,
                    key,
                    partial(run_plan, steps, _make(catalogue, call), key=key),
                    # what may not be written down cannot be kept until then
                    again=again and [_recorded(catalogue, step) for step in plain] == plain,
                    hidden=_hidden(steps),
                )
            case "status":
                known = await _looked_after(jobs, job, catalogue, call)
            case "result":
                known = await _looked_after(jobs, job, catalogue, call)
                known = await jobs.ended(job, call.principal, WAIT_SECONDS)
            case "cancel":
                await jobs.cancel(job, call.principal)
                known = await jobs.ended(job, call.principal, WAIT_SECONDS)
        return JobList(jobs=[_job(known, answers=action == "result" and known.state != "running")])

    def recorded(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        steps = arguments.get("steps")
        if not isinstance(steps, list):
            return arguments
        return {**arguments, "steps": [_recorded(catalogue, step) for step in steps]}

    effect: Literal["read", "destroy"] = "destroy" if catalogue.grants_writing else "read"
    return [
        Operation(
            call=sys_batch,
            preview=would_batch,
            # its calls ask for themselves
            consent=False,
            recorded=recorded,
            effect=effect,
            scopes=CALL,
            open_world=True,
            timeout_seconds=BATCH_SECONDS,
            title="Run several operations",
        ),
        Operation(
            call=sys_jobs,
            preview=_nothing if effect == "destroy" else None,
            consent=False,
            recorded=recorded,
            effect=effect,
            scopes=CALL,
            open_world=True,
            title="Run calls in the background",
        ),
    ]


async def _nothing(**arguments: Any) -> Preview:
    """Starting a job is taken back by cancelling it; a dry run of its steps is sys_batch's."""
    return Preview(would="Begin or look after a job; for a dry run of the steps use sys_batch.", affected=0)


def _make(catalogue: Catalogue, call: Call) -> Make:
    async def make(name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        if arguments.get("dry_run") and catalogue.entry(name, call.principal).operation.effect == "read":
            arguments = {key: value for key, value in arguments.items() if key != "dry_run"}
        return await call.make("sys_call", arguments)

    return make


def _key(catalogue: Catalogue, given: str | None) -> str | None:
    return given or None if catalogue.grants_writing else None


async def _looked_after(jobs: Jobs, id: str, catalogue: Catalogue, call: Call) -> Job:
    """The job; one whose process died is run again where that does no harm."""
    known = await jobs.get(id, call.principal)
    if known.steps is None:
        return known
    steps = [Step.model_validate(step) for step in known.steps]
    work = partial(run_plan, steps, _make(catalogue, call), key=known.key)
    return await jobs.run_again(id, call.principal, work, hidden=_hidden(steps))


def _may_be_repeated(catalogue: Catalogue, steps: list[Step], caller: Principal) -> bool:
    """Whether every call of a plan is as good made twice as once. Blocks at the first use."""
    try:
        return all(catalogue.entry(step.name, caller).operation.idempotent for step in steps)
    except NotFound:  # its step will say so
        return False


def _recorded(catalogue: Catalogue, step: Any) -> Any:
    """A step as it may be written down: its arguments are those of the operation it names."""
    match step:
        case {"name": str(name), "arguments": dict(given)}:
            return {**step, "arguments": catalogue.recorded(name, given)}
        case _:
            return step


def _hidden(steps: list[Step]) -> frozenset[str]:
    return frozenset(step.id for step in steps if step.hide)


def _shown(steps: list[Step], done: Done) -> dict[str, Any]:
    return {id: answer for id, answer in done.answers.items() if id not in _hidden(steps)}


def _job(job: Job, *, answers: bool = False) -> JobAnswer:
    return JobAnswer(
        job=job.id,
        state=job.state,
        steps=f"{job.answered} of {job.total}",
        seconds=int(job.seconds),
        failed=job.failed or None,
        answers=job.answers if answers else None,
    )
