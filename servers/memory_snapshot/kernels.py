"""How much of its window a kernel can be trusted with.

The figures are what others measured, and they spread widely: the share of an advertised window that still
answers well depends on the kernel and on the task. 0.65 is a ceiling and not a promise, so a restore packs
what is needed and reports `used`, `reliable` and `advertised` side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from usrland import InvalidInput

__all__ = ["PROFILES", "KernelProfile", "profile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelProfile:
    """One kernel's window in tokens, and the part of it that was found to be reliable."""

    advertised: int
    reliable_percent: int
    source: str

    @property
    def reliable(self) -> int:
        return self.advertised * self.reliable_percent // 100


_RULER = "RULER: where the score crosses 85.6, interpolated between tested lengths"

PROFILES: Mapping[str, KernelProfile] = {
    "gpt-4-1106": KernelProfile(advertised=128_000, reliable_percent=62, source=_RULER),
    "gpt-4.1": KernelProfile(
        advertised=1_000_000,
        reliable_percent=11,
        source="Chroma context rot: 62 % right at 113k tokens against 87 % at 251; an upper bound",
    ),
    "qwen3-14b": KernelProfile(advertised=128_000, reliable_percent=97, source=_RULER),
    "qwen3-30b-a3b": KernelProfile(advertised=128_000, reliable_percent=68, source=_RULER),
    "llama-3.1-70b": KernelProfile(advertised=128_000, reliable_percent=56, source=_RULER),
    "llama-3.1-8b": KernelProfile(advertised=128_000, reliable_percent=42, source=_RULER),
    "command-r-0824": KernelProfile(advertised=128_000, reliable_percent=54, source=_RULER),
    "mistral-large-2411": KernelProfile(advertised=128_000, reliable_percent=50, source=_RULER),
}


def profile(kernel: str, *, window_tokens: int, reliable: float) -> KernelProfile:
    """The named kernel's profile; without a name, what the operator set. Raises `InvalidInput`."""
    if not kernel:
        return KernelProfile(advertised=window_tokens, reliable_percent=round(100 * reliable), source="settings")
    try:
        return PROFILES[kernel.lower()]
    except KeyError:
        known = ", ".join(PROFILES)
        raise InvalidInput(
            f"kernel {kernel!r} has no profile.", fix=f"Known: {known}; or set window_tokens and reliable instead."
        ) from None
