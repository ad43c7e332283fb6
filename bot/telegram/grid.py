"""Tables on a phone, which has none: a small one as columns of code, any other as a list of what each row says."""

from __future__ import annotations

from collections.abc import Sequence

from wcwidth import width

WIDEST = 40  # columns of code that a phone shows without breaking the line

Rows = Sequence[Sequence[str]]


def grid(rows: Rows, alignments: Sequence[str]) -> str | None:
    """The rows, the first of them the head, in columns of one width; None when that is too wide.

    A cell may have several lines. A Chinese character takes two columns. Alignments are pulldown-cmark's.
    """
    cells = [[cell.split("\n") for cell in row] for row in rows]
    widths = [max(_width(line) for row in cells for line in row[column]) for column in range(len(alignments))]
    if not widths or sum(widths) + 3 * (len(widths) - 1) > WIDEST:
        return None
    lines: list[str] = []
    for row in cells:
        for height in range(max(len(cell) for cell in row)):
            texts = [cell[height] if height < len(cell) else "" for cell in row]
            aligned = [_aligned(*each) for each in zip(texts, widths, alignments, strict=True)]
            lines.append(" | ".join(aligned).rstrip())
        if row is cells[0]:
            lines.append("-+-".join("-" * each for each in widths))
    return "\n".join(lines)


def _width(text: str) -> int:
    return width(text, control_codes="ignore")


def _aligned(text: str, columns: int, alignment: str) -> str:
    missing = columns - _width(text)
    before = {"Right": missing, "Center": missing // 2}.get(alignment, 0)
    return " " * before + text + " " * (missing - before)
