"""No conversation, and nothing that is nearly the same, stands on two sides; nothing is lost without being counted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune.errors import DataRefused
from finetune.examples import Example
from finetune.near_duplicates import across, jaccard, normal, repeated, said, shingles
from finetune.split import Sides, prove_apart, split
from settings import Gate, Learning
from tests.finetune.made_log import example

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SHARES = {"validation_share": 0.1, "test_share": 0.2, "near_duplicate": 0.8, "seed": 0}
WORDS = [
    "amber",
    "basil",
    "cedar",
    "dahlia",
    "ember",
    "fjord",
    "garnet",
    "hazel",
    "indigo",
    "jasper",
    "kelp",
    "lotus",
    "maple",
    "nickel",
    "onyx",
]


def distinct(conversations: int, each: int = 2) -> list[Example]:
    """Nothing in one is like anything in another; conversation N is of day N."""
    return [
        example(
            f"{WORDS[number % 15]} {number * 7919} {WORDS[turn]}?",
            f"{number * 104729} {WORDS[(number * 7 + turn) % 15]} {number}",
            f"log:{number}",
            at=BEGAN + timedelta(days=number, minutes=turn),
            message_ids=(number * 100 + turn,),
        )
        for number in range(1, conversations + 1)
        for turn in range(each)
    ]


def names(examples: Sequence[Example]) -> set[str]:
    return {each.source.conversation for each in examples}


def test_of_two_hundred_conversations_as_many_are_held_out_as_the_gate_asks_for() -> None:
    shares = {"validation_share": Learning().validation_share, "test_share": Learning().test_share}
    assert len(names(split(distinct(200), **SHARES | shares).test)) == Gate().min_conversations


def test_the_newest_conversations_are_the_test_and_the_rest_is_divided_at_random() -> None:
    sides = split(distinct(40), **SHARES)
    assert names(sides.test) == {f"log:{number}" for number in range(33, 41)}
    assert len(names(sides.validation)) == 4
    assert names(sides.validation) != {f"log:{number}" for number in range(29, 33)}
    assert len(names(sides.train)) == 28
    assert sides.left_out == {}


def test_a_conversation_that_goes_on_today_is_new_however_old_its_beginning() -> None:
    late = example("Still there?", "Always, 99887766", "log:1", at=BEGAN + timedelta(days=900), message_ids=(7,))
    assert "log:1" in names(split([*distinct(20), late], **SHARES).test)


def test_the_same_seed_divides_alike_in_whatever_order_the_examples_come() -> None:
    examples = distinct(30)
    once, again = split(examples, **SHARES), split(examples[::-1], **SHARES)
    assert [names(side) for _, side in once.items()] == [names(side) for _, side in again.items()]
    other = split(examples, **{**SHARES, "seed": 1})
    assert names(other.validation) != names(once.validation)
    assert names(other.test) == names(once.test)


def test_conversations_without_a_time_are_drawn() -> None:
    examples = [example(f"{WORDS[n % 15]} {n * 7919}", f"{n * 104729}", f"file:x:{n}") for n in range(40)]
    chosen = [names(split(examples, **{**SHARES, "seed": seed}).test) for seed in range(3)]
    assert all(len(each) == 8 for each in chosen)
    assert len({frozenset(each) for each in chosen}) == 3


@pytest.mark.parametrize(("conversations", "sides"), [(0, (0, 0, 0)), (1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1))])
def test_few_conversations_are_divided_as_far_as_they_go(conversations: int, sides: tuple[int, int, int]) -> None:
    got = split(distinct(conversations), **SHARES)
    assert tuple(len(names(side)) for _, side in got.items()) == sides


def test_what_is_nearly_the_same_leaves_the_side_that_is_learnt_from() -> None:
    examples = distinct(20)
    question, reply = "Where do I find the key of the bicycle shed?", "It hangs on the hook behind the kitchen door."
    examples.append(example(question, reply, "log:1", at=BEGAN, message_ids=(1,)))
    examples.append(example(question, reply + "!", "log:20", at=BEGAN + timedelta(days=20), message_ids=(2,)))
    sides = split(examples, **SHARES)
    assert [each.source.conversation for _, side in sides.items() for each in side if each.question == question] == [
        "log:20"
    ]
    assert sides.left_out == {"near_duplicate_of_test": 1}
    prove_apart(sides, 0.8)


def test_what_was_learnt_before_is_tested_on_last_or_never() -> None:
    examples = distinct(20)
    learned = {f"log:{number}" for number in range(5, 21)}
    assert names(split(examples, **SHARES, learned=learned).test) == {"log:1", "log:2", "log:3", "log:4"}
    few = {f"log:{number}" for number in range(2, 21)}
    assert names(split(examples, **SHARES, learned=few).test) == {"log:1", "log:20", "log:19", "log:18"}
    strictly = split(examples, **SHARES, learned=few, learned_is_tested=False)
    assert (names(strictly.test), names(strictly.validation)) == ({"log:1"}, set())


def test_the_same_question_asked_of_one_document_is_no_duplicate_because_of_its_passages() -> None:
    frame = "Here are passages.\n\n[1] Rules\n> " + "Everybody may use the garden. " * 20 + "\n\nAnswer.\n\nQuestion: "
    one = example(frame + "May I plant a tree?", "Yes, after asking [1].", "log:1")
    other = example(frame + "When is the gate locked?", "At nine [1].", "log:2")
    assert list(across([said(one)], [said(other)], 0.8)) == []


# The proof


def apart(train: Sequence[Example], test: Sequence[Example], validation: Sequence[Example] = ()) -> Sides:
    return Sides(tuple(train), tuple(validation), tuple(test))


def test_the_proof_names_a_conversation_on_two_sides() -> None:
    with pytest.raises(DataRefused, match="conversation log:7 is on two sides, train and test"):
        prove_apart(apart([example("a b c", "d e f", "log:7")], [example("g h i", "j k l", "log:7")]), 0.8)


def test_the_proof_names_a_reply_on_two_sides() -> None:
    one = example("a b c", "d e f", "log:1", message_ids=(5,))
    other = example("g h i", "j k l", "log:2", message_ids=(5,))
    with pytest.raises(DataRefused, match="reply 5 is on two sides, validation and test"):
        prove_apart(apart([], [one], [other]), 0.8)


def test_the_proof_names_nearly_the_same_text_on_two_sides() -> None:
    one = example("How long is the summer leave here?", "It is thirty days, every year.", "log:1")
    other = example("how long is the summer leave here?", "It is thirty days every year", "log:2")
    for sides in (apart([one], [other]), apart([], [one], [other]), apart([one], [], [other])):
        with pytest.raises(DataRefused, match=r"Nearly the same text is on two sides.*log:"):
            prove_apart(sides, 0.8)
    prove_apart(apart([one], [other]), 0.95)


# Whatever the examples are


def made(rows: list[tuple[int, int | None, list[str], list[str]]]) -> list[Example]:
    return [
        example(
            " ".join(question),
            " ".join(reply),
            f"log:{conversation}",
            at=None if day is None else BEGAN + timedelta(days=day),
            message_ids=(number,),
        )
        for number, (conversation, day, question, reply) in enumerate(rows)
    ]


SAYINGS = st.lists(st.sampled_from([*WORDS, "年假", "三十天", "办公室", "👍"]), min_size=1, max_size=6)
EXAMPLES = st.lists(st.tuples(st.integers(1, 12), st.none() | st.integers(0, 5), SAYINGS, SAYINGS), max_size=40).map(
    made
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    EXAMPLES,
    st.floats(0.01, 0.49),
    st.floats(0.01, 0.49),
    st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]),
    st.integers(0, 3),
    st.sets(st.integers(1, 12).map(lambda number: f"log:{number}")),
    st.booleans(),
)
def test_the_sides_are_always_apart_and_nothing_is_lost(
    examples: list[Example],
    validation_share: float,
    test_share: float,
    near_duplicate: float,
    seed: int,
    learned: set[str],
    learned_is_tested: bool,
) -> None:
    sides = split(
        examples,
        validation_share=validation_share,
        test_share=test_share,
        near_duplicate=near_duplicate,
        seed=seed,
        learned=learned,
        learned_is_tested=learned_is_tested,
    )
    prove_apart(sides, near_duplicate)
    kept = [each for _, side in sides.items() for each in side]
    assert len(kept) + sum(sides.left_out.values()) == len(examples)
    assert all(each in examples for each in kept)
    everywhere = [names(side) for _, side in sides.items()]
    assert sum(len(each) for each in everywhere) == len(set().union(*everywhere))
    for left in sides.train:
        for right in sides.test:
            assert jaccard(shingles(said(left)), shingles(said(right))) < (near_duplicate or 1.0)
    if not learned_is_tested:
        assert not names(sides.test) & learned


TEXTS = st.lists(st.text("ab 好", max_size=24).map(normal), max_size=12)


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS, st.sampled_from([0.1, 0.5, 0.75, 0.8, 1.0]))
def test_across_finds_exactly_the_pairs_that_overlap_enough(
    left: list[str], right: list[str], threshold: float
) -> None:
    found = set(across(left, right, threshold))
    overlap = {
        (one, other)
        for one, text in enumerate(left)
        for other, against in enumerate(right)
        if jaccard(shingles(text), shingles(against)) >= threshold
    }
    assert found == overlap


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from([0.5, 0.8, 1.0]))
def test_after_thinning_out_no_two_are_nearly_the_same_and_each_that_went_was(
    texts: list[str], threshold: float
) -> None:
    gone = repeated(texts, threshold)
    kept = [number for number in range(len(texts)) if number not in gone]
    sets = [shingles(text) for text in texts]
    assert not any(jaccard(sets[one], sets[other]) >= threshold for one in kept for other in kept if one < other)
    assert all(any(jaccard(sets[one], sets[other]) >= threshold for other in kept if other < one) for one in gone)
