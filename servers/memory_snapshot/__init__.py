"""Memory that outlives a context window: an append-only journal and content-addressed snapshots of it."""
