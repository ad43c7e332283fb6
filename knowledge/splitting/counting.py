"""Token counts, asked for in few, large lists: an embedding tokenizer is fast only so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

# A WordPiece tokenizer takes a word of any length that it does not know for one token, and a run of spaces for none.
# So a text weighs at least this: without it, ten megabytes of base64 would be one chunk of one token.
MOST_CHARACTERS_PER_TOKEN = 10

_TEXTS_A_CALL = 4096
_CHARACTERS_A_CALL = 2_000_000


class Tokens:
    """What the texts of one document weigh."""

    def __init__(self, count: Callable[[Sequence[str]], list[int]], chunk_tokens: int) -> None:
        self._count = count
        self._longest = chunk_tokens * MOST_CHARACTERS_PER_TOKEN
        self._weights: dict[str, int] = {"": 0}

    def learn(self, texts: Iterable[str]) -> None:
        """Weigh those not known yet: `weight` is for texts that were learned. What can fit no chunk is not counted."""
        new = list(dict.fromkeys(text for text in texts if text not in self._weights and len(text) <= self._longest))
        self._weights.update(zip(new, self.weigh(new), strict=True))

    def weight(self, text: str) -> int:
        return self._weights[text] if len(text) <= self._longest else least(text)

    def weigh(self, texts: Sequence[str]) -> list[int]:
        """The weight of each, at once and without remembering it."""
        return [max(count, least(text)) for text, count in zip(texts, self.exactly(texts), strict=True)]

    def exactly(self, texts: Sequence[str]) -> list[int]:
        return [count for batch in _batches(texts) for count in self._count(batch)]


def least(text: str) -> int:
    return -(-len(text) // MOST_CHARACTERS_PER_TOKEN)


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        if batch and (len(batch) == _TEXTS_A_CALL or characters + len(text) > _CHARACTERS_A_CALL):
            yield batch
            batch, characters = [], 0
        batch.append(text)
        characters += len(text)
    if batch:
        yield batch


def storable(text: str) -> str:
    """`text` with pairs of surrogates as the characters they are, and no halves: no tokenizer takes them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
