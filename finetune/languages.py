"""Whether a reply is in another language than its question.

The scripts are looked at first: they are certain, also of a few words. Where both are written in Latin or Cyrillic
letters, and both are long enough to tell, py3langid is asked (its model is in its package). A doubt is no mismatch, and
neither is what was asked for: a translation, or a word in a language that the question names.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any

SHORTEST = 80  # letters of each, before the languages of one script are told apart
SURE = 0.9  # of 1, that it is this language
_FEW = 4  # letters that say nothing about a script

_SCRIPTS = {
    "kana": "\u3040-\u30ff",
    "han": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff",
    "hangul": "\uac00-\ud7af\u1100-\u11ff",
    "latin": "A-Za-z\u00c0-\u024f\u1e00-\u1eff",
    "cyrillic": "\u0400-\u04ff",
    "greek": "\u0370-\u03ff",
    "arabic": "\u0600-\u06ff",
    "hebrew": "\u0590-\u05ff",
    "devanagari": "\u0900-\u097f",
    "thai": "\u0e00-\u0e7f",
}
_LETTERS = {name: re.compile(f"[{characters}]") for name, characters in _SCRIPTS.items()}
_WORTH = {"han": 3, "kana": 2, "hangul": 2}  # what one character says, in letters of an alphabet

_NOT_PROSE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|<[A-Z_]+_\d+>|\[\d+\]", re.DOTALL)
_NAMES_A_LANGUAGE = re.compile(
    r"translat|翻译|翻譯|译成|譯成|traduc|traduit|übersetz|перевед|번역|翻訳|\blanguages?\b|语言|語言"
    r"|\b(?:english|chinese|mandarin|cantonese|japanese|korean|spanish|french|german|italian|portuguese|russian|arabic"
    r"|hindi|thai|vietnamese|latin|greek|hebrew|pinyin)\b"
    r"|[英中汉漢日韩韓法德俄]语|[英中日韩法德俄漢]語|[英中日韩韓法德俄]文|汉语|普通话|普通話|粤语|拼音|西班牙|意大利|葡萄牙|阿拉伯|拉丁",
    re.IGNORECASE,
)


def differ(question: str, reply: str) -> bool:
    """Is the reply in another language, without having been asked for it?"""
    if _NAMES_A_LANGUAGE.search(question):
        return False
    asked, said = _NOT_PROSE.sub(" ", question), _NOT_PROSE.sub(" ", reply)
    scripts = script(asked), script(said)
    if "" in scripts:
        return False
    if scripts[0] != scripts[1]:
        return True
    if scripts[0] not in ("latin", "cyrillic") or min(_letters(asked), _letters(said)) < SHORTEST:
        return False
    languages = _language(asked), _language(said)
    return "" not in languages and languages[0] != languages[1]


def script(text: str) -> str:
    """The script that most of a text is in; "" where that is not clear. Japanese is kana, however much Han it has."""
    found = Counter({name: len(letters.findall(text)) * _WORTH.get(name, 1) for name, letters in _LETTERS.items()})
    if found["kana"] * 5 > found["han"]:
        found["kana"] += found.pop("han", 0)
    name, most = found.most_common(1)[0]
    return name if most > _FEW and most * 3 > sum(found.values()) * 2 else ""


def _letters(text: str) -> int:
    return sum(each.isalpha() for each in text)


def _language(text: str) -> str:
    """As ISO 639-1; "" where it is not clear."""
    language, sure = _identifier().classify(text)
    return str(language) if float(sure) >= SURE else ""


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
