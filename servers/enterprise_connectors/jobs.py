"""Plans that take long, run while their caller does something else.

A job belongs to whoever started it. The process that runs it says every few seconds that it is still there, and
what the job has given so far, in the server's own database; so its state and its result can be asked of any
replica, and are there after a restart. A job whose process has died is `interrupted`. It is run again only where
every one of its calls is as good made twice as once, and only once its owner asks for it: then it runs under what
the owner may do now, and nobody's rights had to be kept. Anything else is the owner's to repeat with `resume`:
whatever a job does is admitted, recorded and keyed like a call that is waited for.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import anyio
from anyio.abc import TaskGroup

from enterprise_connectors.plan import Done
from usrland.database import Database
from usrland.errors import NotFound, QuotaExceeded, Unavailable, UsrlandError
from usrland.redact import redact
from usrland.schemas.principal import Principal

if TYPE_CHECKING:
    from sqlmodel import Session

    from enterprise_connectors.job_tables import JobRow

__all__ = ["Job", "Jobs", "State", "Work"]

logger = logging.getLogger(__name__)

State = Literal["running", "done", "failed", "cancelled", "interrupted"]
Work = Callable[[Done], Awaitable[None]]

MAX_RUNNING = 8
"""Of one principal."""
MAX_RUNS = 3
"""Of one job whose processes keep dying."""
MAX_ANSWER_BYTES = 8 * 1024 * 1024
JOB_SECONDS = 15 * 60
KEEP_SECONDS = 3600
READY_SECONDS = 5
BEAT_SECONDS = 3.0
ALIVE_SECONDS = 12.0
LOOK_SECONDS = 0.5
"""Between two looks at a job that another process runs."""

_MIGRATIONS = Path(__file__).parent / "migrations" / "jobs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is known of one job."""

    id: str
    state: State
    total: int
    answered: int
    seconds: float
    failed: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    steps: list[Any] | None = None
    """Where it was interrupted and may be run again: what it was to do."""
    key: str | None = None


@dataclass(slots=True)
class _Running:
    done: Done
    run: int
    """Which run of the job it is: one that was given up for dead does not write over the next."""
    hidden: frozenset[str]
    """Answers that are for later steps alone."""
    tasks: TaskGroup
    """Those of the process; it ends with them."""
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)
    wanted: bool = True
    """Until its owner cancels it; a process that ends cancels it as well."""


