"""An installation to try the command on: a real virtual environment, with servers planted into it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A person's computer, small: an interpreter, a home, and a folder to stand in."""

    python: Path
    packages: Path
    user: Path
    project: Path

    @property
    def home(self) -> Path:
        return self.user / ".usrland"

    @property
    def desktop_file(self) -> Path:
        return self.user / ".config" / "Claude" / "claude_desktop_config.json"

    def run(self, *arguments: str | Path, exit_code: int = 0, text: str | None = None) -> str:
        """Run the command; what it said on both streams."""
        done = subprocess.run(
            [self.python, "-m", "usrland.cli", *arguments],
            cwd=self.project,
            env={"HOME": str(self.user), "PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "error", **counted()},
            input=text,
            capture_output=True,
            text=True,
            timeout=100,
        )
        said = done.stdout + done.stderr
        assert done.returncode == exit_code, said
        return said

    def run_json(self, *arguments: str | Path, exit_code: int = 0) -> Any:
        return json.loads(self.run(*arguments, exit_code=exit_code))

    def plant(self, package: str, files: Mapping[str, str], entry_points: str) -> None:
        """Install a distribution without pip: its package and its entry points."""
        for name, text in {"__init__.py": "", **files}.items():
            file = self.packages / package / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        info = self.packages / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")

    def plant_server(self, name: str, main: str) -> None:
        """A server whose `__main__` is given. Its service is the example's."""
        package = name.replace("-", "_")
        self.plant(
            package,
            {"__main__.py": main, "server.py": "from example_connector.server import service\n"},
            f"[usrland.servers]\n{name} = {package}.server:service\n",
        )


def counted() -> dict[str, str]:
    """What tells a process that its lines are counted, where they are."""
    return {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_PROCESS_")}


COUNTING = (
    "import os; any(name.startswith('COVERAGE_PROCESS_') for name in os.environ)"
    " and __import__('coverage').process_startup()"
)
"""A line of a `.pth` file: coverage's own lies in the outer environment, where this interpreter does not look."""


def install(folder: Path) -> Installation:
    """Make one in this folder."""
    environment, user, project = folder / "environment", folder / "user", folder / "project"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=100)
    (packages,) = environment.glob("lib/python*/site-packages")
    outer = [path for path in sys.path if path]
    (packages / "outer.pth").write_text("\n".join([*outer, COUNTING]), encoding="utf-8")
    user.mkdir()
    project.mkdir()
    return Installation(python=environment / "bin" / "python", packages=packages, user=user, project=project)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """One for this test alone."""
    return install(tmp_path)


@pytest.fixture(scope="module")
def shared_installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """One for a module whose tests only look at it."""
    return install(tmp_path_factory.mktemp("installation"))
