"""Plain text, Markdown and source code: bytes in some encoding become characters first.

UTF-8 by a mark at the beginning or because it decodes; else UTF-16 by where its zero bytes stand; else Chinese, when
it decodes as such and its commonest characters are the commonest of the language; else what charset-normalizer thinks.
Short Chinese texts are the reason for a rule of our own: it takes them for Korean or Central European.
"""

from __future__ import annotations

import codecs
import re
from pathlib import PurePath

from knowledge.errors import DocumentDamaged
from knowledge.parsed import Block
from knowledge.reading.content import Content, pretty_name
from knowledge.reading.markup import blocks_of_markdown, blocks_of_text

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SIMPLIFIED = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年，。、：；！？“”（）"
)
TRADITIONAL = frozenset(
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年，。、：；！？「」（）"
)
COMMON_SHARE = 0.15  # of the characters that are not ASCII; right decodings have .2 and more, wrong ones below .05
SAMPLE_BYTES = 65536
SEVEN_BITS = (
    "iso-2022-jp",
    "iso-2022-kr",
    "hz-gb-2312",
    "hz",
    "utf-7",
)  # they decode as ASCII, and mean something else
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
CONTROL_SHARE = 0.01
FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?\r?\n)(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.S)
FRONT_TITLE = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.M)
CHARSET = re.compile(r"charset=[\"']?([\w.:-]+)", re.I)
LARGE = 2_000_000  # characters of Markdown that are parsed at once

LANGUAGES = {
    ".py": "python", ".pyi": "python", ".js": "javascript", ".mjs": "javascript", ".cjs": "javascript",
    ".jsx": "javascript", ".ts": "typescript", ".tsx": "tsx", ".java": "java", ".c": "c", ".h": "c", ".cc": "cpp",
    ".cpp": "cpp", ".cxx": "cpp", ".hpp": "cpp", ".hh": "cpp", ".go": "go", ".rs": "rust", ".rb": "ruby",
    ".php": "php", ".cs": "csharp", ".sh": "bash", ".bash": "bash", ".zsh": "bash", ".kt": "kotlin",
    ".swift": "swift", ".scala": "scala", ".lua": "lua", ".r": "r", ".pl": "perl", ".sql": "sql", ".css": "css",
    ".scss": "scss", ".vue": "vue", ".json": "json", ".jsonl": "json", ".yaml": "yaml", ".yml": "yaml",
    ".toml": "toml", ".ini": "ini", ".cfg": "ini", ".conf": "ini", ".xml": "xml", ".proto": "proto",
    ".ps1": "powershell", ".bat": "batch", ".dockerfile": "dockerfile", ".mk": "make",
}  # fmt: skip


def decode(data: bytes, mime: str = "") -> str | None:
    """None where these bytes are no text."""
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return _text(data.decode(encoding, "replace"))
    named = CHARSET.search(mime)
    if named and named[1].lower() in SEVEN_BITS and (text := _try(data, named[1])) is not None:
        return _text(text)
    try:
        return _text(data.decode())
    except UnicodeDecodeError as error:
        if error.start >= len(data) - 3 and len(data) > 3:  # cut within the last character
            return _text(data[: error.start].decode())
    if b"\0" in data[:SAMPLE_BYTES]:
        return _wide(data)
    if named and (text := _try(data, named[1])) is not None:
        return _text(text)
    return _text(_chinese(data) or _guess(data))


def _text(text: str) -> str | None:
    sample = text[:SAMPLE_BYTES]
    if len(CONTROL.findall(sample)) > CONTROL_SHARE * len(sample) or sample.count("\ufffd") > CONTROL_SHARE * len(
        sample
    ):
        return None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _wide(data: bytes) -> str | None:
    """UTF-16 without a mark: of English, every second byte is zero; Chinese has its share of common characters."""
    even = data[: len(data) // 2 * 2]
    for encoding in ("utf-16-le", "utf-16-be"):
        text = even.decode(encoding, "replace")
        sample = text[:SAMPLE_BYTES]
        readable = sum(character.isascii() and (character.isprintable() or character.isspace()) for character in sample)
        readable += sum(character in SIMPLIFIED or character in TRADITIONAL for character in sample) * 4
        if readable > 0.6 * len(sample) and (known := _text(text)) is not None:
            return known
    return None


def _chinese(data: bytes) -> str:
    scored = []
    for encoding, common in (("gb18030", SIMPLIFIED), ("big5", TRADITIONAL), ("big5hkscs", TRADITIONAL)):
        if (text := _try(data, encoding)) is None:
            continue
        wide = [character for character in text[:SAMPLE_BYTES] if not character.isascii()]
        share = sum(character in common for character in wide) / max(1, len(wide))
        scored.append((share, text))
    best = max(scored, default=(0.0, ""), key=lambda pair: pair[0])
    return best[1] if best[0] >= COMMON_SHARE else ""


def _try(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except LookupError:
        return None
    except UnicodeDecodeError as error:
        return data[: error.start].decode(encoding, "replace") if 3 < len(data) - 3 <= error.start else None


def _guess(data: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(data[:SAMPLE_BYTES]).best()
    return data.decode(best.encoding if best else "cp1252", "replace")


def read_text(data: bytes, name: str, mime: str) -> Content:
    return Content(blocks_of_text(_decoded(data, name, mime)))


def read_markdown(data: bytes, name: str, mime: str) -> Content:
    text = _decoded(data, name, mime)
    title = ""
    if front := FRONT_MATTER.match(text):
        text = text[front.end() :]
        if found := FRONT_TITLE.search(front[1]):
            title = found[1].strip("\"'")
    blocks: list[Block] = []
    for part in _parts(text):
        blocks += blocks_of_markdown(part)
    return Content(blocks, title=title)


def _parts(text: str) -> list[str]:
    """A parser holds many times what it parses, so megabytes go in by parts, cut before a heading."""
    if len(text) <= LARGE:
        return [text]
    parts, begin = [], 0
    for heading in re.finditer(r"^#{1,3} ", text, re.M):
        if heading.start() - begin > LARGE:
            parts.append(text[begin : heading.start()])
            begin = heading.start()
    return [*parts, text[begin:]]


def read_code(data: bytes, name: str, mime: str) -> Content:
    text = _decoded(data, name, mime).strip("\n")
    language = LANGUAGES.get(PurePath(name).suffix.lower(), "")
    blocks = [Block("code", text, language=language)] if text.strip() else []
    return Content(blocks, title=PurePath(name).name or pretty_name(name))


def _decoded(data: bytes, name: str, mime: str) -> str:
    text = decode(data, mime)
    if text is None:
        raise DocumentDamaged(name, "it is not text, whatever its name says")
    return text
