"""PDF, DOCX and other documents → text, in a process that may be killed.

Parsers of such formats are large and their input is hostile, so each document gets a process with limits on
memory, processor time and wall time, no environment, no network where the system can take it away (Linux), and
the bytes on standard input: it is never told a path. What would unpack to far more than it is, is not unpacked.

The parser unpacks its PDF library into a folder of a fixed name below the temporary folder and loads it from
there. Each process is given a temporary folder of its own, so that nobody else can have put a library there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import PurePosixPath

import anyio

from filesystem_retrieval.reading import Page, Text

__all__ = ["Unreadable", "extract"]

WALL_SECONDS = 120.0
MAX_TEXT_BYTES = 64 << 20

_OFFICE = "application/vnd.openxmlformats-officedocument"
_MIME_TYPES = {
    ".pdf": "application/pdf",
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
    ".xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".rtf": "application/rtf",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".epub": "application/epub+zip",
    ".eml": "message/rfc822",
    ".ipynb": "application/x-ipynb+json",
    ".xls": "application/vnd.ms-excel",
    ".xlsb": "application/vnd.ms-excel.sheet.binary",
}


class Unreadable(Exception):
    """Raised when a document's parser gives it up; says why, in words for `fs_status`."""


async def extract(path: str, content: bytes) -> Text:
    """The text of a document; the name decides which parser. Cancelling kills the parser."""
    mime_type = _MIME_TYPES[PurePosixPath(path).suffix.lower()]
    command = [sys.executable, "-I", "-m", "filesystem_retrieval.extract", mime_type]
    async with anyio.TemporaryDirectory(prefix="usrland-parser-", ignore_cleanup_errors=True) as folder:
        try:
            with anyio.fail_after(WALL_SECONDS):
                done = await anyio.run_process(
                    command,
                    input=content,
                    stderr=subprocess.DEVNULL,
                    check=False,
                    env={"TMPDIR": folder},
                    cwd=folder,
                )
        except TimeoutError:
            raise Unreadable(f"its parser took longer than {WALL_SECONDS:.0f} seconds") from None
    if done.returncode != 0 or len(done.stdout) > MAX_TEXT_BYTES:
        raise Unreadable("its parser ran out of memory or time, or crashed")
    answer = json.loads(done.stdout)
    if problem := answer.get("problem"):
        raise Unreadable(problem)
    return _joined(answer["pages"])


def _joined(pages: list[tuple[int, str, str | None]]) -> Text:
    lines: list[str] = []
    begins = []
    for number, content, sheet in pages:
        if number:
            begins.append(Page(number=number, first_line=len(lines) + 1, sheet=sheet))
        lines += [*content.strip("\n").split("\n"), ""]
    return Text(text="\n".join(lines).rstrip("\n"), pages=begins)
