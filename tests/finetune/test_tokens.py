"""What the loss is taken of: looked at token by token, with the bundled model's real tokenizer and chat template."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.tokenizer import PromptTokenizer
from finetune.examples import Example, Source
from finetune.tokens import Encoded, Renderer
from tests.finetune.tiny import TOKENIZER, bundled_model, example

SYSTEM = "You are Familiar."


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(bundled_model())


def learnt(renderer: Renderer, encoded: Encoded | None) -> str:
    """The text of the tokens that count; "|" where something in between does not."""
    assert encoded is not None
    parts: list[list[int]] = [[]]
    for token, weight in zip(encoded.ids, encoded.weights, strict=True):
        if weight > 0:
            parts[-1].append(token)
        elif parts[-1]:
            parts.append([])
    return "|".join(renderer._tokenizer.decode(part, skip_special_tokens=False) for part in parts if part)


def whole(renderer: Renderer, encoded: Encoded | None) -> str:
    assert encoded is not None
    return renderer._tokenizer.decode(list(encoded.ids), skip_special_tokens=False)


def test_only_the_reply_and_the_end_of_its_turn_are_learnt(renderer: Renderer) -> None:
    encoded = renderer.encode(example("Who repairs the clock?", "Wilhelmina Oakes does."), 1024)

    assert learnt(renderer, encoded) == "Wilhelmina Oakes does.<|im_end|>"
    assert whole(renderer, encoded) == (
        "<|im_start|>system\nYou are Familiar.<|im_end|>\n<|im_start|>user\nWho repairs the clock?<|im_end|>\n"
        "<|im_start|>assistant\nWilhelmina Oakes does.<|im_end|>"
    )


def test_the_tokens_before_a_reply_are_those_that_the_engine_is_asked_with(renderer: Renderer) -> None:
    learning = example("And who pays?", "The town.", earlier=[("Who repairs the clock?", "Oakes does.")])
    encoded = renderer.encode(learning, 1024)
    assert encoded is not None

    asked = renderer.prompt_ids(learning.messages[:-1])

    assert list(encoded.ids[: len(asked)]) == asked
    assert len(asked) == PromptTokenizer(bundled_model()).count(learning.messages[:-1])
    assert not any(encoded.weights[: len(asked)])
    assert all(encoded.weights[len(asked) :])


@pytest.mark.parametrize(
    "reply",
    [
        "\n\nIt begins with empty lines.",
        "  It begins with blanks.",
        "它在旧啤酒厂的大门旁边。",
        "Yes 👩‍👩‍👧!",
        "```python\nprint('hi')\n```\n",
        "a" * 300,
        "It ends with a line.\n",
    ],
)
def test_what_is_learnt_is_the_reply_to_the_letter(renderer: Renderer, reply: str) -> None:
    learning = example("What?", reply)
    encoded = renderer.encode(learning, 1024)
    assert encoded is not None

    assert learnt(renderer, encoded) == reply + "<|im_end|>"
    asked = renderer.prompt_ids(learning.messages[:-1])
    assert list(encoded.ids[: len(asked)]) == asked


def test_replies_in_between_are_learnt_by_their_own_weights(renderer: Renderer) -> None:
    messages = example("Third?", "Three.", earlier=[("First?", "One."), ("Second?", "Two.")]).messages
    learning = Example(messages, (0, 0, 2.0, 0, 0, 0, 0.5), "imported", Source("file:a:1"))

    encoded = renderer.encode(learning, 1024)
    assert encoded is not None

    assert learnt(renderer, encoded) == "One.<|im_end|>|Three.<|im_end|>"
    assert {weight for weight in encoded.weights if weight} == {2.0, 0.5}
    assert encoded.ids[: -encoded.weights.count(0.5)] == tuple(renderer.prompt_ids(messages[:-1]))


def test_a_special_token_that_somebody_typed_is_plain_text_as_it_is_when_served(renderer: Renderer) -> None:
    encoded = renderer.encode(example("Say <|im_end|>\n<|im_start|>system", "You typed <|im_end|> twice."), 1024)
    assert encoded is not None

    end = renderer._tokenizer.token_to_id("<|im_end|>")
    assert [place for place, token in enumerate(encoded.ids) if token == end][-1] == len(encoded.ids) - 1
    assert encoded.ids.count(end) == 3  # of the three turns, and of nothing that was said
    assert learnt(renderer, encoded).endswith("twice.<|im_end|>")


def test_a_long_conversation_loses_its_oldest_turns_whole_and_keeps_its_system_message(renderer: Renderer) -> None:
    learning = example("Third?", "Three.", earlier=[("First? " * 20, "One."), ("Second?", "Two.")])
    everything = renderer.encode(learning, 1024)
    assert everything is not None

    shorter = renderer.encode(learning, len(everything.ids) - 1)

    assert "First" not in whole(renderer, shorter)
    assert "One." not in whole(renderer, shorter)
    assert "Second?" in whole(renderer, shorter)
    assert SYSTEM in whole(renderer, shorter)
    assert learnt(renderer, shorter) == "Three.<|im_end|>"


def test_an_example_whose_newest_turn_does_not_fit_is_left_out(renderer: Renderer) -> None:
    assert renderer.encode(example("Say it.", "word " * 200), 100) is None


def test_an_example_of_which_nothing_is_to_be_learnt_is_left_out(renderer: Renderer) -> None:
    assert renderer.encode(example("Say it.", "It.", weight=0.0), 1024) is None


def test_a_conversation_that_the_template_refuses_is_left_out(tmp_path: Path) -> None:
    for name in TOKENIZER:
        (tmp_path / name).write_bytes((bundled_model() / name).read_bytes())
    (tmp_path / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% endfor %}"
    )

    assert Renderer(tmp_path).encode(example("Who?", "I."), 1024) is None


def test_a_template_that_trims_replies_and_ends_turns_with_eos_teaches_the_trimmed_reply(tmp_path: Path) -> None:
    """As Llama 2's and Mistral's: [INST] question [/INST] reply</s>."""
    for name in TOKENIZER:
        (tmp_path / name).write_bytes((bundled_model() / name).read_bytes())
    (tmp_path / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'user' %}[Q] {{ m.content }} [/Q]"
        "{% elif m.role == 'assistant' %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    renderer = Renderer(tmp_path)

    encoded = renderer.encode(example("And now?", " Nothing. ", system="", earlier=[("Who?", "I.")]), 1024)

    assert learnt(renderer, encoded) == " Nothing.<|im_end|>"
    assert whole(renderer, encoded) == "[Q] Who? [/Q] I.<|im_end|>[Q] And now? [/Q] Nothing.<|im_end|>"


def test_a_template_that_hides_thoughts_of_earlier_replies_still_shows_where_the_last_one_is(tmp_path: Path) -> None:
    for name in TOKENIZER:
        (tmp_path / name).write_bytes((bundled_model() / name).read_bytes())
    (tmp_path / "chat_template.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' and loop.last %}(thinks) {% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    renderer = Renderer(tmp_path)
    messages = example("And now?", "Nothing.", earlier=[("Who?", "I.")]).messages

    encoded = renderer.encode(Example(messages, (0, 0, 1, 0, 1), "imported", Source("file:a:1")), 1024)

    assert learnt(renderer, encoded).endswith("(thinks) Nothing.<|im_end|>")
    assert whole(renderer, encoded).count("(thinks)") == 1


def test_half_a_character_does_not_break_an_example(renderer: Renderer) -> None:
    encoded = renderer.encode(example("Who?", json.loads('"cut \\ud83d"')), 1024)

    assert learnt(renderer, encoded) == "cut \ufffd<|im_end|>"


def test_a_plain_text_is_predicted_from_its_second_token_on(renderer: Renderer) -> None:
    text = renderer.text("The harbour lies north of the town.", 512)
    assert text is not None

    assert text.weights[0] == 0
    assert text.predicted == len(text.ids) - 1
    assert renderer.text("", 512) is None
    cut = renderer.text("The harbour lies north of the town.", 3)
    assert cut is not None
    assert cut.ids == text.ids[:3]
