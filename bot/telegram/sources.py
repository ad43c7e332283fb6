"""What a reply rests on: the passages that it names, in a quotation under it and behind buttons.

All of it can be made anew from what is stored of a reply, its text and the ids of its passages, so it stands there
again after a restart and when somebody goes back to an earlier reply. Of a passage whose document was changed or
deleted since, nothing is shown any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog
from telegram import MessageEntity, Update
from telegram.constants import MessageEntityType

from bot.asking import ask
from bot.citations import Citations
from bot.errors import ChatError
from bot.events import Finished, Source
from bot.library import Quote
from bot.passages import place_in
from bot.retrieval import asks
from bot.telegram.cutting import units_in
from bot.telegram.feedback import own_reply
from bot.telegram.rendering import GAP, MAX_UNITS, Part, cleaned
from bot.telegram.shortening import one_line, shortened
from bot.telegram.visit import Visit, say
from bot.texts import Texts
from bot.turn import SEARCH_FAILED
from store import conversations
from store.tables import Message

if TYPE_CHECKING:
    from bot.telegram.channel import TelegramChannel

log = structlog.get_logger("familiar.telegram")

SHOWN = 8  # sources of a reply; with the lengths below they take less than one message
LONGEST_PLACE = 160  # UTF-16 units, as all of these
LONGEST_EXCERPT = 200
LONGEST_BUTTON = 28
LONGEST_NUMBER = 18  # digits

Paragraph = tuple[str, str]  # the text, and the look of all of it


@dataclass(frozen=True)
class Grounds:
    """What a reply is shown to rest on."""

    sources: Mapping[int, Source | None] = field(default_factory=dict)  # in the reply's order; None: not there any more
    unanswered: bool = False
    not_searched: bool = False  # though they should have been

    @property
    def buttons(self) -> list[tuple[int, str]]:
        return [
            (number, one_line(f"[{number}] {source.title}", LONGEST_BUTTON))
            for number, source in self.sources.items()
            if source is not None
        ]


NONE = Grounds()


class Sources:
    def __init__(self, channel: TelegramChannel) -> None:
        self._channel = channel

    def of_turn(self, end: Finished, *, not_searched: bool) -> Grounds:
        """Those of a reply that has just been made."""
        noted = self._channel.settings.knowledge.unanswered == "note"
        named = {source.number: source for source in end.sources[:SHOWN]}
        return Grounds(named, end.unanswered and noted, not_searched)

    async def of(self, visit: Visit, reply: Message) -> Grounds:
        """Those of a reply that is stored, as its documents are now. Raises ChatError."""
        library = self._channel.library
        if library is None:
            return NONE
        found: dict[int, Source | None] = {}
        for number in _named_in(reply)[:SHOWN]:
            passage_id = reply.passages[number - 1]
            try:
                quote = await library.quote(passage_id, visit.readable)
            except ChatError as error:  # its button may find it later
                log.warning("a source cannot be looked up", problem=error.key)
                quote = Quote("", "", None, None, "")
            found[number] = _source(number, passage_id, quote) if quote else None
        return Grounds(found, await self._is_unanswered(visit, reply), reply.error == SEARCH_FAILED)

    async def show(self, visit: Visit) -> None:
        """The button of a source: `src:7:2` sends the passage that reply 7 names as [2]."""
        reply_id, _, given = visit.argument.partition(":")
        replies, at = await own_reply(visit, _number(reply_id))
        number, passages, library = _number(given), replies[at].passages, self._channel.library
        quote = None
        if library is not None and 1 <= number <= len(passages):
            quote = await library.quote(passages[number - 1], visit.readable)
        if quote is None:
            await visit.answer(visit.texts.t("sources.gone"), alert=True)
            return
        await visit.answer()
        under_it = replace(visit.spot, reply_to=visit.message.message_id if visit.message else None)
        await say(visit.out, under_it, [_passage(visit.texts, number, quote)])

    async def _is_unanswered(self, visit: Visit, reply: Message) -> bool:
        """Did it say so when it was made? The search found nothing that is relevant enough, and it was a question."""
        if reply.relevance is None or reply.passages or reply.parent_id is None:
            return False
        if self._channel.settings.knowledge.unanswered != "note":
            return False
        asked = await ask(conversations.message, self._channel.store, reply.parent_id, visit.person_id)
        return asks(asked.content)


def under(texts: Texts, grounds: Grounds) -> Part | None:
    """What stands below a reply's text, at most one message long; None when there is nothing to say."""
    italic, quotation = MessageEntityType.ITALIC, MessageEntityType.EXPANDABLE_BLOCKQUOTE
    paragraphs: list[Paragraph] = []
    if grounds.not_searched:
        paragraphs.append((texts.t("sources.failed"), italic))
    if grounds.unanswered:
        paragraphs.append((texts.t("sources.unanswered"), italic))
    if grounds.sources:
        lines = [line for number, source in grounds.sources.items() for line in _lines(texts, number, source)]
        paragraphs.append(("\n".join([texts.t("sources.title"), *lines]), quotation))
    return _part(paragraphs, GAP) if paragraphs else None


def is_asked_for(update: Update) -> bool:
    """To look at a source, nobody need wait for the reply that is being made."""
    return update.callback_query is not None and (update.callback_query.data or "").startswith("src:")


def _named_in(reply: Message) -> list[int]:
    """The numbers of passages that its text names, in the order in which it does."""
    citations = Citations(len(reply.passages))
    citations.feed(reply.content)
    citations.end()
    return citations.cited


def _source(number: int, passage_id: str, quote: Quote) -> Source:
    return Source(number, passage_id, quote.title, quote.heading, quote.page, quote.page_end, quote.text)


def _lines(texts: Texts, number: int, source: Source | None) -> list[str]:
    if source is None:
        return [texts.t("sources.gone_line", number=number)]
    line = _line(texts, number, source)
    excerpt = one_line(source.text, LONGEST_EXCERPT)
    return [line, excerpt] if excerpt else [line]


def _passage(texts: Texts, number: int, quote: Quote) -> Part:
    """A message that shows all of it, or as much as a message takes."""
    line = _line(texts, number, quote)
    text = shortened(cleaned(quote.text).strip(), MAX_UNITS - units_in(line) - 1)
    quoted = [(text, MessageEntityType.EXPANDABLE_BLOCKQUOTE)] if text else []
    return _part([(line, MessageEntityType.BOLD), *quoted], "\n")


def _line(texts: Texts, number: int, source: Source | Quote) -> str:
    """Its number and where it stands, e.g. "[1] House rules › Sundays, p. 3"."""
    place = one_line(place_in(source.title, source.heading), LONGEST_PLACE)
    last = source.page_end or source.page
    if source.page is not None and source.page == last:
        place = texts.t("sources.page", place=place, page=source.page)
    elif source.page is not None:
        place = texts.t("sources.pages", place=place, page=source.page, last=last)
    return texts.t("sources.footnote", number=number, place=place).rstrip()


def _part(paragraphs: Sequence[Paragraph], gap: str) -> Part:
    text, entities = "", []
    for paragraph, look in paragraphs:
        text += gap if text else ""
        entities.append(MessageEntity(look, offset=units_in(text), length=units_in(paragraph)))
        text += paragraph
    return Part(text, tuple(entities))


def _number(given: str) -> int:
    """0, which nothing has, for what is no number, or one beyond all that a store counts to."""
    return int(given) if given.isdecimal() and len(given) <= LONGEST_NUMBER else 0
