"""A reply's markdown as text and spans.

telegramify-markdown makes the text, from the events of its parser. It is made for any text and any bot; what it would
lose or glue together is put right in the events, before it sees them:

    HTML            is text, as the parser took it for markup that nothing shows
    lists           every block in an item begins on a line of its own
    tables          columns of code when they fit on a phone, else a list; formulas and links in them are kept, and
                    cells that the head has no name for
    links           only where Telegram follows them; any other is "text (address)"
    images          links to them
    quotes          one level, as Telegram has no more
    formulas        in Unicode as far as it goes, also short ones and those in tables
    definitions     of links that nothing refers to are text, and footnotes keep their number

Before that, the source itself is changed where the parser would misread it: see formulas, emphasis and unfinished.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import accumulate

from telegramify_markdown import MessageEntity, RenderConfig
from telegramify_markdown.converter import EventWalker

from bot.telegram.dialect import Event, Where, parse, unused_definitions
from bot.telegram.emphasis import is_joint, with_joints, without_joints
from bot.telegram.formulas import readable, with_dollars
from bot.telegram.grid import grid
from bot.telegram.spans import Span, accepts_link
from bot.telegram.unfinished import calmed, open_marks

_TAB = 4  # columns; Telegram makes every tab one space
_LANGUAGE = re.compile(r"[{. ]*([\w+#.-]{1,32})")
_LINE_BREAK_TAG = re.compile(r"<br\s*/?>", re.IGNORECASE)
_LINK_END = {"End": "Link"}
_CITATION = re.compile(rb"\[\d+\]")


def _config() -> RenderConfig:
    config = RenderConfig.isolated()
    config.cite_expandable = False
    symbols = config.markdown_symbol
    symbols.heading_level_1 = symbols.heading_level_2 = symbols.heading_level_3 = symbols.heading_level_4 = ""
    symbols.unordered_list_item = "•"
    symbols.task_completed, symbols.task_uncompleted = "☑", "☐"
    return config


_CONFIG = _config()


def converted(source: str, *, unfinished: bool = False) -> tuple[str, list[Span]]:
    """What is shown of the whole source, before Telegram's rules and limits are applied to it."""
    source = with_joints(with_dollars(calmed(source) if unfinished else source))
    events = parse(source)
    rewriter = _Rewriter(source, open_marks(events, source) if unfinished else ())
    definitions = unused_definitions(source, events)[::-1]
    for event, where in events:
        while definitions and rewriter.between_blocks and definitions[-1][1]["start"] < where["start"]:
            rewriter.paragraph(*definitions.pop())
        rewriter.take(event, where)
    while definitions:
        rewriter.paragraph(*definitions.pop())
    text, entities, _ = EventWalker(_CONFIG, source).walk(tuple(rewriter.events))
    return text, _spans(text, entities)


def _spans(text: str, entities: Sequence[MessageEntity]) -> list[Span]:
    units = list(accumulate((2 if character > "\uffff" else 1 for character in text), initial=0))
    return [
        Span(
            entity.type,
            bisect_left(units, entity.offset),
            bisect_left(units, entity.offset + entity.length),
            entity.url,
            entity.language,
        )
        for entity in entities
    ]


class _Before(Enum):
    """What stands on the line before the next thing."""

    NOTHING = auto()
    MARKER = auto()  # of a list's item
    TEXT = auto()
    BLOCK = auto()  # one that has ended; what follows it must not go on its last line


@dataclass(frozen=True)
class _Link:
    url: str
    first: int  # index of the first event after it
    followed: bool
    citation: bool


