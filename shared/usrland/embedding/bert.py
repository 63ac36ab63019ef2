"""The graph that runs the embedded model: its weights as they came, its steps put together here.

The file that carries the weights describes a graph that turns them back into 32-bit numbers before every product
and keeps every step that its exporter saw. This one multiplies in 8 bits, asks for query, key and value in one
product, and uses onnxruntime's own operators for attention and normalisation; it embeds two and a half times as
many passages a second. It takes one text at a time, so it needs neither padding nor masks, and no text's vector
depends on what it was embedded with.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from usrland.embedding.onnxfile import FLOAT, INT8, INT64, UINT8, Node, Tensor, model, weights

__all__ = ["SOURCE", "TARGET", "graph", "probe"]

SOURCE, TARGET = "tokens", "mean"
LAYERS, HEADS, WIDTH = 6, 12, 384
EPSILON = 1e-12
LARGE_CHANNELS = {
    **dict.fromkeys((94, 238, 267, 303, 347, 363), 1.5),
    **dict.fromkeys((63, 127, 157, 319, 338), 2.0),
    223: 3.0,
    99: 4.0,
}
"""Channels of this model's normalised states that are far above the others in ordinary text, and by how much
they are made smaller. Without it they take up the range, and the other channels have few steps left."""
LEAST_BEND = 0.17
"""The function that bends the mixer's numbers goes no deeper below zero."""
_TYPES = {FLOAT: numpy.float32, INT8: numpy.int8, INT64: numpy.int64, UINT8: numpy.uint8}
_TYPE = {numpy.dtype(kind): number for number, kind in _TYPES.items()}
_PRODUCTS = re.compile(r"val_(\d+)_q")
"""The weights of the products: per layer query, key, value, what follows attention, and the two of the mixer."""


def graph(file: bytes, *, signed: bool = True) -> bytes:
    """A model from the token numbers of one text to the mean of their last hidden states.

    Not `signed` costs speed where the processor has instructions for 8-bit products, and is exact where it has
    not and adds up with saturation.
    """
    return _Builder(file, signed).model()


def probe() -> tuple[bytes, float]:
    """A model of one product, and what it returns for the token 1 where sums of 8-bit products do not saturate.

    Processors without instructions for such products add two of them up in 16 bits: 2 x 255 x 127 is too much.
    """
    width = 64
    ones = numpy.ones((2, width), dtype=numpy.float32)
    full = numpy.full((width, 1), 127, dtype=numpy.int8)
    constants = {
        "table": _tensor(ones),
        "matrix": _tensor(full),
        "scale": _tensor(numpy.ones(1, dtype=numpy.float32)),
    }
    nodes = [
        Node(op="Gather", inputs=["table", SOURCE], outputs=["row"]),
        Node(op="DynamicQuantizeMatMul", inputs=["row", "matrix", "scale"], outputs=[TARGET], contrib=True),
    ]
    return model(nodes, constants, source=SOURCE, target=TARGET), 127.0 * width


