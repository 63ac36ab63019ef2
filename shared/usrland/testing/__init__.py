"""What every server and connector must do, as tests to inherit:

    class TestContract(ServerContract):
        service = staticmethod(service)

The only package of the library that imports pytest, and the only one beside the host that speaks to the
server as a client does.
"""

from __future__ import annotations

try:
    import pytest
except ImportError as error:  # pragma: no cover - the suite itself runs under pytest
    raise ImportError("usrland.testing needs: pip install 'usrland[testing]'") from error

pytest.register_assert_rewrite(
    *(f"usrland.testing.{name}" for name in ("calls", "client", "effects", "hostile", "start"))
)

from usrland.testing.contract import ServerContract  # noqa: E402 - rewriting must be asked for first

__all__ = ["ServerContract"]
