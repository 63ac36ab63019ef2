"""The definitions in a source file: functions, classes and their like, with names and lines.

Grammars are large machines made by many people, and what they parse may be hostile. So a process of its own holds
them, with limits on memory, no network and no environment (`extract`). It is asked for one file after the other,
since its start takes longer than most files do; a file that kills it, or that it takes too long for, has no
definitions and is cut as text, and the next file starts another. It ends when nobody has asked for a while.

What this does not protect against: a grammar that answers wrongly.
"""

from __future__ import annotations

import atexit
import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock, Timer
from typing import Any

from filesystem_retrieval.languages import LANGUAGES

__all__ = ["Symbol", "symbols"]

logger = logging.getLogger(__name__)

WALL_SECONDS = 30.0
"""For one file, on a machine that is busy: the process limits its own time by what it computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """A definition. Lines are counted from 1; it begins with the comments and decorators above it."""

    kind: str
    name: str
    first_line: int
    last_line: int
    outer: tuple[str, ...] = ()
    """What it stands in, as `kind name`, the outermost first."""

    @property
    def title(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def trail(self) -> tuple[str, ...]:
        return (*self.outer, self.title)

    @property
    def told(self) -> Sequence[Any]:
        """As it goes from one process to the other."""
        return [self.kind, self.name, self.first_line, self.last_line, self.outer]

    @classmethod
    def of(cls, told: Sequence[Any]) -> Symbol:
        kind, name, first_line, last_line, outer = told
        return cls(kind=kind, name=name, first_line=first_line, last_line=last_line, outer=tuple(outer))


def symbols(text: str, language: str) -> Sequence[Symbol]:
    """All definitions, in the order of the file; none where the language is not known here.

    Blocks until the other process has answered, for half a minute at most.
    """
    return _asked.about(text, language) if language in LANGUAGES else []


class _Asked:
    """The process that holds the grammars, while there is one."""

    def __init__(self) -> None:
        self._turn = Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def about(self, text: str, language: str) -> Sequence[Symbol]:
        content = text.encode()
        request = json.dumps([language, len(content)]).encode() + b"\n" + content
        with self._turn:
            line = self._answer(request)
            if line is None:
                line = self._answer(request)
        if not line:
            logger.warning("a grammar for %s crashed or took too long; the file is cut as text", language)
            return []
        return [Symbol.of(each) for each in json.loads(line)]

    def _answer(self, request: bytes) -> bytes | None:
        """The answer; empty where the file killed the process, `None` where it had ended before."""
        process = self._process = self._process or _started()
        assert process.stdin is not None and process.stdout is not None
        late = Timer(WALL_SECONDS, process.kill)
        late.start()
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(request)
                process.stdin.flush()
            line = process.stdout.readline()
            if line.endswith(b"\n"):
                return line
            ended = process.wait() == 0
        finally:
            late.cancel()
        self._end()
        return None if ended else b""

    def close(self) -> None:
        with self._turn:
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        with suppress(BrokenPipeError), process:  # closes its pipes and waits for it
            pass


def _started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-m", "filesystem_retrieval.extract", "symbols"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
    )


_asked = _Asked()
atexit.register(_asked.close)
