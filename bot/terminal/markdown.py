"""Markdown as lines of a terminal.

Rich does the drawing, with a few elements of our own: lists whose indent does not depend on how long they get, code
that can be copied as it is, tables that drop nothing, and text that breaks between Chinese characters. The top-level
blocks are drawn one by one, with an empty line between two of them, so that a growing text is drawn in parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import ClassVar

from markdown_it.token import Token
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.containers import Renderables
from rich.markdown import (
    BlockQuote,
    CodeBlock,
    Heading,
    HorizontalRule,
    ListItem,
    MarkdownContext,
    MarkdownElement,
    Paragraph,
    TableElement,
)
from rich.markdown import Markdown as RichMarkdown
from rich.segment import Segment
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from bot.terminal.dialect import is_code, parse, top_level
from bot.terminal.lines import Line, as_lines, segments_of
from bot.terminal.wrap import folded, wrapped


def render(source: str, console: Console, width: int) -> list[Line]:
    """The whole text as lines of at most `width` cells."""
    lines: list[Line] = []
    for block in top_level(parse(source)):
        if lines:
            lines.append(Line("", ""))
        lines += _code_lines(block[0], console, width) if is_code(block[0]) else _rich_lines(block, console, width)
    return lines


def _rich_lines(block: list[Token], console: Console, width: int) -> list[Line]:
    options = console.options.update(width=width, height=None)
    rows = [_stripped(row) for row in console.render_lines(_Block(block), options, pad=False)]
    while rows and not rows[0]:  # Rich parts a list from the element before it, also where there is none
        rows.pop(0)
    return as_lines(rows, console)


def _stripped(row: list[Segment]) -> list[Segment]:
    """`row` without the spaces at its end, which Rich fills up with and which would be copied."""
    row = [segment for segment in row if not segment.control]
    while row and not (text := row[-1].text.rstrip()):
        row.pop()
    return [*row[:-1], Segment(text, row[-1].style)] if row else []


def _code_lines(token: Token, console: Console, width: int) -> list[Line]:
    lines: list[Line] = []
    for text in _code_texts(token):
        *full, rest = as_lines([segments_of(piece, console) for piece in folded(text, width)], console)
        lines += [replace(line, runs_on=cell_len(line.plain) == width) for line in full]
        lines.append(rest)
    return lines


def _code_texts(token: Token) -> Iterator[Text]:
    """The lines of a code block, a fence's marks included: they show where it ends also where there is no colour."""
    code = token.content.removesuffix("\n")
    if token.type == "code_block":
        yield from (Text("    ") + line for line in _highlighted(code, ""))
        return
    info = token.info.strip()
    yield Text(f"{token.markup}{info}", style="dim")
    if token.content:
        yield from _highlighted(code, info.partition(" ")[0])
    yield Text(token.markup, style="dim")


def _highlighted(code: str, language: str) -> list[Text]:
    """The lines of `code`. The last one, which may be unfinished, is taken by itself, so that the rest is cached."""
    head, newline, last = code.rpartition("\n")
    return [text.copy() for text in (*(_highlight(head, language) if newline else ()), *_highlight(last, language))]


@lru_cache(maxsize=8)
def _highlight(code: str, language: str) -> tuple[Text, ...]:
    lines = code.split("\n")
    plain = tuple(Text(line, no_wrap=True) for line in lines)
    if not language:
        return plain
    highlighted = Syntax("", language, theme="ansi_dark").highlight(code).split("\n", allow_blank=True)
    return tuple(highlighted[: len(lines)]) if [text.plain for text in highlighted[: len(lines)]] == lines else plain


class _Wrapped:
    """A text in lines that also break between Chinese characters."""

    def __init__(self, text: Text) -> None:
        self.text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from wrapped(self.text, options.max_width)


class _Paragraph(Paragraph):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _Wrapped(self.text)


class _Heading(Heading):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _Wrapped(self.text)


class _Code(CodeBlock):
    """Code inside a list or a quote."""

    token: Token

    @classmethod
    def create(cls, markdown: RichMarkdown, token: Token) -> _Code:
        code = cls("text", "")
        code.token = token
        return code

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in _code_texts(self.token):
            yield from folded(line, options.max_width)


class _Rule(HorizontalRule):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("─" * min(options.max_width, 40), style="markdown.hr")


class _Spaced:
    """An empty line between two paragraphs of one item or quote."""

    elements: Renderables
    _last: MarkdownElement | None = None

    def on_child_close(self, context: MarkdownContext, child: MarkdownElement) -> bool:
        if isinstance(self._last, Paragraph) and isinstance(child, Paragraph):
            self.elements.append(Text(""))
        self.elements.append(child)
        self._last = child
        return False


class _Quote(_Spaced, BlockQuote):
    pass


class _Item(_Spaced, ListItem):
    def render_number(self, console: Console, options: ConsoleOptions, number: int, last_number: int) -> RenderResult:
        """As Rich does it, but with an indent that is the number's own: a tenth item must not shift the first nine."""
        return self._marked(Segment(f"{number:>2}. ", console.get_style("markdown.item.number")), console, options)

    def render_bullet(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return self._marked(Segment(" • ", console.get_style("markdown.item.bullet")), console, options)

    def _marked(self, mark: Segment, console: Console, options: ConsoleOptions) -> RenderResult:
        indent = Segment(" " * mark.cell_length)
        width = max(options.max_width - mark.cell_length, 1)
        lines = console.render_lines(self.elements, options.update(width=width), pad=False)
        for index, line in enumerate(lines or [[]]):
            yield indent if index else mark
            yield from line
            yield Segment.line()


class _Table(TableElement):
    """Rich's own cuts words that are wider than their column; this one folds them."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, border_style="markdown.table.border")
        for cell in self.header.row.cells if self.header and self.header.row else ():
            table.add_column(cell.content, justify=cell.justify, overflow="fold")
        for row in self.body.rows if self.body else ():
            table.add_row(*(cell.content for cell in row.cells))
        yield table


class _Block(RichMarkdown):
    """One top-level block, already parsed."""

    elements: ClassVar = RichMarkdown.elements | {
        "paragraph_open": _Paragraph,
        "heading_open": _Heading,
        "fence": _Code,
        "code_block": _Code,
        "blockquote_open": _Quote,
        "hr": _Rule,
        "list_item_open": _Item,
        "table_open": _Table,
    }

    def __init__(self, tokens: list[Token]) -> None:
        super().__init__("", hyperlinks=False)
        self.parsed = tokens
