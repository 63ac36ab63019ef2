"""The servers that are installed here, found by entry point and not yet imported.

A server of a third party stands beside ours: the group `usrland.servers` names a function
`(Settings) -> Service`, and the package that holds it runs with `python -m`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from usrland.errors import InvalidInput, Unavailable, UsrlandError
from usrland.probe import Launch

if TYPE_CHECKING:
    from usrland.connector import Service
    from usrland.settings import Settings

__all__ = ["Server", "installed_servers", "pick_servers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One entry point of the group `usrland.servers`."""

    name: str
    where: str
    """`package.module:function`."""
    package: str = ""
    """The distribution it is from, by the name under which it is installed."""
    version: str = ""

    @property
    def module(self) -> str:
        """What `python -m` runs: the package that the function's module is in."""
        module = self.where.partition(":")[0]
        return module.rpartition(".")[0] or module

    def launch(self, settings: Settings) -> Launch:
        """How a host starts it: by absolute interpreter, since hosts have another PATH than a shell.

        The environment is empty where the usrland home is where it is looked for anyway.
        """
        moved = settings.home != _home_of_a_bare_process() / ".usrland"
        return Launch(
            # not resolved: in a virtual environment the link is what finds the packages
            command=str(Path(sys.executable).absolute()),
            arguments=("-m", self.module),
            environment={"USRLAND_HOME": str(settings.home)} if moved else {},
        )

    def load(self, settings: Settings) -> Service:
        """Import and compose it, as its own process would. Raises `Unavailable` where it cannot be."""
        from usrland.launch import find_service

        try:
            return find_service(self.where)(settings)
        except UsrlandError:
            raise
        except Exception as error:  # somebody else's code: one broken server must not hide the others
            raise Unavailable(
                f"the server {self.name!r} cannot be loaded: {type(error).__name__}: {error}.",
                fix=f"See why with: usrland doctor --server {self.name}",
            ) from error


def _home_of_a_bare_process() -> Path:
    """The person's home as a process finds it that was given no environment: HOME may be missing, or other."""
    try:
        import pwd
    except ImportError:  # Windows, where a process without USERPROFILE does not start at all
        return Path.home()
    return Path(pwd.getpwuid(os.getuid()).pw_dir)


def installed_servers() -> list[Server]:
    """By name; the same order every time."""
    return sorted(
        map(_server, entry_points(group="usrland.servers")),
        key=lambda server: server.name,
    )


def _server(entry: EntryPoint) -> Server:
    package, version = (entry.dist.name, entry.dist.version) if entry.dist else ("", "")
    return Server(name=entry.name, where=entry.value, package=package, version=version)


def pick_servers(names: Sequence[str]) -> list[Server]:
    """Those servers, or all. Raises `InvalidInput` with the names there are."""
    known = installed_servers()
    unknown = set(names) - {server.name for server in known}
    if unknown:
        listed = ", ".join(server.name for server in known)
        raise InvalidInput(f"there is no server {sorted(unknown)[0]!r}.", fix=f"Installed: {listed}.")
    return [server for server in known if not names or server.name in names]
