"""SQL databases: read with one checked statement at a time, changed only where that was granted."""

from enterprise_connectors.sql.connector import SqlConfig, SqlConnector

__all__ = ["SqlConfig", "SqlConnector"]
