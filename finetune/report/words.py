"""What verdicts, checks, reasons and numbers are called in a report."""

from __future__ import annotations

import math
from typing import Literal

from finetune.record import Check, Interval, Record

Unit = Literal["nats", "share", "characters", "number"]
Moved = Literal["better", "worse", "unclear", "changed", ""]

NOT_A_NUMBER = "not a number"

VERDICTS = {
    "promoted": "Promoted",
    "rejected": "Rejected",
    "not_proven": "Not proven",
    "nothing_to_learn": "Nothing to learn",
    "failed": "Failed",
    "": "Under way",
}

CHECKS = {
    "gain": "Gain",
    "general_perplexity": "General text",
    "rounds": "Earlier runs",
    "recall": "Word for word",
    "preferences": "Preferences",
    "judge": "Judge",
    "probes": "Fixed questions",
    "over_refusals": "Over-refusals",
    "refusals": "Refusals",
    "loops": "Loops",
    "empty": "Empty replies",
    "length": "Length",
}

WHY = {
    "corrected": "corrected, and the correction is learnt",
    "rated_up": "rated up",
    "chosen": "chosen among several",
    "unremarked": "gone on from without complaint",
    "imported": "from a file",
    "general": "the base model's own replies",
}

LEFT_OUT = {
    "stopped": "stopped by the person",
    "rated_down": "rated down",
    "error": "ended by an error, or written without the documents",
    "not_chosen": "another reply was chosen",
    "not_gone_on_with": "the conversation ended with it",
    "cut_off": "cut off at the most tokens",
    "weight_0": "weight 0 in the settings",
    "not_the_model": "not written by the model",
    "no_consent": "no consent",
    "quoted_without_consent": "quotes somebody without consent",
    "prompt_not_kept": "the prompt was not kept",
    "other_place": "from another place",
    "overlong": "too long",
    "empty": "empty",
    "loops": "repeats itself",
    "other_language": "not in the language of the question",
    "duplicate": "the same as another",
    "near_duplicate": "nearly the same as another",
    "near_duplicate_of_train": "nearly the same as one that is learnt",
    "near_duplicate_of_validation": "nearly the same as one of the validation part",
    "near_duplicate_of_test": "nearly the same as one of the test part",
    "malformed": "malformed line of the file",
}

REDACTED = {
    "EMAIL": "e-mail addresses",
    "PHONE": "phone numbers",
    "CARD": "card numbers",
    "IBAN": "bank accounts (IBAN)",
    "IDENTITY": "identity numbers",
    "IP": "IP addresses",
    "MAC": "hardware addresses",
    "WALLET": "wallets",
    "ACCOUNT": "account names",
    "SECRET": "keys and tokens",
    "NAME": "names",
}

CONSENT = {"yes": "said yes", "no": "said no", "unasked": "have not answered"}

SIDES = {"train": "learnt from", "validation": "validation", "test": "test"}

STAGES = {
    "preparing": "preparing the data",
    "training": "training",
    "evaluating": "measuring before and after",
    "deciding": "deciding",
    "promoting": "promoting",
}

_SHARES = (
    "refusals",
    "replies that loop",
    "empty replies",
    "preferred reply is the likelier one",
    "fixed questions",
    "predicted quality",
)


def plain(name: str, words: dict[str, str]) -> str:
    """How something is called; what has no name here goes by its own."""
    return words.get(name) or name.replace("_", " ").strip().lower() or "(none)"


def verdict(record: Record) -> str:
    """In a word or two."""
    if record.verdict == "promoted" and record.share is not None:
        return f"Promoted for {number(record.share, 'share')} first"
    return VERDICTS[record.verdict]


