"""How much of its window a kernel can be trusted with.

The figures are what others measured, and they spread widely: the share of an advertised window that still answers
well depends on the kernel and on the task. 0.65 is a ceiling and not a promise: a kernel that held further in a
test of looking things up is not trusted further, and a restore packs what is needed and reports `used`, `reliable`
and `advertised` side by side. What the operator states takes the place of all of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from memory_snapshot.wire import Task
from usrland import InvalidInput

__all__ = ["PROFILES", "KernelProfile", "Kernels", "stated"]

CEILING_PERCENT = 65
TASK_PERCENT: Mapping[str, int] = {"lookup": 100, "reasoning": 40, "association": 100}
"""Of the reliable part. Looking something up is what most tests measure; to reason over many items, four tenths
of that is the median of what holds (a quarter of the window)."""
ASSOCIATION_TOKENS = 16_000
"""Where question and answer share no word, no measured kernel held further than this, whatever its window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelProfile:
    """One kernel's window in tokens, and how much of it is reliable: for a task, else for looking something up."""

    advertised: int
    reliable: int
    source: str
    association: int = ASSOCIATION_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """The profile of whoever asks: what the operator said of it, else what was measured, else the default."""

    default: KernelProfile
    own: Mapping[str, KernelProfile] = field(default_factory=dict)

    def profile(self, kernel: str | None, task: Task) -> KernelProfile:
        return _for_task(self._known(kernel), task)

    def _known(self, kernel: str | None) -> KernelProfile:
        if kernel is None:
            return self.default
        found = _beginning(self.own, kernel) or _beginning(PROFILES, kernel)
        unknown = f"{self.default.source}; nothing is known of this kernel"
        return found or replace(self.default, source=unknown)


def stated(kernel: str, *, window_tokens: int, reliable: float) -> KernelProfile:
    """What the operator set: the profile of the kernel named, or these figures. Raises `InvalidInput`."""
    if not kernel:
        return KernelProfile(advertised=window_tokens, reliable=round(window_tokens * reliable), source="settings")
    found = _beginning(PROFILES, kernel)
    if found is None:
        known = ", ".join(PROFILES)
        raise InvalidInput(
            f"kernel {kernel!r} has no profile.", fix=f"Known: {known}; or set window_tokens and reliable instead."
        )
    return found


def _for_task(kernel: KernelProfile, task: Task) -> KernelProfile:
    reliable = kernel.reliable * TASK_PERCENT[task] // 100
    return replace(kernel, reliable=min(reliable, kernel.association) if task == "association" else reliable)


def _beginning(profiles: Mapping[str, KernelProfile], kernel: str) -> KernelProfile | None:
    """The profile whose name the kernel's begins with, however the two are punctuated."""
    name = _plain(kernel.rpartition("/")[2]).removeprefix("meta")
    found = [known for known in profiles if name.startswith(_plain(known))]
    return profiles[max(found, key=len)] if found else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_RULER = "RULER: where the score crosses 85.6, interpolated between tested lengths"
_CHROMA = "Chroma context rot: 62 % right at 113k tokens against 87 % at 251; an upper bound"
_UNMEASURED = "its advertised window; how far it holds was not measured"

_HELD: Mapping[str, tuple[int, int, str]] = {
    "jamba-1.5-large": (256_000, 128_000, _RULER),
    "jamba-1.5-mini": (256_000, 128_000, _RULER),
    "gemini-1.5-pro": (1_000_000, 128_000, _RULER),
    "qwen2.5-14b-instruct-1m": (1_000_000, 128_000, _RULER),
    "qwen2.5-7b-instruct-1m": (1_000_000, 115_000, _RULER),
    "qwen3-235b-a22b": (128_000, 128_000, _RULER),
    "qwen3-32b": (128_000, 128_000, _RULER),
    "qwen3-30b-a3b": (128_000, 86_000, _RULER),
    "qwen3-14b": (128_000, 124_000, _RULER),
    "qwen3-8b": (128_000, 51_000, _RULER),
    "qwen3-4b": (128_000, 39_000, _RULER),
    "qwen2-72b": (128_000, 51_000, _RULER),
    "exaone-4.0-32b": (128_000, 128_000, _RULER),
    "gpt-4-1106": (128_000, 79_000, _RULER),
    "gpt-4.1": (1_000_000, 110_000, _CHROMA),
    "llama-3.1-70b": (128_000, 72_000, _RULER),
    "llama-3.1-8b": (128_000, 53_000, _RULER),
    "mistral-large-2411": (128_000, 64_000, _RULER),
    "mistral-large-2407": (128_000, 48_000, _RULER),
    "mistral-nemo": (128_000, 17_000, _RULER),
    "command-r-plus-08-2024": (128_000, 63_000, _RULER),
    "command-r-plus": (128_000, 58_000, _RULER),
    "command-r-08-2024": (128_000, 69_000, _RULER),
    "command-r": (128_000, 59_000, _RULER),
    "glm-4-9b": (1_000_000, 83_000, _RULER),
    "yi-34b": (200_000, 46_000, _RULER),
    "phi-3-mini": (128_000, 40_000, _RULER),
    "phi-3-medium": (128_000, 36_000, _RULER),
    "internlm2.5-7b": (1_000_000, 7_800, _RULER),
    **{
        name: (advertised, advertised, _UNMEASURED)
        for name, advertised in {
            "claude": 200_000,
            "gpt-4o": 128_000,
            "gpt-4o-mini": 128_000,
            "gpt-5": 400_000,
            "gemini": 1_000_000,
            "gemini-1.5-flash": 1_000_000,
            "gemini-2.0-flash": 1_000_000,
            "llama-3.1-405b": 128_000,
            "llama-3.3-70b": 128_000,
            "llama-4-maverick": 1_000_000,
            "llama-4-scout": 10_000_000,
            "gemma-3-27b": 128_000,
            "gemma-3-12b": 128_000,
            "gemma-3-4b": 128_000,
            "claude-3-5-sonnet": 200_000,
        }.items()
    },
}
"""Advertised, and how far it held."""

_ASSOCIATED: Mapping[str, int] = {
    "gpt-4o": 8_000,
    "claude-3-5-sonnet": 4_000,
    "gemini-2.0-flash": 4_000,
    "gemini-1.5-pro": 2_000,
    "llama-3.1-405b": 2_000,
    "llama-3.1-70b": 2_000,
    "llama-3.3-70b": 2_000,
    "llama-4-maverick": 2_000,
    "mistral-large-2407": 2_000,
    "command-r-plus": 1_000,
    "gemini-1.5-flash": 1_000,
    "gemma-3-12b": 1_000,
    "gemma-3-27b": 1_000,
    "gemma-3-4b": 1_000,
    "gpt-4o-mini": 1_000,
    "jamba-1.5-mini": 1_000,
    "llama-3.1-8b": 1_000,
    "llama-4-scout": 1_000,
}
"""NoLiMa: the longest context with 85 % of the score of the shortest."""

PROFILES: Mapping[str, KernelProfile] = {
    name: KernelProfile(
        advertised=advertised,
        reliable=min(held, advertised * CEILING_PERCENT // 100),
        source=source,
        association=_ASSOCIATED.get(name, ASSOCIATION_TOKENS),
    )
    for name, (advertised, held, source) in _HELD.items()
}
