"""Footnotes: where a reply in the terminal says it has its statements from."""

from __future__ import annotations

from collections.abc import Iterator

from bot.events import Finished, Source
from bot.passages import place_in
from bot.texts import Texts

LONGEST_EXCERPT = 160  # characters


def footnotes(end: Finished, failed_search: bool, texts: Texts) -> Iterator[str]:
    """A line for each passage that the reply names; or one that says why there is none."""
    for source in end.sources:
        yield f"{texts.t('sources.footnote', number=source.number, place=place_of(source, texts))} — {_excerpt(source)}"
    if failed_search:
        yield texts.t("sources.failed")
    elif end.unanswered and end.text != texts.t("knowledge.not_in_documents"):
        yield texts.t("sources.unanswered")


def place_of(source: Source, texts: Texts) -> str:
    place = place_in(source.title, source.heading)
    if source.page is None:
        return place
    if source.page_end in (None, source.page):
        return texts.t("sources.page", place=place, page=source.page)
    return texts.t("sources.pages", place=place, page=source.page, last=source.page_end)


def _excerpt(source: Source) -> str:
    text = " ".join(source.text.split())
    return text if len(text) <= LONGEST_EXCERPT else f"{text[:LONGEST_EXCERPT].rstrip()}…"
