"""The log as a file for other trainers: what could be learnt from, and nothing that a run would not learn from.

Consent, weights and the redaction of personal data are those of the settings, as in a run. It is not divided and not
cleaned of doubles: other trainers do that in their own ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetune import formats
from finetune.collect import collect
from finetune.examples import Example, Preference
from finetune.formats import Form
from finetune.job import Told
from finetune.redacting import Learnt, people_of, redacted
from settings import Settings
from store import learning as logged
from store.session import Store


@dataclass(frozen=True)
class Exported:
    rows: int
    people: int
    left_out: dict[str, int]  # replies, by reason
    redactions: dict[str, int]  # by kind


def export(settings: Settings, store: Store, file: Path, form: Form, told: Told = lambda _: None) -> Exported:
    """Blocks. Raises DataRefused, OSError, StoreError."""
    found = collect(store, settings.learning)
    items: list[Learnt] = [*found.examples, *found.preferences]
    redactions: dict[str, int] = {}
    if settings.learning.redact and items:
        from finetune.redact import Redactor

        items, counts = redacted(items, logged.names(store, people_of(items)), Redactor(), told)
        redactions = dict(sorted(counts.items()))
    examples = [each for each in items if isinstance(each, Example)]
    preferences = [each for each in items if isinstance(each, Preference)]
    rows = formats.write(file, form, examples, preferences)
    return Exported(rows, found.people, found.left_out, redactions)
