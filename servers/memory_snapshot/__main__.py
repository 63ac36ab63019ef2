from __future__ import annotations

from usrland.launch import launch


def main() -> None:
    launch("memory_snapshot.server:service")


if __name__ == "__main__":
    main()
