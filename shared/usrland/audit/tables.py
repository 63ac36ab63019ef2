"""The call path's tables, as SQLModel sees them. Imported at the first use of the database."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel

__all__ = ["AuditArgument", "AuditEntry", "KeyedCall", "SpentToken"]


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
