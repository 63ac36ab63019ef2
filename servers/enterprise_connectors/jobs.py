"""Plans that take long, run while their caller does something else.

A job belongs to whoever started it and lives in this process: it ends with it, and a replica does not know the
jobs of another. Whatever a job does is admitted, recorded and keyed like a call that is waited for, so what it did
before an end is in the audit log.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import anyio
from anyio.abc import TaskGroup

from enterprise_connectors.plan import Done
from usrland.errors import NotFound, QuotaExceeded, Unavailable
from usrland.schemas.principal import Principal

__all__ = ["Job", "Jobs", "State"]

State = Literal["running", "done", "failed", "cancelled"]

MAX_RUNNING = 8
"""Of one principal."""
JOB_SECONDS = 15 * 60
KEEP_SECONDS = 3600
READY_SECONDS = 5


@dataclass(slots=True, kw_only=True)
class Job:
    """One plan in the background."""

    id: str
    owner: tuple[str, str, str]
    steps: int
    done: Done
    began: float
    state: State = "running"
    ended: float = 0.0
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    finished: anyio.Event = field(default_factory=anyio.Event)


class Jobs:
    """The jobs of one process. `running` owns their tasks."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._tasks: TaskGroup | None = None
        self._ready = anyio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this is open jobs may run; leaving it cancels them."""
        async with anyio.create_task_group() as self._tasks:
            self._ready.set()
            try:
                yield
            finally:
                self._tasks.cancel_scope.cancel()

    async def start(self, owner: Principal, steps: int, work: Callable[[Done], Awaitable[None]]) -> Job:
        """Begin; raises `QuotaExceeded` where too many of the owner's are running."""
        who = _who(owner)
        self._forget()
        if sum(job.owner == who and job.state == "running" for job in self._jobs.values()) >= MAX_RUNNING:
            raise QuotaExceeded(f"{MAX_RUNNING} jobs are running already.", fix="Wait for one, or cancel one.")
        with anyio.move_on_after(READY_SECONDS):
            await self._ready.wait()
        if self._tasks is None:
            raise Unavailable("jobs cannot run here.", fix="Make the calls one by one.")
        job = Job(id=f"job_{secrets.token_hex(6)}", owner=who, steps=steps, done=Done(), began=time.monotonic())
        self._jobs[job.id] = job
        self._tasks.start_soon(self._run, job, work, name=job.id)
        return job

    def get(self, id: str, owner: Principal) -> Job:
        """The owner's job; raises `NotFound` for anybody else's as well."""
        job = self._jobs.get(id)
        if job is None or job.owner != _who(owner):
            raise NotFound(f"there is no job {id!r}.", fix="A job is kept for an hour and ends with the server.")
        return job

    def of(self, owner: Principal) -> list[Job]:
        return [job for job in self._jobs.values() if job.owner == _who(owner)]

    async def _run(self, job: Job, work: Callable[[Done], Awaitable[None]]) -> None:
        try:
            with job.scope, anyio.fail_after(JOB_SECONDS):
                await work(job.done)
                job.state = "failed" if job.done.failed else "done"
        except TimeoutError:
            job.state, job.done.failed = "failed", f"stopped after {JOB_SECONDS} seconds"
        except Exception as error:
            job.state, job.done.failed = "failed", str(error)
        finally:
            if job.state == "running":
                job.state = "cancelled"
            job.ended = time.monotonic()
            job.finished.set()

    def _forget(self) -> None:
        now = time.monotonic()
        for id, job in list(self._jobs.items()):
            if job.state != "running" and now - job.ended > KEEP_SECONDS:
                del self._jobs[id]


def _who(owner: Principal) -> tuple[str, str, str]:
    return owner.tenant, owner.namespace, owner.subject
