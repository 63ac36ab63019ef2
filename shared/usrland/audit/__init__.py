"""Who did what: one hash-chained log per server, written before a change takes effect.

`log` appends and verifies, `entry` says what one line holds.
"""

from usrland.audit.entry import Entry, canonical
from usrland.audit.log import AuditLog, Head, Verdict

__all__ = ["AuditLog", "Entry", "Head", "Verdict", "canonical"]
