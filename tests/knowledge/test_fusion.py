from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from knowledge.fusion import convex, reciprocal_rank

SCORES = st.dictionaries(st.integers(1, 30), st.floats(-1, 50, allow_nan=False), max_size=20)


def test_the_best_of_both_is_first() -> None:
    assert list(convex({1: 9.0, 2: 8.0, 3: 1.0}, {2: 0.9, 3: 0.8, 1: 0.7}, 0.5)) == [2, 1, 3]


def test_the_weight_says_which_search_decides() -> None:
    words, meaning = {1: 9.0, 2: 1.0}, {2: 0.9, 1: 0.8}
    assert next(iter(convex(words, meaning, 0.9))) == 2
    assert next(iter(convex(words, meaning, 0.1))) == 1


def test_how_far_apart_scores_are_counts_and_not_only_their_ranks() -> None:
    words = {1: 20.0, 2: 19.9, 3: 1.0}
    meaning = {2: 0.90, 1: 0.80, 3: 0.79}
    assert next(iter(convex(words, meaning, 0.5))) == 2


def test_where_one_search_found_nothing_the_other_decides() -> None:
    assert list(convex({}, {7: 0.8, 5: 0.9}, 0.1)) == [5, 7]
    assert list(convex({7: 3.0, 5: 4.0}, {}, 0.9)) == [5, 7]
    assert convex({}, {}, 0.5) == {}


def test_one_candidate_is_the_best() -> None:
    assert convex({4: 2.0}, {4: 0.8}, 0.5) == {4: 1.0}


def test_equal_scores_keep_one_order() -> None:
    assert list(convex({3: 1.0, 1: 1.0, 2: 1.0}, {2: 0.5, 3: 0.5, 1: 0.5}, 0.5)) == [1, 2, 3]


@given(SCORES, SCORES, st.floats(0, 1))
def test_every_candidate_is_kept_with_a_score_between_0_and_1_best_first(
    words: dict[int, float], meaning: dict[int, float], weight: float
) -> None:
    fused = convex(words, meaning, weight)
    assert set(fused) == set(words) | set(meaning)
    assert all(-1e-9 <= score <= 1 + 1e-9 for score in fused.values())
    assert list(fused.values()) == sorted(fused.values(), reverse=True)


def test_reciprocal_rank_prefers_what_is_high_in_both() -> None:
    assert list(reciprocal_rank({1: 9.0, 2: 8.0}, {2: 0.9, 3: 0.8})) == [2, 1, 3]
