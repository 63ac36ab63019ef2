"""Learn of changes from the operating system, so that a search need not look over the folders first.

The folders that a walk would enter are watched one by one: a recursive watch would follow links out of a root and
would wake for every file that is ignored. When a folder comes or goes the watch begins anew, and whenever it
begins a scan is due, since nobody listened before. What no event is sent for (network drives, too many folders) is
found by the scans that go on without a watch, and by a full one now and then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Event, Thread

import anyio
import anyio.to_thread
from anyio.from_thread import BlockingPortal

from filesystem_retrieval.patterns import DRAFT, IGNORE_FILES
from filesystem_retrieval.roots import Root
from usrland.errors import NotFound

__all__ = ["Watch"]

logger = logging.getLogger(__name__)

Wake = Callable[[Sequence[str]], None]

STEP_MS = 20
GATHER_MS = 200
"""Changes that follow each other as quickly as the step are told together, for so long at most."""
LOOK_MS = 500
"""How often to see whether a root that was not there is there now."""
PAUSE_SECONDS = 60.0
"""After the operating system refused."""


class Watch:
    """What is known of changes beneath all roots."""

    def __init__(self, roots: Sequence[Root], home: Path) -> None:
        self._roots = roots
        self._home = str(home)
        self._live = False
        self._changed_at = float("inf")

    def is_quiet_since(self, moment: float) -> bool:
        """Whether nothing has changed since then (of `time.monotonic`), as far as anybody watches."""
        return self._live and self._changed_at < moment

    @property
    def is_live(self) -> bool:
        """Whether every change is told of, a moment after it was made."""
        return self._live

    async def keep(self, wake: Wake) -> None:
        """Watch until cancelled; calls `wake` on the event loop with the paths that have changed."""
        stop = Event()
        async with BlockingPortal() as portal:
            thread = Thread(target=self._run, args=(stop, portal, wake), name="watch folders", daemon=True)
            thread.start()
            try:
                await anyio.sleep_forever()
            finally:
                stop.set()
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(thread.join)

    def _run(self, stop: Event, portal: BlockingPortal, wake: Wake) -> None:
        while not stop.is_set():
            try:
                self._watch(stop, portal, wake)
            except OSError as error:  # the number of watches is limited, for one
                logger.warning("folders are not watched but looked over before a search: %s", error)
                stop.wait(PAUSE_SECONDS)
            finally:
                self._live = False

    def _watch(self, stop: Event, portal: BlockingPortal, wake: Wake) -> None:
        """Until a folder comes or goes."""
        from watchfiles import Change, watch  # not needed to start

        folders, complete = self._folders()
        if not folders:
            stop.wait(LOOK_MS / 1000)
            return
        told = watch(
            *folders,
            watch_filter=None,
            recursive=False,
            stop_event=stop,
            step=STEP_MS,
            debounce=GATHER_MS,
            rust_timeout=LOOK_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
        )
        for changes in told:
            if not self._live:
                self._live = complete
                self._tell(portal, wake, [])
            paths = [path for _, path in changes if self._counts(path)]
            if paths:
                self._tell(portal, wake, paths)
            gone = {path for change, path in changes if change is Change.deleted}
            if gone & folders or self._new_folders(paths) or (not complete and self._folders()[1]):
                break

    def _tell(self, portal: BlockingPortal, wake: Wake, paths: Sequence[str]) -> None:
        self._changed_at = time.monotonic()
        portal.start_task_soon(wake, paths)

    def _counts(self, path: str) -> bool:
        """Whether anybody might see what is there."""
        if path.startswith(self._home) or path.rpartition("/")[2].startswith(DRAFT):
            return False
        beneath = ((root, path.removeprefix(f"{root.folder}/")) for root in self._roots)
        return any(inside != path and not root.hides(inside) for root, inside in beneath)

    def _new_folders(self, paths: Iterable[str]) -> bool:
        return any(path.rpartition("/")[2] in IGNORE_FILES or Path(path).is_dir() for path in paths)

    def _folders(self) -> tuple[set[str], bool]:
        """Those of all roots, and whether every root could be entered."""
        folders, complete = set(), True
        for root in self._roots:
            try:
                beneath = {str(root.folder / found.path) for found in root.walk() if found.folder}
            except NotFound:
                complete = False
            else:
                folders |= {str(root.folder), *beneath}
        return folders, complete
