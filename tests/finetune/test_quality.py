"""A head that learns from ratings which replies people like; the embedder is a made one that counts words."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.quality import judged, pairs
from finetune import quality
from finetune.errors import DataRefused, NotEnoughData
from finetune.examples import Judged, Source

GOOD = ["Here", "is", "how", "it", "is", "done", ",", "step", "by", "step", ",", "with", "an", "example", "."]
BAD = ["No", "idea", ",", "look", "it", "up", "yourself", ",", "whatever", ",", "bye", "."]
NEUTRAL = ["apple", "river", "stone", "cloud", "window", "paper", "garden", "music", "train", "bread"]


def embed(texts: Sequence[str]) -> quality.Array:
    """A bag of words, hashed: what two texts share is where they are near."""
    vectors = np.full((len(texts), 64), 1e-6, np.float32)
    for row, text in enumerate(texts):
        for word in text.split():
            vectors[row, hashlib.sha256(word.encode()).digest()[0] % 64] += 1
    normed: quality.Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normed


def rated(count: int, *, telling: bool = True, seed: int = 0) -> list[Judged]:
    """Two replies a conversation; what is in them tells the verdict, or does not."""
    dice = random.Random(seed)
    made = []
    for number in range(count):
        good = bool(dice.getrandbits(1))
        kind = (GOOD if good else BAD) if telling else []
        words = dice.sample(NEUTRAL, 5) + dice.sample(kind, min(4, len(kind)))
        prompt = ({"role": "user", "content": " ".join(dice.sample(NEUTRAL, 4))},)
        made.append(Judged(prompt, " ".join(words), good, Source(f"log:{number // 2}")))
    return made


def test_replies_are_told_apart_where_something_tells_them_apart() -> None:
    scores = quality.evaluated(rated(160), embed)
    assert scores.f1 >= 0.9
    assert scores.accuracy > scores.commoner + 0.3
    assert scores.support == sum(each.good for each in rated(160))
    assert "precision" in scores.printed
    assert "good" in scores.printed
    assert "bad" in scores.printed


def test_where_nothing_tells_them_apart_no_better_than_a_guess_is_reported() -> None:
    scores = quality.evaluated(rated(200, telling=False), embed)
    assert scores.accuracy < scores.commoner + 0.1
    assert not scores.better_than_a_guess


def test_the_guess_beside_it_always_says_the_commoner_verdict() -> None:
    mostly_good = [each for number, each in enumerate(rated(300)) if each.good or number % 4 == 0]
    good = sum(each.good for each in mostly_good)
    scores = quality.evaluated(mostly_good, embed)
    share = good / len(mostly_good)
    assert scores.commoner == pytest.approx(share)
    assert scores.commoner_macro_f1 == pytest.approx(share / (1 + share))  # F1 of the one verdict, and 0 of the other
    assert scores.better_than_a_guess
    assert f"on {len(mostly_good)} rated replies" in scores.said()


def test_what_always_says_the_commoner_verdict_is_a_guess_however_often_that_is_right() -> None:
    """Nine in ten replies are good, and nothing tells which: to be right in nine of ten is no merit."""
    alike = [replace(each, reply="apple", good=number % 10 != 0) for number, each in enumerate(rated(400))]
    scores = quality.evaluated(alike, embed)
    assert scores.balanced.mean == pytest.approx(0, abs=0.1)
    assert not scores.better_than_a_guess


def test_a_reply_is_not_known_from_its_own_conversation() -> None:
    """Each conversation has a word of its own that tells all its verdicts: worth nothing in another conversation."""
    dice = random.Random(0)
    made = []
    for conversation in range(60):
        good = bool(dice.getrandbits(1))
        for _ in range(4):
            reply = " ".join([f"own{conversation}"] * 3 + dice.sample(NEUTRAL, 4))
            made.append(Judged(({"role": "user", "content": "?"},), reply, good, Source(f"log:{conversation}")))
    assert quality.evaluated(made, _one_hot).accuracy < 0.7


def _one_hot(texts: Sequence[str]) -> quality.Array:
    vectors = np.full((len(texts), 64), 1e-6, np.float32)
    for row, text in enumerate(texts):
        own = next((word for word in text.split() if word.startswith("own")), "own63")
        vectors[row, int(own[3:])] = 1
    return vectors


def test_a_head_gives_probabilities_and_good_replies_the_higher_ones() -> None:
    head = quality.learn(rated(120), embed)
    asked = rated(60, seed=1)
    given = head.probability(quality.features(asked, embed))
    assert ((given >= 0) & (given <= 1)).all()
    good = np.array([each.good for each in asked])
    assert given[good].mean() > 0.6 > 0.4 > given[~good].mean()


def test_a_head_that_was_saved_says_the_same(tmp_path: Path) -> None:
    head = quality.learn(rated(120), embed)
    head.save(tmp_path / "quality.npz")
    seen = quality.features(rated(20, seed=2), embed)
    assert (quality.load(tmp_path / "quality.npz").probability(seen) == head.probability(seen)).all()


@pytest.mark.parametrize("content", [b"", b"no numbers", b"PK\x03\x04"])
def test_a_file_that_is_no_head_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "quality.npz"
    file.write_bytes(content)
    with pytest.raises(DataRefused, match=r"quality\.npz"):
        quality.load(file)


def test_a_head_of_nan_is_refused(tmp_path: Path) -> None:
    quality.Head(np.array([np.nan], np.float32), 0.0).save(tmp_path / "quality.npz")
    with pytest.raises(DataRefused):
        quality.load(tmp_path / "quality.npz")


def test_too_few_ratings_say_how_many_there_are_and_how_many_it_takes() -> None:
    few = rated(30)
    good = sum(each.good for each in few)
    with pytest.raises(NotEnoughData, match=rf"{good} replies rated up and {30 - good} rated down.*20 of each"):
        quality.learn(few, embed)
    with pytest.raises(NotEnoughData):
        quality.evaluated([], embed)
    one_sided = [replace(each, good=True) for each in rated(100)]
    with pytest.raises(NotEnoughData, match="0 rated down"):
        quality.learn(one_sided, embed)
    one_conversation = [replace(each, source=Source("log:1")) for each in rated(100)]
    with pytest.raises(NotEnoughData, match="in 1 conversations"):
        quality.evaluated(one_conversation, embed)


def test_empty_replies_and_prompts_without_a_question_are_no_trouble() -> None:
    odd = [replace(each, reply="", prompt=()) for each in rated(4)]
    assert np.isfinite(quality.features([*odd, *rated(4)], embed)).all()


def test_a_loop_or_a_refusal_is_seen_whatever_it_says() -> None:
    looping = replace(rated(1)[0], reply="apple stone " * 200)
    plain = replace(rated(1)[0], reply="apple stone")
    assert (quality.features([looping], embed) != quality.features([plain], embed)).any()
    assert quality.features([looping], embed)[0, -3] == 1


def test_a_question_is_the_same_with_passages_before_it_and_without() -> None:
    plain = Judged(({"role": "user", "content": "When do you open?"},), "At nine.", True, Source("log:1"))
    passages = "Passages:\n\n[1] House rules\n> We open at nine.\n\nQuestion: When do you open?"
    beside = replace(plain, prompt=({"role": "user", "content": passages},))
    assert (quality.features([plain], embed) == quality.features([beside], embed)).all()


def test_ranks_become_pairs_of_neighbours_and_verdicts_on_what_always_or_never_won() -> None:
    def said(text: str, role: str, *replies: dict[str, object], rank: int | None = None) -> dict[str, object]:
        return {"text": text, "role": role, "rank": rank, "replies": list(replies)}

    second = said("And then?", "prompter", said("Worse.", "assistant", rank=1), said("Better.", "assistant", rank=0))
    tree = {
        "message_tree_id": "a",
        "prompt": said(
            "Why?",
            "prompter",
            said("Last.", "assistant", rank=2),
            said("Best.", "assistant", second, rank=0),
            said("Between.", "assistant", rank=1),
            said("Nobody ranked it.", "assistant"),
        ),
    }
    found = list(pairs(tree))
    assert [(each.chosen, each.rejected) for each in found] == [
        ("Best.", "Between."),
        ("Between.", "Last."),
        ("Better.", "Worse."),
    ]
    assert [each["content"] for each in found[2].prompt] == ["Why?", "Best.", "And then?"]
    verdicts = {each.reply: each.good for each in judged(found)}
    assert verdicts == {"Best.": True, "Last.": False, "Better.": True, "Worse.": False}
    assert {each.source.conversation for each in judged(found)} == {"file:oasst:a"}
