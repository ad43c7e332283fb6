"""Replies that nothing should be learnt from, and that a better model gives no more often: loops, refusals, nothing.

A loop is told from a text that only repeats (a table, a list, a refrain, a block of code) by three signs: its end says
the same again and again; one of its lines makes up most of it; nearly all of its word n-grams stand in it several
times (how Su et al., "A Contrastive Framework for Neural Text Generation", NeurIPS 2022, measure degeneration).
Words are what white space parts, and in Chinese and Japanese each character is one.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

LONGEST_UNIT = 120  # words; the end of a text is looked at for repetition of up to this many
SHORTEST_LOOP = 24  # words that only repeat, before it is one
MOST_ALIKE_WORDS = 40  # from how many words on n-grams and lines are looked at
DISTINCT_SHARE = 0.35  # of the n-grams; below it is a loop
N = 4

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)", re.DOTALL)
_LINE = re.compile(r"[^.!?。！？\n]+")
_ONE_CHARACTER = re.compile(r"(\S{1,8}?)\1{149,}")

_REFUSALS = re.compile(
    r"\b(?:i(?:'m| am)\s+afraid|sorry|apologies|i\s+apologi[sz]e|unfortunately)\b"
    r"[^.!?\n]{0,40}?\bi\s*(?:can(?:'t|not| not)|am (?:not able|unable)|'m (?:not able|unable)|won't|will not|"
    r"must decline|have to decline)\b(?!\s+(?:find|see|hear|reach|open|believe|recall|remember)\b)"
    r"|\bi\s*(?:can(?:'t|not| not)|won't|will not|am (?:not able|unable) to|'m (?:not able|unable) to)\s+"
    r"(?:help|assist|comply|fulfil+|answer|provide|support|engage|participate|create|generate|write|discuss|share|give)\b"
    r"[^.!?\n]{0,40}?\b(?:that|this|those|these|your|you|it|such|with|any)\b"
    r"|\bas\s+an?\s+(?:ai|artificial intelligence|(?:large )?language model|assistant)\b[^.!?\n]{0,60}?"
    r"\bi\s*(?:can(?:'t|not| not)|am (?:not able|unable)|'m (?:not able|unable)|do not|don't|won't|must)\b"
    r"|\bi\s+(?:must|have to)\s+(?:decline|refuse)\b"
    r"|\bit\s+(?:is|would be)\s+(?:not appropriate|inappropriate|unethical|against my)\b"
    r"|(?:抱歉|对不起|對不起|很遗憾|很遺憾|不好意思)[^。！？\n]{0,20}?(?:我|本助手)?[^。！？\n]{0,6}?"
    r"(?:无法|無法|不能|不可以|不会|不會|没办法|沒辦法|拒绝|拒絕)(?!找到|看到|打开|打開)"
    r"|(?:我|本助手)(?:无法|無法|不能|不可以)(?:为您|为你|為您|為你|向您|向你)?"
    r"(?:回答|提供|协助|協助|帮助|幫助|帮您|帮你|幫您|幫你|满足|滿足|完成|生成|讨论|討論|参与|參與)"
    r"|作为(?:一个|一名|一款)?(?:人工智能|AI|语言模型|大型语言模型|助手)[^。！？\n]{0,30}?(?:无法|不能|不会|不可以|没有办法)"
    r"|我(?:必须|不得不)拒绝",
    re.IGNORECASE,
)
_OPENING = 240  # characters, in which a refusal is said if it is one


def looping(text: str) -> bool:
    """Does it say the same again and again, and nothing else any more?"""
    if _ONE_CHARACTER.search(text) and not _is_ruled(text):
        return True
    words = _WORD.findall(text.casefold())
    if _ends_in_a_loop(words) or _ends_in_a_loop(words[:-1]):  # the last word may be cut
        return True
    prose = _CODE.sub("\n", text).casefold()
    return _says_one_line(prose) or _says_few_things(_WORD.findall(prose))


def refusal(text: str) -> bool:
    """Does it begin by declining what was asked? In English or Chinese."""
    opening = text.strip()[:_OPENING].replace("\u2019", "'")
    return bool(_REFUSALS.search(opening))


def empty(text: str) -> bool:
    """Is there nothing in it that can be seen?"""
    return all(unicodedata.category(each)[0] in "ZC" for each in text)


def _ends_in_a_loop(words: list[str]) -> bool:
    end = words[-LONGEST_UNIT * 4 :][::-1]
    for unit in range(1, min(LONGEST_UNIT, len(end) // 3) + 1):
        same = unit
        while same < len(end) and end[same] == end[same - unit]:
            same += 1
        if same >= max(SHORTEST_LOOP, unit * 3):
            return True
    return False


def _says_one_line(prose: str) -> bool:
    """One sentence or line of four words or more, four times or more, is the greater part of it."""
    lines = [words for line in _LINE.findall(prose) if len(words := tuple(_WORD.findall(line))) >= N]
    if not lines:
        return False
    line, times = Counter(lines).most_common(1)[0]
    return times >= 4 and times * len(line) > sum(len(each) for each in lines) / 2


def _says_few_things(words: list[str]) -> bool:
    grams = [tuple(words[at : at + N]) for at in range(len(words) - N + 1)]
    return len(grams) >= MOST_ALIKE_WORDS and len(set(grams)) < DISTINCT_SHARE * len(grams)


def _is_ruled(text: str) -> bool:
    """Only lines are drawn with it, as in tables."""
    return not _ONE_CHARACTER.search(re.sub(r"[-=_*#~|+.\s]+", " ", text))
