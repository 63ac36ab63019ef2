"""One line of the audit log.

Arguments and results stand in it only as salted commitments: SHA-256 over a random salt and the canonical
value. The salt and the argument lie in a table beside the log, so that deleting that row erases what was
said and the chain still verifies; with the row, anybody can prove what it was.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Commitment", "Entry", "Phase", "canonical", "commit"]

Phase = Literal["intent", "outcome", "read", "refused"]
"""`intent` before a change, `outcome` after it, `read` for what changes nothing, `refused` before it began."""


def canonical(value: Any) -> bytes:
    """The one spelling of a JSON value (RFC 8785 for values without fractions): sorted keys, no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        errors="backslashreplace"  # half of a surrogate pair has no UTF-8, and JSON writes it so
    )


@dataclass(frozen=True, slots=True)
class Commitment:
    """`digest` = SHA-256(salt ‖ value), hexadecimal."""

    digest: str
    salt: bytes
    value: bytes


def commit(value: Any) -> Commitment:
    """Bind oneself to a value without showing it."""
    salt, body = secrets.token_bytes(16), canonical(value)
    return Commitment(hashlib.sha256(salt + body).hexdigest(), salt, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What happened. Everything in it is a string or a whole number, so that its bytes are canonical."""

    at_ms: int
    call: str
    phase: Phase
    operation: str
    effect: str
    principal: str
    tenant: str
    namespace: str
    source: str
    arguments: Commitment
    client: str = ""
    via: str = ""
    """The operation that passed the call on (`sys_call`)."""
    decision: str = ""
    """`allowed`, `confirmed`, `dry_run`, or why it was refused."""
    outcome: str = ""
    """`ok` or the error's code."""
    result: str = ""
    """SHA-256 of the answer's canonical bytes, hexadecimal."""
    duration_ms: int = 0

    def body(self, *, chain: str, seq: int) -> bytes:
        """The exact bytes that are stored and hashed."""
        fields = {
            "v": 1,
            "chain": chain,
            "seq": seq,
            "at_ms": self.at_ms,
            "call": self.call,
            "phase": self.phase,
            "operation": self.operation,
            "via": self.via,
            "effect": self.effect,
            "principal": self.principal,
            "tenant": self.tenant,
            "namespace": self.namespace,
            "source": self.source,
            "client": self.client,
            "arguments": self.arguments.digest,
            "decision": self.decision,
            "outcome": self.outcome,
            "result": self.result,
            "duration_ms": self.duration_ms,
        }
        return canonical({name: value for name, value in fields.items() if value != ""})
