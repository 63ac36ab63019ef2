"""The parser's own process: a document on standard input, its text as JSON on standard output.

Started by `documents`, `archives` and `symbols` and by nothing else. It limits itself before it imports a parser,
opens no file of the user's, and is killed from outside when it takes too long. What is packed is looked over
before it is unpacked (`containers`).
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from typing import Any

MEMORY_BYTES = 3 << 30
CPU_SECONDS = 120
FILE_BYTES = 32 << 20
"""For the library that the parser unpacks into the temporary folder."""
GRAMMAR_BYTES = 1 << 30
GRAMMAR_SECONDS = 5
"""Of the processor, for one file; 2 MB of ordinary source take a fifth of one."""
IDLE_SECONDS = 30.0
"""How long the grammars wait for another file."""
ARCHIVE, SYMBOLS = "archive", "symbols"
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


def main() -> None:
    what, *arguments = sys.argv[1:]
    if what == SYMBOLS:  # for many files, each with its time, which is kept outside
        _limit(GRAMMAR_BYTES)
        _leave_the_network()
        from filesystem_retrieval.grammars import answer

        answer(sys.stdin.buffer, sys.stdout.buffer, IDLE_SECONDS, lambda: _limit_time(GRAMMAR_SECONDS))
        return
    _limit(MEMORY_BYTES)
    _limit_time(CPU_SECONDS)
    _leave_the_network()
    if what == ARCHIVE:
        from filesystem_retrieval.containers import answer_about

        answer_about(arguments[0], sys.stdin.buffer, sys.stdout.buffer)
        return
    sys.stdout.buffer.write(json.dumps(_extracted(what, sys.stdin.buffer.read())).encode())


def _extracted(mime_type: str, content: bytes) -> dict[str, Any]:
    """The parts of a document, each with its number, its text, and, of a sheet, its name."""
    from filesystem_retrieval.containers import Refused, look_over

    try:
        if content.startswith(b"PK"):
            look_over(io.BytesIO(content))
        if "spreadsheet" in mime_type or "ms-excel" in mime_type:
            from filesystem_retrieval.workbooks import sheets

            return {"pages": [[number, text, name] for number, (name, text) in enumerate(sheets(content), 1)]}
        if mime_type.endswith("presentationml.presentation"):
            from filesystem_retrieval.slides import slides

            return {"pages": [[number, text, None] for number, text in enumerate(slides(content), 1)]}
    except Refused as error:
        return {"problem": str(error)}
    return _by_library(mime_type, content)


def _by_library(mime_type: str, content: bytes) -> dict[str, Any]:
    from kreuzberg import ExtractionConfig, KreuzbergError, PageConfig, extract_bytes_sync

    config = ExtractionConfig(  # type: ignore[call-arg]  # its stub lacks disable_ocr
        pages=PageConfig(extract_pages=True), disable_ocr=True, use_cache=False, output_format="markdown"
    )
    try:
        result = extract_bytes_sync(content, mime_type, config=config)
    except KreuzbergError as error:
        return {"problem": f"its parser refused it: {type(error).__name__}"}
    pages = result.pages if mime_type == "application/pdf" else None
    if not pages:
        return {"pages": [[0, result.content, None]]}
    return {"pages": [[page["page_number"], page["content"], None] for page in pages]}


def _limit(memory_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows, where only the time is limited, from outside
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)


def _limit_time(cpu_seconds: int) -> None:
    """From now on, so many seconds of the processor; then the system ends this process."""
    try:
        import resource
    except ImportError:
        return
    used = int(time.process_time()) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used + cpu_seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _leave_the_network() -> None:
    """Into a network of its own with nothing in it, where the system lets us (Linux)."""
    if sys.platform != "linux":
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:  # only for root; others need a user namespace for it
        libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)


if __name__ == "__main__":
    main()
