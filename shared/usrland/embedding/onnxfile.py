"""As much of the ONNX file format as it takes to read weights out of one graph and put them into another.

ONNX is protocol buffers, and what is needed of it is three messages deep. The package `onnx` would do the same
and is as large as the model; so this reads and writes the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["FLOAT", "INT8", "INT64", "UINT8", "Node", "Tensor", "model", "weights"]

FLOAT, UINT8, INT8, INT64 = 1, 2, 3, 7
"""Element types."""

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_IR_VERSION, _OPSET, _CONTRIB = 8, 18, "com.microsoft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """Its bytes are little-endian, row by row. A view of them keeps what it looks at in memory."""

    type: int
    shape: tuple[int, ...]
    data: bytes | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One step of a graph. Operators of onnxruntime's own are `contrib`; an input "" is one left out."""

    op: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    contrib: bool = False
    attributes: Mapping[str, int | float] = field(default_factory=dict)


def weights(file: bytes) -> dict[str, Tensor]:
    """The constant tensors of a model, by name; those that hold no raw bytes are left out."""
    found = {}
    graph = next(value for number, value in _fields(memoryview(file)) if number == 7)
    for number, value in _fields(graph):
        if number == 5:
            name, tensor = _tensor(value)
            if tensor.data:
                found[name] = tensor
    return found


def model(nodes: Sequence[Node], constants: Mapping[str, Tensor], *, source: str, target: str) -> bytes:
    """A model that takes whole numbers of shape (1, any), named `source`, and returns `target`."""
    graph = [
        *(_field(1, _node(node)) for node in nodes),
        _field(2, b"g"),
        *(part for name, tensor in constants.items() for part in _constant(name, tensor)),
        _field(11, _value(source, INT64, _field(1, _number(1, 1)) + _field(1, _field(2, b"n")))),
        _field(12, _value(target, FLOAT, b"")),
    ]
    return b"".join(  # once: the weights are most of it
        [
            _number(1, _IR_VERSION),
            _head(7, sum(map(len, graph))),
            *graph,
            _field(8, _field(1, b"") + _number(2, _OPSET)),
            _field(8, _field(1, _CONTRIB.encode()) + _number(2, 1)),
        ]
    )


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field; of a number its bytes as they stand."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        begin = at
        if wire == _BYTES:
            size, begin = _varint(message, at)
            at = begin + size
        elif wire == _VARINT:
            _, at = _varint(message, at)
        else:
            at += 8 if wire == _EIGHT_BYTES else 4
        yield number, message[begin:at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _tensor(message: memoryview) -> tuple[str, Tensor]:
    name, kind, shape, data = "", 0, [], memoryview(b"")
    for number, value in _fields(message):
        if number == 1:  # one number, or several packed
            at = 0
            while at < len(value):
                size, at = _varint(value, at)
                shape.append(size)
        elif number == 2:
            kind = _varint(value, 0)[0]
        elif number == 8:
            name = bytes(value).decode()
        elif number == 9:
            data = value
    return name, Tensor(type=kind, shape=tuple(shape), data=data)


def _node(node: Node) -> bytes:
    return b"".join(
        [
            *(_field(1, name.encode()) for name in node.inputs),
            *(_field(2, name.encode()) for name in node.outputs),
            _field(4, node.op.encode()),
            *(_field(5, _attribute(name, value)) for name, value in node.attributes.items()),
            _field(7, _CONTRIB.encode() if node.contrib else b""),
        ]
    )


def _attribute(name: str, value: int | float) -> bytes:
    if isinstance(value, int):
        return _field(1, name.encode()) + _number(3, value) + _number(20, 2)
    return _field(1, name.encode()) + _key(2, _FOUR_BYTES) + struct.pack("<f", value) + _number(20, 1)


def _constant(name: str, tensor: Tensor) -> tuple[bytes, bytes | memoryview]:
    """The field of a constant, in two parts: its data are not copied."""
    shape = b"".join(_number(1, size) for size in tensor.shape)
    before = shape + _number(2, tensor.type) + _field(8, name.encode()) + _head(9, len(tensor.data))
    return _head(5, len(before) + len(tensor.data)) + before, tensor.data


def _value(name: str, kind: int, shape: bytes) -> bytes:
    described = _number(1, kind) + (_field(2, shape) if shape else b"")
    return _field(1, name.encode()) + _field(2, _field(1, described))


def _field(number: int, content: bytes) -> bytes:
    return _head(number, len(content)) + content


def _head(number: int, size: int) -> bytes:
    return _key(number, _BYTES) + _base128(size)


def _number(number: int, value: int) -> bytes:
    return _key(number, _VARINT) + _base128(value)


def _key(number: int, wire: int) -> bytes:
    return _base128(number << 3 | wire)


def _base128(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
