"""Presidio's recognisers for e-mail, IBAN, wallets and MAC addresses, as they can be used here.

Two things are changed. Its patterns know the edge of a word by Unicode, where Chinese characters are letters too and an
address that touches one has no edge: they get patterns with edges of their own. And its check of an e-mail's domain
fetches the list of public suffixes from the network at the first call: the list that comes with tldextract is taken,
and names that are nobody's on the internet (example, local, ...) are taken for addresses as well.

Source: Microsoft Presidio (MIT).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finetune.redact.findings import Finding, Kind, of_pattern

# Of RFC 2606 and RFC 6762, and what houses call their own network.
_NO_SUFFIX = frozenset(["example", "test", "invalid", "local", "lan", "internal", "intranet", "corp", "home"])
_LETTER = r"[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"  # of an alphabet, or a digit or _
_LOCAL = rf"(?<!{_LETTER})(?<![.%+-]){_LETTER}(?:(?:{_LETTER}|[.%+'-]){{0,62}}(?:{_LETTER}|[+-]))?"
_LABEL = r"[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?"
_EDGE = r"(?![0-9A-Za-z_-])"
_HAN = r"[\u3400-\u9fff]{1,20}"
_EMAIL = rf"{_LOCAL}@(?:(?:{_LABEL}\.)+|{_HAN}\.)[A-Za-z][0-9A-Za-z-]{{1,62}}{_EDGE}"
_LOGIN = re.compile(r"(?:git|hg|svn)@", re.IGNORECASE)  # of a server, not of a person
_IN_LOGIN = re.compile(r"://[^\s/@]*$")  # a URL's user and password are another recogniser's
_AT = r"(?:\s?[\[({]\s?(?i:at)\s?[\])}]\s?)"
_DOT = r"(?:\.|\s?[\[({]\s?(?i:dot)\s?[\])}]\s?|\s(?i:dot)\s)"
_SPELT_OUT = re.compile(
    rf"{_LOCAL}(?:{_AT}|\s(?i:at)\s(?={_LABEL}\s(?i:dot)\s)){_LABEL}(?:{_DOT}{_LABEL})*?{_DOT}[A-Za-z]{{2,24}}{_EDGE}"
)
_MAC = r"(?<![0-9A-Za-z:-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![0-9A-Za-z:-])"
_ETHEREUM = re.compile(r"(?<![0-9A-Za-z])0x[0-9A-Fa-f]{40}(?![0-9A-Za-z])")


@dataclass(frozen=True)
class _Recogniser:
    kind: Kind
    entity: str
    of: Any
    worth_asking: re.Pattern[str]  # asking costs more than this


class Presidio:
    """Loading takes seconds."""

    def __init__(self) -> None:
        import tldextract
        from presidio_analyzer import Pattern
        from presidio_analyzer import predefined_recognizers as theirs

        self._suffix = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())
        email = theirs.EmailRecognizer(patterns=[Pattern("email in running text", _EMAIL, 0.5)])
        email.validate_result = self._is_address
        mac = theirs.MacAddressRecognizer(patterns=[Pattern("mac in running text", _MAC, 0.6)])
        self._recognisers = (
            _Recogniser("EMAIL", "EMAIL_ADDRESS", email, re.compile("@")),
            _Recogniser("IBAN", "IBAN_CODE", theirs.IbanRecognizer(), re.compile("[A-Z]{2}[0-9]{2}")),
            _Recogniser("WALLET", "CRYPTO", theirs.CryptoRecognizer(), re.compile("(?:bc1|[13])[0-9A-Za-z]{25}")),
            _Recogniser("MAC", "MAC_ADDRESS", mac, re.compile("(?:[0-9A-Fa-f]{2}[:-]){5}")),
        )

    def __call__(self, text: str) -> Iterator[Finding]:
        for each in self._recognisers:
            if each.worth_asking.search(text):
                for found in each.of.analyze(text, [each.entity]):
                    if each.kind == "EMAIL" and _IN_LOGIN.search(text[max(0, found.start - 80) : found.start]):
                        continue
                    yield Finding(found.start, found.end, each.kind)
        yield from of_pattern(_SPELT_OUT, text, "EMAIL")
        yield from of_pattern(_ETHEREUM, text, "WALLET")

    def _is_address(self, found: str) -> bool:
        domain = found.rpartition("@")[2].lower()
        named = bool(self._suffix(domain).suffix) or domain.rpartition(".")[2] in _NO_SUFFIX
        return named and not _LOGIN.match(found)