class _Rewriter:
    """Takes the parser's events; `events` are those for the converter."""

    def __init__(self, source: str, hidden: Container[int]) -> None:
        self.events: list[Event | tuple[Event, Where]] = []
        self._bytes = source.encode()
        self._hidden = hidden
        self._before = _Before.NOTHING
        self._depth = 0
        self._lists = 0
        self._quotes = 0
        self._language = ""
        self._lines: list[str] | None = None  # of a block of code, while the events are in one
        self._links: list[_Link] = []
        self._footnote: tuple[str, Where] | None = None  # one that begins with the next paragraph
        self._alignments: Sequence[str] = ()
        self._rows: list[list[list[Event]]] = []
        self._outside_cell: list[Event | tuple[Event, Where]] | None = None  # what stands before the table
        self._before_table = _Before.NOTHING
        self._cell_end = 0

    @property
    def between_blocks(self) -> bool:
        return self._depth == 0

    def take(self, event: Event, where: Where) -> None:
        match event:
            case {"Start": tag}:
                self._depth += 1
                self._start(tag, where)
            case {"End": tag}:
                self._depth -= 1
                self._end(tag, where)
            case {"Text": text}:
                if where["start"] not in self._hidden and not is_joint(self._bytes[where["start"] : where["end"]]):
                    self._text(text)
            case {"InlineHtml": tag} if self._outside_cell is not None and _LINE_BREAK_TAG.fullmatch(tag):
                self._text("\n")
            case {"Html": text} | {"InlineHtml": text}:
                self._text(without_joints(text))
            case {"FootnoteReference": label}:
                self._text(f"[{label}]")
            case {"Code": code}:
                self._inline({"Code": code.replace("\t", " ")})
            case {"InlineMath": formula}:
                self._inline({"Code": readable(without_joints(formula))})
            case {"DisplayMath": formula}:
                self._formula(without_joints(formula), where)
            case "SoftBreak" | "HardBreak":
                self.events.append({"Text": "\n"})
                self._before = _Before.NOTHING
            case "Rule":
                self._begin_block(own_line=True)
                self.events.append((event, where))
                self._before = _Before.BLOCK
            case {"TaskListMarker": _}:
                self.events.append(event)

    def paragraph(self, text: str, where: Where) -> None:
        self.events += [({"Start": "Paragraph"}, where), {"Text": text}, {"End": "Paragraph"}]

    def _start(self, tag: Event, where: Where) -> None:
        match tag:
            case "Paragraph" | "HtmlBlock":
                self._begin_block()
                label, where = self._footnote or ("", where)
                self.events.append(({"Start": "Paragraph"}, where))
                if label:
                    self._text(f"[{label}] ")
                    self._footnote = None
            case {"Heading": _}:
                self._begin_block()
                # In an item, the converter would put it on a line below the item's marker.
                self.events.append({"Start": "Strong"} if self._lists else ({"Start": tag}, where))
            case {"CodeBlock": kind}:
                language = _LANGUAGE.match(kind["Fenced"]) if isinstance(kind, dict) else None
                self._language, self._lines = language[1] if language else "", []
            case {"BlockQuote": _}:
                self._begin_block()
                self._quotes += 1
                if self._quotes == 1:
                    self.events.append(({"Start": tag}, where))
            case {"List": _}:
                self._lists += 1
                self.events.append(({"Start": tag}, where))
            case "Item":
                self.events.append(({"Start": tag}, where))
                self._before = _Before.MARKER
            case {"Link": link} | {"Image": link}:
                self._start_link(link, where)
            case {"Table": alignments}:
                self._alignments, self._rows = alignments, []
            case "TableHead" | "TableRow":
                self._rows.append([])
            case "TableCell":
                self._outside_cell, self.events = self.events, []
                self._before, self._before_table = _Before.NOTHING, self._before
            case {"FootnoteDefinition": label}:
                self._footnote = label, where
            case "Strikethrough" | "Emphasis" if self._is_text(where):
                self._text("~" if tag == "Strikethrough" else "*")
            case _:
                self.events.append({"Start": tag})

    def _end(self, tag: Event, where: Where) -> None:
        match tag:
            case "Paragraph" | "HtmlBlock":
                self.events.append({"End": "Paragraph"})
                self._before = _Before.NOTHING  # in an item, the converter has begun a new line
            case {"Heading": _}:
                self.events.append({"End": "Strong"} if self._lists else {"End": tag})
                self._before = _Before.BLOCK
            case "CodeBlock":
                self._code("".join(self._lines or ()), where, self._language)
                self._lines = None
            case {"BlockQuote": _}:
                self._quotes -= 1
                if self._quotes == 0:
                    self.events.append({"End": tag})
            case {"List": _}:
                self._lists -= 1
                self.events.append({"End": tag})
            case "Item":
                self.events.append({"End": tag})
                self._before = _Before.NOTHING
            case "Link" | "Image":
                self._end_link()
            case "TableCell" if self._outside_cell is not None:
                self._rows[-1].append(self.events)
                self._cell_end = where["end"]
                self.events, self._outside_cell = self._outside_cell, None
                self._before = self._before_table
            case "TableRow":
                self._surplus_cells(where)
            case "Table":
                self._table(where)
            case "Strikethrough" | "Emphasis" if self._is_text(where):
                self._text("~" if tag == "Strikethrough" else "*")
            case "TableHead" | "FootnoteDefinition":
                pass
            case _:
                self.events.append({"End": tag})

    def _is_text(self, marked: Where) -> bool:
        """One tilde means "about", and an asterisk between numbers or names that they are multiplied."""
        start, end = marked["start"], marked["end"]
        if self._bytes[start : start + 1] == b"~":
            return self._bytes[start + 1 : start + 2] != b"~"
        return self._bytes[start - 1 : start].isalnum() and self._bytes[end : end + 1].isalnum()

    def _begin_block(self, *, own_line: bool = False) -> None:
        """Between blocks the converter begins new lines, except in an item of a list."""
        if self._before is _Before.MARKER and not own_line:
            return
        if self._lists and self._before is not _Before.NOTHING:
            self.events.append({"Text": "\n"})
        self._before = _Before.NOTHING

    def _text(self, text: str) -> None:
        if self._lines is not None:
            self._lines.append(text)
            return
        text = text.replace("\t", " ")
        if self._before is _Before.BLOCK:
            text = text.lstrip(" ")
        if text:
            self._inline({"Text": text})
            self._before = _Before.NOTHING if text.endswith("\n") else _Before.TEXT

    def _inline(self, event: Event) -> None:
        if self._before is _Before.BLOCK:
            self.events.append({"Text": "\n"})
        self.events.append(event)
        self._before = _Before.TEXT

    def _formula(self, formula: str, where: Where) -> None:
        if self._outside_cell is not None:
            self._inline({"Code": readable(formula).replace("\n", " ")})
            return
        if self._before is not _Before.NOTHING:
            self.events.append({"Text": "\n"})
            self._before = _Before.NOTHING
        self._code(readable(formula), where)

    def _code(self, text: str, where: Where, language: str = "") -> None:
        if not text.strip():
            return
        self._begin_block(own_line=True)
        start = {"Start": {"CodeBlock": {"Fenced": language}}}
        self.events += [(start, where), {"Text": text.expandtabs(_TAB)}, {"End": "CodeBlock"}]
        self._before = _Before.BLOCK

    def _start_link(self, link: dict[str, str], where: Where) -> None:
        followed = not self._links and accepts_link(link["dest_url"])
        if followed:
            self.events.append({"Start": {"Link": {"dest_url": link["dest_url"]}}})
        citation = bool(_CITATION.match(self._bytes, where["start"]))
        if citation:
            self._text("[")
        self._links.append(_Link(link["dest_url"], len(self.events), followed, citation))

    def _end_link(self) -> None:
        link = self._links.pop()
        shown = _shown(self.events[link.first :]).strip()
        if link.citation:
            self._text("]")
        if self._links:  # a picture that is itself a link
            return
        if not shown and link.url:
            self._text(link.url)
        if link.followed:
            self.events.append(_LINK_END)
        elif shown and shown.removeprefix("mailto:") != (address := link.url.removeprefix("mailto:")):
            # A place within a document that is not here would only be taken for a hashtag.
            self._text(f" ({address})" if address and not address.startswith("#") else "")

    def _surplus_cells(self, where: Where) -> None:
        """More cells than the head has are lost to the parser; they go to the last one that it knows."""
        surplus = self._bytes[self._cell_end : where["end"]].decode().strip("| \t\n")
        if surplus:
            self._rows[-1][-1].append({"Text": f" | {surplus}"})

    def _table(self, where: Where) -> None:
        texts = [[_shown(cell).strip() for cell in row] for row in self._rows]
        linked = any(_LINK_END in cell for row in self._rows for cell in row)
        columns = None if linked else grid(texts, self._alignments)
        if columns is not None:
            self._code(columns, where)
            return
        self._begin_block(own_line=True)
        self.events.append(({"Start": "Paragraph"}, where))
        head = [text.replace("\n", " ") for text in texts[0]]
        for number, row in enumerate(self._rows[1:]):
            self.events += [{"Text": "\n\n"}] if number else []
            self._row(head, row)
        if len(self._rows) == 1:
            self.events.append({"Text": " | ".join(head)})
        self.events.append({"End": "Paragraph"})

    def _row(self, head: Sequence[str], row: Sequence[Sequence[Event]]) -> None:
        filled = [(name, cell) for name, cell in zip(head, row, strict=True) if _shown(cell).strip()]
        for number, (name, cell) in enumerate(filled):
            self.events += [{"Text": "\n"}] if number else []
            if name:
                colon = "" if name.endswith((":", "：")) else ":"
                self.events += [{"Start": "Strong"}, {"Text": name + colon}, {"End": "Strong"}, {"Text": " "}]
            self.events += cell


def _shown(events: Sequence[Event]) -> str:
    return "".join(event.get("Text", "") or event.get("Code", "") for event in events if isinstance(event, dict))
