"""The rows at the bottom that are drawn again: little is written, and nothing above them is touched."""

from __future__ import annotations

import io

import pyte

from bot.terminal.lines import Line
from bot.terminal.region import Region, Size
from tests.bot.terminal.terminal import Screen


class Shown:
    def __init__(self, columns: int = 20, rows: int = 6) -> None:
        self.size = Size(columns, rows)
        self.screen = Screen(columns, rows)
        self.out = io.StringIO()
        self.region = Region(self.out, lambda: self.size)
        self.stream = pyte.Stream(self.screen)

    def update(self, rows: list[str], settled: tuple[str, ...] = ()) -> str:
        """What was written for it."""
        self.region.update([Line(row, row) for row in rows], [Line(row, row) for row in settled])
        return self.written()

    def written(self) -> str:
        written = self.out.getvalue()
        self.out.seek(0)
        self.out.truncate()
        self.stream.feed(written)
        return written


def test_a_row_that_did_not_change_is_not_written_again():
    shown = Shown()
    shown.update(["first", "second"])
    assert "first" not in shown.update(["first", "second and"])
    assert shown.update(["first", "second and"]) == ""
    assert shown.screen.visible() == "first\nsecond and"


def test_settled_rows_go_above_and_stay():
    shown = Shown()
    shown.update(["a", "b"])
    shown.update(["c"], ("a", "b"))
    shown.update(["c", "d", "e"])
    shown.region.close([Line("end", "end")])
    shown.written()
    assert shown.screen.visible() == "a\nb\nend"


def test_the_last_rows_that_fit_the_screen_are_shown():
    shown = Shown(rows=4)
    shown.update([str(number) for number in range(9)])
    shown.update([str(number) for number in range(12)])
    assert shown.screen.everything() == "9\n10\n11"


def test_a_row_that_a_terminal_draws_wider_than_we_think_stays_one_row():
    shown = Shown(columns=10)
    shown.update(["x" * 13, "next"])
    shown.update(["x" * 13, "next one"])
    assert shown.screen.visible().splitlines()[1:] == ["next one"]


def test_the_cursor_is_hidden_only_while_there_are_rows():
    shown = Shown()
    shown.update(["a"])
    assert shown.screen.cursor.hidden
    shown.region.close()
    shown.written()
    assert not shown.screen.cursor.hidden
    assert shown.screen.visible() == ""


def test_closing_an_empty_region_writes_nothing():
    shown = Shown()
    shown.region.close()
    assert shown.written() == ""
