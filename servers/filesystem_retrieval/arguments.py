"""Arguments that several tools take."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

__all__ = ["Path", "Root"]

Root = Annotated[str | None, Field(description="Name of one root. Default: all.")]
Path = Annotated[str, Field(description="Path in a root, or 'root/path'.")]
