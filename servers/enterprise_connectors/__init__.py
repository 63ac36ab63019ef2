"""The system calls: a company's own systems behind find, describe and call."""
