"""The parser's own process: a document on standard input, its text as JSON on standard output.

Started by `documents` and by nothing else. It limits itself before it imports the parser, opens no file of the
user's, and is killed from outside when it takes too long.
"""

from __future__ import annotations

import json
import sys

MEMORY_BYTES = 3 << 30
CPU_SECONDS = 120
FILE_BYTES = 32 << 20
"""For the library that the parser unpacks into the temporary folder."""
PAGED = ("application/pdf", "application/vnd.openxmlformats-officedocument.presentationml.presentation")


def main() -> None:
    mime_type = sys.argv[1]
    _limit()
    from kreuzberg import ExtractionConfig, KreuzbergError, PageConfig, extract_bytes_sync

    config = ExtractionConfig(  # type: ignore[call-arg]  # its stub lacks disable_ocr
        pages=PageConfig(extract_pages=True), disable_ocr=True, use_cache=False, output_format="markdown"
    )
    try:
        result = extract_bytes_sync(sys.stdin.buffer.read(), mime_type, config=config)
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


if __name__ == "__main__":
    main()
