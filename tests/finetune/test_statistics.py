"""Intervals of differences: they hold the true value as often as they say, and conversations are what is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from finetune.statistics import Estimate, mean, paired


def differences(values: list[float], by: list[str] | None = None, **how: object) -> Estimate:
    by = by or [str(place) for place in range(len(values))]
    return paired([0.0] * len(values), values, by, **how)  # type: ignore[arg-type]


def test_the_difference_is_after_minus_before() -> None:
    assert paired([3.0, 2.0], [1.0, 1.0], ["a", "b"]).mean == pytest.approx(-1.5)


def test_the_interval_lies_around_the_mean_and_is_wider_for_more_confidence() -> None:
    values = list(np.random.default_rng(0).normal(0.2, 1, 60))
    narrow, wide = differences(values, confidence=0.8), differences(values, confidence=0.99)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_the_same_data_have_the_same_interval_every_time() -> None:
    values = list(np.random.default_rng(0).normal(0.2, 1, 60))
    assert differences(values) == differences(values)
    assert differences(values) != differences(values, seed=1)


def test_a_conversation_with_many_replies_counts_as_one() -> None:
    """Five hundred replies of one conversation, all better, are no proof: the other conversations say nothing."""
    values = [-1.0] * 500 + [0.1, -0.1, 0.05, -0.05]
    estimate = differences(values, ["long"] * 500 + ["a", "b", "c", "d"])
    assert estimate.n == 5
    assert estimate.mean == pytest.approx(-0.2)
    assert estimate.low < 0 < estimate.high


def test_with_weights_each_token_counts_the_same() -> None:
    estimate = paired([1.0, 1.0], [2.0, 1.0], ["a", "b"], weights=[30.0, 10.0])
    assert estimate.mean == pytest.approx(0.75)


def test_the_unit_of_the_weights_changes_nothing() -> None:
    chance = np.random.default_rng(0)
    values, weights, by = list(chance.normal(0.2, 1, 40)), chance.uniform(1, 9, 40), [str(n) for n in range(40)]
    small, large = (
        paired([0.0] * 40, values, by, weights=list(weights * unit), resamples=1000) for unit in (1.0, 1000.0)
    )
    assert (small.low, small.high) == pytest.approx((large.low, large.high))
    by_hand = float(np.sqrt((weights**2 * (np.array(values) - small.mean) ** 2).sum()) / weights.sum())
    assert small.high - small.low == pytest.approx(2 * 2.02 * by_hand, rel=0.15)


def test_the_order_of_items_and_the_names_of_conversations_change_nothing_but_the_draws() -> None:
    values = list(np.random.default_rng(3).normal(0.3, 1, 40))
    turned = differences(values[::-1])
    assert differences(values).low == pytest.approx(turned.low, abs=0.03)
    assert differences(values).mean == pytest.approx(turned.mean)


def test_identical_differences_have_no_spread() -> None:
    estimate = differences([0.5] * 20)
    assert (estimate.low, estimate.mean, estimate.high) == (0.5, 0.5, 0.5)


def test_nothing_gives_no_number_and_one_conversation_no_interval() -> None:
    assert math.isnan(differences([]).mean)
    assert differences([]).n == 0
    one = differences([0.3, 0.5], ["a", "a"])
    assert one.mean == pytest.approx(0.4)
    assert not one.known


def test_a_value_that_is_no_number_gives_no_number() -> None:
    assert math.isnan(differences([0.1, math.nan, 0.2]).mean)
    assert math.isnan(differences([0.1, math.inf, 0.2]).mean)


def test_lists_of_different_lengths_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="length"):
        paired([1.0], [1.0, 2.0], ["a", "b"])
    with pytest.raises(ValueError, match="length"):
        paired([1.0], [1.0], ["a"], weights=[])


@pytest.mark.parametrize(("events", "sure"), [(0, False), (1, False), (2, False), (8, True)])
def test_a_share_is_larger_for_certain_only_after_some_events(events: int, sure: bool) -> None:
    estimate = differences([1.0] * events + [0.0] * (40 - events))
    assert estimate.known
    assert (estimate.low > 0) == sure
    assert 0 <= estimate.low <= estimate.high <= 1


def test_thousands_of_conversations_are_drawn_block_by_block() -> None:
    values = list(np.random.default_rng(0).normal(0.1, 1, 3000))
    estimate = differences(values, resamples=3000)
    expected = 1.96 * np.std(values) / math.sqrt(3000)
    assert estimate.mean - estimate.low == pytest.approx(expected, rel=0.1)
    assert estimate.high - estimate.mean == pytest.approx(expected, rel=0.1)


def _normal(chance: np.random.Generator, n: int) -> np.ndarray:
    return chance.normal(size=n)


def _skewed(chance: np.random.Generator, n: int) -> np.ndarray:
    """Mean 0, spread 1; most a little above, some far below."""
    return -(chance.lognormal(0, 1, n) - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e)


def _few_moved(chance: np.random.Generator, n: int) -> np.ndarray:
    moved = np.where(chance.random(n) < 0.1, chance.normal(1, 1, n), 0.0)
    return (moved - 0.1) / math.sqrt(0.19)


@pytest.mark.parametrize(
    ("drawn", "most"), [(_normal, 0.04), (_skewed, 0.08), (_few_moved, 0.04)], ids=["normal", "skewed", "few moved"]
)
def test_a_gain_that_is_not_there_is_seldom_found(
    drawn: Callable[[np.random.Generator, int], np.ndarray], most: float
) -> None:
    """At 50 conversations; 2.5% is what the 95% interval promises. Plain percentiles find 9% on the skewed ones."""
    chance = np.random.default_rng(7)
    found = sum(differences(list(drawn(chance, 50)), resamples=1000).low > 0 for _ in range(500))
    assert found / 500 <= most


def test_a_gain_of_a_third_of_the_spread_is_mostly_found_at_100_conversations() -> None:
    """The issue's case: 0.1 nats, spread 0.3."""
    chance = np.random.default_rng(7)
    found = sum(differences(list(chance.normal(0.1, 0.3, 100)), resamples=1000).low > 0 for _ in range(300))
    assert 0.85 < found / 300 < 0.97


def test_a_mean_over_conversations() -> None:
    assert mean([1.0, 3.0, 10.0], ["a", "a", "b"]) == pytest.approx(6.0)
    assert math.isnan(mean([], []))
