"""Vectors made by the workers of a Ray, on this machine or on many.

Each worker is an actor that loads the model once and works in one thread. It reads the texts of a shard out of the
index, embeds them, and writes their vectors beside the others (`fragments`); only the names of rows and files come
back, for the one process that commits. Ray places the workers, restarts one that is lost, and gives it its shard
again. Who has come up is given shards, so fewer workers than were asked for do the work of all.

Plain actors: Ray Data with the writers of lance-ray was tried beside them. Its commit comes once, at the end, and
of all it was given, while rows change here during a run. With as many processors as workers it stood still, since
its own tasks found none; with two more it took a tenth longer, logs what it runs, and brings pandas. Dask was not
tried: by its own account what an actor of its holds is lost with the machine. Lance's own distributed writing is
what `fragments` does; it has nothing that schedules.

A Ray listens on all addresses unless told otherwise, and tells its makers how it is used. One that is started here
listens on loopback, asks for a token, and tells nobody. A cluster of others is as they have set it up: whoever may
reach it may run code there, and could read what workers are given, the key of the bucket too.
"""

from __future__ import annotations

import logging
import math
import secrets
import socket
import sys
import warnings
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from usrland.embedding import Embedder, of_generation
from usrland.errors import InvalidInput, Unavailable, UsrlandError
from usrland.settings import tell_by_environment

if TYPE_CHECKING:
    from usrland.search.fragments import Options, Shard
    from usrland.search.lance import Tables

__all__ = ["embedded_on"]

LOCAL = "local"
SHARD_ROWS = 1_000
"""Half a minute of a worker, which is lost with it."""
SHARDS_PER_WORKER = 4
"""At least, or the last ones keep one worker busy while the others wait."""
RETRIES = 3
"""Of a shard whose worker is lost; a shard that ends whatever worker has it must end the run."""
STORE_BYTES = 100 << 20
"""Of shared memory, for what passes between processes here: nearly nothing."""
CONNECT_SECONDS = 5.0
"""Ray itself tries for minutes."""
POLL_SECONDS = 0.5
"""How long stopping may take."""
SILENT = {"RAY_USAGE_STATS_ENABLED": "0"}
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
"""The first has it listen on loopback, on every system in spite of its name."""


async def embedded_on(
    address: str, workers: int, ids: Sequence[str], *, place: str, options: Options, generation: str
) -> AsyncGenerator[Shard]:
    """Shards of these rows of the index at `place`, as they are done. Close it: the workers end with it."""
    if not ids:
        return
    alone = {**ALONE, "RAY_AUTH_TOKEN": _token()} if address == LOCAL else {}
    tell_by_environment({**SILENT, **alone})  # Ray reads these while it is imported
    try:
        import lance  # noqa: F401 - of whoever commits; known here before any work is done
        import ray
    except ImportError as error:
        raise Unavailable("embedding on Ray needs: pip install 'usrland[ray]'.") from error
    size = max(1, min(SHARD_ROWS, math.ceil(len(ids) / (workers * SHARDS_PER_WORKER))))
    shards = deque(ids[start : start + size] for start in range(0, len(ids), size))
    left = len(shards)
    with redirect_stdout(sys.stderr):  # where Ray prints what befalls a worker, whatever it is told of logging
        try:
            await _join(ray, address, workers)
            kind = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=RETRIES)(Worker)
            crew = [kind.remote(place, options, generation) for _ in range(min(workers, left))]
            busy = {worker.ready.remote(): worker for worker in crew}
            while left:
                done, _ = await anyio.to_thread.run_sync(lambda: ray.wait(list(busy), timeout=POLL_SECONDS))
                for answer in done:
                    worker = busy.pop(answer)
                    with _explained(ray):
                        shard = ray.get(answer)
                    if shards:
                        busy[worker.embed.remote(shards.popleft())] = worker
                    if shard is not None:
                        left -= 1
                        yield shard
        finally:
            ray.shutdown()


