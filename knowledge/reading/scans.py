"""Text in pictures, recognised by the models that RapidOCR carries in its wheel: Chinese and English, no network."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge.errors import DocumentDamaged, DocumentEmpty, DocumentTooLarge
from knowledge.reading.content import Content
from knowledge.reading.limits import Limits
from knowledge.reading.lines import Line, Page, blocks_of_pages, join

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 100_000_000
LONGEST_SIDE = 2600
SURE = 0.6
SAME_LINE = 0.5  # of the height of the letters


def read_image(path: Path, name: str, limits: Limits) -> Content:
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not limits.ocr_pages:
        raise DocumentEmpty(name, "it is a picture, and text in pictures is not read (knowledge.ocr_pages is 0)")
    Image.MAX_IMAGE_PIXELS = None  # asked below, before anything is unpacked
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise DocumentTooLarge(name, f"it has {opened.width} x {opened.height} pixels")
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DocumentDamaged(name, "it is cut or damaged (a picture that cannot be opened)") from error
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    blocks = blocks_of_pages([Page(1, tuple(recognise(picture)))])
    notes = ["it is a picture, its text was recognised and may have mistakes"] if blocks else []
    return Content(blocks, pages=1, notes=notes)


def recognise(picture: Image) -> list[Line]:
    import numpy as np

    answer = _engine()(np.asarray(picture.convert("RGB"))[:, :, ::-1])  # it expects blue first
    if answer.txts is None or answer.boxes is None:
        return []
    found = []
    for text, box, score in zip(answer.txts, answer.boxes, answer.scores, strict=True):
        if score < SURE or not text.strip():
            continue
        left, top = float(box[:, 0].min()), float(box[:, 1].min())
        right, bottom = float(box[:, 0].max()), float(box[:, 1].max())
        found.append(Line(text.strip(), left, right, top, bottom - top))
    return _on_one_line(found)


@functools.cache
def _engine() -> Any:
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


def _on_one_line(found: list[Line]) -> list[Line]:
    """Words are found one by one; what stands beside each other on the same height is one line.

    Sizes of boxes vary with the letters in them, so those of lines that differ little are made equal: else every line
    with a tall letter would be a heading.
    """
    lines: list[list[Line]] = []
    for word in sorted(found, key=lambda word: word.top):
        if lines and abs(word.top - lines[-1][0].top) < SAME_LINE * min(word.size, lines[-1][0].size):
            lines[-1].append(word)
        else:
            lines.append([word])
    usual = sorted(word.size for word in found)[len(found) // 2] if found else 0.0
    joined = []
    for words in lines:
        words.sort(key=lambda word: word.left)
        size = max(word.size for word in words)
        text = functools.reduce(
            lambda before, word: join(before, word.text, on_own_line=False), words[1:], words[0].text
        )
        joined.append(Line(text, words[0].left, words[-1].right, words[0].top, usual if size < 1.4 * usual else size))
    return joined
