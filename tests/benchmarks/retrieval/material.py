"""Folders to measure on, made from what is installed on this machine.

`mixed` copies real files: source code, documentation and data of the interpreter, its packages and the system.
`passages` writes varied text: real sentences, shuffled, so that words are as common and as rare as in text.
"""

from __future__ import annotations

import hashlib
import random
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["mixed", "passages", "questions", "sentences"]

SOURCES = (
    Path(sysconfig.get_paths()["stdlib"]),
    Path("/usr/share/doc"),
    Path("/usr/share/perl"),
    Path("/usr/include"),
)
CODE = {".py", ".pyi", ".js", ".ts", ".c", ".h", ".sh", ".pm", ".css"}
TEXT = {"", ".md", ".rst", ".txt", ".html", ".pdf", ".docx", ".pptx", ".ipynb"}
DATA = {".json", ".toml", ".yaml", ".cfg", ".xml", ".csv", ".xlsx"}
SUFFIXES = CODE | TEXT | DATA
MAX_BYTES = 30_000
PER_PASSAGE = 700


def _files() -> Iterator[Path]:
    """In an order that depends on names and on nothing else."""
    site = [Path(path) for path in sys.path if path.endswith("site-packages")]
    for source in (*SOURCES, *site):
        for path in sorted(source.rglob("*")):
            if path.suffix in SUFFIXES and path.is_file() and not path.is_symlink():
                yield path


def mixed(folder: Path, count: int) -> int:
    """Copy so many files of many kinds into 200 folders; their bytes in all."""
    chosen: dict[str, list[Path]] = {}
    for path in _files():
        if 0 < path.stat().st_size <= MAX_BYTES:
            chosen.setdefault(path.suffix, []).append(path)
    order = random.Random(3)
    for paths in chosen.values():
        order.shuffle(paths)
    # in turn from every kind, so that the many Python files leave room for the others
    picked: list[Path] = []
    while len(picked) < count and any(chosen.values()):
        for paths in chosen.values():
            picked += [paths.pop() for _ in range(min(len(paths), 1 + len(paths) // 400))]
    size = 0
    for number, path in enumerate(picked[:count]):
        target = folder / f"part{number % 200:03}" / f"{number}-{path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        size += path.stat().st_size
    return size


def sentences(most: int = 60_000) -> list[str]:
    """Sentences of documentation strings and text files."""
    found: dict[str, None] = {}
    for path in _files():
        if path.suffix not in (".py", ".md", ".rst", ".txt", ".pm") or path.stat().st_size > 400_000:
            continue
        for sentence in re.findall(
            r"[A-Z][^.!?\n]{40,200}[.!?]", path.read_text(encoding="utf-8", errors="replace")
        ):
            found[sentence] = None
        if len(found) >= most:
            break
    return list(found)


def passages(folder: Path, count: int, pool: list[str], per_file: int = 20) -> list[str]:
    """Write so many passages of about 700 characters into files of twenty; returns them."""
    order = random.Random(5)
    made = []
    for number in range(0, count, per_file):
        texts = []
        for _ in range(min(per_file, count - number)):
            text = ""
            while len(text) < PER_PASSAGE - 100:
                text += order.choice(pool) + " "
            texts.append(text.strip()[:PER_PASSAGE])
        target = folder / f"{number // per_file // 500:04}" / f"{number // per_file}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("\n\n\n".join(texts), encoding="utf-8")
        made += texts
    return made


def questions(pool: list[str], count: int) -> list[str]:
    """Questions as people type them: a few words out of one sentence."""
    order = random.Random(11)
    made = []
    while len(made) < count:
        words = re.findall(r"[A-Za-z]{3,}", order.choice(pool))
        if len(words) > 8:
            start = order.randrange(len(words) - 6)
            made.append(" ".join(words[start : start + order.randint(3, 8)]))
    return made


def cheap_vector(text: str, dimensions: int) -> list[float]:
    """A vector that costs little and lies near those of texts with the same words."""
    total = [0.0] * dimensions
    for word in set(text.lower().split()):
        for place, sign in _places(word, dimensions):
            total[place] += sign
    norm = sum(value * value for value in total) ** 0.5 or 1.0
    return [value / norm for value in total]


@cache
def _places(word: str, dimensions: int) -> list[tuple[int, float]]:
    digest = hashlib.blake2b(word.encode(), digest_size=16).digest()
    return [
        ((digest[at] * 256 + digest[at + 1]) % dimensions, 1.0 if digest[at] & 1 else -1.0)
        for at in range(0, 16, 2)
    ]