def headline(record: Record) -> str:
    """The verdict in one sentence."""
    new = f"{record.name}@{record.version}" if record.version is not None else f"what run {record.number} learnt"
    decision = record.decision
    if record.verdict == "promoted" and decision is not None and decision.overridden:
        though = f"though it was {VERDICTS[decision.verdict].lower()}"
        return f"{_first(new)} was promoted by an operator{_for_some(record)}, {though}."
    is_better = "is not worse" if decision is not None and decision.not_worse else "is better"
    if record.verdict == "promoted":
        return f"{_first(new)} {is_better} than {record.before} and was promoted{_for_some(record)}."
    if record.verdict == "rejected":
        return f"{_first(new)} is not better than {record.before}, so nothing was changed."
    if record.verdict == "not_proven" and decision is not None and decision.verdict == "promoted":
        return f"{_first(new)} {is_better} than {record.before}, but was only measured, so nothing was changed."
    if record.verdict == "not_proven":
        return f"It is not proven that {new} is better than {record.before}, so nothing was changed."
    if record.verdict == "nothing_to_learn":
        return "There is too little to learn from, so nothing was changed."
    if record.verdict == "failed":
        return f"Run {record.number} failed, and nothing was changed."
    return f"Run {record.number} is not over yet."


def _for_some(record: Record) -> str:
    return "" if record.share is None else f", for {number(record.share, 'share')} of the conversations first"


def result(check: Check) -> str:
    return {True: "passed", False: "failed", None: "not proven"}[check.passed]


# Numbers


def unit(name: str) -> Unit:
    """Of a row before and after, by its name."""
    if name.startswith(_SHARES):
        return "share"
    if name.startswith("characters"):
        return "characters"
    return "nats" if "loss a token" in name or "nats a token" in name else "number"


def number(value: float | None, of: Unit = "number", *, signed: bool = False) -> str:
    """As people write it: as many digits as say something. A dash where there is none."""
    if value is None:
        return "–"
    if math.isnan(value):
        return NOT_A_NUMBER
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if of == "share":
        said = f"{100 * value:{'+' if signed else ''}.1f}".replace(".0", "")
        said += " pts" if signed else "%"
    elif of == "characters":
        said = f"{value:{'+' if signed else ''},.0f}"
    else:
        said = f"{value:{'+' if signed else ''}{_digits(value)}}"
    return _minus(said)


def _minus(said: str) -> str:
    """A true minus sign; and none, nor a plus, before nothing."""
    if said[:1] in "+-" and not any(each in said for each in "123456789"):
        return said[1:]
    return said.replace("-", "−", 1) if said.startswith("-") else said


def _digits(value: float) -> str:
    size = abs(value)
    if size >= 1e6:
        return ".3g"
    return ",.0f" if size >= 1000 else ".1f" if size >= 100 else ".2f" if size >= 10 else ".3f"


def between(low: float | None, high: float | None, of: Unit = "number", *, signed: bool = True) -> str:
    if low is None or high is None:
        return "–"
    return f"{number(low, of, signed=signed)} to {number(high, of, signed=signed)}"


def count(many: int) -> str:
    return f"{many:,}"


def counted(many: int, what: str) -> str:
    return f"{many:,} {what}" if many == 1 else f"{many:,} {what}s"


def duration(seconds: float) -> str:
    if not math.isfinite(seconds) or seconds < 0:
        return number(seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def energy(joules: float | None) -> str:
    if joules is None:
        return "no counter could be read here"
    if not math.isfinite(joules):
        return number(joules)
    return f"{joules / 3600:,.1f} Wh" if joules >= 360 else f"{joules:,.0f} J"


def moved(row: Interval) -> Moved:
    """Whether the whole interval says so; "" where there is none."""
    if row.low is None or row.high is None or math.isnan(row.low) or math.isnan(row.high):
        return ""
    if row.low <= 0 <= row.high:
        return "unclear"
    if row.better == "same":
        return "changed"
    return "better" if (row.low > 0) == (row.better == "higher") else "worse"


MOVED = {
    "better": "better",
    "worse": "worse",
    "unclear": "no clear change",
    "changed": "changed",
    "": "too few to say",
}

GOOD = {"lower": "lower is better", "higher": "higher is better", "same": "neither way is better"}


def _first(said: str) -> str:
    """With a capital, but for an adapter's name, which is what it is."""
    return said if "@" in said else said[:1].upper() + said[1:]
