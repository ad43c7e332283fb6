"""What a model that is not ours is given, and what is taken from it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from knowledge.embedding import Vectors
from knowledge.errors import EmbeddingsFailed


def well_formed(text: str) -> str:
    """With U+FFFD for lone surrogates, which no tokenizer and no server takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def unit_vectors(given: Any, count: int, dimensions: int | None, model: str) -> Vectors:
    """`given` as (count, dimensions) of unit length. Raises EmbeddingsFailed for anything that is not so."""
    try:
        vectors = np.asarray(given, np.float32)
    except (TypeError, ValueError) as error:
        raise EmbeddingsFailed(f"{model} did not give vectors of numbers, all of the same length.") from error
    if vectors.ndim != 2 or len(vectors) != count or not vectors.shape[1]:
        raise EmbeddingsFailed(f"{model} gave vectors of shape {vectors.shape} for {count} texts.")
    if dimensions is not None and vectors.shape[1] != dimensions:
        raise EmbeddingsFailed(
            f"{model} gave vectors of {vectors.shape[1]} dimensions, earlier of {dimensions}. Is it another model?"
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise EmbeddingsFailed(f"{model} gave vectors that are not finite numbers, or nothing but zeros.")
    unit: Vectors = vectors / lengths
    return unit


def estimated_tokens(text: str) -> int:
    """How many tokens a text may have for a model whose tokenizer is elsewhere: rather too many than too few.

    Too few would let a chunk's end be cut off unseen. Every digit and mark counts as one, since some vocabularies have
    no longer pieces of them; letters by twos within a word, where English has four and more to a token; nearly every
    letter of what is mixed with capitals and digits (keys, base64); other scripts by two bytes, so 1.5 for a Chinese
    character, of which multilingual vocabularies make 0.6 to 1.3.
    """
    ascii_part = text.encode("ascii", "ignore").decode()
    tokens = (len(text.encode("utf-8", "replace")) - len(ascii_part) + 1) // 2
    for run in re.findall(r"[A-Za-z0-9]+|[^A-Za-z0-9 ]", ascii_part):
        parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|.", run, re.DOTALL)
        tokens += sum(min(len(part), (len(part) + 1) // 2 + (len(parts) > 1)) for part in parts)
    return tokens
