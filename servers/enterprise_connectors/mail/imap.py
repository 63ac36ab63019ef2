"""One conversation with a mailbox: connect, say what is wanted, leave. Blocks.

Nothing an argument holds can become a command: words go as quoted strings without control characters, folders
are encoded as the protocol wants them, and ids are numbers.
"""

from __future__ import annotations

import base64
import contextlib
import imaplib
import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from usrland.errors import Conflict, Denied, InvalidInput, NotFound, Timeout, Unavailable

__all__ = ["Box", "ImapServer", "Place", "quoted"]

SECONDS = 15.0
MAX_MESSAGE_BYTES = 25 * 1024 * 1024
_LINE = re.compile(rb'\((?P<flags>[^)]*)\) (?:"(?:[^"\\]|\\.)*"|NIL) (?P<name>.+)\Z', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message is: the folder, the folder's generation, and its number there."""

    folder: str
    generation: int
    number: int

    @classmethod
    def parse(cls, id: str) -> Place:
        folder, _, rest = id.rpartition("/")
        generation, _, number = rest.partition(".")
        if not folder or not (generation.isdecimal() and number.isdecimal()):
            raise InvalidInput("id: not one of ours.", fix="Take it from search.")
        return cls(folder, int(generation), int(number))

    def __str__(self) -> str:
        return f"{self.folder}/{self.generation}.{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImapServer:
    """Where mail is kept."""

    host: str
    port: int
    implicit_tls: bool
    plain: bool
    username: str
    password: str = field(repr=False)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Box]:
        """A conversation; failures as errors of ours."""
        begun = False
        try:
            client = self._client()
            try:
                client.login(self.username, self.password)
            except imaplib.IMAP4.error as error:
                client.shutdown()
                raise Denied(
                    "the mail server refuses the credentials.", fix="The operator has to check them."
                ) from error
            begun = True
            try:
                yield Box(client)
            finally:
                with contextlib.suppress(OSError, imaplib.IMAP4.error):
                    client.logout()
        except TimeoutError as error:
            raise Timeout("the mail server did not answer in time.") from error
        except imaplib.IMAP4.abort as error:
            raise Unavailable("the connection to the mail server broke.") from error
        except imaplib.IMAP4.error as error:
            raise InvalidInput(f"the mail server says: {str(error)[:200]}.") from error
        except OSError as error:
            raise Unavailable("the mail server cannot be connected to.", unsent=not begun) from error

    def _client(self) -> imaplib.IMAP4:
        context = ssl.create_default_context()
        if self.implicit_tls:
            return imaplib.IMAP4_SSL(self.host, self.port, ssl_context=context, timeout=SECONDS)
        client = imaplib.IMAP4(self.host, self.port, timeout=SECONDS)
        if not self.plain:
            client.starttls(context)
        return client


