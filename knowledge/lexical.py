"""A text as the terms that the lexical search compares: what BM25 counts, in documents and in questions alike.

Words of alphabets are compared by their Snowball stem, in lower case, without accents. Scripts without spaces between
words (Chinese, Japanese, Thai ...), and Korean, whose particles are glued to the word, become overlapping pairs of
characters: a dictionary of words was no better on Chinese questions and several times slower. Names made of parts
(max_tokens, maxTokens, AB-1234, e-mail, john@example.com) are found whole, however their parts are joined, and by each
part.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

import snowballstemmer

LONGEST = 64  # characters of a term; what is longer is a blob that nobody types

# Scripts that are compared by pairs of characters.
_GLUED = (
    "\u0e01-\u0e4e\u0e81-\u0ece\u1000-\u1049\u1780-\u17d3"  # Thai, Lao, Burmese, Khmer
    "\u3005\u3006\u3041-\u3096\u30a1-\u30fa\u30fc\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # kana, Han
    "\uac00-\ud7a3\U00020000-\U0003ffff"  # Hangul, rarer Han
)
# Vowel signs and accents that belong to the word but are no letters to `re`.
_MARKS = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u0dff\u0f18-\u0fbc"
)
_LETTER = rf"(?:(?![{_GLUED}])[\w{_MARKS}])"
_TOKEN = re.compile(rf"(?P<glued>[{_GLUED}]+)|{_LETTER}+(?:['’.,:@+&/-]{_LETTER}+)*(?:\+\+|#)?")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_NUMBER = re.compile(r"\d+(?:[.:/-]\d+)*")  # 3.5, 10:30, 192.168.0.1, 2024-05-01
_SEPARATOR = re.compile(r"['’.,:@+&/_-]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_INITIALS = re.compile(r"[^\W\d_](?:\.[^\W\d_])+")  # U.S.A
_ASCII_WORD = re.compile(r"[a-z]+")

_ENGLISH = """
a about above after again all also am an and any are as at be because been before being below between both but by
can could did do does doing done during each few for from further had has have having he her here hers him his how i
if in into is it its itself just like many may me might more most much must my no nor not of off on once one only or
other our ours out over own please same shall she should so some such tell than that the their theirs them then
there these they this those through to too under until up very was we were what when where which while who whom
whose why will with would you your yours
"""
_ENGLISH_STOP = frozenset(_ENGLISH.split())
# What a Chinese question is made of besides its subject. Their characters are also parts of words
# (目的, 是非), so whole phrases leave the question, not characters.
_CHINESE = """
什麼時候 什么时候 為什麼 为什么 是什麼 是什么 有什麼 有什么 叫什麼 叫什么 什麼 什么 甚麼 怎麼樣
怎么样 怎麼 怎么 怎樣 怎样 如何 為何 为何 何時 何时 何地 何種 何种 何者 哪一個 哪一个 哪一 哪個
哪个 哪些 哪裡 哪里 哪兒 哪儿 哪位 哪種 哪种 哪年 哪 誰 谁 多少 幾個 几个 多久 多大 多長 多长
是否 請問 请问 告訴我 告诉我 嗎 吗 呢 因為 因为 所以 以及 或者 還是 还是 可以 他們 他们 她們
我們 我们 你們 你们 它們 它们 這個 这个 那個 那个 這些 这些 那些 之一 有關 有关 關於 关于 對於
对于
"""
_CHINESE_STOP_RUN = re.compile("|".join(sorted(_CHINESE.split(), key=len, reverse=True)))

_per_thread = threading.local()


def terms(text: str) -> list[str]:
    """The terms of a document's text, in its order, as often as they stand there."""
    return list(_terms(unicodedata.normalize("NFKC", text)))


def query_terms(text: str) -> list[str]:
    """The terms of a question, each once: without the words that questions are made of, unless there are no others."""
    return content_terms(text) or list(dict.fromkeys(terms(text)))


def content_terms(text: str) -> list[str]:
    """The terms that say what a question is about, each once; none in "what was it?"."""
    telling = _CHINESE_STOP_RUN.sub(" ", unicodedata.normalize("NFKC", text))
    tokens = (token for token in _TOKEN.finditer(telling) if token.group().casefold() not in _ENGLISH_STOP)
    return list(dict.fromkeys(term for token in tokens for term in _of_token(token)))


def _terms(text: str) -> Iterator[str]:
    for token in _TOKEN.finditer(text):
        yield from _of_token(token)


def _of_token(token: re.Match[str]) -> tuple[str, ...]:
    return _pairs(token.group()) if token["glued"] else _word(token.group())


def _pairs(run: str) -> tuple[str, ...]:
    if len(run) == 1:
        return (run,)
    return tuple(run[start : start + 2] for start in range(len(run) - 1))


@lru_cache(maxsize=100_000)
def _word(token: str) -> tuple[str, ...]:
    """The terms of one token without spaces: a word has one, a name of several parts has itself and its parts."""
    token = token[:LONGEST]
    if _ASCII_WORD.fullmatch(token):
        return (_stem(token),)
    if token.endswith(("++", "#")):  # C++ and C# are not C
        return (token.casefold().replace("+", "plus").replace("#", "sharp"),)
    if _THOUSANDS.fullmatch(token):
        return (token.replace(",", ""),)
    if _NUMBER.fullmatch(token):
        return tuple(dict.fromkeys((token, *re.split(r"[:/-]", token))))
    if _INITIALS.fullmatch(token):
        return (_folded(token.replace(".", "")),)
    bare = re.sub(r"['’](?:s|S)?$|['’](?:s|S)(?=[^\w])", "", token)
    parts = [part for side in _SEPARATOR.split(bare) for part in _HUMP.split(side) if part]
    whole = re.sub(r"['’,&+/_-]", "", bare)
    terms = [_stem(_folded(whole))]
    if any(mark in bare for mark in ",:/") and not any(character.isdigit() for character in bare):
        terms = []  # "and/or" is no name
    if len(parts) > 1:
        terms += [_stem(_folded(part)) for part in parts if len(part) > 1 or part.isdigit()]
    found = terms if any(terms) else [_stem(_folded(part)) for part in parts]
    return tuple(dict.fromkeys(term for term in found if term))


def _folded(word: str) -> str:
    """In lower case, without accents where they are an alphabet's ornaments: other scripts' signs are letters."""
    word = word.casefold()
    if word.isascii():
        return word
    plain = "".join(c for c in unicodedata.normalize("NFKD", word) if not "\u0300" <= c <= "\u036f")
    return unicodedata.normalize("NFKC", plain)


def _stem(word: str) -> str:
    if not _ASCII_WORD.fullmatch(word):
        return word
    if not hasattr(_per_thread, "stemmer"):
        _per_thread.stemmer = snowballstemmer.stemmer("english")  # it keeps the word it works on: not for two threads
    stem: str = _per_thread.stemmer.stemWord(word)
    return stem
