"""Phone numbers: international ones, those of China, and national ones of some countries.

`phonenumbers` (Google's libphonenumber, which Presidio's recogniser uses too) knows which numbers can exist. It is
asked only about what looks like a number, and it alone would take order numbers for phones: digits without any
grouping count only after a word such as "call", and Chinese mobile numbers by their form, which is nothing else's.
Toll-free and service numbers are a company's, not a person's, and stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from finetune.redact.findings import Finding

_BEFORE = r"(?<![0-9A-Za-z_.#$€£¥])(?<![0-9][-/])(?<![-][0-9])"
_AFTER = r"(?![0-9A-Za-z_]|[.-][0-9]|%)"
_MOBILE = re.compile(rf"{_BEFORE}(?:(?:\+|00)? ?86[ -]?)?1[3-9][0-9][ -]?[0-9]{{3,4}}[ -]?[0-9]{{4,5}}{_AFTER}")
_LANDLINE = re.compile(
    rf"{_BEFORE}(?!\(?0800)(?:\(0(?:10|2[0-9]|[3-9][0-9]{{2}})\) ?|0(?:10|2[0-9]|[3-9][0-9]{{2}})[ -])"
    rf"[0-9]{{3,4}}[ -]?[0-9]{{4}}(?:(?:转| ?ext\.? ?|-)[0-9]{{1,5}})?{_AFTER}"
)
_LOOKS = re.compile(rf"{_BEFORE}(?:\(?\+ ?|\()?[0-9](?:[ ().\-/]{{0,3}}[0-9]){{6,16}}{_AFTER}")
_CUE = re.compile(
    r"(?:(?<![A-Za-z])(?:phone|mobile|cell|call(?:ed|ing)?|dial|tel|text(?:ed)?|sms|signal|fax|ring|whatsapp|telefon"
    r"|handy|numm?er|numéro|téléphone|appelez|(?:my|her|his|their) number|reach (?:me|us|him|her|them))"
    r"|电话|電話|手机|手機|号码|號碼|致电|拨打|打给|联系|座机|传真|短信|热线)[^0-9\n]{0,24}$",
    re.IGNORECASE,
)
# Said to be a phone's, and no region knows that it is one: without the area code, or of a range kept for fiction.
_LOCAL = re.compile(r"[2-9][0-9]{2}[-. ][0-9]{4}|0(?!800)[0-9]{2,4}(?:[ /-]?[0-9]){6,9}")
# A fraction, or a number that is free to call.
_NO_PERSON = re.compile(r"[0-9]+\.[0-9]+|\(?0800.*|\+?800.*|(?:\+?1[- ]?)?\(?8(?:00|88|77|66|55|44|33)\)?[- ].*")
_LEADING_ZERO_REGIONS = ("GB", "DE", "FR", "AU", "JP", "TW", "IT", "NL")
_CUED_REGIONS = ("US", "GB", "CN", "IN", "HK", "SG", "DE", "FR", "AU", "JP", "TW")


class Phones:
    def __init__(self) -> None:
        import phonenumbers

        self._library = phonenumbers
        kinds = phonenumbers.PhoneNumberType
        self._toll_free = kinds.TOLL_FREE
        self._companies = {kinds.PREMIUM_RATE, kinds.SHARED_COST, kinds.UAN, kinds.VOICEMAIL}

    def __call__(self, text: str) -> Iterator[Finding]:
        for pattern in (_MOBILE, _LANDLINE):
            for match in pattern.finditer(text):
                if pattern is _LANDLINE or len(re.sub(r"[^0-9]", "", match[0])) in (11, 13, 15):
                    yield Finding(match.start(), match.end(), "PHONE")
        for match in _LOOKS.finditer(text):
            yield from self._known(text, match)

    def _known(self, text: str, looks: re.Match[str]) -> Iterator[Finding]:
        if _NO_PERSON.fullmatch(looks[0]):
            return
        leniency = self._library.Leniency
        written = looks[0]
        cue = _CUE.search(text[max(0, looks.start() - 40) : looks.start()])
        regions: tuple[str | None, ...]
        if written.lstrip("(").startswith("+"):
            regions, strict = (None,), leniency.POSSIBLE
        elif written.startswith("00"):
            regions, strict = ("CN", "GB"), leniency.VALID  # 00 is the way out
        elif cue:
            regions, strict = _CUED_REGIONS, leniency.VALID
        elif not written.isdigit():
            regions, strict = (
                _LEADING_ZERO_REGIONS if written.lstrip("(")[0] == "0" else ("US",),
                leniency.STRICT_GROUPING,
            )
        else:
            return
        for region in regions:
            matches = [*self._library.PhoneNumberMatcher(written, region, leniency=strict)]
            kinds = [self._library.number_type(each.number) for each in matches]
            if self._toll_free in kinds:
                return
            found = [each for each, kind in zip(matches, kinds, strict=True) if kind not in self._companies]
            for each in found:
                yield Finding(looks.start() + each.start, looks.start() + each.end, "PHONE")
            if found:
                return
        if cue and _LOCAL.fullmatch(written):
            yield Finding(looks.start(), looks.end(), "PHONE")
