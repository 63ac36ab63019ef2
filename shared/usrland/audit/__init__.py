"""Who did what: one hash-chained log per server, written before a change takes effect.

`log` appends and verifies, `entry` says what one line holds, `checkpoint` signs what is to be kept elsewhere.
"""

from usrland.audit.checkpoint import Checkpoint, Signer, VerifyingKey, opened
from usrland.audit.entry import Entry, canonical
from usrland.audit.log import AuditLog, Proof, Verdict, verified_file

__all__ = [
    "AuditLog",
    "Checkpoint",
    "Entry",
    "Proof",
    "Signer",
    "Verdict",
    "VerifyingKey",
    "canonical",
    "opened",
    "verified_file",
]
