"""The names of the people in a conversation, as their profiles tell them.

What is looked for is the whole name, its parts, and in Chinese the given name and the family name before a title
("王老师"). Many names are words as well: "Will" and "May", "高兴". Those count only as part of the whole name, or where
somebody is greeted or says who he is. A name of one letter is no name, nor is "user" or "me".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from finetune.redact import name_words
from finetune.redact.findings import Finding, plain

Find = Callable[[str], Iterator[Finding]]

_HAN = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSPACED = _HAN + "\u3040-\u30ff\uac00-\ud7af"  # and kana and hangul: a name touches the words beside it
_BEFORE = rf"(?<![^\W{_UNSPACED}])"
_AFTER = rf"(?![^\W{_UNSPACED}])"
_ACCENTS = "[\u0300-\u036f]*"

_TITLES = "先生|女士|小姐|老师|同学|医生|大夫|教授|经理|总监|太太|师傅|律师|同志|博士|老師|同學|醫生"
_CUE = (
    r"(?:(?i:\b(?:my name(?:'s| is)|name(?:\s+is|:)|i am|i['’]m|call me|called|this is|dear|hi|hello|hey|thanks"
    r"|thank you|regards|cheers|sincerely|yours|love|ask|tell|mr\.?|mrs\.?|ms\.?|dr\.?))[,:]?\s+|^[-–—]\s*|@"
    r"|(?:我叫|我是|叫我|我的名字是|我的名字叫|名叫|姓名|你好|您好|亲爱的|署名)[，,：:\s]*)"
)


def finder(names: Sequence[str]) -> Find | None:
    """What finds these people, each under the first of `names` that holds his; None where there is nobody to find."""
    patterns: list[tuple[str, re.Pattern[str]]] = []
    people: list[tuple[str, frozenset[str]]] = []
    for name in sorted(dict.fromkeys(names), key=len, reverse=True):
        words = _words(name)
        if not words:
            continue
        bare = frozenset(word.casefold() for word in words)
        known = next((person for person, parts in people if bare <= parts), None)
        if known is None:
            people.append((known := " ".join(words).casefold(), bare))
        patterns += [(known, pattern) for pattern in _patterns(words)]
    if not patterns:
        return None

    def find(text: str) -> Iterator[Finding]:
        for person, pattern in patterns:
            for match in pattern.finditer(text):
                yield Finding(match.start("name"), match.end("name"), "NAME", person)

    return find


def _words(name: str) -> list[str]:
    """The name without what people put around it: emojis, hearts, signs."""
    bare = unicodedata.normalize("NFC", plain(name))[:200]
    words = re.findall(r"[\w]+(?:['’.-][\w]+)*", bare)
    words = [word.strip("_") for word in words if not word.isdigit()]
    words = [word for word in words if word]
    if len("".join(words)) < 2 or all(word.casefold() in name_words.NOBODY for word in words):
        return []
    return words


def _patterns(words: list[str]) -> Iterator[re.Pattern[str]]:
    strict, loose, cued = [], [], []  # as written; in any case; only after a cue
    if len(words) > 1:
        between = r"[\s·•.,_-]{0,2}(?:[A-Za-z]\.?\s)?"
        loose.append(between.join(map(_letters, words)))
        if len(words) == 2:
            loose.append(r",?[\s_-]?".join(_letters(word) for word in reversed(words)))
    for word in words:
        folded = word.casefold()
        if folded in name_words.NOBODY or folded in name_words.PARTICLES or len(word) < 2:
            continue
        if re.fullmatch(f"[{_UNSPACED}]+", word):
            sure, unsure = _chinese(word)
            strict += sure
            cued += unsure
        elif folded in name_words.ENGLISH or len(word) < 3:
            cued.append(_letters(word))
        else:
            loose.append(_letters(word))
    if loose:
        yield re.compile(f"(?i){_BEFORE}(?P<name>{'|'.join(loose)}){_AFTER}")
    if strict:
        yield re.compile(f"(?P<name>{'|'.join(strict)})")
    if cued:
        yield re.compile(f"{_CUE}(?P<name>{'|'.join(cued)}){_AFTER}", re.MULTILINE)


def _chinese(name: str) -> tuple[list[str], list[str]]:
    """Patterns for anywhere, and those for after a cue."""
    surname = next((each for each in name_words.TWO_SURNAMES if name.startswith(each)), name[:1])
    given = name[len(surname) :]
    known = len(surname) == 2 or surname in name_words.SURNAMES
    sure: list[str] = []
    unsure: list[str] = []
    (unsure if name in name_words.CHINESE else sure).append(re.escape(name))
    if known and given and re.fullmatch(f"[{_HAN}]+", name):
        sure.append(f"{re.escape(surname)}(?={_TITLES})")
        if len(given) == 2:
            (unsure if given in name_words.CHINESE else sure).append(re.escape(given))
    return sure, unsure


def _letters(word: str) -> str:
    """The word whether its accents are letters of their own or stand behind the letter."""
    made = []
    for character in word:
        base = unicodedata.normalize("NFD", character)[0]
        made.append(
            re.escape(character) if base == character else f"(?:{re.escape(character)}|{re.escape(base)}{_ACCENTS})"
        )
    return "".join(made)
