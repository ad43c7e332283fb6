"""What is known of a reply: who wrote it, when, and from how much; and what there is to know of an adapter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bot.texts import Texts
from store.tables import Message
from store.versions import Version


@dataclass(frozen=True)
class Details:
    reply: Message
    version: Version | None  # of the adapter that wrote it; None: none did, or it is not known any more


def lines(details: Details, texts: Texts) -> list[str]:
    reply = details.reply
    said = [
        texts.t("about.title"),
        texts.t("about.at", at=f"{reply.created_at:%Y-%m-%d %H:%M} UTC"),
        *_writer(details, texts),
    ]
    if reply.model:
        said.append(texts.t("about.tokens", prompt=reply.prompt_tokens, reply=reply.completion_tokens))
    if reply.passages:
        said.append(texts.t("about.passages", count=len(reply.passages)))
    return said


def about_version(version: Version, texts: Texts) -> str:
    """E.g. "version 7, learnt on 2026-11-23 in run 12; in force"."""
    made = f"{version.made_at:%Y-%m-%d}"
    said = texts.t("model.adapter", version=version.version, date=made)
    if version.run is not None:
        said = texts.t("model.adapter_of_run", version=version.version, date=made, run=version.run)
    if version.in_force:
        return texts.t("model.in_force", adapter=said)
    if version.share is not None:
        return texts.t("model.on_trial", adapter=said, share=f"{version.share:.0%}")
    return said


def stood_for(
    choices: list[tuple[str, str]], there: Iterable[Version], texts: Texts, *, auto: bool
) -> list[tuple[str, str]]:
    """Names and notes of models; while a whole model is in force, the others say that it answers in their place.

    `auto`: is "auto" one of those others, since the persona has an adapter?
    """
    whole = next((each.served_name for each in there if each.whole and each.in_force), "")
    itself = {whole} if auto else {whole, "auto"}
    return [
        (name, texts.t("model.stood_for", note=note, whole=whole) if whole and name not in itself else note)
        for name, note in choices
    ]


def _writer(details: Details, texts: Texts) -> list[str]:
    reply, version = details.reply, details.version
    if not reply.model:
        return [texts.t("about.not_the_model")]
    if not reply.adapter:
        return [texts.t("about.base", model=reply.model)]
    note = about_version(version, texts) if version else texts.t("model.gone")
    return [texts.t("about.adapter", model=reply.model, adapter=reply.adapter), note]
