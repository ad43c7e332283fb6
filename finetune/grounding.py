"""Passages of documents in what a model learns from: how they are left out, and the marks that point at them.

A prompt holds its passages in the newest message, before the question (bot.passages makes it so, and a test holds the
two together). Without them, a mark such as [1] points at nothing, and a model that learnt to write it would make up
sources.
"""

from __future__ import annotations

import re

# The first numbered passage with its quoted lines; every line of a passage begins with ">", so that none is taken for
# the line that the question stands in.
_PASSAGES = re.compile(r"^\[1\] [^\n]*\n>", re.MULTILINE)
_QUESTION = re.compile(r"\n\n(?:Question: |问题：)")

_NUMBERS = r"\s*\^?\d{1,3}(?:\s*[,，、;；]\s*\^?\d{1,3})*\s*"
_MARK = re.compile(rf"[ \t]*(?:\[({_NUMBERS})\]|【({_NUMBERS})】)")
_CODE = re.compile(r"(```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`)", re.DOTALL)


def asked(message: str) -> str:
    """The question in a message as the model was sent it: without the passages before it, if there are any."""
    passages = _PASSAGES.search(message)
    question = _QUESTION.search(message, passages.end()) if passages else None
    return message[question.end() :] if question else message


def cites(reply: str, given: int) -> bool:
    """Does it point at one of the passages 1 to `given`?"""
    return reply != without_marks(reply, given)


def without_marks(reply: str, given: int) -> str:
    """`reply` without the marks that point at the passages 1 to `given`. Code is left as it is."""
    pieces = _CODE.split(reply)
    return "".join(piece if number % 2 else _unmarked(piece, given) for number, piece in enumerate(pieces))


def _unmarked(text: str, given: int) -> str:
    def kept(mark: re.Match[str]) -> str:
        numbers = [int(each) for each in re.findall(r"\d+", mark[0])]
        return "" if all(1 <= each <= given for each in numbers) else mark[0]

    return _MARK.sub(kept, text)
