"""A real authorization server (npm `oidc-provider`), where Node.js and the npm registry are at hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Missing", "authorization_server"]

HERE = Path(__file__).parent.parent / "trust" / "authorization_server"
INSTALL_SECONDS = 300


class Missing(Exception):
    """It cannot be run here; the text is the reason."""


def _installed() -> Path:
    """Its folder with everything it needs, outside the repository; kept from one run to the next."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Missing("Node.js is not installed here")
    given = os.environ.get("USRLAND_HOSTS_CACHE")
    folder = (Path(given) if given else Path.home() / ".cache" / "usrland-hosts") / "authorization-server"
    folder.mkdir(parents=True, exist_ok=True)
    changed = False
    for name in ("package.json", "server.mjs"):
        content = (HERE / name).read_bytes()
        if not (folder / name).exists() or (folder / name).read_bytes() != content:
            changed |= name == "package.json"
            (folder / name).write_bytes(content)
    if changed or not (folder / "node_modules" / "oidc-provider").is_dir():
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=INSTALL_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            (folder / "package.json").unlink()
            raise Missing("the npm registry cannot be reached") from error
    return folder


@contextmanager
def authorization_server(
    *, scopes: Sequence[str], resources: Sequence[str], redirect: str, idp: dict[str, Any]
) -> Iterator[str]:
    """It listens on loopback until the block is left; its issuer. Raises `Missing`."""
    asked = {"scopes": scopes, "resources": resources, "redirect": redirect, "idp": idp}
    with subprocess.Popen(
        ["node", "server.mjs", json.dumps(asked)],
        cwd=_installed(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield str(json.loads(process.stdout.readline())["issuer"])
        finally:
            process.kill()
