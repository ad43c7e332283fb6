"""HTML to blocks. Markdown, Word, EPUB and mail come here too, each made into HTML first: one place knows structure."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from knowledge.parsed import Block

if TYPE_CHECKING:
    from lxml.html import HtmlElement

HEADINGS = {f"h{level}": level for level in range(1, 7)}
UNSEEN = {"script", "style", "noscript", "template", "head", "svg", "math", "iframe", "object", "embed", "canvas"}
CONTROLS = {"button", "select", "textarea", "input", "datalist"}
AROUND = {"nav", "footer", "aside"}  # what a web page has around its text
CONTAINERS = (
    {
        "html",
        "body",
        "p",
        "div",
        "section",
        "article",
        "main",
        "header",
        "footer",
        "aside",
        "nav",
        "blockquote",
        "figure",
    }
    | {"figcaption", "dl", "dt", "dd", "form", "fieldset", "address", "details", "summary", "center", "hr", "li", "ul"}
    | {"ol", "menu", "table", "thead", "tbody", "tfoot", "tr", "td", "th", "caption", "hgroup"}
)
STANDS_ALONE = ("pre", "table", *HEADINGS)  # in a list or a cell, these are worth more than its shape
DEEPEST = 100  # below it there is no structure that a person made

HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)
LANGUAGE = re.compile(r"(?:^|\s)(?:language|lang|highlight-source|highlight|brush:?)[-:\s]([\w+#-]+)")
ANCHOR = re.compile(r"^[§#]\s*|\s*[¶§]$|\s+#$")  # the mark that one can link to
SPACE = re.compile(r"[ \t\r\n\f\v\u00a0]+")


def tree_of(html: str) -> HtmlElement | None:
    """None where there is no element at all."""
    from lxml import etree
    from lxml.html import HTMLParser, document_fromstring

    parser = HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True, no_network=True)
    try:
        return document_fromstring(html.encode("utf-8", "replace"), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError):
        return None


def blocks_of_html(html: str, *, page: int | None = None, around: bool = True) -> list[Block]:
    """What a person sees of it; without navigation, footers and asides unless `around`."""
    root = tree_of(html)
    return [] if root is None else blocks_of(root, page=page, around=around)


def blocks_of_markdown(text: str, *, page: int | None = None) -> list[Block]:
    from markdown_it import MarkdownIt

    # What is nested deeper than its limit, markdown-it leaves out, and all that follows with it; Python's own limit is
    # an error that can be seen, so that one is to be met first.
    parser = MarkdownIt("commonmark", {"maxNesting": sys.maxsize}).enable(["table", "strikethrough"])
    try:
        return blocks_of_html(parser.render(text), page=page)
    except RecursionError:
        return blocks_of_text(text, page=page)


def blocks_of_text(text: str, *, page: int | None = None) -> list[Block]:
    """A paragraph wherever a line is empty."""
    parts = (part.strip("\n").rstrip() for part in re.split(r"\n[ \t]*\n", text))
    return [Block("paragraph", part, page=page) for part in parts if part.strip()]


def blocks_of(root: HtmlElement, *, page: int | None = None, around: bool = True) -> list[Block]:
    walk = _Walk(page, around)
    walk.element(root, 0)
    walk.end_paragraph()
    return walk.blocks


def text_of(element: HtmlElement) -> str:
    """On one line, as a heading or a cell is."""
    return SPACE.sub(" ", "".join(_visible(element, 0))).strip()


def table_rows(rows: list[list[str]]) -> str:
    """Markdown rows without a ruler below the header: it says nothing and costs tokens in every piece of the table."""
    width = max(len(row) for row in rows)
    padded = [row + [""] * (width - len(row)) for row in rows]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in padded)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


class _Walk:
    def __init__(self, page: int | None, around: bool) -> None:
        self.blocks: list[Block] = []
        self._page, self._around = page, around
        self._inline: list[str] = []

    def element(self, element: HtmlElement, depth: int) -> None:
        tag = element.tag if isinstance(element.tag, str) else ""
        if not tag or _unseen(element, tag) or (tag in AROUND and not self._around):
            return
        if depth > DEEPEST:
            self._inline.append(" ".join(_visible(element, depth)))
        elif tag in HEADINGS:
            self._heading(element, HEADINGS[tag])
        elif tag == "pre":
            self._code(element)
        elif tag in ("ul", "ol", "menu") and element.find(".//li") is not None and not _has(element, STANDS_ALONE):
            self._list(element)
        elif tag == "table" and (rows := _rows(element)):
            self._table(element, rows)
        elif tag == "br":
            self._inline.append("\n")
        else:
            self._children(element, tag, depth)

    def _children(self, element: HtmlElement, tag: str, depth: int) -> None:
        if tag in CONTAINERS:
            self.end_paragraph()
        self._text(element.text)
        for child in element:
            self.element(child, depth + 1)
            self._text(child.tail)
        if tag in CONTAINERS:
            self.end_paragraph()

    def _text(self, text: str | None) -> None:
        if text:
            self._inline.append(SPACE.sub(" ", text))

    def end_paragraph(self) -> None:
        text = re.sub(r" *\n\s*", "\n", re.sub(r" +", " ", "".join(self._inline))).strip()
        self._inline = []
        if text:
            self.blocks.append(Block("paragraph", text, page=self._page))

    def _heading(self, element: HtmlElement, level: int) -> None:
        self.end_paragraph()
        if text := ANCHOR.sub("", text_of(element)):
            self.blocks.append(Block("heading", text, level=level, page=self._page))

    def _code(self, element: HtmlElement) -> None:
        self.end_paragraph()
        for line_break in element.iter("br"):
            line_break.tail = "\n" + (line_break.tail or "")
        text = element.text_content().strip("\n").rstrip()
        if text.strip():
            self.blocks.append(Block("code", text, page=self._page, language=_language(element)))

    def _list(self, element: HtmlElement) -> None:
        self.end_paragraph()
        if lines := _list_lines(element, 0):
            self.blocks.append(Block("list", "\n".join(lines), page=self._page))

    def _table(self, element: HtmlElement, rows: list[list[str]]) -> None:
        self.end_paragraph()
        for caption in element.iterchildren("caption"):
            if text := text_of(caption):
                self.blocks.append(Block("paragraph", text, page=self._page))
        self.blocks.append(Block("table", table_rows(rows), page=self._page))


def _unseen(element: HtmlElement, tag: str) -> bool:
    """Also what only a machine reads: a page can hide orders to an assistant there."""
    if tag in UNSEEN or tag in CONTROLS or "hidden" in element.attrib:
        return True
    return bool(HIDDEN.search(element.get("style", "")))


def _visible(element: HtmlElement, depth: int) -> list[str]:
    if not isinstance(element.tag, str) or _unseen(element, element.tag):
        return []
    if depth > 2 * DEEPEST:
        return [element.text_content()]
    parts = [element.text or ""]
    for child in element:
        apart = child.tag in CONTAINERS or child.tag == "br"
        parts += [" "] * apart + _visible(child, depth + 1) + [" "] * apart + [child.tail or ""]
    return parts


def _has(element: HtmlElement, tags: tuple[str, ...]) -> bool:
    return next(element.iterdescendants(*tags), None) is not None


def _list_lines(element: HtmlElement, depth: int) -> list[str]:
    if depth > DEEPEST // 4:
        return ["  " * depth + "- " + text_of(element)]
    lines = []
    start = element.get("start", "1")
    number = int(start) if start.isdigit() and len(start) < 9 else 1
    for item in element.iterchildren("li", "ul", "ol"):
        if item.tag != "li":  # a list right in a list, as old editors write it
            lines += _list_lines(item, depth + 1)
            continue
        inner = list(item.iterchildren("ul", "ol"))
        nested_lines = [line for nested in inner for line in _list_lines(nested, depth + 1)]
        own = [item.text or ""]
        for child in item:
            own += ([] if child in inner else _visible(child, 0)) + [" ", child.tail or ""]
        text = SPACE.sub(" ", "".join(own)).strip()
        if text:
            lines.append("  " * depth + (f"{number}. " if element.tag == "ol" else "- ") + text)
            number += 1
        lines += nested_lines
    return lines


def _rows(table: HtmlElement) -> list[list[str]]:
    """Its cells; empty where it is no table of facts but one that lays out a page, or holds more than words."""
    if _has(table, STANDS_ALONE):
        return []
    rows = []
    for row in table.iter("tr"):
        cells = []
        for cell in row.iterchildren("td", "th"):
            span = cell.get("colspan", "1")
            cells += [text_of(cell)] + [""] * (min(int(span), 50) - 1 if span.isdigit() and len(span) < 4 else 0)
        if any(cells):
            rows.append(cells)
    return rows if rows and max(map(len, rows)) > 1 else []


def _language(element: HtmlElement) -> str:
    for candidate in (element, *element.iterchildren("code"), element.getparent()):
        if candidate is not None and (found := LANGUAGE.search(candidate.get("class", ""))):
            return found[1].lower()
    return ""
