"""The call path's tables, as SQLModel sees them. Imported at the first use of the database."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel

__all__ = ["AuditArgument", "AuditEntry", "KeyedCall", "PlacesHeld", "QuotaUse", "SpentToken", "Tainted"]


class AuditEntry(SQLModel, table=True):
    __tablename__ = "audit_entry"

    chain: str = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    body: bytes
    hash: bytes


class AuditArgument(SQLModel, table=True):
    __tablename__ = "audit_argument"

    commitment: str = Field(primary_key=True)
    salt: bytes
    value: bytes


class KeyedCall(SQLModel, table=True):
    """A write that carried an idempotency key. `result` is empty while it runs, and after a crash in it."""

    __tablename__ = "keyed_call"

    key: str = Field(primary_key=True)
    arguments: str
    result: bytes | None = None
    started_at: int = Field(sa_type=BigInteger)


class SpentToken(SQLModel, table=True):
    __tablename__ = "spent_token"

    token: str = Field(primary_key=True)
    expires_at: int = Field(sa_type=BigInteger)


class QuotaUse(SQLModel, table=True):
    """How many calls of one caller and cost were handed out in the minute that began then."""

    __tablename__ = "quota_use"

    who: str = Field(primary_key=True)
    cost: str = Field(primary_key=True)
    begun_at: int = Field(sa_type=BigInteger)
    used: int = Field(sa_type=BigInteger)


class PlacesHeld(SQLModel, table=True):
    """So many calls or streams of one caller may be open in one process until then."""

    __tablename__ = "places_held"

    who: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    process: str = Field(primary_key=True)
    places: int = Field(sa_type=BigInteger)
    until: int = Field(sa_type=BigInteger)


class Tainted(SQLModel, table=True):
    """A caller that was given text that others wrote."""

    __tablename__ = "tainted"

    who: str = Field(primary_key=True)
    until: int = Field(sa_type=BigInteger)
