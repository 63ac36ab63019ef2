"""The parser's own process: a document on standard input, its text as JSON on standard output.

Started by `documents` and by nothing else. It limits itself before it imports the parser, opens no file of the
user's, and is killed from outside when it takes too long.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile

MEMORY_BYTES = 3 << 30
CPU_SECONDS = 120
FILE_BYTES = 32 << 20
"""For the library that the parser unpacks into the temporary folder."""
MAX_UNPACKED_BYTES = 256 << 20
MAX_RATIO = 100
"""Unpacked to packed, of archives that unpack to more than `FREE_BYTES`."""
FREE_BYTES = 16 << 20
MAX_MEMBERS = 10_000
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PAGED = ("application/pdf", "application/vnd.openxmlformats-officedocument.presentationml.presentation")


def main() -> None:
    mime_type = sys.argv[1]
    _limit()
    _leave_the_network()
    content = sys.stdin.buffer.read()
    if problem := _bomb(content):
        sys.stdout.buffer.write(json.dumps({"problem": problem}).encode())
        return
    from kreuzberg import ExtractionConfig, KreuzbergError, PageConfig, extract_bytes_sync

    config = ExtractionConfig(  # type: ignore[call-arg]  # its stub lacks disable_ocr
        pages=PageConfig(extract_pages=True), disable_ocr=True, use_cache=False, output_format="markdown"
    )
    try:
        result = extract_bytes_sync(content, mime_type, config=config)
    except KreuzbergError as error:
        answer: dict[str, object] = {"problem": type(error).__name__}
    else:
        pages = result.pages if mime_type in PAGED else None
        answer = {"pages": [[page["page_number"], page["content"]] for page in pages or ()]}
        if not pages:
            answer = {"pages": [[0, result.content]]}
    sys.stdout.buffer.write(json.dumps(answer).encode())


def _limit() -> None:
    try:
        import resource
    except ImportError:  # Windows, where only the time is limited, from outside
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _leave_the_network() -> None:
    """Into a network of its own with nothing in it, where the system lets us (Linux)."""
    if sys.platform != "linux":
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:  # only for root; others need a user namespace for it
        libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)


def _bomb(content: bytes) -> str:
    """Why an archive is not unpacked, judged by what its directory says; empty where it may be, or is none."""
    if not content.startswith(b"PK"):
        return ""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return ""  # the parser will say what is wrong with it
    unpacked = sum(member.file_size for member in members)
    if len(members) > MAX_MEMBERS:
        return f"{len(members)} files in it"
    if unpacked > MAX_UNPACKED_BYTES or (unpacked > FREE_BYTES and unpacked > MAX_RATIO * len(content)):
        return f"{len(content)} bytes that unpack to {unpacked}"
    return ""


if __name__ == "__main__":
    main()
