"""One SQL database: SQLite by default, PostgreSQL by URL.

Importing this package imports nothing heavy; `Database.open` does, off the event loop, at the first use.
"""

from usrland.database.batches import in_batches
from usrland.database.engine import Database, DatabaseUrl, import_sqlmodel

__all__ = ["Database", "DatabaseUrl", "import_sqlmodel", "in_batches"]
