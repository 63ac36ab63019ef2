"""Signed checkpoints: what to keep where the log's owner cannot write.

A checkpoint says how many entries a log has and what the root of their tree is. It travels as a signed note
(C2SP `tlog-checkpoint` and `signed-note`, Ed25519), so that witnesses and auditors need no tool of ours. The key
is made with the usrland home; whoever holds home and database can write a new past and sign it, but cannot make
it agree with a checkpoint that was kept elsewhere before.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usrland.errors import InvalidInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["Checkpoint", "Signer", "VerifyingKey", "opened"]

_ED25519 = b"\x01"
_NOTE = re.compile(r"(?P<body>(?:[^\n]+\n){3,})\n(?P<signatures>(?:— [^\n]+\n)+)")
_NOT_ONE = InvalidInput("this is not a checkpoint of an audit log.", fix="Export one with: usrland audit head.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state of one log at one time."""

    origin: str
    """Which log: `usrland/<key>/<server>`."""
    size: int
    root: bytes

    @property
    def chain(self) -> str:
        return self.origin.rpartition("/")[2]

    def body(self) -> str:
        return f"{self.origin}\n{self.size}\n{_text(self.root)}\n"


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """The public half, as it is written down: `<name>+<id>+<key>` (C2SP `signed-note`)."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_text(_ED25519 + self.public)}"

    @classmethod
    def parse(cls, text: str) -> VerifyingKey:
        """Raises `InvalidInput`."""
        name, _, rest = text.strip().partition("+")
        identity, _, encoded = rest.partition("+")
        key = cls(name, _bytes(encoded)[1:])
        if len(key.public) != 32 or key.id.hex() != identity:
            raise InvalidInput("this is not a key of an audit log.", fix="Print it with: usrland audit key.")
        return key

    def has_signed(self, body: str, signature: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, body.encode())
        except InvalidSignature:
            return False
        return True


class Signer:
    """The private half, made from the 32 bytes that belong to a usrland home."""

    def __init__(self, seed: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key: Ed25519PrivateKey = Ed25519PrivateKey.from_private_bytes(seed)
        public = self._key.public_key().public_bytes_raw()
        self.key = VerifyingKey(f"usrland/{hashlib.sha256(public).hexdigest()[:8]}", public)

    def note(self, chain: str, size: int, root: bytes) -> str:
        """The signed checkpoint of that log of this home."""
        body = Checkpoint(origin=f"{self.key.name}/{chain}", size=size, root=root).body()
        return f"{body}\n— {self.key.name} {_text(self.key.id + self._key.sign(body.encode()))}\n"


def opened(text: str, keys: Sequence[VerifyingKey]) -> list[Checkpoint]:
    """The checkpoints in `text`, one note after another, each signed by one of `keys`.

    Raises `InvalidInput` where anything else stands there, or a signature is missing or wrong.
    """
    found: list[Checkpoint] = []
    end = 0
    for note in _NOTE.finditer(text):
        if text[end : note.start()].strip():
            raise _NOT_ONE
        end = note.end()
        if not _signed(note["body"], note["signatures"].splitlines(), keys):
            raise InvalidInput(
                f"the checkpoint of {note['body'].splitlines()[0]!r} is not signed by a key that is known here.",
                fix="Give the key of the home it came from with --key FILE (usrland audit key prints it).",
            )
        origin, size, root = note["body"].splitlines()[:3]
        if not size.isdecimal():
            raise _NOT_ONE
        found.append(Checkpoint(origin=origin, size=int(size), root=_bytes(root)))
    if text[end:].strip():
        raise _NOT_ONE
    return found


def _signed(body: str, signatures: Iterable[str], keys: Sequence[VerifyingKey]) -> bool:
    for line in signatures:
        name, _, encoded = line.removeprefix("— ").rpartition(" ")
        signature = _bytes(encoded)
        for key in keys:
            if (key.name, key.id) == (name, signature[:4]) and key.has_signed(body, signature[4:]):
                return True
    return False


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _NOT_ONE from None
