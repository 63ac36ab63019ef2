"""The failures an operation may answer with, and nothing else.

* `UsrlandError`
    * `InvalidInput`: the caller can fix it and call again.
    * `Denied`: the caller has to ask a person for it.
        * `ConsentNeeded`: that person is the user, and a token waits for the answer.
    * `NotFound`: there is nothing to call again for. Also the answer where something exists that the
      caller may not see, so that the two cannot be told apart.
    * `Conflict`: somebody else was first, or the state has moved on; read again, then decide.
    * `Failed`: a system reports that the call failed, and may have done part of it; look before you repeat.
    * `QuotaExceeded`: the caller has used up its share; try again later.
    * `Unavailable`: a system behind us does not answer; try again later.
    * `Timeout`: the deadline passed; the work was stopped.

Choose by what the reader can do next. A message is one sentence of fact; `fix` is one sentence of what to
do. Both are read by a model and by a person: name things with `!r`, never a secret, a stack trace or a path
outside the roots. Any other exception is a bug: its trace goes to stderr and the caller reads only that
something went wrong inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "Conflict",
    "ConsentNeeded",
    "Denied",
    "Failed",
    "InvalidInput",
    "NotFound",
    "QuotaExceeded",
    "Timeout",
    "Unavailable",
    "UsrlandError",
]


class UsrlandError(Exception):
    """A failure that was foreseen: a stable `code`, a fact, and the way out."""

    code: ClassVar[str] = "error"
    default_fix: ClassVar[str] = ""

    def __init__(
        self,
        fact: str,
        *,
        fix: str = "",
        retry_after_seconds: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """`details`: the same fact in parts, as JSON values, for who goes on from it by program."""
        super().__init__(fact)
        self.fact = fact
        self.fix = fix or self.default_fix
        self.retry_after_seconds = retry_after_seconds
        self.details = dict(details or {})

    def __str__(self) -> str:
        text = f"[{self.code}] {self.fact}"
        return f"{text} {self.fix}" if self.fix else text


class InvalidInput(UsrlandError):
    """Raised when an argument is unknown, mistyped or makes no sense."""

    code = "invalid_input"
    default_fix = "Correct the call and try again."


class Denied(UsrlandError):
    """Raised when the caller is known but may not do this."""

    code = "denied"
    default_fix = "Ask the operator of this server for access."

    def __init__(self, fact: str, *, fix: str = "", missing_scopes: frozenset[str] = frozenset()) -> None:
        super().__init__(fact, fix=fix)
        self.missing_scopes = missing_scopes


class ConsentNeeded(Denied):
    """Raised when a person has to agree first and the host cannot ask; carries the token for the second step."""

    code = "consent_needed"

    def __init__(self, fact: str, *, token: str) -> None:
        super().__init__(
            fact,
            fix=f"Ask the user. Only if they agree, repeat the call with the argument confirm_token={token!r}.",
        )
        self.token = token


class NotFound(UsrlandError):
    """Raised when there is no such thing, or none that this caller may see."""

    code = "not_found"


class Conflict(UsrlandError):
    """Raised when the state is not what the caller expected; nothing was changed."""

    code = "conflict"
    default_fix = "Read the current state, then decide."


class Failed(UsrlandError):
    """Raised when a system answers that the call failed; whether it did part of it is not known."""

    code = "failed"
    default_fix = "It may have taken effect in part: look before you repeat it."


class QuotaExceeded(UsrlandError):
    """Raised when a principal has used up its share of something."""

    code = "quota_exceeded"
    default_fix = "Wait, then try again."


class Unavailable(UsrlandError):
    """Raised when a system that the operation needs cannot be reached or is not ready."""

    code = "unavailable"
    default_fix = "Try again in a moment."

    def __init__(
        self,
        fact: str,
        *,
        fix: str = "",
        retry_after_seconds: float | None = None,
        details: Mapping[str, Any] | None = None,
        unsent: bool = False,
    ) -> None:
        """`unsent`: nothing reached the system, so a write surely had no effect and may be tried again."""
        super().__init__(fact, fix=fix, retry_after_seconds=retry_after_seconds, details=details)
        self.unsent = unsent


class Timeout(UsrlandError):
    """Raised when the deadline passed before the work was done; the work was stopped."""

    code = "timeout"
    default_fix = "Narrow the request, or try again."
