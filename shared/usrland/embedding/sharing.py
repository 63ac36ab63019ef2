"""One model for all processes of a home: `share` answers on a socket, `Shared` asks there and else loads its own.

A host starts a process for each server, and each would hold the model. Whoever wants to pay for it once runs
`usrland model`. Nothing depends on that: where nobody answers, or no longer, a process loads its own and goes on.

Only the owner of the home is answered. The folder of the socket lets nobody else in, and both ends ask the kernel
whose process the other one is; only Linux tells that through Python, so elsewhere nothing is shared. What is asked
and answered is bounded. This does not protect processes of the same person from each other.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import stat
import struct
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import anyio.to_thread
from anyio.abc import SocketAttribute, SocketStream, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream

from usrland.embedding import of_generation
from usrland.errors import Conflict, InvalidInput, Unavailable

if TYPE_CHECKING:
    from usrland.embedding import Embedder, Vectors

__all__ = ["FOLDER", "Shared", "share"]

logger = logging.getLogger(__name__)

FOLDER, SOCKET, TURN = "model", "socket", "turn.lock"
"""Below the home."""
MAX_BYTES = 8 << 20
MAX_TEXTS = 64
"""In one message: a question of another process waits for no more than these."""
MAX_CONNECTIONS = 128
AT_ONCE = 4
"""Messages that the model works on; the others wait."""
ANSWER_SECONDS = 60.0
"""After so long the other end is as good as gone."""
MAX_PATH_BYTES = 100
"""What the name of a socket may be long, everywhere."""
_FRAME = struct.Struct(">II")
_PEER = struct.Struct("3i")
KINDS = ("documents", "query")


class _About(NamedTuple):
    """What the model on the other end is."""

    generation: str
    dimensions: int


class Shared:
    """An embedder that asks the model of the home, and where that does not answer, the own one from then on."""

    def __init__(self, own: Embedder, name: str, home: Path) -> None:
        self._own = own
        self._name = name
        self._folder = home / FOLDER
        self._about: _About | None = None
        self._loading = threading.Lock()
        self._idle: list[socket.socket] = []
        weakref.finalize(self, _close, self._idle)

    @property
    def generation(self) -> str:
        about = self._about
        return self._own.generation if about is None else about.generation

    @property
    def dimensions(self) -> int:
        about = self._about
        return self._own.dimensions if about is None else about.dimensions

    @property
    def ready(self) -> bool:
        return self._about is not None or self._own.ready

    def load(self) -> None:
        with self._loading:
            if self.ready:
                return
            try:
                self._about = self._introduced()
                return
            except _NoAnswer as reason:
                logger.debug("no model is shared here: %s", reason)
            self._own.load()

    def documents(self, texts: Sequence[str]) -> Vectors:
        about = self._about
        if about is not None:
            import numpy

            if not texts:
                return numpy.empty((0, about.dimensions), dtype=numpy.float32)
            try:
                parts = [
                    self._vectors("documents", texts[start : start + MAX_TEXTS])
                    for start in range(0, len(texts), MAX_TEXTS)
                ]
                return numpy.concatenate(parts)
            except _NoAnswer as reason:
                self._go_on_alone(reason)
        return self._own.documents(texts)

    def query(self, text: str) -> Vectors:
        if self._about is not None:
            try:
                vector: Vectors = self._vectors("query", [text])[0]
                return vector
            except _NoAnswer as reason:
                self._go_on_alone(reason)
        return self._own.query(text)

    def _introduced(self) -> _About:
        """Asks what the other model is. One that we would not make the same vectors with is no use."""
        told, _ = self._asked({"model": self._name})
        generation, dimensions = told.get("generation"), told.get("dimensions")
        if not isinstance(generation, str) or not isinstance(dimensions, int) or of_generation(generation) is None:
            raise _NoAnswer("it is of another version")
        return _About(generation, dimensions)

    def _go_on_alone(self, reason: _NoAnswer) -> None:
        logger.warning("the shared model does not answer, this process loads its own: %s", reason)
        self._own.load()
        with self._loading:
            self._about = None
            _close(self._idle)

    def _vectors(self, kind: str, texts: Sequence[str]) -> Vectors:
        import numpy

        about = self._about
        if about is None:
            raise _NoAnswer("another thread went on alone")
        _, content = self._asked({"model": self._name, "as": kind, "texts": list(texts)})
        numbers = numpy.frombuffer(content, dtype="<f4")
        if len(numbers) != len(texts) * about.dimensions:
            raise _NoAnswer("it answered something else")
        return numbers.reshape(len(texts), about.dimensions)

    def _asked(self, asking: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Over a connection that is there, or a new one where that has gone."""
        try:
            idle: socket.socket | None = self._idle.pop()
        except IndexError:
            idle = None
        if idle is not None:
            with suppress(OSError):
                return self._exchanged(idle, asking)
        try:
            return self._exchanged(_connected(self._folder), asking)
        except OSError as error:
            raise _NoAnswer(str(error) or type(error).__name__) from error

    def _exchanged(self, connection: socket.socket, asking: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        try:
            connection.sendall(_framed(asking))
            told, content = _read(lambda count: _exactly(connection, count))
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        if "problem" in told:
            raise _NoAnswer(str(told["problem"]))
        return told, content


class _NoAnswer(Exception):
    """Raised when the shared model cannot be asked, with the reason."""


def _close(connections: list[socket.socket]) -> None:
    while connections:
        connections.pop().close()


def _connected(folder: Path) -> socket.socket:
    """To a process of our own user, in a folder that is closed to others; raises `OSError`."""
    if not hasattr(socket, "SO_PEERCRED"):
        raise OSError("this system does not tell whose process another one is")
    there = folder.lstat()
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.geteuid() or there.st_mode & 0o077:
        raise OSError("others may enter its folder")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(str(folder / SOCKET))
        if _user(connection) != os.geteuid():
            raise OSError("it is somebody else's")
    except BaseException:
        connection.close()
        raise
    return connection


def _user(connection: socket.socket) -> int:
    """Whose process is at the other end."""
    _, user, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(user)


def _framed(told: dict[str, Any], content: bytes = b"") -> bytes:
    head = json.dumps(told).encode()
    if len(head) + len(content) > MAX_BYTES:
        raise OSError("it is too much for one message")
    return _FRAME.pack(len(head), len(content)) + head + content


def _read(exactly: Callable[[int], bytes]) -> tuple[dict[str, Any], bytes]:
    head, content = _FRAME.unpack(exactly(_FRAME.size))
    if head + content > MAX_BYTES:
        raise OSError("the answer is too long")
    return _object(exactly(head)), exactly(content)


def _object(text: bytes) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError as error:
        raise OSError("it is no message") from error
    if not isinstance(told, dict):
        raise OSError("it is no message")
    return told


def _exactly(connection: socket.socket, count: int) -> bytes:
    content = bytearray()
    while len(content) < count:
        part = connection.recv(min(count - len(content), 1 << 20))
        if not part:
            raise OSError("it was cut off")
        content += part
    return bytes(content)


async def share(model: Embedder, name: str, home: Path, ready: Callable[[], None] = lambda: None) -> None:
    """Answer for this model until cancelled or told to end; `ready` is called once it can be asked.

    Raises `Conflict` where another process does so for this home, `Unavailable` where it cannot be done safely.
    """
    from filelock import FileLock, Timeout

    if not hasattr(socket, "SO_PEERCRED"):
        raise Unavailable("a model can be shared on Linux only.", fix="Let every server load its own.")
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    path = folder / SOCKET
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise InvalidInput(
            f"{path} is too long for the name of a socket.", fix="Choose a home with a shorter path."
        )
    try:
        turn = FileLock(folder / TURN, thread_local=False).acquire(timeout=0)
    except Timeout as error:
        raise Conflict("another process shares a model for this home.", fix="Use it, or end it first.") from error
    with turn:
        await anyio.to_thread.run_sync(model.load)
        desk = _Desk(model, name)
        try:
            async with (
                await anyio.create_unix_listener(path, mode=0o600) as listener,
                anyio.create_task_group() as tasks,
            ):
                await tasks.start(_ended, tasks.cancel_scope)
                ready()
                await listener.serve(desk.serve)
        finally:
            path.unlink(missing_ok=True)


async def _ended(scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
            return


class _Desk:
    """Answers processes, each in its own time, and the model for some at once."""

    def __init__(self, model: Embedder, name: str) -> None:
        self._model = model
        self._name = name
        self._open = 0
        self._at_once = anyio.CapacityLimiter(AT_ONCE)

    async def serve(self, stream: SocketStream) -> None:
        async with stream:
            if _user(stream.extra(SocketAttribute.raw_socket)) != os.geteuid():  # nosec B610 # anyio's
                logger.warning("a process of another user asked for the model")
                return
            if self._open >= MAX_CONNECTIONS:
                return
            self._open += 1
            try:
                with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, OSError):
                    await self._answer(stream)
            finally:
                self._open -= 1

    async def _answer(self, stream: SocketStream) -> None:
        """Until the other end goes, or says what is no question."""
        given = BufferedByteReceiveStream(stream)
        while True:
            head, content = _FRAME.unpack(await given.receive_exactly(_FRAME.size))
            if content or head > MAX_BYTES:
                return
            await stream.send(await self._answered(_object(await given.receive_exactly(head))))

    async def _answered(self, asked: dict[str, Any]) -> bytes:
        if asked.get("model") != self._name:
            return _framed({"problem": f"the model shared here is {self._name!r}"})
        if "texts" not in asked:
            return _framed({"generation": self._model.generation, "dimensions": self._model.dimensions})
        kind, texts = asked.get("as"), asked["texts"]
        fits = (
            isinstance(texts, list)
            and 0 < len(texts) <= MAX_TEXTS
            and all(isinstance(text, str) for text in texts)
        )
        if kind not in KINDS or not fits or (kind == "query" and len(texts) != 1):
            return _framed({"problem": "that is no question"})
        work = self._documents if kind == "documents" else self._query
        return _framed({}, await anyio.to_thread.run_sync(work, texts, limiter=self._at_once))

    def _documents(self, texts: list[str]) -> bytes:
        return self._model.documents(texts).astype("<f4").tobytes()

    def _query(self, texts: list[str]) -> bytes:
        return self._model.query(texts[0]).astype("<f4").tobytes()
