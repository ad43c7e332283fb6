"""The report as one HTML file: nothing is fetched, nothing is run, and every word of a conversation is only text.

The page says so to the browser itself: its content security policy allows its own style, by hash, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.record import Record
from finetune.report import outline, unlearning, words

if TYPE_CHECKING:
    from jinja2 import Template

_HERE = Path(__file__).parent
_MOST_STEPS = 200  # rows of the table behind the curves
# What no file may hold, or what would turn text around that stands after it. Tabs and line breaks stay.
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def html(record: Record) -> str:
    """The whole page. Any part of the record may be missing."""
    from finetune.report import charts

    training = record.training
    steps = training.curve[:: max(1, -(-len(training.curve) // _MOST_STEPS))] if training else ()
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    return _template().render(
        record=record,
        data=record.data,
        training=training,
        decision=record.decision,
        steps=steps,
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        words=words,
        outline=outline,
        unlearning=unlearning,
        charts=charts,
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_as_text,
    )
    return environment.get_template("page.html")


def _as_text(value: Any) -> Any:
    """Characters that are none are shown as such; what is markup already was made here."""
    return _NOT_TEXT.sub("\ufffd", value) if type(value) is str else value
