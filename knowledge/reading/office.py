"""Word and PowerPoint.

Word goes through mammoth into HTML, which keeps headings, lists, footnotes and whole tables. markitdown does the
same and makes Markdown of it; only its way with equations, which mammoth leaves out, is used: they become LaTeX.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from knowledge.errors import DocumentDamaged
from knowledge.parsed import Block
from knowledge.reading.archives import read_member
from knowledge.reading.content import Content
from knowledge.reading.markup import blocks_of_html, table_rows

CORE = "docProps/core.xml"
TITLE = re.compile(r"<dc:title[^>]*>([^<]*)</dc:title>")
STYLES = """
p[style-name='Title'] => h1:fresh
p[style-name='Subtitle'] => p:fresh
p[style-name='标题'] => h1:fresh
p[style-name='标题 1'] => h1:fresh
p[style-name='标题 2'] => h2:fresh
p[style-name='标题 3'] => h3:fresh
p[style-name='Code'] => pre:separator('\\n')
p[style-name='HTML Preformatted'] => pre:separator('\\n')
"""


def read_docx(path: Path, name: str) -> Content:
    import mammoth

    with zipfile.ZipFile(path) as archive:
        title = _core_title(archive, name)
        equations = b"<m:oMath" in read_member(archive, "word/document.xml", name)
    document: io.BytesIO | Any = io.BytesIO(path.read_bytes())
    if equations:
        from markitdown.converter_utils.docx.pre_process import pre_process_docx

        document = pre_process_docx(document)
    no_pictures = mammoth.images.img_element(lambda image: {"src": ""})
    result = mammoth.convert_to_html(document, style_map=STYLES, convert_image=no_pictures)
    return Content(blocks_of_html(result.value), title=title)


def _core_title(archive: zipfile.ZipFile, name: str) -> str:
    from html import unescape

    if CORE not in archive.namelist():
        return ""
    found = TITLE.search(read_member(archive, CORE, name).decode("utf-8", "replace"))
    return unescape(found[1]) if found else ""


def read_pptx(path: Path, name: str) -> Content:
    from pptx import Presentation
    from pptx.exc import PackageNotFoundError

    try:
        presentation = Presentation(str(path))
    except (PackageNotFoundError, KeyError) as error:
        raise DocumentDamaged(name, "it is cut or damaged (parts of it are missing)") from error
    blocks: list[Block] = []
    slides = list(presentation.slides)
    for number, slide in enumerate(slides, 1):
        title = slide.shapes.title
        if title is not None and title.text_frame.text.strip():
            blocks.append(Block("heading", " ".join(title.text_frame.text.split()), level=1, page=number))
        for shape in _in_reading_order(slide.shapes):
            if title is None or shape.shape_id != title.shape_id:
                blocks += _shape(shape, number)
        if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame) and notes.text.strip():
            blocks.append(Block("paragraph", notes.text.strip(), page=number))
    return Content(blocks, title=presentation.core_properties.title or "", pages=len(slides))


def _in_reading_order(shapes: Any) -> Iterator[Any]:
    """Top to bottom, then left to right; what is in a group stays together."""
    placed = [((shape.top or 0, shape.left or 0), index, shape) for index, shape in enumerate(shapes)]
    for _, _, shape in sorted(placed, key=lambda entry: entry[:2]):
        if shape.shape_type == 6:  # a group
            yield from _in_reading_order(shape.shapes)
        else:
            yield shape


def _shape(shape: Any, page: int) -> list[Block]:
    if getattr(shape, "has_table", False) and shape.has_table:
        rows = [[cell.text for cell in row.cells] for row in shape.table.rows]
        return [Block("table", table_rows(rows), page=page)] if any(any(row) for row in rows) else []
    if getattr(shape, "has_chart", False) and shape.has_chart:
        return _chart(shape.chart, page)
    if not shape.has_text_frame:
        return []
    paragraphs = [(part.level, part.text.strip()) for part in shape.text_frame.paragraphs if part.text.strip()]
    if len(paragraphs) > 1:
        return [Block("list", "\n".join("  " * level + f"- {text}" for level, text in paragraphs), page=page)]
    return [Block("paragraph", text, page=page) for _, text in paragraphs]


def _chart(chart: Any, page: int) -> list[Block]:
    """Its numbers, a row for each category."""
    try:
        plot = chart.plots[0]
        header = ["", *(str(series.name) for series in plot.series)]
        values = [list(series.values) for series in plot.series]
        rows = [
            [str(category), *(str(column[index]) for column in values)]
            for index, category in enumerate(plot.categories)
        ]
    except (IndexError, KeyError, ValueError, AttributeError, NotImplementedError):
        return []  # a kind of chart that has no categories
    title = chart.chart_title.text_frame.text if chart.has_title and chart.chart_title.has_text_frame else ""
    named = [Block("paragraph", title.strip(), page=page)] if title.strip() else []
    return [*named, Block("table", table_rows([header, *rows]), page=page)] if rows else named
