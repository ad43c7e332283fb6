"""The sentence on what people took back: what it claims is what the interval shows."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter
from pydantic_core import to_json
from rich.console import Console

from finetune import report
from finetune.record import Record, Training, Unlearned
from finetune.report import unlearning

SHOWN = Unlearned(people=2, conversations=12, before=0.42, after=2.1, base=2.13, difference=-0.03, low=-0.1, high=0.05)
RUN = Record(7, "familiar", "by hand", datetime(2026, 11, 23, tzinfo=UTC), before="familiar@3", unlearned=SHOWN)


def said(**changed: object) -> str:
    return unlearning.said(replace(RUN, unlearned=replace(SHOWN, **changed)))  # type: ignore[arg-type]


def test_what_the_new_one_foretells_as_badly_as_the_base_model_is_not_known_any_more() -> None:
    assert said() == (
        "What 2 people took back is not known any more: its loss went from 0.420 back up to 2.100; "
        "the base model's is 2.130."
    )
    assert said(people=1).startswith("What 1 person took back is not known")


def test_what_was_never_learned_is_not_said_to_be_unlearned() -> None:
    assert said(before=2.11).startswith("What 2 people took back was hardly known to begin with: its loss was 2.110")
    assert said(before=2.5).startswith("What 2 people took back was hardly known")


def test_what_is_left_has_its_reason() -> None:
    left = {"after": 1.2, "difference": -0.93, "low": -1.1, "high": -0.7}
    assert said(**left).endswith(
        "still known in part: its loss went from 0.420 to 1.200; the base model's is 2.130. "
        "The new one did not learn from it, so others taught something like it."
    )
    assert said(**left, taught_by_others=1).endswith("Others taught the same: 1 example of it is theirs, too.")
    training = Training("lora", "small", continued_from="familiar@3")
    goes_on = unlearning.said(replace(RUN, training=training, unlearned=replace(SHOWN, **left)))  # type: ignore[arg-type]
    assert "The new one goes on from familiar@3, which learned it" in goes_on


@pytest.mark.parametrize(("low", "high"), [(None, None), (-0.5, 0.4)])
def test_few_conversations_are_not_taken_for_a_proof(low: float | None, high: float | None) -> None:
    assert said(low=low, high=high, conversations=1).startswith(
        "What 2 people took back seems not known any more, though 1 conversation is too few to be sure: its loss went"
    )
    assert "seems still known in part, though 12 conversations are too few" in said(low=low, high=high, after=1.5)


def test_both_reports_say_it_and_say_nothing_where_nothing_was_taken_back() -> None:
    screen = Console(file=io.StringIO(), width=300)
    screen.print(report.text(replace(RUN, table=())))
    assert unlearning.said(RUN) in screen.file.getvalue()  # type: ignore[attr-defined]
    page = report.html(RUN)
    assert "back up to 2.100" in page
    assert "familiar@3, which learned it" in page
    assert "−0.030 (−0.100 to +0.050)" in page
    assert "took back" not in report.html(replace(RUN, unlearned=None))
    assert unlearning.said(replace(RUN, unlearned=None)) == ""


def test_a_record_of_before_this_was_measured_can_still_be_read() -> None:
    record = TypeAdapter(Record)
    assert record.validate_json(to_json(RUN)) == RUN
    older = record.dump_python(RUN, mode="json")
    del older["unlearned"]
    assert record.validate_python(older) == replace(RUN, unlearned=None)
