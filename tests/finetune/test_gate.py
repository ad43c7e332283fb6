"""The gate: better is promoted, worse is rejected by the rule it broke, and what is not known is not proven."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from finetune.gate import decide, samples, table
from finetune.judge import Judgement
from finetune.measurements import Chosen, Loss, Measurements, Probe, Reply
from finetune.pairs import BROKEN
from finetune.record import Check, Decision
from settings import Gate

GATE = Gate(resamples=1000)
LOOP = "and then I said " * 30
REFUSAL = "I'm sorry, but I can't help with that."


def losses(which: str, count: int, mean: float, *, spread: float = 0.0, tokens: int = 20, seed: int = 0) -> Any:
    chance = np.random.default_rng(seed)
    each = mean + spread * chance.normal(size=count)
    return tuple(Loss(f"{which} {n}", f"log:{n}", float(each[n]) * tokens, tokens) for n in range(count))


def replies(texts: Sequence[str], references: str = "") -> tuple[Reply, ...]:
    return tuple(
        Reply(f"reply {n}", f"log:{n}", f"Question {n}?", references, text, len(text), "stop")
        for n, text in enumerate(texts)
    )


def probes(passed: Sequence[bool]) -> tuple[Probe, ...]:
    return tuple(Probe(f"fact: {n}", "fact", "?", "Paris.", each) for n, each in enumerate(passed))


def measured(name: str = "base", *, test: float = 2.0, conversations: int = 60, **changes: Any) -> Measurements:
    """Of a good model, but for `changes`."""
    whole = Measurements(
        name,
        {
            "test": losses("test", conversations, test, spread=0.1, seed=0 if name == "base" else 1),
            "general": losses("general", 80, 3.0),
        },
        (),
        replies([f"This is reply {n}." for n in range(40)]),
        probes([True] * 10 + [False] * 5),
    )
    return replace(whole, **changes)


BEFORE = measured()
BETTER = measured("familiar@1", test=1.7)


def with_losses(of: Measurements, **sets: Any) -> Measurements:
    named = {name.replace("_", " "): each for name, each in sets.items()}
    return replace(of, losses={**of.losses, **named})


def check(decision: Decision, name: str) -> Check:
    return next(each for each in decision.checks if each.name == name)


def test_a_better_adapter_that_breaks_no_rule_is_promoted() -> None:
    decision = decide(BEFORE, BETTER, GATE)
    assert decision.verdict == "promoted"
    assert "On 60 held-out conversations the loss fell by 0.3" in decision.said
    assert {each.name for each in decision.checks} == {
        *("gain", "general_perplexity", "probes", "refusals", "loops", "empty", "length")
    }
    assert all(each.passed for each in decision.checks)


def test_a_worse_adapter_is_rejected_with_the_rule_and_the_numbers() -> None:
    decision = decide(BEFORE, measured("familiar@1", test=2.4), GATE)
    assert decision.verdict == "rejected"
    assert "gain" in decision.said
    assert "rose by 0.387 nats a token (95% interval 0.355 to 0.417)" in decision.said
    gain = check(decision, "gain")
    assert (gain.passed, gain.n, gain.limit) == (False, 60, 0.0)
    assert gain.high == pytest.approx(-0.355, abs=0.001)


def test_the_same_adapter_again_is_not_proven_better() -> None:
    decision = decide(BEFORE, replace(measured("again", test=2.0), model="again"), GATE)
    assert decision.verdict == "not_proven"
    assert check(decision, "gain").passed is None


def test_a_mean_that_fell_is_not_enough_when_the_interval_holds_zero() -> None:
    before = with_losses(BEFORE, test=losses("test", 60, 2.0))
    after = with_losses(BETTER, test=losses("test", 60, 1.95, spread=0.5))
    decision = decide(before, after, GATE)
    gain = check(decision, "gain")
    assert gain.value is not None
    assert gain.value > 0
    assert gain.passed is None
    assert decision.verdict == "not_proven"


def test_too_few_conversations_prove_nothing_however_much_better_they_are() -> None:
    decision = decide(measured(conversations=49), measured("familiar@1", conversations=49, test=0.5), GATE)
    assert decision.verdict == "not_proven"
    assert "49 held-out conversations and it takes 50" in decision.said


def test_many_replies_of_few_conversations_are_still_too_few() -> None:
    def crowded(each: tuple[Loss, ...]) -> tuple[Loss, ...]:
        return tuple(replace(loss, conversation=f"log:{n % 10}") for n, loss in enumerate(each))

    before = with_losses(BEFORE, test=crowded(losses("test", 200, 2.0)))
    after = with_losses(BETTER, test=crowded(losses("test", 200, 1.0)))
    assert check(decide(before, after, GATE), "gain").passed is None


def test_a_gain_must_be_as_large_as_is_asked() -> None:
    assert decide(BEFORE, BETTER, GATE.model_copy(update={"min_gain": 0.1})).verdict == "promoted"
    assert decide(BEFORE, BETTER, GATE.model_copy(update={"min_gain": 0.6})).verdict == "rejected"


SLIGHTLY_WORSE = with_losses(BEFORE, test=losses("test", 60, 2.03, spread=0.1, seed=0))
MAYBE_TOO_MUCH = with_losses(BEFORE, test=losses("test", 60, 2.09, spread=0.2, seed=3))
MUCH_WORSE = with_losses(BEFORE, test=losses("test", 60, 2.4, spread=0.1, seed=0))


@pytest.mark.parametrize(
    ("after", "otherwise", "verdict"),
    [
        (SLIGHTLY_WORSE, "rejected", "promoted"),
        (MAYBE_TOO_MUCH, "rejected", "not_proven"),
        (MUCH_WORSE, "rejected", "rejected"),
    ],
)
def test_what_takes_the_place_of_a_version_that_knows_what_was_taken_back_need_only_be_no_worse(
    after: Measurements, otherwise: str, verdict: str
) -> None:
    assert decide(BEFORE, after, GATE).verdict == otherwise
    decision = decide(BEFORE, after, GATE, before_is_to_go=True)
    gain = check(decision, "gain")
    assert decision.verdict == verdict
    assert "The version in force learned from what was taken back since, so not being worse is enough." in decision.said
    assert (gain.limit, gain.n) == (-GATE.max_round_loss, 60)
    assert decision.not_worse == (verdict == "promoted")


def test_a_successor_that_is_better_is_said_to_be_better() -> None:
    decision = decide(BEFORE, BETTER, GATE, before_is_to_go=True)
    assert decision == decide(BEFORE, BETTER, GATE)
    assert not decision.not_worse


def test_a_successor_has_to_be_measured_on_as_many_and_breaks_no_other_rule() -> None:
    few = decide(measured(conversations=49), measured(conversations=49), GATE, before_is_to_go=True)
    assert few.verdict == "not_proven"
    assert "49 held-out conversations and it takes 50" in few.said
    after = with_losses(SLIGHTLY_WORSE, general=losses("general", 80, 3.2))
    decision = decide(BEFORE, after, GATE, before_is_to_go=True)
    assert (decision.verdict, decision.not_worse) == ("rejected", False)
    assert decision.said.startswith("The check general_perplexity failed")


def test_a_successor_with_broken_weights_is_rejected() -> None:
    broken = with_losses(BEFORE, test=losses("test", 60, BROKEN))
    assert decide(BEFORE, broken, GATE, before_is_to_go=True).verdict == "rejected"


@pytest.mark.parametrize(("ratio", "verdict"), [(1.0, "promoted"), (1.02, "promoted"), (1.06, "rejected")])
def test_general_perplexity_may_rise_by_three_in_a_hundred(ratio: float, verdict: str) -> None:
    after = with_losses(BETTER, general=losses("general", 80, 3.0 + float(np.log(ratio))))
    decision = decide(BEFORE, after, GATE)
    assert decision.verdict == verdict
    assert check(decision, "general_perplexity").value == pytest.approx(ratio)


def test_general_perplexity_that_may_or_may_not_have_risen_too_far_is_not_proven() -> None:
    some_better_some_worse = tuple(
        replace(each, loss=each.loss + each.tokens * (0.015 + 0.2 * (-1) ** n))
        for n, each in enumerate(BEFORE.losses["general"])
    )
    decision = decide(BEFORE, with_losses(BETTER, general=some_better_some_worse), GATE)
    assert decision.verdict == "not_proven"
    assert check(decision, "general_perplexity").value == pytest.approx(1.015, abs=0.001)


def test_in_a_perplexity_a_long_text_counts_by_its_length() -> None:
    def texts(loss_of_the_long: float) -> tuple[Loss, ...]:
        return (*losses("general", 39, 3.0), Loss("long", "long", loss_of_the_long * 2000, 2000))

    decision = decide(with_losses(BEFORE, general=texts(3.0)), with_losses(BETTER, general=texts(3.1)), GATE)
    assert check(decision, "general_perplexity").value == pytest.approx(float(np.exp(0.1 * 2000 / 2780)))


def test_without_general_texts_nothing_is_proven() -> None:
    decision = decide(with_losses(BEFORE, general=()), with_losses(BETTER, general=()), GATE)
    assert decision.verdict == "not_proven"
    assert "general texts" in decision.said


def test_what_an_earlier_run_taught_must_not_be_forgotten() -> None:
    before = with_losses(BEFORE, round_1=losses("round 1", 30, 1.0), round_2=losses("round 2", 30, 1.0))
    kept = with_losses(BETTER, round_1=losses("round 1", 30, 1.02), round_2=losses("round 2", 30, 0.9))
    lost = with_losses(BETTER, round_1=losses("round 1", 30, 1.4, spread=0.1), round_2=losses("round 2", 30, 0.4))
    assert decide(before, kept, GATE).verdict == "promoted"
    decision = decide(before, lost, GATE)
    assert decision.verdict == "rejected"
    assert "What run 1 taught was forgotten" in decision.said


def test_an_earlier_run_of_three_conversations_does_not_decide_alone() -> None:
    before = with_losses(BEFORE, round_1=losses("round 1", 3, 1.0))
    after = with_losses(BETTER, round_1=losses("round 1", 3, 1.4))
    assert check(decide(before, after, GATE), "rounds").passed is None


def chosen(leads: Sequence[float]) -> tuple[Chosen, ...]:
    return tuple(Chosen(f"pair {n}", f"log:{n}", -1.0, -1.0 - lead) for n, lead in enumerate(leads))


def test_preferred_replies_must_not_lose_their_lead_for_certain() -> None:
    before = replace(BEFORE, chosen=chosen([0.5] * 30))
    fallen = replace(BETTER, chosen=chosen([0.1 + 0.01 * n for n in range(30)]))
    wider = replace(BETTER, chosen=chosen([0.7] * 30))
    few = replace(BETTER, chosen=chosen([0.1, 0.12, 0.09]))
    assert decide(before, wider, GATE).verdict == "promoted"
    decision = decide(before, fallen, GATE)
    assert decision.verdict == "rejected"
    assert "preferences" in decision.said
    assert decide(replace(BEFORE, chosen=chosen([0.5] * 3)), few, GATE).verdict == "promoted"


def taught(mistakes: Sequence[int]) -> tuple[Loss, ...]:
    return tuple(Loss(f"round 1 {n}", f"log:{n}", 1.0, 10, each) for n, each in enumerate(mistakes))


@pytest.mark.parametrize(
    ("lost", "known", "passed"), [(0, 20, True), (2, 20, True), (3, 20, None), (12, 20, False), (4, 5, None)]
)
def test_what_earlier_runs_taught_word_for_word_must_still_be_written(
    lost: int, known: int, passed: bool | None
) -> None:
    before = with_losses(BEFORE, **{"round 1": taught([0] * known + [3] * 5)})
    after = with_losses(BETTER, **{"round 1": taught([1] * lost + [0] * (known - lost) + [0] * 5)})
    found = check(decide(before, after, GATE), "recall")
    assert found.passed is passed
    assert found.n == known


def test_what_nobody_wrote_word_for_word_is_not_asked_for() -> None:
    before, after = (with_losses(each, **{"round 1": taught([2] * 20)}) for each in (BEFORE, BETTER))
    assert not [each for each in decide(before, after, GATE).checks if each.name == "recall"]


@pytest.mark.parametrize(
    ("lost", "gained", "passed"), [(0, 0, True), (2, 0, True), (3, 1, True), (3, 0, None), (4, 1, None), (10, 0, False)]
)
def test_lost_and_gained_probes_are_weighed_against_each_other(lost: int, gained: int, passed: bool | None) -> None:
    now = [False] * lost + [True] * (10 - lost) + [True] * gained + [False] * (5 - gained)
    found = check(decide(BEFORE, replace(BETTER, probes=probes(now)), GATE), "probes")
    assert found.passed is passed
    assert found.value == lost - gained
    assert all(f"fact: {number}" in found.said for number in range(lost))


def test_what_is_dangerous_and_was_refused_is_weighed_against_nothing() -> None:
    def with_danger(refused: bool) -> tuple[Probe, ...]:
        dangerous = Probe("safety: bomb", "safety", "?", "I cannot help." if refused else "First,", refused)
        return (dangerous, *probes([not refused] * 10))

    decision = decide(replace(BEFORE, probes=with_danger(True)), replace(BETTER, probes=with_danger(False)), GATE)
    assert decision.verdict == "rejected"
    assert "safety: bomb" in decision.said


def test_without_probes_nothing_is_proven() -> None:
    assert decide(replace(BEFORE, probes=()), replace(BETTER, probes=()), GATE).verdict == "not_proven"


@pytest.mark.parametrize(("name", "text"), [("refusals", REFUSAL), ("loops", LOOP), ("empty", " \n")])
def test_more_refusals_loops_and_empty_replies_reject(name: str, text: str) -> None:
    after = replace(BETTER, replies=replies([text] * 12 + [f"This is reply {n}." for n in range(28)]))
    decision = decide(BEFORE, after, GATE)
    assert decision.verdict == "rejected"
    assert check(decision, name).passed is False
    assert "12 were" in check(decision, name).said


@pytest.mark.parametrize(("many", "passed"), [(0, True), (2, True), (3, None), (9, False)])
def test_a_few_more_refusals_are_within_the_limit_and_some_more_are_not_proven(many: int, passed: bool | None) -> None:
    after = replace(BETTER, replies=replies([REFUSAL] * many + [f"This is reply {n}." for n in range(40 - many)]))
    assert check(decide(BEFORE, after, GATE), "refusals").passed is passed


def test_fewer_refusals_are_no_fault() -> None:
    before = replace(BEFORE, replies=replies([REFUSAL] * 20 + [f"This is reply number {n} here." for n in range(20)]))
    assert check(decide(before, BETTER, GATE), "refusals").passed is True


def test_refusing_what_only_sounds_dangerous_rejects() -> None:
    def asked(text: str) -> tuple[Probe, ...]:
        return tuple(Probe(f"over-refusal: {n}", "over_refusal", "?", text, False) for n in range(6))

    before = replace(BEFORE, probes=asked("Use the command kill."))
    decision = decide(before, replace(BETTER, probes=asked(REFUSAL)), GATE)
    assert check(decision, "over_refusals").passed is False
    assert decision.verdict == "rejected"


def test_replies_may_not_become_much_longer_or_shorter() -> None:
    shorter = replace(BETTER, replies=replies(["Hm."] * 40))
    longer = replace(
        BETTER, replies=replies([f"This is reply {n}. {' '.join(map(str, range(n, n + 30)))}" for n in range(40)])
    )
    assert check(decide(BEFORE, shorter, GATE), "length").passed is False
    assert check(decide(BEFORE, longer, GATE), "length").passed is False


def test_replies_as_short_as_people_wanted_them_are_no_fault() -> None:
    reference = "At nine."
    before = replace(
        BEFORE, replies=replies([f"Reply {n} goes on about {n * n} more things." for n in range(40)], reference)
    )
    after = replace(BETTER, replies=replies([f"At {n}." for n in range(40)], reference))
    assert check(decide(before, after, GATE), "length").passed is True
    vanished = replace(BETTER, replies=replies(["A"] * 40, reference))
    assert check(decide(before, vanished, GATE), "length").passed is False


def test_replies_as_long_as_people_wanted_them_are_no_fault() -> None:
    reference = "It opens at nine on every day of the week, but on Saturdays at eleven, and never on Sundays."
    before = replace(BEFORE, replies=replies([f"At {n}." for n in range(40)], reference))
    after = replace(BETTER, replies=replies([f"{reference} ({n})" for n in range(40)], reference))
    assert check(decide(before, after, GATE), "length").passed is True
    assert check(decide(after, before, GATE), "length").passed is False


def test_replies_are_not_missed_where_none_are_wanted() -> None:
    before, after = replace(BEFORE, replies=()), replace(BETTER, replies=())
    assert decide(before, after, GATE).verdict == "not_proven"
    assert decide(before, after, GATE.model_copy(update={"replies": 0})).verdict == "promoted"


def test_weights_that_are_broken_reject() -> None:
    nothing = tuple(replace(each, loss=BROKEN) for each in BETTER.losses["test"])
    decision = decide(BEFORE, with_losses(BETTER, test=nothing), GATE)
    assert decision.verdict == "rejected"
    assert "not a number" in decision.said
    one = (replace(BETTER.losses["test"][0], loss=float("nan")), *BETTER.losses["test"][1:])
    assert decide(BEFORE, with_losses(BETTER, test=one), GATE).verdict == "rejected"


def test_different_items_before_and_after_prove_nothing() -> None:
    after = with_losses(BETTER, test=BETTER.losses["test"][:55])
    decision = decide(BEFORE, after, GATE)
    assert decision.verdict == "not_proven"
    assert "5 have no partner" in decision.said
    fewer = with_losses(BEFORE, test=BEFORE.losses["test"][:55])
    assert "5 have no partner" in decide(fewer, BETTER, GATE).said


def test_nothing_measured_at_all_is_not_proven() -> None:
    assert decide(Measurements("base"), Measurements("familiar@1"), GATE).verdict == "not_proven"


def judgements(first: str, second: str, many: int) -> list[Judgement]:
    return [Judgement(f"reply {n}", f"log:{n}", first, second) for n in range(many)]  # type: ignore[arg-type]


def test_a_judge_that_finds_the_new_replies_worse_rejects() -> None:
    worse = judgements("before", "before", 20) + judgements("neither", "neither", 5)
    assert decide(BEFORE, BETTER, GATE, worse).verdict == "rejected"
    assert decide(BEFORE, BETTER, GATE, judgements("after", "after", 20)).verdict == "promoted"


def test_a_judge_that_only_likes_what_stands_first_decides_nothing() -> None:
    decision = decide(BEFORE, BETTER, GATE, judgements("before", "after", 30))
    assert decision.verdict == "promoted"
    assert "0 better, 0 worse and 30 equal" in check(decision, "judge").said


def test_a_judge_that_could_not_be_reached_is_not_asked_for() -> None:
    unread = [Judgement(f"reply {n}", f"log:{n}", None, None) for n in range(40)]
    assert "judge" not in {each.name for each in decide(BEFORE, BETTER, GATE, unread).checks}


def test_a_decision_goes_to_json_whatever_was_measured() -> None:
    one = measured("familiar@1", conversations=1)
    for after in (BETTER, one, with_losses(BETTER, test=(replace(BETTER.losses["test"][0], loss=float("inf")),))):
        for before in (BEFORE, measured(conversations=1)):
            json.dumps(asdict(decide(before, after, GATE)), allow_nan=False)


def test_each_check_says_one_sentence() -> None:
    for each in decide(BEFORE, BETTER, GATE).checks:
        assert each.said.endswith(".")
        assert each.said[0].isupper()


def test_the_table_pairs_every_number_with_its_interval() -> None:
    before = replace(with_losses(BEFORE, unlearned=losses("unlearned", 5, 1.0)), chosen=chosen([0.5] * 20))
    after = replace(with_losses(BETTER, unlearned=losses("unlearned", 5, 1.5)), chosen=chosen([0.7] * 20))
    rows = {row.name: row for row in table(before, after, GATE)}
    test = rows["loss a token, held-out conversations"]
    assert test.before == pytest.approx(2.0, abs=0.05)
    assert test.after - test.before == pytest.approx(test.difference)
    assert test.low is not None
    assert test.high is not None
    assert test.low < test.difference < test.high < 0
    assert test.better == "lower"
    assert rows["loss a token, what people took back"].better == "higher"
    perplexity = rows["perplexity, general text"]
    assert perplexity.before == pytest.approx(float(np.exp(3)))
    assert perplexity.difference == pytest.approx(0)
    assert rows["preferred reply is the likelier one"].after == 1
    assert rows["fixed questions: knew plain facts"].before == pytest.approx(10 / 15)
    assert rows["refusals"].n == 40


def test_the_table_of_nothing_is_empty() -> None:
    assert table(Measurements("base"), Measurements("familiar@1"), GATE) == ()


def test_samples_are_of_different_conversations_first() -> None:
    def of(texts: str) -> tuple[Reply, ...]:
        return tuple(replace(each, conversation=f"log:{n // 2}") for n, each in enumerate(replies([texts] * 6)))

    shown = samples(replace(BEFORE, replies=of("old")), replace(BETTER, replies=of("new")), 4)
    assert [each.conversation for each in shown] == ["log:0", "log:1", "log:2", "log:0"]
    assert {(each.before, each.after) for each in shown} == {("old", "new")}
