"""What was written survives a loss of power, once this has returned.

A file and its name are two things to a disk: who makes a file syncs the folder as well.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["sync"]


def sync(path: Path | str) -> None:
    """Have the disk hold what this file holds, or the names of this folder; it must be there.

    Windows syncs nothing through a descriptor for reading, and no folder at all: there this does nothing.
    """
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