class Box:
    """An open mailbox."""

    def __init__(self, client: imaplib.IMAP4) -> None:
        self._client = client
        self._generation = 0

    def folders(self) -> list[str]:
        """Every folder that can hold messages."""
        found = []
        for line in self._asked(self._client.list()):
            match = _LINE.search(line) if isinstance(line, bytes) else None
            if match and b"\\noselect" not in match["flags"].lower():
                found.append(_decoded(_unquoted(match["name"])))
        return found

    def counted(self, folder: str) -> tuple[int, int]:
        """Messages, and those not seen."""
        (line,) = self._asked(self._client.status(_name(folder), "(MESSAGES UNSEEN)"))
        numbers = {
            key: int(value)
            for key, value in re.findall(r"(MESSAGES|UNSEEN) (\d+)", line.decode("ascii", "replace"))
        }
        return numbers.get("MESSAGES", 0), numbers.get("UNSEEN", 0)

    def enter(self, folder: str, *, generation: int | None = None, change: bool = False) -> int:
        """Select a folder; its generation. Raises `Conflict` where it is not the one that was meant."""
        kind, _ = self._client.select(_name(folder), readonly=not change)
        if kind != "OK":
            raise NotFound(f"there is no folder {folder!r}.", fix="The operation folders lists them.")
        (_, values) = self._client.response("UIDVALIDITY")
        self._generation = int(values[0]) if values and values[0] else 0
        if generation is not None and generation != self._generation:
            raise Conflict("the folder was made anew since these ids were given.", fix="Search again.")
        return self._generation

    def search(self, criteria: Sequence[str | bytes]) -> list[int]:
        """Numbers in the folder, newest first."""
        plain = all(isinstance(each, str) or each.isascii() for each in criteria)
        charset = () if plain else ("CHARSET", "UTF-8")
        found = self._asked(self._client.uid("SEARCH", *charset, *(criteria or ("ALL",))))  # type: ignore[arg-type]  # bytes go as they are
        return sorted({int(number) for line in found if line for number in line.split()}, reverse=True)

    def headers(self, numbers: Sequence[int]) -> dict[int, tuple[list[str], int, bytes]]:
        """Flags, size and the header lines that a list shows, by number."""
        wanted = "(UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE)])"
        return {number: (flags, size, content) for number, flags, size, content in self._fetched(numbers, wanted)}

    def message(self, number: int) -> bytes:
        """A whole message, without marking it as seen."""
        sizes = [size for _, _, size, _ in self._fetched([number], "(UID FLAGS RFC822.SIZE)")]
        if not sizes:
            raise NotFound("there is no such message any more.", fix="Search again: it may have been moved.")
        if sizes[0] > MAX_MESSAGE_BYTES:
            raise InvalidInput(f"the message has {sizes[0]} bytes; at most {MAX_MESSAGE_BYTES} are read.")
        (content,) = [content for _, _, _, content in self._fetched([number], "(UID BODY.PEEK[])")]
        return content

    def flags(self, numbers: Sequence[int]) -> dict[int, list[str]]:
        return {number: flags for number, flags, _, _ in self._fetched(numbers, "(UID FLAGS)")}

    def mark(self, numbers: Sequence[int], sign: str, flags: Sequence[str]) -> None:
        """Add (`+`) or remove (`-`) flags."""
        self._asked(self._client.uid("STORE", _set(numbers), f"{sign}FLAGS.SILENT", f"({' '.join(flags)})"))

    def move(self, numbers: Sequence[int], target: str) -> tuple[int, list[int]] | None:
        """Move; the target's generation and the numbers there, in order, where the server tells them."""
        capabilities = self._client.capabilities if isinstance(self._client.capabilities, tuple) else ()
        (_, said) = self._client.capability()
        known = {*capabilities, *(said[0].decode().upper().split() if said and said[0] else ())}
        verb = "MOVE" if "MOVE" in known else "COPY"
        if verb == "COPY" and "UIDPLUS" not in known:
            raise InvalidInput("this mail server cannot move messages safely.")
        kind, _ = self._client.uid(verb, _set(numbers), _name(target))
        if kind != "OK":
            raise NotFound(f"there is no folder {target!r}.", fix="The operation folders lists them.")
        if verb == "COPY":
            self._asked(self._client.uid("STORE", _set(numbers), "+FLAGS.SILENT", "(\\Deleted)"))
            self._asked(self._client.uid("EXPUNGE", _set(numbers)))
        (_, codes) = self._client.response("COPYUID")
        return _copied(codes[-1]) if codes and codes[-1] else None

    def _fetched(self, numbers: Sequence[int], wanted: str) -> Iterator[tuple[int, list[str], int, bytes]]:
        if not numbers:
            return
        for part in self._asked(self._client.uid("FETCH", _set(numbers), wanted)):
            head, content = part if isinstance(part, tuple) else (part, b"")
            if not isinstance(head, bytes) or not (uid := re.search(rb"\bUID (\d+)", head)):
                continue
            flags = re.search(rb"FLAGS \(([^)]*)\)", head)
            size = re.search(rb"RFC822\.SIZE (\d+)", head)
            yield (
                int(uid[1]),
                flags[1].decode("ascii", "replace").split() if flags else [],
                int(size[1]) if size else 0,
                content,
            )

    def _asked(self, answer: tuple[str, list[Any]]) -> list[Any]:
        kind, lines = answer
        if kind != "OK":
            said = lines[0].decode(errors="replace") if lines and isinstance(lines[0], bytes) else ""
            raise InvalidInput(f"the mail server says: {said[:200]}.")
        return [line for line in lines if line is not None]


def quoted(text: str) -> bytes:
    """A string that is nothing but a string."""
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise InvalidInput("words to search for have no control characters.")
    return b'"' + text.encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _set(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _copied(code: bytes) -> tuple[int, list[int]]:
    generation, _, targets = code.decode("ascii").split()
    numbers: list[int] = []
    for part in targets.split(","):
        first, _, last = part.partition(":")
        numbers += range(int(first), int(last or first) + 1)
    return int(generation), numbers


def _name(folder: str) -> str:
    """A folder's name as a quoted string in the protocol's own kind of UTF-7 (RFC 3501, 5.1.3)."""
    if re.search(r"[\x00-\x1f\x7f*%]", folder):
        raise InvalidInput("a folder's name has no control characters and no wildcards.")
    parts = []
    for plain, other in re.findall(r"([\x20-\x7e]+)|([^\x20-\x7e]+)", folder):
        if other:
            coded = base64.b64encode(other.encode("utf-16-be")).decode().rstrip("=").replace("/", ",")
            parts.append(f"&{coded}-")
        else:
            parts.append(plain.replace("&", "&-"))
    name = "".join(parts).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}"'


def _unquoted(name: bytes) -> str:
    text = name.decode("ascii", "replace").strip()
    if text.startswith('"') and text.endswith('"') and len(text) > 1:
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _decoded(name: str) -> str:
    def plain(match: re.Match[str]) -> str:
        coded = match[1].replace(",", "/")
        return base64.b64decode(coded + "=" * (-len(coded) % 4)).decode("utf-16-be", "replace") if coded else "&"

    return re.sub(r"&([A-Za-z0-9+,]*)-", plain, name)
