"""Redmine: issues, projects, time and wiki pages, by a description of its REST API that comes with this package.

    [tracker]
    kind = "redmine"
    url = "https://redmine.example.org"
    secret = "env:TRACKER_KEY"              # the API key of the role that this server has there

Redmine has no description of its own; `redmine.yaml` says what a kernel needs of it, and `redmine.toml` what takes
what back. An API key has no idempotency: where an answer was lost, look before you repeat.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ConfigDict, Field

from enterprise_connectors.openapi.auth import Auth
from enterprise_connectors.openapi.connector import OpenApiConfig, OpenApiConnector

if TYPE_CHECKING:
    import httpx

__all__ = ["RedmineConfig", "RedmineConnector"]

_FOLDER = Path(__file__).parent


class RedmineConfig(BaseModel):
    """The keys of a `kind = "redmine"` table."""

    model_config = ConfigDict(extra="forbid")

    url: str
    secret: str = Field(repr=False, min_length=1)


class RedmineConnector(OpenApiConnector):
    """One Redmine."""

    name = "redmine"
    config_type = cast("Any", RedmineConfig)

    def __init__(self, config: RedmineConfig, http: httpx.AsyncClient) -> None:
        described = OpenApiConfig(
            spec=_FOLDER / "redmine.yaml",
            overlay=_FOLDER / "redmine.toml",
            base_url=config.url,
            auth=Auth(kind="api_key", name="X-Redmine-API-Key", secret=config.secret),
        )
        super().__init__(described, http)
