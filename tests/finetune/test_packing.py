"""Conversations in one row must not see each other, and the loss must be that of each alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from finetune import attention
from finetune.batches import batches
from finetune.packing import forward, losses, measured, pack, packs, token_losses
from finetune.tokens import Encoded, Renderer
from tests.finetune.tiny import chat_model, example


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=["transformers' attention", "attention by segments"])
def model(folder: Path, request: pytest.FixtureRequest) -> Any:
    loaded = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if request.param == "attention by segments":
        assert attention.use(loaded)
    return loaded


@pytest.fixture
def plain(folder: Path) -> Any:
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def encoded(folder: Path) -> list[Encoded]:
    renderer = Renderer(folder)
    conversations = [
        example("Who repairs the clock?", "Wilhelmina Oakes does."),
        example("钟由谁修理？", "由威廉敏娜·奥克斯修理。"),
        example("And who pays?", "The town.", earlier=[("Who repairs it?", "Oakes.")]),
    ]
    return [each for one in conversations if (each := renderer.encode(one, 512)) is not None]


def rows(encoded: list[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([[token for each in encoded for token in each.ids]])
    positions = torch.tensor([[place for each in encoded for place in range(len(each.ids))]])
    return ids, positions


def alone(model: Any, encoded: list[Encoded]) -> torch.Tensor:
    """The logits of each conversation by itself, one after the other."""
    with torch.no_grad():
        return torch.cat([model(input_ids=torch.tensor([each.ids])).logits[0] for each in encoded])


def test_packed_conversations_get_the_logits_that_each_gets_alone(model: Any, encoded: list[Encoded]) -> None:
    together = pack(encoded, [0, 1, 2])
    expected = alone(model, encoded)[[place - 1 for place in together.predicted]]

    with torch.no_grad():
        assert torch.allclose(forward(model, together), expected, atol=1e-4)


@pytest.mark.parametrize(
    "trap",
    [
        pytest.param({"use_cache": True}, id="with a cache"),
        pytest.param({"use_cache": False, "attention_mask": "ones"}, id="with a mask of ones"),
    ],
)
def test_the_usual_ways_to_call_the_model_let_packed_conversations_see_each_other(
    plain: Any, encoded: list[Encoded], trap: dict[str, Any]
) -> None:
    """Should transformers mend this, the warning in finetune/packing.py can go."""
    ids, positions = rows(encoded)
    if "attention_mask" in trap:
        trap = trap | {"attention_mask": torch.ones_like(ids)}
    first, expected = len(encoded[0].ids), alone(plain, encoded)

    with torch.no_grad():
        leaking = plain(input_ids=ids, position_ids=positions, **trap).logits[0]
        right = plain(input_ids=ids, position_ids=positions, use_cache=False).logits[0]

    assert torch.allclose(right, expected, atol=1e-4)
    assert torch.allclose(leaking[:first], expected[:first], atol=1e-4)  # it has nobody before it
    assert (leaking[first:] - expected[first:]).abs().max() > 0.1


def test_what_is_said_in_one_conversation_does_not_change_the_loss_of_the_next(
    model: Any, folder: Path, encoded: list[Encoded]
) -> None:
    other = Renderer(folder).encode(example("Who breaks the clock?", "Nobody does, as far as we know."), 512)
    assert other is not None

    with torch.no_grad():
        one, two = (token_losses(model, pack([first, encoded[2]], [0, 1])) for first in (encoded[0], other))

    assert torch.allclose(one[-encoded[2].predicted :], two[-encoded[2].predicted :], atol=1e-4)


def test_the_head_on_replies_alone_gives_the_same_loss_and_the_same_gradients(
    model: Any, plain: Any, encoded: list[Encoded]
) -> None:
    together = pack(encoded, [0, 1, 2])
    ids, positions = rows(encoded)
    labels = torch.full_like(ids, -100)
    labels[0, list(together.predicted)] = ids[0, list(together.predicted)]

    logits = plain(input_ids=ids, position_ids=positions, use_cache=False).logits
    whole = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=-100)
    whole.backward()
    expected = {name: each.grad for name, each in plain.named_parameters()}
    model.zero_grad()
    ours = token_losses(model, together).mean()
    ours.backward()

    assert torch.allclose(ours, whole, atol=1e-6)
    for name, each in model.named_parameters():
        assert torch.allclose(each.grad, expected[name], rtol=1e-4, atol=1e-6), name
    model.zero_grad()


def test_logits_are_computed_for_predicted_tokens_alone(model: Any, encoded: list[Encoded]) -> None:
    together = pack(encoded, [0, 1, 2])

    with torch.no_grad():
        assert forward(model, together).shape == (sum(each.predicted for each in encoded), 49152)
    assert sum(each.predicted for each in encoded) < len(together) / 2


def test_the_losses_of_many_are_those_of_each_alone_in_their_order(model: Any, encoded: list[Encoded]) -> None:
    several = encoded * 3

    found = losses(model, several, budget=100)

    for each, (loss, tokens) in zip(several, found, strict=True):
        with torch.no_grad():
            expected = token_losses(model, pack([each], [0]))
        assert tokens == each.predicted
        assert loss == pytest.approx(float(expected.sum()), rel=1e-5)


def test_a_token_that_another_one_is_likelier_than_is_a_mistake(model: Any, encoded: list[Encoded]) -> None:
    whole = encoded[0]
    ids = list(whole.ids)
    predicted = [at for at, weight in enumerate(whole.weights) if at and weight > 0]
    for at in predicted:  # as greedy decoding writes it
        with torch.no_grad():
            ids[at] = int(model(torch.tensor([ids[:at]]), use_cache=False).logits[0, -1].argmax())
    other = [*ids[: predicted[-1]], ids[predicted[-1]] + 1, *ids[predicted[-1] + 1 :]]

    found = measured(model, [Encoded(tuple(each), whole.weights) for each in (ids, other)], budget=512)

    assert [each.mistakes for each in found] == [0, 1]


def test_an_example_of_which_nothing_is_predicted_has_no_loss(model: Any) -> None:
    assert losses(model, [Encoded((5, 6, 7), (0.0, 0.0, 0.0))], budget=64) == [(0.0, 0)]
    assert losses(model, [], budget=64) == []


def test_a_model_that_sees_only_a_window_keeps_its_own_attention(plain: Any) -> None:
    plain.config.sliding_window = 8

    assert not attention.use(plain)
    assert plain.config._attn_implementation == "sdpa"


def test_a_model_in_which_packed_conversations_see_each_other_is_found_out(
    plain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert attention.isolates(plain)

    def leaking(*given: Any, segments: Any = None, **also: Any) -> Any:
        return right(*given, **also)

    right = attention.segmented
    monkeypatch.setattr(attention, "segmented", leaking)

    assert not attention.use(plain)
    assert plain.config._attn_implementation == "sdpa"
    assert attention.isolates(plain)


LENGTHS = st.lists(st.integers(2, 300), min_size=1, max_size=40)


@given(LENGTHS, st.integers(64, 256))
def test_every_example_is_in_one_row_and_no_row_is_over_its_budget(lengths: list[int], budget: int) -> None:
    encoded = [Encoded(tuple(range(length)), (1.0,) * length) for length in lengths]

    made = packs(encoded, budget)

    assert sorted(member for each in made for member in each.members) == list(range(len(encoded)))
    assert all(len(each) <= budget or len(each.members) == 1 for each in made)
    assert all(sum(each.lengths) == len(each) == len(each.positions) for each in made)
    assert all(each.predicted.count(0) == 0 for each in made)  # nothing comes before the first token


@given(LENGTHS, st.integers(64, 1024))
def test_batches_hold_every_example_once_and_are_of_about_the_same_size(lengths: list[int], budget: int) -> None:
    order = list(reversed(range(len(lengths))))

    made = batches(lengths, order, budget)

    assert [each for batch in made for each in batch] == order
    target = sum(lengths) / max(1, round(sum(lengths) / budget))
    assert all(abs(sum(lengths[each] for each in batch) - target) <= max(lengths) + target / 2 for batch in made[:-1])
    assert len(made) <= max(1, round(sum(lengths) / budget))
