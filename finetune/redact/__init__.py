"""Personal data leaves texts before they become a data set: each value gives way to a placeholder such as <EMAIL_1>.

    presidio     e-mail, IBAN, wallets, MAC addresses: Presidio's rule-based recognisers; no model, no network
    phones       by libphonenumber, and the forms of China
    numbers      payment cards, identity numbers of China and others
    addresses    IP addresses, accounts of messengers
    secrets      keys, tokens and passwords
    own_names    the names that people gave in their profiles

What each finds and what it mistakes is measured by `python -m bench.redaction`. Names of third persons, street
addresses and whatever a rule cannot see stay: what is learnt is still what people said.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from finetune.redact import addresses, numbers, own_names, secrets
from finetune.redact.findings import Finding, Kind, plain, resolved
from finetune.redact.placeholders import Placeholders, hidden

_PASSES = 4  # what is redacted can uncover what touched it
_REPEATED = 6  # characters of a value that is looked for wherever else it stands


class Redactor:
    """Loaded once (it takes seconds), then fast; used by one thread at a time."""

    def __init__(self, also: Sequence[own_names.Find] = ()) -> None:
        """`also`: what finds more, such as finetune.names' learnt finder of third persons."""
        from finetune.redact.phones import Phones
        from finetune.redact.presidio import Presidio

        self._everywhere: tuple[own_names.Find, ...] = (
            Presidio(),
            Phones(),
            numbers.cards,
            numbers.identities,
            addresses.ips,
            addresses.accounts,
            secrets.secrets,
            *also,
        )

    def conversation(self, texts: Sequence[str], names: Sequence[str] = ()) -> tuple[list[str], Counter[str]]:
        """The texts with placeholders, the same for the same value in all of them, and how many of each kind.

        `names`: what the people who take part are called. Done twice it changes nothing more.
        """
        redacted = list(texts)
        placeholders = Placeholders(texts)
        find_names = own_names.finder(names)
        counts: Counter[str] = Counter()
        unsettled = list(range(len(redacted)))
        for _ in range(_PASSES):
            found = {number: self._found(redacted[number], find_names) for number in unsettled}
            for number, repeated in _repeated(redacted, found):
                found.setdefault(number, []).extend(repeated)
            changed = []
            for number in sorted(found):
                text, findings = redacted[number], resolved(found[number], redacted[number])
                if findings:
                    redacted[number] = _replaced(text, findings, placeholders)
                    counts.update(each.kind for each in findings)
                    changed.append(number)
            if not changed:
                break
            unsettled = changed
        return redacted, counts

    def found(self, text: str, names: Sequence[str] = ()) -> list[Finding]:
        """What one text shows by itself, in its order, without overlaps."""
        return resolved(self._found(text, own_names.finder(names)), text)

    def _found(self, text: str, find_names: own_names.Find | None) -> list[Finding]:
        searched = hidden(plain(text))
        found = [each for find in self._everywhere for each in find(searched)]
        if find_names is not None:
            found += find_names(searched)
        return found


def _repeated(texts: Sequence[str], found: dict[int, list[Finding]]) -> Iterator[tuple[int, list[Finding]]]:
    """What was found with the help of its surroundings ("the password is ...") also where it stands without them."""
    kinds: dict[str, Kind] = {}
    for number, findings in found.items():
        for each in findings:
            value = texts[number][each.start : each.end]
            if each.kind != "NAME" and len(value) >= _REPEATED:
                kinds[value] = each.kind
    if not kinds:
        return
    longest_first = sorted(kinds, key=len, reverse=True)
    pattern = re.compile(rf"(?<![0-9A-Za-z_])(?:{'|'.join(map(re.escape, longest_first))})(?![0-9A-Za-z_])")
    for number, text in enumerate(texts):
        matches = pattern.finditer(hidden(text))
        yield number, [Finding(match.start(), match.end(), kinds[match[0]]) for match in matches]


def _replaced(text: str, findings: Sequence[Finding], placeholders: Placeholders) -> str:
    parts, end = [], 0
    for each in findings:
        value = each.value or plain(text[each.start : each.end])
        parts += [text[end : each.start], placeholders.of(each.kind, value)]
        end = each.end
    return "".join([*parts, text[end:]])
