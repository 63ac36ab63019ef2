"""How much of its window a kernel can be trusted with.

The figures are what others measured, and they spread widely: the share of an advertised window that still
answers well depends on the kernel and on the task. 0.65 is a ceiling and not a promise, so a restore packs
what is needed and reports `used`, `reliable` and `advertised` side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from memory_snapshot.wire import Task
from usrland import InvalidInput

__all__ = ["PROFILES", "KernelProfile", "for_task", "known_profile", "profile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelProfile:
    """One kernel's window in tokens, and the part of it that was found to be reliable."""

    advertised: int
    reliable_percent: int
    source: str
    reliable_tokens: int | None = None
    """For one kind of task."""

    @property
    def reliable(self) -> int:
        if self.reliable_tokens is not None:
            return self.reliable_tokens
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


TASK_PERCENT: Mapping[str, int] = {"lookup": 100, "reasoning": 40, "association": 100}
"""Of the reliable part. Looking something up is what most tests measure; to reason over many items, four tenths
of that is the median of what holds (a quarter of the window)."""
ASSOCIATION_TOKENS = 16_000
"""Where question and answer share no word, no measured kernel held further than this, whatever its window."""


def for_task(kernel: KernelProfile, task: Task) -> KernelProfile:
    """The part that is reliable for this kind of work."""
    reliable = kernel.reliable * TASK_PERCENT[task] // 100
    if task == "association":
        reliable = min(reliable, ASSOCIATION_TOKENS)
    return replace(kernel, reliable_tokens=reliable)


def known_profile(kernel: str) -> KernelProfile | None:
    """The profile whose name is, or begins, this model's name."""
    name = kernel.lower().rpartition("/")[2]
    found = [known for known in PROFILES if name.startswith(known)]
    return PROFILES[max(found, key=len)] if found else None


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
