"""The part of the contract that needs a process: how a server starts, what it prints, and that it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, ClassVar

import pytest

from usrland.probe import Launch, Probe, bare_environment, probe
from usrland.settings import Settings

__all__ = ["StartContract"]


class StartContract:
    """Started as a host does: absolute interpreter, `-m`, and almost no environment."""

    service: Callable[[Settings], Any]
    module: ClassVar[str] = ""
    """What `python -m` runs. Default: the package that `service` stands in."""
    cold_start_cpu_seconds: ClassVar[float] = 3.0
    """Processor time until the tools are listed. Generous: machines differ, and a model or an index costs more."""

    def launch(self, settings: Settings) -> Launch:
        module = self.module or type(self).service.__module__.rpartition(".")[0]
        assert module and find_spec(f"{module}.__main__"), "set `module` to what `python -m` runs"
        return Launch(
            command=sys.executable,
            arguments=("-m", module),
            environment={**bare_environment(settings.environment), "USRLAND_HOME": str(settings.home)},
        )

    @pytest.mark.parametrize("era", ["2025-06-18", "2026-07-28"])
    def test_a_host_gets_the_tools_and_nothing_else_on_standard_output(self, settings: Settings, era: Any) -> None:
        seen = self.seen(settings, era)
        assert not seen.failure, "\n".join([seen.failure, *seen.stderr])
        assert seen.tools
        assert not seen.noise, "\n".join(seen.noise)

    def test_it_starts_before_a_host_gives_up(self, settings: Settings) -> None:
        spent = self.seen(settings, "2025-06-18").cpu_seconds
        if spent is None:
            pytest.skip("this system does not tell a process's processor time")
        assert spent <= self.cold_start_cpu_seconds

    def test_it_ends_when_its_input_ends(self, settings: Settings) -> None:
        assert self.seen(settings, "2025-06-18").exit_code == 0

    def seen(self, settings: Settings, era: Any) -> Probe:
        return probe(self.launch(settings), era)
