"""Secrets that must not get out, whatever carries them.

Whoever reads a secret from the configuration says so with `keep_secret`; everything that leaves the process
passes through `redact`: results, error texts, audit arguments, log lines. This knows values, not shapes: a
secret that nobody declared (one inside a customer's document, say) is content and goes through.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

__all__ = ["SecretFilter", "keep_secret", "redact"]

_MARK = "[redacted]"
_SHORTEST = 6
"""Characters. Shorter values would blank out ordinary words."""

# Process-wide on purpose: a secret is one wherever it turns up, in whichever server of `serve --all`.
_secrets: set[str] = set()


def keep_secret(value: str) -> None:
    """From now on this value never leaves the process."""
    if len(value) >= _SHORTEST:
        _secrets.add(value)


def redact(value: Any) -> Any:
    """The same JSON value with every declared secret replaced. Returns `value` itself where there is none."""
    if not _secrets:
        return value
    return _redact(value, sorted(_secrets, key=len, reverse=True))


def _redact(value: Any, secrets: list[str]) -> Any:
    match value:
        case str():
            for secret in secrets:
                if secret in value:
                    value = value.replace(secret, _MARK)
            return value
        case Mapping():
            return {_redact(key, secrets): _redact(item, secrets) for key, item in value.items()}
        case list() | tuple():
            return [_redact(item, secrets) for item in value]
        case _:
            return value


class SecretFilter(logging.Filter):
    """Puts every log record through `redact`, its traceback included."""

    def filter(self, record: logging.LogRecord) -> bool:
        if _secrets:
            record.msg, record.args = redact(record.getMessage()), ()
            if record.exc_info:
                record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return True