class _Builder:
    def __init__(self, file: bytes, signed: bool) -> None:
        self._given = {name: _array(tensor) for name, tensor in weights(file).items()}
        self._signed = signed
        self._nodes: list[Node] = []
        self._constants: dict[str, Tensor] = {}

    def model(self) -> bytes:
        products = sorted(filter(_PRODUCTS.fullmatch, self._given), key=lambda name: int(name.split("_")[1]))
        names = [name.removesuffix("_q") for name in products]
        hidden = self._embedded()
        for layer in range(LAYERS):
            hidden = self._layer(f"inner.encoder.layer.{layer}.", hidden, names[6 * layer : 6 * layer + 6])
        self._add("ReduceMean", [hidden, self._numbers(1)], TARGET, keepdims=0)
        return model(self._nodes, self._constants, source=SOURCE, target=TARGET)

    def _embedded(self) -> str:
        """Word, place and the one kind of token that there is; the table of words stays in 8 bits."""
        of = "inner.embeddings."
        words, scales = (
            self._given[f"{of}word_embeddings.weight_q"],
            self._given[f"{of}word_embeddings.weight_scale"],
        )
        places = self._given[f"{of}position_embeddings.weight_q"].astype(numpy.float32)
        places = places * self._given[f"{of}position_embeddings.weight_scale"]
        places = places + self._given[f"{of}token_type_embeddings.weight"][0]
        rows = self._add("Gather", [self._keep("words", words), SOURCE], "word rows")
        rows = self._add("Cast", [rows], "word numbers", to=FLOAT)
        scale = self._add("Gather", [self._keep("scales", scales), SOURCE], "word scales")
        rows = self._add("Mul", [rows, scale], "word vectors")
        length = self._add("Shape", [SOURCE], "length", start=1)
        places_here = self._add(
            "Slice", [self._keep("places", places), self._numbers(0), length, self._numbers(0)], "place vectors"
        )
        both = self._add("Add", [rows, places_here], "placed words")
        return self._add(
            "LayerNormalization", [both, *self._norm(f"{of}LayerNorm")], "embedded", epsilon=EPSILON, axis=-1
        )

    def _layer(self, of: str, hidden: str, products: Sequence[str]) -> str:
        asked = [f"{of}attention.self.{name}.bias" for name in ("query", "key", "value")]
        three = self._product(self._even(hidden, f"{of}asking"), products[:3], asked, f"{of}three", even=True)
        parts = [f"{of}query", f"{of}key", f"{of}value"]
        self._nodes.append(
            Node(
                op="Split",
                inputs=[three, self._numbers(WIDTH, WIDTH, WIDTH)],
                outputs=parts,
                attributes={"axis": -1},
            )
        )
        seen = self._add("MultiHeadAttention", parts, f"{of}seen", contrib=True, num_heads=HEADS)
        seen = self._product(seen, products[3:4], [f"{of}attention.output.dense.bias"], f"{of}said")
        hidden = self._sum(seen, hidden, f"{of}attention.output.LayerNorm")
        mixing = self._even(hidden, f"{of}mixing")
        wide = self._product(mixing, products[4:5], [f"{of}intermediate.dense.bias"], f"{of}wide", even=True)
        wide = self._add("Gelu", [wide], f"{of}bent", contrib=True)
        narrow = self._product_by_rows(wide, products[5], f"{of}narrow")
        bias = self._keep(f"{of}narrow bias", self._given[f"{of}output.dense.bias"])
        return self._sum(narrow, hidden, f"{of}output.LayerNorm", bias)

    def _even(self, hidden: str, name: str) -> str:
        return self._add("Mul", [hidden, self._keep("less", 1 / _large_channels())], name)

    def _product_by_rows(self, hidden: str, product: str, name: str) -> str:
        """One product without a bias, each row in a scale of its own."""
        most = self._add("ReduceMax", [hidden, self._numbers(-1)], f"{name} most", keepdims=1)
        least = self._keep("least bend", numpy.array([LEAST_BEND], dtype=numpy.float32))
        most = self._add("Max", [most, least], f"{name} scales of rows")
        rows = self._add("Div", [hidden, most], f"{name} rows")
        return self._add("Mul", [self._product(rows, [product], [], f"{name} of rows"), most], name)

    def _product(
        self, hidden: str, products: Sequence[str], biases: Sequence[str], name: str, *, even: bool = False
    ) -> str:
        """One product with the matrices side by side; `even` where `hidden` is what `_even` returned."""
        matrix = numpy.concatenate([self._given[f"{each}_q"] for each in products], axis=1)
        scale = numpy.concatenate([self._given[f"{each}_scale"].reshape(-1) for each in products])
        if even:
            exact = matrix * scale * _large_channels()[:, None]
            scale = (numpy.abs(exact).max(axis=0) / 127).astype(numpy.float32)
            matrix = numpy.round(exact / scale).astype(numpy.int8)
        zero = ""
        if not self._signed:
            matrix = (matrix.astype(numpy.int16) + 128).astype(numpy.uint8)
            zero = self._keep(f"{name} zero", numpy.full(len(scale), 128, dtype=numpy.uint8))
        inputs = [hidden, self._keep(f"{name} matrix", matrix), self._keep(f"{name} scale", scale), zero]
        if biases:
            bias = numpy.concatenate([self._given[each] for each in biases])
            inputs.append(self._keep(f"{name} bias", bias))
        return self._add("DynamicQuantizeMatMul", inputs, name, contrib=True)

    def _sum(self, new: str, old: str, norm: str, *bias: str) -> str:
        inputs = [new, old, *self._norm(norm), *bias]
        return self._add("SkipLayerNormalization", inputs, f"{norm} sum", contrib=True, epsilon=EPSILON)

    def _norm(self, name: str) -> list[str]:
        return [self._keep(each, self._given[each]) for each in (f"{name}.weight", f"{name}.bias")]

    def _numbers(self, *values: int) -> str:
        return self._keep(f"numbers {values}", numpy.array(values, dtype=numpy.int64))

    def _keep(self, name: str, array: NDArray[Any]) -> str:
        self._constants[name] = _tensor(array)
        return name

    def _add(
        self, op: str, inputs: Sequence[str], output: str, *, contrib: bool = False, **attributes: int | float
    ) -> str:
        self._nodes.append(Node(op=op, inputs=inputs, outputs=[output], contrib=contrib, attributes=attributes))
        return output


def _large_channels() -> NDArray[numpy.float32]:
    factors = numpy.ones(WIDTH, dtype=numpy.float32)
    factors[list(LARGE_CHANNELS)] = list(LARGE_CHANNELS.values())
    return factors


def _array(tensor: Tensor) -> NDArray[Any]:
    if tensor.type not in _TYPES:
        return numpy.empty(0)
    return numpy.frombuffer(tensor.data, dtype=_TYPES[tensor.type]).reshape(tensor.shape)


def _tensor(array: NDArray[Any]) -> Tensor:
    data = numpy.ascontiguousarray(array).reshape(-1).view(numpy.uint8).data
    return Tensor(type=_TYPE[array.dtype], shape=array.shape, data=data)
