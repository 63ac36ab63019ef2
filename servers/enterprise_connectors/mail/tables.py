"""The outbox's table (its index is in the migration). Importing this loads SQLModel."""

from __future__ import annotations

from sqlmodel import Field, SQLModel

__all__ = ["Letter"]


class Letter(SQLModel, table=True):
    """One message on its way. `content` goes when nothing can be done with it any more."""

    __tablename__ = "outbox_letter"

    id: str = Field(primary_key=True)
    owner: str
    sender: str
    recipients: str
    subject: str
    content: bytes | None
    digest: str
    state: str
    said: str
    tries: int
    created_at: int
    due_at: int