class Worker:
    """What runs on the cluster."""

    def __init__(self, place: str, options: Options, generation: str) -> None:
        self._place, self._options, self._generation = place, options, generation
        self._opened: tuple[Embedder, Tables] | None = None

    async def ready(self) -> None:
        await self._open()

    async def embed(self, ids: Sequence[str]) -> Shard:
        from usrland.search.fragments import Shard, written

        model, tables = await self._open()
        records = await tables.records(ids)
        texts = {record.digest: record.text for record in records}
        if not texts:
            return Shard(asked=len(ids), rows=[], files=[])
        made = dict(await tables.known_vectors(self._generation, model.dimensions, texts))
        missing = {digest: text for digest, text in texts.items() if digest not in made}
        if missing:
            made |= zip(missing, model.documents([*missing.values()]), strict=True)
        vectors = [made[record.digest] for record in records]
        files = written(tables, self._options, self._generation, records, vectors)
        return Shard(asked=len(ids), rows=[record.keys() for record in records], files=files)

    async def _open(self) -> tuple[Embedder, Tables]:
        if self._opened is None:
            if "://" not in self._place and not await anyio.Path(self._place).is_dir():
                raise Unavailable(
                    f"a Ray worker on {socket.gethostname()!r} does not see the folder of the index.",
                    fix="Put the index into a bucket ([index]), or on a file system that all machines mount.",
                )
            self._opened = self._model(), await self._tables()
        return self._opened

    def _model(self) -> Embedder:
        model = of_generation(self._generation, threads=1)
        try:
            if model is None:
                raise Unavailable(
                    "its usrland does not know it.", fix="Install the same usrland on every machine."
                )
            model.load()
        except Unavailable as error:
            host = socket.gethostname()
            raise Unavailable(
                f"a Ray worker on {host!r} cannot load the model {self._generation!r}: {error.fact}", fix=error.fix
            ) from error
        return model

    async def _tables(self) -> Tables:
        from usrland.search.loading import tables_module

        tables: Tables = await tables_module().Tables.open(self._place, self._options)
        return tables


async def _join(ray: Any, address: str, workers: int) -> None:
    """Start a Ray here, or enter the one at that address."""
    given: dict[str, Any] = {"address": address}
    if address == LOCAL:
        given |= {"num_cpus": workers, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    else:
        await _reach(address)
    try:
        await anyio.to_thread.run_sync(_init, ray, given)
    except Exception as error:  # of whatever kind: it has none of its own for this
        raise Unavailable(
            f"Ray cannot be used at {address!r}: {_first_line(error)}",
            fix="Run this on a machine of the cluster (ray start --address=…), or take --ray local.",
        ) from error


def _init(ray: Any, given: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        # it starts programs, in which nothing of Lance goes on
        warnings.filterwarnings("ignore", "lancedb fork support|lance is not fork-safe")
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **given)


async def _reach(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise InvalidInput(
            f"--ray: {address!r} is no address of a Ray.",
            fix="Write HOST:PORT, or 'local'.",
        )
    try:
        with anyio.fail_after(CONNECT_SECONDS):
            await (await anyio.connect_tcp(host.strip("[]"), int(port))).aclose()
    except (OSError, TimeoutError) as error:
        raise Unavailable(
            f"no Ray answers at {address!r}.", fix="Start one there (ray start --head), or take --ray local."
        ) from error


@cache
def _token() -> str:
    """One for all of this process: Ray does not look again."""
    return secrets.token_hex(32)


@contextmanager
def _explained(ray: Any) -> Iterator[None]:
    """What a worker raised, as it raised it; what Ray raises of its own is a system that is not there."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, UsrlandError):
            raise cause from error
        raise Unavailable(
            f"a Ray worker failed: {_first_line(cause or error)}",
            fix="Run this again: it goes on with what is left. Ray's own logs say more (/tmp/ray on its machine).",
        ) from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]
