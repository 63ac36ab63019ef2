"""The library that servers and connectors are written against.

A newcomer reads `connector` (what an author declares), then `call` (what happens around it).
"""

from usrland.changes import Changes
from usrland.connector import (
    Call,
    Connector,
    Effect,
    Keeping,
    Operation,
    Prompt,
    PromptArgument,
    Read,
    Resource,
    ResourceTemplate,
    Service,
)
from usrland.errors import (
    Conflict,
    Denied,
    Failed,
    InvalidInput,
    NotFound,
    QuotaExceeded,
    Timeout,
    Unavailable,
    UsrlandError,
)
from usrland.schemas.principal import Principal
from usrland.schemas.wire import Answer, Citation, Page, Preview, Suggestions

__all__ = [
    "Answer",
    "Call",
    "Changes",
    "Citation",
    "Conflict",
    "Connector",
    "Denied",
    "Effect",
    "Failed",
    "InvalidInput",
    "Keeping",
    "NotFound",
    "Operation",
    "Page",
    "Preview",
    "Principal",
    "Prompt",
    "PromptArgument",
    "QuotaExceeded",
    "Read",
    "Resource",
    "ResourceTemplate",
    "Service",
    "Suggestions",
    "Timeout",
    "Unavailable",
    "UsrlandError",
]
__version__ = "0.1.0"
