"""`python -m example_connector`: the server, over stdio unless told otherwise."""

from __future__ import annotations

from usrland.launch import launch

__all__ = ["main"]


def main() -> None:
    """The console script."""
    launch("example_connector.server:service")


if __name__ == "__main__":
    main()
