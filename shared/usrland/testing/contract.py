"""The tests that every server and connector inherits. They speak to the real host through a real client.

What is checked of a call, is checked on the wire: in the listing, in the answer, in the error. The author's
operations are only called for their effect where `samples` says which calls may be made; what changes nothing may
be called with anything.
"""

from __future__ import annotations

from usrland.testing.calls import CallContract
from usrland.testing.effects import EffectContract
from usrland.testing.hostile import HostileContract
from usrland.testing.start import StartContract

__all__ = ["ServerContract"]


class ServerContract(HostileContract, StartContract, EffectContract, CallContract):
    """Inherit and set `service`. Everything else has a default. The quickest tests run first."""
