"""What must not get into a memory: credentials, by their shapes.

A memory is read by every kernel that comes after, copied into files and other stores: a secret in it is out. These
are the shapes that vendors document, and few ordinary texts have; a password in a sentence is not recognised.
"""

from __future__ import annotations

import re
from typing import Literal

from memory_snapshot.said import Said
from usrland import InvalidInput

__all__ = ["Policy", "SecretFound", "without_secrets"]

Policy = Literal["refuse", "redact", "keep"]

_SHAPES: tuple[tuple[str, str], ...] = (
    ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.|\n)*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
    ("an AWS access key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("a GitHub token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})"),
    ("a GitLab token", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("a Slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{20,}"),
    ("a Stripe key", r"\b[rs]k_live_[A-Za-z0-9]{20,}"),
    ("an API key", r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}"),
    ("a Google API key", r"\bAIza[A-Za-z0-9_-]{35}\b"),
    ("a bearer token", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    ("a password in a URL", r"(?<=://)[^\s/:@]+:[^\s/@]{3,}(?=@[\w.-]+)"),
)
_SECRET = re.compile("|".join(f"(?P<s{place}>{shape})" for place, (_, shape) in enumerate(_SHAPES)))


class SecretFound(InvalidInput):
    """Raised when a text holds what looks like a credential. `secret` is it; the message never holds it."""

    def __init__(self, shape: str, where: str, secret: str) -> None:
        super().__init__(
            f"{where} holds {shape}; nothing was stored.", fix="Say where the secret is kept, not what it is."
        )
        self.secret = secret


def without_secrets(said: Said, policy: Policy, where: str) -> Said:
    """The same, or with what looks like a credential blanked out. Raises `SecretFound` where that is refused."""
    if policy == "keep":
        return said
    parts = {name: getattr(said, name) for name in ("text", "key", "speaker", "uri", "span")}
    found = next(
        (match for part in (*parts.values(), *said.tags) if part and (match := _SECRET.search(part))), None
    )
    if found is None:
        return said
    if policy == "refuse":
        shape, _ = _SHAPES[int((found.lastgroup or "s0")[1:])]
        raise SecretFound(shape, where, found.group())
    return Said(
        text=_clean(said.text),
        key=said.key and _clean(said.key),
        tags=tuple(map(_clean, said.tags)),
        speaker=said.speaker and _clean(said.speaker),
        uri=said.uri and _clean(said.uri),
        span=said.span and _clean(said.span),
    )


def _clean(part: str) -> str:
    return _SECRET.sub("[redacted]", part)
