"""`enterprise-connectors` and `python -m enterprise_connectors`."""

from usrland.launch import launch


def main() -> None:
    launch("enterprise_connectors.server:service")


if __name__ == "__main__":
    main()
