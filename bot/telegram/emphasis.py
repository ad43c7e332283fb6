"""Emphasis beside Chinese, Japanese and Korean, which are written without spaces.

CommonMark lets `**` open or close only by what stands on its two sides, and with a letter on one side and a mark of
punctuation on the other it takes it for the wrong one: in "**注意：**请看" nothing is closed. Models write just that.
An entity of no width, put between the asterisks and the letter, counts as punctuation, and is taken out again when the
text has been parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bot.telegram.dialect import prose, rewritten

_JOINT = "&NoBreak;"

_LETTER = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
_BETWEEN = re.compile(
    rf"(?<={_LETTER.pattern})(?:\*{{1,3}}|~~)(?=[^\w\s*~])|(?<=[^\w\s*~\\])(?:\*{{1,3}}|~~)(?={_LETTER.pattern})"
)


def with_joints(source: str) -> str:
    if ("*" not in source and "~~" not in source) or _JOINT in source or not _BETWEEN.search(source):
        return source
    return rewritten(source, _joints(source))


def without_joints(text: str) -> str:
    return text.replace(_JOINT, "")


def is_joint(source: bytes) -> bool:
    return source == _JOINT.encode()


def _joints(source: str) -> Iterator[tuple[int, int, str]]:
    for start, end in prose(source):
        for mark in _BETWEEN.finditer(source, start, end):
            at = mark.start() if _LETTER.match(source, mark.start() - 1) else mark.end()
            yield at, at, _JOINT
