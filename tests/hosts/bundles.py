"""Each bundle, as a person gets it: validated, packed, unpacked, resolved and launched by the official tools.

    python tests/hosts/bundles.py

The wheel is built from this tree and handed to `uv`, which installs it and what it needs from the registry as it
would after a release. Ends with 1 where a bundle does not start, or has other tools than its manifest names.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kit import Kit, Missing

from usrland.probe import Launch, probe

ROOT = Path(__file__).parents[2]
PACKAGE, VERSION = "@anthropic-ai/mcpb", "2.1.2"
UV = "uv==0.13.*"
SECONDS = 600


def started(folder: Path, kit: Kit, wheels: Path, scratch: Path) -> str:
    """What was seen of one bundle; raises `AssertionError` with what is wrong."""
    mcpb = [str(kit.node), *kit.host(PACKAGE, VERSION, "mcpb")]
    packed, unpacked = scratch / "it.mcpb", scratch / "unpacked"
    _run([*mcpb, "validate", str(folder / "manifest.json")])
    _run([*mcpb, "pack", str(folder), str(packed)])
    _run([*mcpb, "unpack", str(packed), str(unpacked)])
    manifest = json.loads((unpacked / "manifest.json").read_text(encoding="utf-8"))
    chosen = scratch / 'a folder, it\'s "chosen"'
    chosen.mkdir()
    answers = {name: str(chosen) for name in manifest["user_config"]}
    resolver = kit.host_driver(PACKAGE, VERSION, "bundle.mjs")
    config: dict[str, Any] = json.loads(_run([*resolver, str(unpacked), json.dumps(answers)]))
    uv = Path(kit.library("uv", UV)[0]).parent
    environment = {
        "HOME": str(scratch),
        "PATH": f"{uv}:/usr/bin:/bin",
        "UV_FIND_LINKS": str(wheels),
        "UV_PYTHON": sys.executable,
        "UV_SYSTEM_CERTS": "1",  # a company may have its own
        "UV_CACHE_DIR": str(kit.cache / "uv"),
        **config.get("env", {}),
    }
    launch = Launch(command=str(uv / config["command"]), arguments=tuple(config["args"]), environment=environment)
    begun = time.monotonic()
    seen = probe(launch, timeout_seconds=SECONDS)
    first = time.monotonic() - begun
    again = probe(launch, timeout_seconds=SECONDS)
    assert not seen.failure, [seen.failure, *seen.stderr]
    assert not seen.noise, seen.noise
    assert (seen.server, seen.version) == (manifest["name"], manifest["version"]), (seen.server, seen.version)
    named = [tool["name"] for tool in manifest["tools"]]
    assert [tool["name"] for tool in seen.tools] == named, named
    size = packed.stat().st_size
    return f"{size} bytes, {len(named)} tools, first start {first:.0f} s, then {again.wall_seconds or 0:.1f} s"


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{' '.join(command[:3])}: {done.stdout}{done.stderr}"
    return done.stdout


def main() -> int:
    kit = Kit.here()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="usrland-bundles-", ignore_cleanup_errors=True) as name:
        wheels = Path(name) / "wheels"
        _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(ROOT)])
        for folder in sorted(ROOT.glob("manifests/*/bundle")):
            scratch = Path(name) / folder.parent.name
            scratch.mkdir()
            try:
                said = started(folder, kit, wheels, scratch)
            except Missing as reason:
                said = f"n-a: {reason}"
            except AssertionError as reason:
                wrong, said = wrong + 1, f"failed: {reason}"
            sys.stdout.write(f"{folder.parent.name}: {said}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
