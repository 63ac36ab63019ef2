"""`sys_batch` and `sys_jobs`: several calls at once, waited for or not.

Both are only a way to say more in one go. Every call of a plan goes through the call path by itself, under its own
scopes, consent and audit; what needs consent fails with a token that its step can carry when the plan is repeated.
A plan that failed on its way is repeated with the same `resume`, changed or not: what took effect is not done
again. The call path's own idempotency key cannot do that: it stands for one answer to one call.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

import anyio
from pydantic import Field

from enterprise_connectors.catalogue import Catalogue
from enterprise_connectors.jobs import Job, Jobs, State
from enterprise_connectors.plan import MAX_STEPS, Done, Make, Step, run_plan
from usrland.connector import Call, Operation
from usrland.errors import InvalidInput
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
        """Run up to 20 calls in order with ${id.path} references between them; intermediate answers stay here.
        Stops at the first that fails. Use it where one call's answer feeds the next or a list is gone through."""
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
        """Run a plan in the background: for what may take longer than 20 seconds. Then ask for its status, its
        result (waits up to 20 s), or cancel it."""
        match action:
            case "list":
                return JobList(jobs=[_job(each) for each in jobs.of(call.principal)])
            case "start":
                if not steps:
                    raise InvalidInput("steps: a job needs at least one.")
                # keyed in any case: nobody is there to see whether a call took effect
                key = _key(catalogue, resume or call.idempotency_key or call.id)
                work = partial(_work, steps, _make(catalogue, call), key)
                started = await jobs.start(call.principal, len(steps), work)
            case "status":
                started = jobs.get(job, call.principal)
            case "result":
                started = jobs.get(job, call.principal)
                await _waited(started)
                if started.state != "running":
                    return JobList(jobs=[_job(started, answers=started.done.answers)])
            case "cancel":
                started = jobs.get(job, call.principal)
                started.scope.cancel()
                await _waited(started)
        return JobList(jobs=[_job(started)])

    effect: Literal["read", "destroy"] = "destroy" if catalogue.grants_writing else "read"
    return [
        Operation(
            call=sys_batch,
            preview=would_batch,
            # its calls ask for themselves
            consent=False,
            effect=effect,
            scopes=CALL,
            open_world=True,
            timeout_seconds=BATCH_SECONDS,
            title="Run several calls",
        ),
        Operation(
            call=sys_jobs,
            preview=_nothing if effect == "destroy" else None,
            consent=False,
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


async def _work(steps: list[Step], make: Make, key: str | None, done: Done) -> None:
    await run_plan(steps, make, done, key=key)
    for step in steps:
        if step.hide:
            done.answers.pop(step.id, None)


async def _waited(job: Job) -> None:
    with anyio.move_on_after(WAIT_SECONDS):
        await job.finished.wait()


def _shown(steps: list[Step], done: Done) -> dict[str, Any]:
    hidden = {step.id for step in steps if step.hide}
    return {id: answer for id, answer in done.answers.items() if id not in hidden}


def _job(job: Job, *, answers: Mapping[str, Any] | None = None) -> JobAnswer:
    until = job.ended or time.monotonic()
    return JobAnswer(
        job=job.id,
        state=job.state,
        steps=f"{len(job.done.answers)} of {job.steps}",
        seconds=int(until - job.began),
        failed=job.done.failed or None,
        answers=None if answers is None else dict(answers),
    )
