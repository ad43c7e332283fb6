"""A streamed reply leaves in the scrollback what drawing it at once would leave there, line for line."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable, Sequence

import pyte
import pytest

from bot.terminal.lines import Line, terminal_console
from bot.terminal.markdown import render
from bot.terminal.region import Region, Size
from bot.terminal.stream import MarkdownStream, printable
from tests.bot.terminal.terminal import Screen

PARAGRAPH = "The quick brown fox jumps over the lazy dog, and **then** sleeps with `code` in its *dreams* all night. "
ITEMS = "".join(f"{n}. Step **{n}** is longer than twenty columns\n   - with `detail {n}`\n" for n in range(8, 13))
CODE = "def f(x: int) -> int:\n    # one two three four five six seven eight nine ten eleven twelve\n\n    return x\n"
TABLE = "| name | amount |\n|:-----|-------:|\n" + "".join(f"| row {n} | {n * n} |\n" for n in range(14))

SAMPLES = {
    "plain": "Just one line.",
    "nothing": "",
    "only spaces": " \n\n ",
    "headings": "# One\n## Two\ntext\n#hashtag\n### Three ###\n",
    "long paragraph": PARAGRAPH * 6,
    "paragraph with open marks": f"A *star, a [bracket, a `tick and 2 * 3 = 6, snake_case. {PARAGRAPH * 4}",
    "marks closed far away": f"**{PARAGRAPH.replace('*', '')}{'word ' * 60}** and `{'code ' * 40}` [label]{'(http://a.b)'}",
    "chinese": "这是一个很长的段落，里面有“引号”和（括号），还有 Python 代码。" * 8 + "\n\n- 列表，一\n- 列表，二\n",
    "emoji": "Faces 😀😃 and flags, é and e\u0301. " * 6,
    "lists": f"Intro:\n\n- one\n- two\n  - deeper **bold**\n    1. deepest\n\n  second of two\n- three\n\n{ITEMS}",
    "list that becomes a rule": "- a\n- b\n\n* * *\n***bold*** text\n---\nafter\n",
    "lazy lines": "- item\n**goes on** here\n> quote\ngoes on too\n\n> another\n> - with a list\n",
    "code": f"Look:\n\n```python\n{CODE}```\n\nand ~~~ not code\n\n~~~\n``` inside\n~~~\n",
    "unfinished fence": f"So:\n```python\n{CODE * 2}x = [1,",
    "code taller than the screen": f"```\n{CODE * 12}\n\n```\nend",
    "code in a list": f"1. first\n\n   ```sh\n   {'echo ' * 30}\n   ls\n   ```\n2. second\n",
    "inline ticks like a fence": "text\n```code``` goes on\n\n```` `` ```` end\n",
    "indented code": "para\n\n    code one\n\n    code two\n\npara\n",
    "table": f"Before\n\n{TABLE}\nafter",
    "table after a line": "text\na | b\n--|--\n1 | 2\n\n| no | table |\ntext\n",
    "unfinished table": "| a | b |\n|---|---|\n| 1 | 2 |\n| 3",
    "html and links": "<div>\n<b>kept</b>\n</div>\n\n[text](http://x.y/z) <http://auto.link> ![image](u.png)\n\n[ref]: http://r\n",
    "line breaks": "roses\nviolets  \nsugar\\\nyou\n\n\n\nend",
    "pipes": "a | b | c " * 30,
    "stopped within a mark": "Some **bold that was never fini",
    "escape codes": "red \x1b[31mnot\x1b[0m \x07\x1b]0;title\x07 \x9b2J end\r\nnext",
}


class Output(io.StringIO):
    """A file that is shown on a screen."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__()
        self.screen = Screen(columns, rows)
        self.stream = pyte.Stream(self.screen)

    def write(self, text: str) -> int:
        self.stream.feed(text)
        return len(text)


def tokens(text: str) -> Iterable[str]:
    """Pieces of one to six characters, the same ones every time."""
    sizes = random.Random(len(text))
    start = 0
    while start < len(text):
        end = start + sizes.randint(1, 6)
        yield text[start:end]
        start = end