class Jobs:
    """The jobs of one server. `running` owns the tasks of those that this process runs."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(url, [_MIGRATIONS])
        self._clock = clock
        self._here: dict[str, _Running] = {}
        self._tasks: TaskGroup | None = None
        self._ready = anyio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this is open jobs may run; leaving it interrupts them."""
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                tasks.start_soon(self._beat, name="jobs are alive")
                self._ready.set()
                try:
                    yield
                finally:
                    tasks.cancel_scope.cancel()
        finally:
            self._database.close()

    async def start(
        self,
        owner: Principal,
        steps: list[Any],
        key: str | None,
        work: Work,
        *,
        again: bool,
        hidden: frozenset[str] = frozenset(),
    ) -> Job:
        """Begin; raises `QuotaExceeded` where too many of the owner's are running.

        `again`: it may be run a second time. Secrets are not kept, so a plan with one in it may not.
        """
        tasks = await self._owner_of_tasks()
        kept = json.dumps(steps).encode() if again and redact(steps) == steps else None
        now = self._clock()

        def begin(session: Session) -> JobRow:
            from sqlmodel import col, delete, select

            from enterprise_connectors.job_tables import JobRow

            old = (col(JobRow.ended_at) > 0) & (col(JobRow.ended_at) < now - KEEP_SECONDS)
            lost = col(JobRow.alive_until) < now - KEEP_SECONDS
            session.exec(delete(JobRow).where(old | lost))
            self._database.alone(session, "sys_job")
            alive = select(JobRow.id).where(
                JobRow.owner == _who(owner), JobRow.state == "running", col(JobRow.alive_until) >= now
            )
            if len(session.exec(alive).all()) >= MAX_RUNNING:
                raise QuotaExceeded(f"{MAX_RUNNING} jobs are running already.", fix="Wait for one, or cancel one.")
            row = JobRow(
                id=f"job_{secrets.token_hex(6)}", owner=_who(owner), total=len(steps), steps=kept, key=key, runs=1,
                state="running", answered=0, answers=None, failed="", began_at=now, ended_at=0.0,
                alive_until=now + ALIVE_SECONDS, cancel=False,
            )  # fmt: skip
            session.add(row)
            return row

        row = await self._database.write(begin)
        self._begin(tasks, row, work, hidden)
        return self._job(row)

    async def run_again(
        self, id: str, owner: Principal, work: Work, *, hidden: frozenset[str] = frozenset()
    ) -> Job:
        """Run an interrupted job once more; another process may have been quicker, and then it is that one's."""
        tasks = await self._owner_of_tasks()
        now = self._clock()

        def claim(session: Session) -> tuple[JobRow, bool]:
            self._database.alone(session, "sys_job")
            row = self._row(session, id, owner)
            mine = row.steps is not None and self._job(row).state == "interrupted" and row.runs < MAX_RUNS
            if mine:
                row.state, row.ended_at, row.runs = "running", 0.0, row.runs + 1
                row.alive_until = now + ALIVE_SECONDS
                session.add(row)
            return row, mine

        row, mine = await self._database.write(claim)
        if mine:
            self._begin(tasks, row, work, hidden)
        return self._job(row)

    async def get(self, id: str, owner: Principal) -> Job:
        """The owner's job; raises `NotFound` for anybody else's as well."""
        here = self._here.get(id)
        row = await self._database.read(lambda session: self._row(session, id, owner))
        job = self._job(row)
        return replace(job, answered=len(here.done.answers)) if here and job.state == "running" else job

    async def ended(self, id: str, owner: Principal, seconds: float) -> Job:
        """The job once it has ended, or as it is after so many seconds."""
        with anyio.move_on_after(seconds):
            if (here := self._here.get(id)) is not None:
                await here.ended.wait()
            while (await self.get(id, owner)).state == "running":  # noqa: ASYNC110 - another process runs it
                await anyio.sleep(LOOK_SECONDS)
        return await self.get(id, owner)

    async def cancel(self, id: str, owner: Principal) -> None:
        """Let it stop, wherever it runs. What it has done stays done."""

        def ask(session: Session) -> None:
            row = self._row(session, id, owner)
            if self._job(row).state == "interrupted":
                row.state, row.steps = "cancelled", None
                row.ended_at = row.ended_at or self._clock()
            row.cancel = True
            session.add(row)

        await self._database.write(ask)
        if (here := self._here.get(id)) is not None:
            here.wanted = False
            here.scope.cancel()

    async def of(self, owner: Principal) -> list[Job]:
        def read(session: Session) -> list[JobRow]:
            from sqlmodel import col, select

            from enterprise_connectors.job_tables import JobRow

            return list(
                session.exec(select(JobRow).where(JobRow.owner == _who(owner)).order_by(col(JobRow.began_at)))
            )

        return [self._job(row) for row in await self._database.read(read)]

    async def _owner_of_tasks(self) -> TaskGroup:
        with anyio.move_on_after(READY_SECONDS):
            await self._ready.wait()
        if self._tasks is None:
            raise Unavailable("jobs cannot run here.", fix="Make the calls one by one.")
        return self._tasks

    def _begin(self, tasks: TaskGroup, row: JobRow, work: Work, hidden: frozenset[str]) -> None:
        here = self._here[row.id] = _Running(Done(), row.runs, hidden, tasks)
        tasks.start_soon(self._run, row.id, here, work, name=row.id)

    async def _run(self, id: str, here: _Running, work: Work) -> None:
        state: State = "interrupted"
        try:
            with here.scope, anyio.fail_after(JOB_SECONDS):
                await work(here.done)
                state = "failed" if here.done.failed else "done"
        except TimeoutError:
            state, here.done.failed = "failed", f"stopped after {JOB_SECONDS} seconds"
        except Exception as error:
            logger.exception("job %s failed", id)
            said = str(error) if isinstance(error, UsrlandError) else "it failed; the log tells why."
            state, here.done.failed = "failed", said
        finally:
            if state != "done" and not here.wanted:
                state = "cancelled"
            elif (
                state == "failed" and here.tasks.cancel_scope.cancel_called
            ):  # a call in a thread fails in its own time, and not of itself
                state = "interrupted"
            with anyio.CancelScope(shield=True):
                try:
                    await self._database.write(lambda session: self._put(session, id, here, state))
                except UsrlandError:  # nobody can be told; once it is not alive any more it counts as interrupted
                    logger.exception("the end of job %s could not be written", id)
                self._here.pop(id, None)
                here.ended.set()

    async def _beat(self) -> None:
        """Say of every job that runs here that it does, and hear whether it shall not."""
        while True:
            await anyio.sleep(BEAT_SECONDS)
            for id, here in list(self._here.items()):

                def say(session: Session, id: str = id, here: _Running = here) -> bool:
                    return self._put(session, id, here, "running")

                try:
                    cancelled = await self._database.write(say)
                except UsrlandError:
                    logger.exception("job %s could not say that it is alive", id)
                    continue
                if cancelled:
                    here.wanted = False
                    here.scope.cancel()

    def _put(self, session: Session, id: str, here: _Running, state: State) -> bool:
        """Write how far a job is; whether its owner has cancelled it."""
        from enterprise_connectors.job_tables import JobRow

        row = session.get(JobRow, id)
        if row is None or row.state != "running" or row.runs != here.run:
            return False
        now = self._clock()
        shown = {id: answer for id, answer in here.done.answers.items() if id not in here.hidden}
        answers = json.dumps(shown, ensure_ascii=False).encode()
        row.state, row.answered, row.failed = state, len(here.done.answers), here.done.failed
        row.answers = answers if len(answers) <= MAX_ANSWER_BYTES else None
        if row.answers is None and state == "done":
            row.state = "failed"
            row.failed = f"its answers have {len(answers)} bytes; at most {MAX_ANSWER_BYTES}. Pick less."
        row.alive_until = now + ALIVE_SECONDS
        if state != "running":
            row.ended_at = now
        if state not in ("running", "interrupted"):
            row.steps = None
        session.add(row)
        return row.cancel

    def _row(self, session: Session, id: str, owner: Principal) -> JobRow:
        from enterprise_connectors.job_tables import JobRow

        row = session.get(JobRow, id)
        if row is None or row.owner != _who(owner):
            raise NotFound(f"there is no job {id!r}.", fix="A job is kept for an hour after its end.")
        return row

    def _job(self, row: JobRow) -> Job:
        now, state = self._clock(), cast("State", row.state)
        if state == "running" and row.alive_until < now:
            state = "interrupted"
        ended = row.ended_at or (min(now, row.alive_until) if state == "interrupted" else now)
        failed = row.failed
        if state == "interrupted":
            failed = (
                "the process that ran it ended; "
                "repeat it with the same resume, and what took effect is not done again"
            )
        return Job(
            id=row.id,
            state=state,
            total=row.total,
            answered=row.answered,
            seconds=ended - row.began_at,
            failed=failed,
            answers=json.loads(row.answers) if row.answers else {},
            steps=json.loads(row.steps) if state == "interrupted" and row.steps and row.runs < MAX_RUNS else None,
            key=row.key,
        )


def _who(owner: Principal) -> str:
    return json.dumps([owner.tenant, owner.namespace, owner.subject])
