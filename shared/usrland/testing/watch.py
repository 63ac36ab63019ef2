"""What an author's function does while it runs: where it waits, what it holds up, what it reaches for.

Told by the interpreter's own audit events and by driving the coroutine step by step, so that nothing depends on
how fast this machine happens to be.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any

import anyio

from usrland.connector import Operation
from usrland.errors import Timeout

__all__ = ["Event", "Run", "Watch"]

BLOCKS = ("time.sleep", "sqlite3.connect", "subprocess.Popen", "socket.getaddrinfo", "socket.connect")
"""Whoever does one of these holds up its whole thread."""
NETWORK = ("socket.getaddrinfo", "socket.connect")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that was done: an audit event of the interpreter, and to what."""

    name: str
    target: str
    thread: int
    writes: bool = False
    reads: bool = True


@dataclass(slots=True)
class Run:
    """One call of one of the author's functions."""

    operation: str
    effect: str
    thread: int
    suspended: int = 0
    """How often it waited and let others go on."""
    busy_seconds: float = 0.0
    """Processor time of its longest step between two waits."""
    idle_seconds: float = 0.0
    """Time that its longest step stood still without letting others go on."""
    cancelled: bool = False
    ended: bool = False
    patience: int = 200
    """How often it may still wait for others to come as far."""
    events: list[Event] = field(default_factory=list)

    @property
    def blocked(self) -> list[Event]:
        """What it did on the event loop's own thread that should have been done in another."""
        return [event for event in self.events if event.name in BLOCKS and event.thread == self.thread]

    def read_from(self, folder: Path) -> set[Path]:
        """The files below `folder` that it opened for what is in them, databases too."""
        opened = {
            Path(event.target)
            for event in self.events
            if event.name in ("open", "sqlite3.connect") and event.reads
        }
        return {path for path in opened if path.is_relative_to(folder)}


_running: ContextVar[Run | None] = ContextVar("_running", default=None)
_hooked = False


@dataclass(slots=True)
class Watch:
    """Wraps a server's operations and keeps what each call showed."""

    runs: list[Run] = field(default_factory=list)
    stop_at: int = 0
    """Every call is cancelled at its n-th wait, as by a deadline that passes then; 0: none is."""
    at_once: int = 0
    """So many calls go on from each of their waits together, so that they surely get in each other's way."""

    def over(self, operation: Operation) -> Operation:
        """The same operation, watched."""
        return replace(
            operation,
            call=self._watched(operation, operation.call),
            preview=operation.preview and self._watched(operation, operation.preview),
        )

    def _watched(self, operation: Operation, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        _hook()

        @wraps(call)
        async def watched(*arguments: Any, **values: Any) -> Any:
            run = Run(operation.name, operation.effect, threading.get_ident())
            self.runs.append(run)
            token = _running.set(run)
            try:
                with anyio.CancelScope() as scope:
                    return await _Stepped(call(*arguments, **values), run, scope, self)
                run.cancelled = True
                raise Timeout("the deadline has passed.")
            finally:
                run.ended = True
                _running.reset(token)

        return watched

    def holds(self, run: Run) -> bool:
        """Whether a call has to wait until the others have come as far."""
        if self.at_once < 2 or not run.patience:
            return False
        run.patience -= 1
        behind = [other for other in self.runs if not other.ended and other.suspended < run.suspended]
        return bool(behind) or len(self.runs) < self.at_once


@dataclass(slots=True)
class _Stepped:
    """Awaits another awaitable and measures each step of it."""

    inner: Awaitable[Any]
    run: Run
    scope: anyio.CancelScope
    watch: Watch

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.inner.__await__()
        failure: BaseException | None = None
        while True:
            try:
                with _measured(self.run):
                    waits_for = steps.throw(failure) if failure is not None else next(steps)
            except StopIteration as end:
                return end.value
            self.run.suspended += 1
            if self.run.suspended == self.watch.stop_at:
                self.scope.cancel()
            try:
                yield waits_for
                while self.watch.holds(self.run):
                    yield from anyio.sleep(0.001).__await__()
                failure = None
            except BaseException as error:
                failure = error


@contextmanager
def _measured(run: Run) -> Iterator[None]:
    wall, busy, queued = time.monotonic(), time.thread_time(), _queued_seconds()
    try:
        yield
    finally:
        spent = time.thread_time() - busy
        run.busy_seconds = max(run.busy_seconds, spent)
        run.idle_seconds = max(
            run.idle_seconds, time.monotonic() - wall - spent - (_queued_seconds() - queued) if queued else 0.0
        )


def _queued_seconds() -> float:
    """How long this thread was ready and had to wait for a processor; 0 where the system does not tell."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _hook() -> None:
    """Listen to the interpreter, once per process: what an audit hook is given cannot be taken back."""
    global _hooked
    if not _hooked:
        _hooked = True
        sys.addaudithook(_heard)
        if sys.version_info < (3, 13):  # later versions tell of it themselves
            time.sleep = _told(time.sleep)


def _told(sleep: Callable[[Any], None]) -> Callable[[Any], None]:
    def told(seconds: Any) -> None:
        sys.audit("time.sleep", seconds)
        sleep(seconds)

    return told


def _heard(name: str, arguments: tuple[Any, ...]) -> None:
    if name not in BLOCKS and name != "open":
        return
    run = _running.get()
    if run is None:
        return
    reads = True
    match name:
        case "open":
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            writes, reads = bool(flags & _WRITES), not flags & (os.O_WRONLY | os.O_TRUNC)
        case "socket.connect":
            if arguments[0].gettimeout() == 0:  # it does not wait
                run.events.append(Event("socket.connect.later", str(arguments[1]), threading.get_ident()))
                return
            writes = False
        case _:
            writes = name == "sqlite3.connect"
    target = arguments[1] if name == "socket.connect" else arguments[0]
    run.events.append(Event(name, _text(target), threading.get_ident(), writes, reads))


def _text(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, bytes | os.PathLike) else str(value)
