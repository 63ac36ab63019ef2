"""The HTTP client a connector is handed, made at its first use.

Importing the client takes longer than a whole handshake may, and a host that only asks for the list of tools
must not wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import httpx

__all__ = ["outgoing"]


def outgoing(*, allow_private: bool = False, tls: Mapping[str, str] | None = None) -> httpx.AsyncClient:
    """What `usrland.http.client` gives, later. Closing one that was never used costs nothing.

    `tls` are the fields of `usrland.http.Tls`.
    """
    return cast("httpx.AsyncClient", _ClientAtFirstUse(allow_private, tls or {}))


class _ClientAtFirstUse:
    def __init__(self, allow_private: bool, tls: Mapping[str, str]) -> None:
        self._allow_private = allow_private
        self._tls = tls
        self._making = threading.Lock()
        self._client: httpx.AsyncClient | None = None

    def __getattr__(self, name: str) -> Any:
        with self._making:
            if self._client is None:
                from usrland.http import Tls, client

                self._client = client(
                    allow_private=self._allow_private, tls=Tls(**self._tls) if self._tls else None
                )
        return getattr(self._client, name)

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()
