"""A connector to a team's task list.

Read `connector` first: what a kernel can do here. `store` is the system behind it, and the only module that
knows it; `server` puts the connector on the wire alone.
"""
