"""Queries that the operator wrote and a kernel only calls.

    [crm.queries.orders_of_my_region]
    description = "Orders of the caller's region since a day"
    sql = "SELECT * FROM orders WHERE region = :region AND day >= :since"
    bound = {region = "namespace"}               # from the caller's identity; the kernel never sees it
    parameters = {since = {type = "string", description = "YYYY-MM-DD"}}

A value that comes from the identity is no argument: it cannot be given, described or guessed, so a query may rely
on it to show each caller only what is theirs. The statement was chosen by the operator, so it may use tables and
functions that free queries may not; it is still one statement in a read-only transaction. With `effect = "write"`
or `"destroy"` it changes rows and has the same dry run, limits and consent as `execute`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from usrland.connector import Effect
from usrland.schemas.principal import Principal

__all__ = ["Named", "NamedParameter"]

_NAME = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")


class NamedParameter(BaseModel):
    """One argument of a named query."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["string", "integer", "number", "boolean"] = "string"
    description: str = ""
    required: bool = True
    enum: list[Any] | None = None


class Named(BaseModel):
    """One query of the configuration."""

    model_config = ConfigDict(extra="forbid")

    sql: str
    description: str = Field(min_length=1)
    effect: Effect = "read"
    parameters: dict[str, NamedParameter] = Field(default_factory=dict)
    bound: dict[str, Literal["subject", "tenant", "namespace"]] = Field(default_factory=dict)
    scopes: list[str] = Field(default_factory=list)
    cache_seconds: float = Field(default=0.0, ge=0, le=86_400)
    """How long a read's answer may be given again to the same caller."""

    @model_validator(mode="after")
    def _every_name_is_known(self) -> Named:
        used = set(_NAME.findall(self.sql))
        known = self.parameters.keys() | self.bound.keys()
        if used != known:
            raise ValueError(f"sql uses {sorted(used)}, parameters and bound name {sorted(known)}")
        if both := self.parameters.keys() & self.bound.keys():
            raise ValueError(f"{sorted(both)} cannot be a parameter and bound at once")
        return self

    @property
    def schema_of_arguments(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {
                name: {
                    "type": parameter.type,
                    **({"description": parameter.description} if parameter.description else {}),
                    **({"enum": parameter.enum} if parameter.enum else {}),
                }
                for name, parameter in self.parameters.items()
            },
            "required": [name for name, parameter in self.parameters.items() if parameter.required],
            "additionalProperties": False,
        }

    def statement(self, arguments: Mapping[str, Any], caller: Principal) -> tuple[str, list[Any]]:
        """The statement with `$1`, `$2` … and their values, those of the identity among them."""
        names = list(dict.fromkeys(_NAME.findall(self.sql)))
        values = [
            getattr(caller, self.bound[name]) if name in self.bound else arguments.get(name) for name in names
        ]
        return _NAME.sub(lambda match: f"${names.index(match[1]) + 1}", self.sql), values
