"""`python -m filesystem_retrieval`, and the script `filesystem-retrieval`."""

from usrland.launch import launch


def main() -> None:
    launch("filesystem_retrieval.server:service")


if __name__ == "__main__":
    main()
