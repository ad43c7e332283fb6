"""The report in the terminal: the same facts, at any width, and nothing that a conversation holds is obeyed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from finetune import report
from finetune.record import Interval, Point, Record, Sample
from tests.finetune.report.records import JUST_BEGUN, PROMOTED, TRAINING


def printed(record: Record, width: int = 100) -> str:
    console = Console(width=width, force_terminal=False, highlight=False)
    with console.capture() as capture:
        console.print(report.text(record))
    return capture.get()


def test_the_verdict_comes_first() -> None:
    assert printed(PROMOTED).splitlines()[0] == ("Promoted: familiar@7 is better than familiar@6 and was promoted.")


def test_what_answers_only_some_first_is_said_to_do_so() -> None:
    first = printed(replace(PROMOTED, share=0.05), 200).splitlines()[0]
    headline = "familiar@7 is better than familiar@6 and was promoted, for 5% of the conversations first."
    assert first == f"Promoted for 5% first: {headline}"


def test_checks_differences_data_and_cost_are_there() -> None:
    said = " ".join(printed(PROMOTED, 160).split())
    for each in (
        "Gain passed On 61 held-out conversations the loss fell by 0.213.",
        "Earlier runs not proven",
        "2.471 2.258 −0.213 −0.287 to −0.142 better",
        "loss, validation",
        "240 no consent",
        "203 names",
        "8 min 32 s",
        "11.5 Wh",
        "It is in the blue pot.",
        "No judge was asked.",
    ):
        assert each in said


@pytest.mark.parametrize("width", [40, 60, 100, 200])
def test_no_line_is_wider_than_the_window(width: int) -> None:
    long = replace(PROMOTED, samples=(Sample("log:1", "w" * 5000, "", "中" * 300, "🔑" * 300),))
    assert all(cell_len(line) <= width for line in printed(long, width).splitlines())


def test_a_run_that_has_just_begun_or_failed_is_said_in_a_few_lines() -> None:
    assert printed(JUST_BEGUN).split("\n") == ["Under way: Run 13 is not over yet.", ""]
    failed = printed(replace(JUST_BEGUN, verdict="failed", said="Out of memory."))
    assert "Out of memory." in failed


def test_words_of_conversations_neither_move_the_cursor_nor_are_markup() -> None:
    nasty = "[red]x[/red] [/] \x1b[2J\x07\x9b31m \u202eabc \udc80"
    record = replace(
        PROMOTED,
        said=nasty,
        before=nasty,
        name=nasty,
        notes=(nasty,),
        samples=(Sample("log:1", nasty, nasty, nasty, nasty),),
        training=replace(TRAINING, base=nasty, method=nasty),
        seconds={nasty: 1.0},
        table=(Interval(nasty, 1.0, 2.0, 1.0),),
    )
    said = printed(record)
    said.encode()
    assert "[red]x[/red] [/]" in said
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(said)


def test_losses_that_are_no_numbers_leave_the_curve_out() -> None:
    curve = tuple(Point(step, math.nan, math.inf) for step in range(3))
    assert "loss, training" not in printed(replace(PROMOTED, training=replace(TRAINING, curve=curve)))
