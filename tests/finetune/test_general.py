"""The prompts that the base model answers itself, and the texts that perplexity is measured on."""

from __future__ import annotations

import re

from finetune.continual import everyday, general_text
from finetune.near_duplicates import normal, repeated


def is_chinese(text: str) -> bool:
    return bool(re.search(r"[\u4e00-\u9fff]", text))


def test_there_are_at_least_200_everyday_prompts_in_two_languages_and_none_twice() -> None:
    prompts = everyday()

    assert len(prompts) >= 200
    assert len(set(prompts)) == len(prompts)
    assert sum(map(is_chinese, prompts)) >= 40
    assert all(prompt == prompt.strip() and 1 < len(prompt) < 200 for prompt in prompts)


def test_there_are_enough_general_texts_in_two_languages_to_measure_on() -> None:
    texts = general_text()

    assert sum(not is_chinese(text) for text in texts) >= 60
    assert sum(map(is_chinese, texts)) >= 20
    assert all("\n" not in text and len(text) > (60 if is_chinese(text) else 200) for text in texts)
    assert len(set(texts)) == len(texts)


def test_nothing_that_is_measured_on_is_near_what_is_learnt() -> None:
    everything = [*everyday(), *general_text()]

    assert not repeated([normal(each) for each in everything], 0.6)
