"""What holds a model to what it knew: replayed examples, the base model's own replies, and the pull back to it."""

from __future__ import annotations

import math
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from finetune import continual, methods, packing, servable, training
from finetune.continual import anchors, everyday, mix, regulariser, reservoir, wanted_anchors
from finetune.examples import Example, Source
from finetune.files import read_lines
from finetune.job import Job, Progress
from finetune.replies import Written
from finetune.tokens import Encoded, Renderer
from settings import REPOSITORY, Finetune
from tests.finetune.tiny import chat_model, example, examples


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("tiny") / "model")


class Answering:
    """In place of what generates: a tiny random model only loops. Counts what it is asked, and may break down."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.breaks_after = math.inf
        self.otherwise: dict[str, Written | None] = {}

    def __call__(self, model: object, renderer: object, folder: object, prompts: list, **limits: int) -> list:
        if len(self.asked) >= self.breaks_after:
            raise KeyboardInterrupt
        questions = [messages[-1]["content"] for messages, _ in prompts]
        self.asked += questions
        return [self.otherwise.get(each, Written(f"Oh: {each}", 9, "stop")) for each in questions]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Answering:
    answers = Answering()
    monkeypatch.setattr("finetune.replies.written", answers)
    return answers


# Anchors


def test_anchors_are_the_models_own_replies_of_which_only_the_reply_is_learnt(
    model_folder: Path, tmp_path: Path, answering: Answering
) -> None:
    found = anchors(model_folder, 12, 0, tmp_path)

    assert len(found) == 12
    for each in found:
        assert each.question in everyday()
        assert each.reply == f"Oh: {each.question}"
        assert each.why == "general"
        assert each.weights[-1] == 1
        assert not any(each.weights[:-1])
    assert len({each.source.conversation for each in found}) == 12
    assert all(each.source.conversation.startswith("general:") for each in found)
    with_persona = sum(each.messages[0]["role"] == "system" for each in found)
    assert 0 < with_persona < 12


def test_a_second_time_nothing_is_generated_and_torch_is_not_even_loaded(
    model_folder: Path, tmp_path: Path, answering: Answering
) -> None:
    first = anchors(model_folder, 10, 3, tmp_path)
    code = (
        "import sys; from pathlib import Path; from finetune.continual import anchors;"
        f"found = anchors(Path({str(model_folder)!r}), 10, 3, Path({str(tmp_path)!r}));"
        "print(len(found), 'torch' in sys.modules)"
    )

    told = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    again = anchors(model_folder, 10, 3, tmp_path)

    assert told.stdout.split() == ["10", "False"]
    assert again == first


def test_replies_that_loop_or_say_nothing_or_are_cut_off_are_no_anchors(
    model_folder: Path, tmp_path: Path, answering: Answering
) -> None:
    usual = anchors(model_folder, 5, 0, tmp_path / "usual")
    loop, nothing, cut, refused, foreign = (each.question for each in usual)
    answering.otherwise = {
        loop: Written("I am here. " * 60, 200, "stop"),
        nothing: Written(" \n", 1, "stop"),
        cut: Written("There are many reasons for", 256, "length"),
        refused: None,
        foreign: Written("Это совсем другой язык." if foreign.isascii() else "This is another language.", 9, "stop"),
    }

    found = anchors(model_folder, 5, 0, tmp_path / "now")

    assert len(found) == 5
    assert not {*answering.otherwise} & {each.question for each in found}


def test_a_base_model_whose_replies_come_with_the_package_is_not_asked(
    model_folder: Path, tmp_path: Path, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = anchors(model_folder, 10_000, 0, tmp_path / "made")
    asked = len(answering.asked)
    monkeypatch.setattr(continual, "GENERAL", _with_replies(tmp_path, next((tmp_path / "made").iterdir())))

    assert anchors(model_folder, 10_000, 0, tmp_path / "cache") == made
    assert len(answering.asked) == asked


def _with_replies(tmp_path: Path, file: Path) -> Path:
    folder = tmp_path / "general"
    shutil.copytree(continual.GENERAL, folder)
    shutil.copy(file, folder)
    return folder


def test_the_replies_of_the_bundled_model_that_come_with_the_package_are_to_all_prompts_and_fit() -> None:
    (file,) = continual.GENERAL.glob("anchors-*.jsonl")
    replies = {row["prompt"]: row["reply"] for row in read_lines(file)}

    assert list(replies) == everyday()
    assert all(continual._fit(prompt, reply) for prompt, reply in replies.items() if reply)
    assert sum(bool(reply) for reply in replies.values()) > 100


def test_what_was_generated_for_another_draw_changes_nothing_of_this_one(
    model_folder: Path, tmp_path: Path, answering: Answering
) -> None:
    fresh = anchors(model_folder, 10, 0, tmp_path / "fresh")
    anchors(model_folder, 60, 1, tmp_path / "used")

    assert anchors(model_folder, 10, 0, tmp_path / "used") == fresh


def test_another_base_model_has_anchors_of_its_own(model_folder: Path, tmp_path: Path, answering: Answering) -> None:
    other = chat_model(tmp_path / "other", seed=5)
    anchors(model_folder, 5, 0, tmp_path / "cache")
    before = len(answering.asked)

    anchors(other, 5, 0, tmp_path / "cache")

    assert len(answering.asked) > before


def test_killed_half_way_it_goes_on_with_what_it_has(model_folder: Path, tmp_path: Path, answering: Answering) -> None:
    answering.breaks_after = 30
    with pytest.raises(KeyboardInterrupt):
        anchors(model_folder, 100, 0, tmp_path)
    answering.breaks_after = math.inf

    found = anchors(model_folder, 100, 0, tmp_path)

    assert len(found) == 100
    assert max(Counter(answering.asked).values()) == 1


def test_a_damaged_cache_is_made_anew(model_folder: Path, tmp_path: Path, answering: Answering) -> None:
    whole = anchors(model_folder, 6, 0, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-7])

    assert anchors(model_folder, 6, 0, tmp_path) == whole


def test_more_than_there_are_prompts_gives_all_of_them_once(
    model_folder: Path, tmp_path: Path, answering: Answering
) -> None:
    heard: list[Progress] = []

    found = anchors(model_folder, 10_000, 0, tmp_path, heard.append)

    assert sorted(each.question for each in found) == sorted(everyday())
    assert [each.done for each in heard] == sorted(each.done for each in heard)
    assert anchors(model_folder, 0, 0, tmp_path) == []


def test_the_real_thing_generates_and_leaves_out_what_a_random_model_babbles(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continual, "REPLY_TOKENS", 3)
    monkeypatch.setattr(continual, "everyday", lambda: ["Hello!", "你好！", "What can you do?"])

    found = anchors(model_folder, 2, 0, tmp_path)

    (file,) = tmp_path.iterdir()
    assert len(list(read_lines(file))) == 3
    assert len(found) <= 2


def test_a_run_takes_a_share_of_its_examples_and_enough_for_the_pull_back() -> None:
    assert wanted_anchors(Finetune(general=0.25, kl=0), 200) == 50
    assert wanted_anchors(Finetune(general=0, kl=0.5), 200) == continual.KL_ANCHORS
    assert wanted_anchors(Finetune(general=0, kl=0), 200) == 0
    assert wanted_anchors(Finetune(general=1, kl=0), 10_000) == len(everyday())


# Replay


def conversation(number: int, turns: int) -> list[Example]:
    return [
        example(f"Question {turn}?", f"Answer {number}.{turn}.", conversation=f"log:{number}") for turn in range(turns)
    ]


def test_replay_takes_from_as_many_conversations_as_it_can() -> None:
    items = [each for number in range(20) for each in conversation(number, 5)]

    assert len({each.source.conversation for each in reservoir(items, 20, 0)}) == 20
    assert len({each.source.conversation for each in reservoir(items, 12, 0)}) == 12
    counts = Counter(each.source.conversation for each in reservoir(items, 50, 0))
    assert set(counts.values()) == {2, 3}
    assert len(set(map(id, reservoir(items, 50, 0)))) == 50


def test_a_long_conversation_is_no_likelier_than_a_short_one() -> None:
    items = [each for number in range(10) for each in conversation(number, 1 + 9 * (number == 0))]
    drawn = Counter(each.source.conversation for seed in range(600) for each in reservoir(items, 2, seed))

    assert all(80 < count < 165 for count in drawn.values()), drawn
    assert len(drawn) == 10


def test_replay_does_not_depend_on_the_order_and_loses_only_what_was_forgotten() -> None:
    items = [each for number in range(30) for each in conversation(number, 1)]
    chosen = reservoir(items, 10, 7)
    shuffled = random.Random(1).sample(items, len(items))
    forgotten = chosen[3]

    assert reservoir(shuffled, 10, 7) == chosen
    left = reservoir([each for each in items if each is not forgotten], 10, 7)
    assert {each.reply for each in chosen} - {each.reply for each in left} == {forgotten.reply}
    assert reservoir(items, 10, 8) != chosen
    assert reservoir(items, 0, 7) == []
    assert reservoir(items, 99, 7) != items
    assert len(reservoir(items, 99, 7)) == 30


def own_replies(count: int) -> list[Example]:
    return [
        Example(
            ({"role": "user", "content": f"Hi {n}"}, {"role": "assistant", "content": "Hello."}),
            (0, 1),
            "general",
            Source(f"general:{n}"),
        )
        for n in range(count)
    ]


def test_from_the_base_everything_is_learnt_again_and_from_the_last_adapter_a_sample() -> None:
    new, earlier, own = list(examples(10)), list(examples(40, first=100)), own_replies(50)

    from_base = mix(new, earlier, own, Finetune(start="base", general=0.2), 0)
    from_last = mix(new, earlier, own, Finetune(start="last", replay=0.5, general=0.2), 0)

    assert Counter(each.why for each in from_base) == {"corrected": 50, "general": 10}
    assert Counter(each.why for each in from_last) == {"corrected": 15, "general": 3}
    assert from_base[:10] == from_last[:10] == new


def test_what_is_new_and_earlier_at_once_is_learnt_once() -> None:
    new, own = list(examples(10)), own_replies(3)

    assert mix(new, [*new, *examples(2, first=50)], own, Finetune(start="base", general=0), 0) == [
        *new,
        *examples(2, first=50),
    ]
    assert len(mix(new, [], own, Finetune(general=9), 0)) == 13, "there are not more than there are"


def test_mixing_again_gives_the_same() -> None:
    given = list(examples(10)), list(examples(40, first=100)), own_replies(50)
    settings = Finetune(start="last", general=1)

    assert mix(*given, settings, 1) == mix(*given, settings, 1)
    assert mix(*given, settings, 1) != mix(*given, settings, 2)


# The pull back


def encoded_examples(model_folder: Path, count: int) -> list[Encoded]:
    renderer = Renderer(model_folder)
    found = [renderer.encode(each, 512) for each in examples(count)]
    return [each for each in found if each is not None]


def attached(model_folder: Path, settings: Finetune) -> torch.nn.Module:
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    return methods.attach(model, methods.way(settings.method), settings)


def move(model: torch.nn.Module, by: float) -> None:
    torch.manual_seed(3)
    with torch.no_grad():
        for each in model.parameters():
            if each.requires_grad:
                each.add_(torch.randn_like(each) * by)


@pytest.mark.parametrize("method", ["lora", "full", "ia3", "prefix"])
def test_the_pull_is_nothing_at_first_and_brings_a_model_back_that_has_moved_away(
    model_folder: Path, method: str
) -> None:
    settings = Finetune(method=method, kl=1.0, dtype="float32")
    model = attached(model_folder, settings)
    encoded = encoded_examples(model_folder, 6)
    at_first = regulariser(model, settings, encoded)(0).detach()
    pull = regulariser(model, settings, encoded)
    move(model, 0.1)
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=0.01)

    before = float(pull(0).detach())
    for step in range(25):
        optimizer.zero_grad()
        held_back = pull(step)
        assert held_back is not None
        held_back.backward()
        optimizer.step()
    after = float(pull(0).detach())

    if method != "prefix":  # a prefix of any content is one
        assert abs(float(at_first)) < 1e-5
    assert before > 1e-4
    assert after < before / 2


def test_the_divergence_is_nearly_the_one_over_the_whole_vocabulary(model_folder: Path) -> None:
    settings = Finetune(kl=2.0, dtype="float32")
    model = attached(model_folder, settings)
    encoded = encoded_examples(model_folder, 3)
    pull = regulariser(model, settings, encoded)
    pull(0)
    with torch.no_grad():  # as sure of itself as a trained model: nearly all is said by a few tokens
        model.get_base_model().model.norm.weight.mul_(60)
    sure = regulariser(model, settings, encoded)
    move(model, 0.02)

    everything = packing.pack(encoded, range(3))
    moved = torch.log_softmax(packing.forward(model, everything), dim=-1)
    with methods.as_base(model), torch.no_grad():
        base = torch.log_softmax(packing.forward(model, everything), dim=-1)
    whole = settings.kl * float((base.exp() * (base - moved)).sum(dim=-1).mean().detach())

    assert float(sure(0)) <= whole * 1.001
    assert float(sure(0)) == pytest.approx(whole, rel=0.5)


def test_a_step_sees_the_same_anchors_whichever_were_seen_before(model_folder: Path) -> None:
    settings = Finetune(kl=1.0, dtype="float32", l2=0.5)
    encoded = encoded_examples(model_folder, 40)
    model = attached(model_folder, settings)
    from_the_start = regulariser(model, settings, encoded)
    resumed = regulariser(model, settings, encoded)
    move(model, 0.1)

    values = [float(from_the_start(step)) for step in range(6)]

    assert float(resumed(5)) == values[5]
    assert len(set(values)) > 1


def test_the_model_keeps_its_mode_and_dropout_draws_what_it_drew(model_folder: Path) -> None:
    settings = Finetune(kl=1.0, dtype="float32", dropout=0.3)
    model = attached(model_folder, settings)
    pull = regulariser(model, settings, encoded_examples(model_folder, 4))
    move(model, 0.1)
    model.train()
    torch.manual_seed(9)
    first = float(pull(0))  # computes the base's probabilities meanwhile
    assert model.training
    torch.manual_seed(9)
    assert float(pull(0)) == first


def test_l2_is_half_the_squared_way_from_the_start(model_folder: Path) -> None:
    settings = Finetune(kl=0, l2=0.5, dtype="float32")
    model = attached(model_folder, settings)
    pull = regulariser(model, settings, [])
    assert float(pull(0)) == 0
    parameters = [each for each in model.parameters() if each.requires_grad]
    with torch.no_grad():
        parameters[0].add_(2.0)

    assert float(pull(1)) == pytest.approx(0.5 * 0.5 * 4 * parameters[0].numel(), rel=1e-4)


def test_without_anything_to_hold_to_there_is_nothing(model_folder: Path) -> None:
    settings = Finetune(kl=1.0, l2=0, dtype="float32")

    assert regulariser(attached(model_folder, settings), settings, [])(0) is None


def test_training_with_the_pull_ends_nearer_to_the_base_model(tmp_path: Path) -> None:
    model_folder = chat_model(tmp_path / "model")
    sure = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    sure.model.norm.weight.data.mul_(40)  # as a trained model is: of a few tokens, not of none
    sure.save_pretrained(model_folder)
    own = tuple(examples(6, first=500))
    renderer = Renderer(model_folder)
    encoded = [found for each in own if (found := renderer.encode(each, 512))]
    away = {}
    for kl in (0.0, 2.0):
        settings = Finetune(kl=kl, dtype="float32", threads=1, epochs=6, batch_tokens=128)
        training.train(Job(model_folder, tmp_path / str(kl), settings, examples(6), (), own))
        model = servable.load(model_folder, tmp_path / str(kl) / "adapter", dtype="float32")
        pull = regulariser(model, settings.model_copy(update={"kl": 1.0}), encoded)
        away[kl] = float(pull(0).detach())

    assert away[2.0] < away[0.0] / 2
