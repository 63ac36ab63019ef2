"""The jobs' table (its index is in the migration). Importing this loads SQLModel."""

from __future__ import annotations

from sqlmodel import Field, SQLModel

__all__ = ["JobRow"]


class JobRow(SQLModel, table=True):
    """One job. `steps` is there while it may be run again; `answers` are what is known of them so far."""

    __tablename__ = "sys_job"

    id: str = Field(primary_key=True)
    owner: str
    total: int
    steps: bytes | None
    key: str | None
    runs: int
    state: str
    answered: int
    answers: bytes | None
    failed: str
    began_at: float
    ended_at: float
    alive_until: float
    cancel: bool
