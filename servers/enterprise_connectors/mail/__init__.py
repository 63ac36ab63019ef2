"""Mail: read and moved over IMAP, sent over SMTP through an outbox that loses nothing and sends nothing twice."""

from enterprise_connectors.mail.connector import MailConfig, MailConnector

__all__ = ["MailConfig", "MailConnector"]
