"""Documents and lines that are not quite what they say they are: mutations of whole ones."""

from __future__ import annotations

import io
import zipfile
import zlib
from contextlib import suppress
from random import Random

__all__ = ["wrecked"]

EXTREMES = (
    b"\x00",
    b"\xff",
    b"\x00\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"-1",
    b"99999999999999999999",
)
MARKS = (
    b"<",
    b">",
    b"&",
    b'"',
    b"]]>",
    b"<!DOCTYPE x [",
    b"&#0;",
    b"{",
    b"}",
    b"[",
    b"\\u0000",
    b"\xed\xa0\x80",
    b"\r",
)
MOST_BYTES = 4 << 20


def wrecked(random: Random, content: bytes) -> bytes:
    """The same with a few things wrong; of an archive, mostly inside one of its members."""
    if content[:2] == b"PK" and random.random() < 0.8:
        with suppress(zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, RuntimeError, ValueError):
            return _member(random, content)
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        _change(random, changed)
    return bytes(changed[:MOST_BYTES])


def _change(random: Random, content: bytearray) -> None:
    at = random.randrange(len(content) + 1)
    to = min(len(content), at + random.choice((1, 4, 64, 1024)))
    match random.randrange(7):
        case 0 if content:
            content[at % len(content)] ^= 1 << random.randrange(8)
        case 1:
            content[at:at] = random.choice(EXTREMES)
        case 2:
            content[at : at + 4] = random.choice(EXTREMES)
        case 3:
            del content[at:to]
        case 4:
            content[at:at] = bytes(content[at:to]) * random.choice((1, 2, 50))
        case 5:
            content[at:at] = random.choice(MARKS) * random.choice((1, 1, 3000))
        case _ if random.random() < 0.2:
            del content[at:]


def _member(random: Random, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w") as target:
        names = source.namelist()
        chosen = random.choice(names)
        for name in names:
            text = source.read(name)
            if name == chosen:
                changed = bytearray(text)
                for _ in range(random.choice((1, 1, 2, 4, 16))):
                    _change(random, changed)
                text = bytes(changed[:MOST_BYTES])
            target.writestr(name, text, random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    return buffer.getvalue()