def drawn_at_once(text: str, size: Size) -> str:
    out = Output(*size)
    Region(out, lambda: size).close(render(printable(text), terminal_console(out, terminal=True), size.columns))
    return out.screen.everything()


def streamed(text: str, size: Size) -> str:
    out = Output(*size)
    stream = MarkdownStream(terminal_console(out, terminal=True), Region(out, lambda: size))
    for token in tokens(text):
        stream.feed(token)
        stream.draw()
    stream.finish()
    assert not out.screen.cursor.hidden
    assert out.screen.cursor.x == 0
    return out.screen.everything()


@pytest.mark.parametrize("size", [Size(60, 12), Size(20, 8)], ids=["wide", "narrow"])
@pytest.mark.parametrize("text", SAMPLES.values(), ids=SAMPLES)
def test_the_scrollback_is_that_of_the_whole_reply_drawn_at_once(text, size):
    assert streamed(text, size) == drawn_at_once(text, size)


def test_so_it_is_when_a_reply_is_stopped_anywhere():
    whole = f"# Title\n\n{PARAGRAPH * 2}\n\n{ITEMS}\n```python\n{CODE}```\n{TABLE}"
    for end in range(0, len(whole), 67):
        assert streamed(whole[:end], Size(30, 8)) == drawn_at_once(whole[:end], Size(30, 8))


class Recorder(Region):
    """Keeps what is printed for good and how high the part below it grows."""

    def __init__(self, size: Size) -> None:
        super().__init__(io.StringIO(), lambda: self.now)
        self.now = size
        self.printed: list[Line] = []
        self.highest = 0

    def update(self, rows: Sequence[Line], settled: Sequence[Line] = ()) -> None:
        self.printed += settled
        self.highest = max(self.highest, len(rows))
        super().update(rows, settled)


def words(lines: Sequence[Line]) -> list[str]:
    return " ".join(line.plain for line in lines).split()


def recorded(size: Size) -> tuple[Recorder, MarkdownStream]:
    region = Recorder(size)
    return region, MarkdownStream(terminal_console(io.StringIO(), terminal=True), region)


@pytest.mark.parametrize("text", [PARAGRAPH * 8, ITEMS * 3, f"> {PARAGRAPH * 6}", f"```\n{CODE * 10}"])
def test_nothing_is_lost_or_doubled_when_the_window_changes_its_width(text):
    region, stream = recorded(Size(50, 20))
    widths = random.Random(1)
    for token in tokens(text):
        if widths.random() < 0.05:
            region.now = Size(widths.randint(20, 90), 20)
        stream.feed(token)
        stream.draw()
    stream.finish()
    whole = render(text, terminal_console(io.StringIO(), terminal=True), 1000)
    characters = "".join(words(region.printed)).replace("▌", "")
    assert characters == "".join(words(whole)).replace("▌", "")


@pytest.mark.parametrize("text", [PARAGRAPH * 8, f"```\n{CODE * 10}", ITEMS * 3])
def test_settled_lines_are_printed_before_the_reply_is_complete_and_little_is_drawn_again(text):
    region, stream = recorded(Size(50, 24))
    for token in tokens(text):
        stream.feed(token)
        stream.draw()
    assert len(region.printed) > 10
    assert region.highest <= 8


def test_what_cannot_settle_is_shown_by_its_last_lines_only():
    size = Size(40, 10)
    out = Output(*size)
    stream = MarkdownStream(terminal_console(out, terminal=True), Region(out, lambda: size))
    stream.feed(TABLE)
    stream.draw()
    shown = out.screen.visible()
    assert "row 13" in shown
    assert "row 1 " not in shown
    assert not out.screen.history.top
    stream.finish()
    assert out.screen.everything() == drawn_at_once(TABLE, size)


@pytest.mark.parametrize(("begun", "mark"), [("text\n\n-", "•"), ("text\n\n2.", "2"), ("a\n\n| b | c |\n", "|")])
def test_a_mark_is_not_shown_before_it_is_clear_what_it_means(begun, mark):
    out = Output(40, 10)
    stream = MarkdownStream(terminal_console(out, terminal=True), Region(out, lambda: Size(40, 10)))
    stream.feed(begun)
    stream.draw()
    assert mark not in out.screen.visible()
    stream.finish()
    assert mark in out.screen.visible()
