"""Payment cards, and the numbers by which states know a person."""

from __future__ import annotations

import re
from collections.abc import Iterator

from finetune.redact import checksums
from finetune.redact.findings import Finding, of_pattern

# Not inside a longer number, a word or an identifier. Chinese characters may touch a number.
_BEFORE = r"(?<![0-9A-Za-z_.])(?<![0-9]-)"
_AFTER = r"(?![0-9A-Za-z_]|[.-][0-9])"

_CARD = re.compile(rf"{_BEFORE}[2-6][0-9]{{3}}(?:[ -]?[0-9]){{8,15}}{_AFTER}")
# First digits and lengths of the networks: Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay.
_NETWORK = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"
    r"|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"
    r"|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}"
    r"|(?:6011|65[0-9]{2}|64[4-9][0-9])[0-9]{12}|35(?:2[89]|[3-8][0-9])[0-9]{12}|62[0-9]{14,17}"
)
_GROUPED = re.compile(
    r"[0-9]+|[0-9]{4}(?:([ -])[0-9]{4})(?:\1[0-9]{4})*(?:\1[0-9]{1,4})?|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5}"
)

_CHINESE = re.compile(rf"{_BEFORE}(?:[1-9][0-9]{{5}}[ -]?[0-9]{{8}}[ -]?[0-9]{{3}}[0-9Xx]|[1-9][0-9]{{14}}){_AFTER}")
_AMERICAN = re.compile(rf"{_BEFORE}(?!000|666|9)[0-9]{{3}}-(?!00)[0-9]{{2}}-(?!0000)[0-9]{{4}}{_AFTER}")
_AMERICAN_SAID = re.compile(
    r"(?i:\bssn|social security(?: number| no\.?)?)(?:\s+is|\s+was)?[\s:#=]*"
    rf"(?P<value>[0-9]{{3}} ?[0-9]{{2}} ?[0-9]{{4}}){_AFTER}"
)
_PASSPORT = re.compile(
    r"(?i:\bpassport(?: number| no\.?| num)?|护照(?:号码|号)?|通行证(?:号码|号)?)(?:\s+is|是|为)?[\s:：#=]*"
    r"(?P<value>[A-Za-z]{1,2}[0-9]{7,8}|[0-9]{9})" + _AFTER
)


def cards(text: str) -> Iterator[Finding]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", match[0])
        if _GROUPED.fullmatch(match[0]) and _NETWORK.fullmatch(digits) and checksums.luhn(digits):
            yield Finding(match.start(), match.end(), "CARD")


def identities(text: str) -> Iterator[Finding]:
    for match in _CHINESE.finditer(text):
        if checksums.chinese_identity(re.sub(r"[ -]", "", match[0])):
            yield Finding(match.start(), match.end(), "IDENTITY")
    for pattern in (_AMERICAN, _AMERICAN_SAID, _PASSPORT):
        yield from of_pattern(pattern, text, "IDENTITY")
