"""The principal of a process that one person started: over stdio there is nobody else."""

from __future__ import annotations

import getpass

from pydantic import BaseModel, ConfigDict, Field

from usrland.schemas.principal import Principal
from usrland.settings import Settings

__all__ = ["Profile", "local_principal"]


class Profile(BaseModel):
    """The `[identity]` table."""

    model_config = ConfigDict(extra="forbid")

    subject: str = Field(default="", description="Default: the operating system's user name.")
    tenant: str = "local"
    namespace: str = Field(default="main", description="What is remembered and indexed is kept apart by this.")
    scopes: list[str] = Field(default=["*"], description="What the person's own hosts may do.")


def local_principal(settings: Settings, source: str = "stdio") -> Principal:
    """The person whose process this is. Never taken from a tool argument."""
    profile = settings.section("identity", Profile)
    return Principal(
        subject=profile.subject or _user_name(),
        tenant=profile.tenant,
        namespace=profile.namespace,
        scopes=frozenset(profile.scopes),
        source=source,
    )


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a user database
        return "local-user"
