"""The part of the contract that needs a process: how a server starts, what it prints, and that it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import ClassVar, get_args

import pytest

from usrland.probe import Era, Launch, Probe, bare_environment, probe
from usrland.settings import Settings
from usrland.testing.client import CANARY, Served

__all__ = ["StartContract"]

EXIT_SECONDS = 20.0
"""After its input ended. Hosts are less patient; machines that run tests are slower."""
HEAVY = (
    "lancedb",
    "matplotlib",
    "numpy",
    "onnxruntime",
    "pandas",
    "polars",
    "pyarrow",
    "scipy",
    "sklearn",
    "tensorflow",
    "torch",
    "transformers",
)
"""Each takes longer than the whole rest of a start."""

_BUILD = """
import json, sys
seen = []
def heard(name, arguments):
    if name == "import" and arguments[0] in {heavy!r}:
        seen.append("imports " + arguments[0])
    elif name == "time.sleep":
        seen.append("sleeps for " + str(arguments[0]) + " seconds")
    elif name in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
        seen.append(name + " " + str(arguments[1] if name == "socket.connect" else arguments[0]))
sys.addaudithook(heard)
if sys.version_info < (3, 13):  # later versions tell of it themselves
    import time
    sleep = time.sleep
    time.sleep = lambda seconds: (sys.audit("time.sleep", seconds), sleep(seconds))
from pathlib import Path
from usrland.launch import find_service
from usrland.settings import Settings
find_service({place!r})(Settings.load(Path({home!r})))
sys.stdout.write("\\n" + json.dumps(seen))
"""


class StartContract(Served):
    """Started as a host does: absolute interpreter, `-m`, and almost no environment."""

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
            environment={
                **bare_environment(settings.environment),
                **settings.environment,
                "USRLAND_HOME": str(settings.home),
            },
        )

    def start(self, settings: Settings, era: Era) -> Probe:
        """One whole life of the server: start, listing, every sample, end."""
        return probe(self.launch(settings), era, calls=list(self.samples.items()), exit_seconds=EXIT_SECONDS)

    @pytest.fixture(scope="class")
    @classmethod
    def lives(cls, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Probe]:
        """One for each era, which all tests below look at."""
        folders = {era: tmp_path_factory.mktemp("life") for era in get_args(Era)}
        return {era: cls().start(cls().settings_in(folder), era) for era, folder in folders.items()}

    @pytest.mark.parametrize("era", get_args(Era))
    def test_a_host_gets_the_tools_and_nothing_else_on_standard_output(
        self, lives: Mapping[str, Probe], era: str
    ) -> None:
        seen = lives[era]
        assert not seen.failure, "\n".join([seen.failure, *seen.stderr])
        assert seen.tools
        assert not seen.noise, "\n".join(seen.noise)

    def test_a_host_gets_the_answers_that_a_test_gets(self, lives: Mapping[str, Probe]) -> None:
        for seen in lives.values():
            answers = zip(self.samples, seen.answers, strict=True)
            failed = [f"{name}: {answer}" for name, answer in answers if answer.get("isError", True)]
            assert not failed, "\n".join(failed)

    def test_it_says_nothing_where_nothing_is_wrong(self, lives: Mapping[str, Probe]) -> None:
        for seen in lives.values():
            assert not seen.stderr, "\n".join(seen.stderr)

    def test_another_process_lists_the_same_tools(self, lives: Mapping[str, Probe]) -> None:
        listings = [[json.dumps(tool, sort_keys=True) for tool in seen.tools] for seen in lives.values()]
        assert all(listing == listings[0] for listing in listings)

    def test_it_starts_before_a_host_gives_up(self, lives: Mapping[str, Probe]) -> None:
        spent = min(seen.cpu_seconds or 0.0 for seen in lives.values())
        assert spent <= self.cold_start_cpu_seconds

    def test_nothing_is_waited_for_before_the_tools_are_listed(self, settings: Settings) -> None:
        """Building the service loads nothing heavy, sleeps nowhere, starts and contacts nobody."""
        service = type(self).service
        code = _BUILD.format(
            heavy=HEAVY, place=f"{service.__module__}:{service.__qualname__}", home=str(settings.home)
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**dict(self.launch(settings).environment), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout.rpartition("\n")[2])
        assert not seen, "; ".join(seen)

    def test_it_ends_when_its_input_ends(self, lives: Mapping[str, Probe]) -> None:
        assert [seen.exit_code for seen in lives.values()] == [0] * len(lives)

    def test_its_log_holds_no_secret(self, lives: Mapping[str, Probe]) -> None:
        for seen in lives.values():
            assert CANARY not in "\n".join(seen.stderr)
