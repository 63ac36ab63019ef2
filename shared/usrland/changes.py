"""What has changed in a server, told to those who asked to hear of it.

A level trigger: "this is not what you read, read it again". Nothing is kept and nothing is replayed, so a server
may tell too often and whoever listens may miss what came before. Told on the event loop of the server alone; a
server whose store other processes change has to look, and `heard` says whether anybody would know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from usrland.schemas.principal import Principal

__all__ = ["Changes"]

Listener = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Changes:
    """The listeners of one server."""

    _listeners: dict[object, tuple[Principal, Listener]] = field(default_factory=dict)

    @property
    def heard(self) -> bool:
        """Somebody listens."""
        return bool(self._listeners)

    def tell(
        self,
        uri: str,
        *,
        tenant: str | None = None,
        namespace: str | None = None,
        scopes: frozenset[str] = frozenset(),
    ) -> None:
        """The resource at `uri` changed, for callers of that tenant and namespace (None: any) with `scopes`."""
        for principal, listener in list(self._listeners.values()):
            if (
                tenant in (None, principal.tenant)
                and namespace in (None, principal.namespace)
                and not principal.missing(scopes)
            ):
                listener(uri)

    def listen(self, principal: Principal, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every URI that changes for `principal`, until the returned function is called."""
        key = object()
        self._listeners[key] = (principal, listener)

        def stop() -> None:
            self._listeners.pop(key, None)

        return stop
