"""What is not text: documents become part of what the person or the group knows, photos and voice become text.

Where this installation has nothing that can take something, it says so and does not even fetch it. What was fetched is
gone when its handling ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from telegram import Audio, Document, Message, PhotoSize, VideoNote, Voice
from telegram.constants import ChatAction
from telegram.error import TelegramError

from bot.assistant import Origin
from bot.errors import ChatError
from bot.events import Event
from bot.library import Library
from bot.media import Transcriber, Vision
from bot.stoppable import unless_stopped
from bot.telegram.documents import Documents
from bot.telegram.fetching import fetched, refuse_big, suffix_of
from bot.telegram.inbox import CHANNEL
from bot.telegram.rendering import plain
from bot.telegram.visit import Visit, say

if TYPE_CHECKING:
    from bot.telegram.channel import TelegramChannel

AT_ONCE = 8  # photos and voice messages that are in memory; further ones wait
TYPING_LASTS_S = 4.0  # a little less than Telegram shows it for

Sound = Audio | Document | VideoNote | Voice


class Files:
    def __init__(self, channel: TelegramChannel) -> None:
        self._channel = channel
        self._documents = Documents(channel)
        self._vision = Vision.of(channel.settings.media)
        self._transcriber = Transcriber.of(channel.settings.media)
        self._room = asyncio.Semaphore(AT_ONCE)
        self._declined: deque[str] = deque(maxlen=200)  # the albums of which a file was declined

    async def document(self, visit: Visit) -> None:
        """Take it into the person's knowledge, or the group's, and answer what they wrote under it."""
        message = visit.message
        if message is None or message.document is None:
            return
        kind = (message.document.mime_type or "").partition("/")[0]
        if message.animation is not None:  # each of them is also a document
            await self.other(visit)
        elif kind == "image" and self._vision is not None:
            await self.photo(visit)
        elif kind == "audio" and self._transcriber is not None:
            await self.voice(visit)
        else:
            await self._take_in(visit, message, message.document)

    async def docs(self, visit: Visit) -> None:
        """The command: show one's documents, in a group the group's, or delete one."""
        await self._documents.command(visit, self._library())

    async def docs_page(self, visit: Visit) -> None:
        await self._documents.turn_page(visit, self._library())

    async def docs_delete(self, visit: Visit) -> None:
        await self._documents.delete(visit, self._library())

    async def photo(self, visit: Visit) -> None:
        """Reply to photos, of which the model that replies reads a description."""
        vision = self._vision
        if vision is None:
            self._decline(visit, ChatError("no_photos"))
            return
        messages = [arrival.update.message for arrival in visit.arrivals if arrival.update.message]
        pictures = [picture for picture in map(_picture_in, messages) if picture is not None]
        refuse_big(*pictures)
        question = self._caption_of(messages) or visit.texts.t("files.default_question")

        async def described() -> str:
            images = [await fetched(self._channel.bot, picture) for picture in pictures]
            return await vision.describe(images, question)

        async def replied(stop: asyncio.Event, _: Origin) -> AsyncGenerator[Event]:
            async with self._room, _typing(visit):
                description = await unless_stopped(described, stop)
            if description is None:
                raise ChatError("media_stopped")
            async with aclosing(await self._asked(visit, question, f"[Photo: {description}]", stop)) as events:
                async for event in events:
                    yield event

        await self._channel.turns.run(visit, replied)

    async def voice(self, visit: Visit) -> None:
        """Reply to what is said, after showing how it was understood."""
        transcriber, message = self._transcriber, visit.message
        if transcriber is None:
            self._decline(visit, ChatError("no_voice"))
            return
        sound = _sound_in(message) if message else None
        if message is None or sound is None:
            return
        refuse_big(sound)
        caption, arrival = self._caption_of([message]), visit.arrivals[0]

        async def transcribed() -> str:
            return await transcriber.transcribe(await fetched(self._channel.bot, sound), *_format_of(sound))

        async def replied(stop: asyncio.Event, _: Origin) -> AsyncGenerator[Event]:
            heard: str | None = arrival.progress.get("heard")  # before a restart
            if heard is None:
                async with self._room, _typing(visit):
                    heard = await unless_stopped(transcribed, stop)
                if heard is None:
                    raise ChatError("media_stopped")
                under_it = replace(visit.spot, reply_to=message.message_id)
                await say(visit.out, under_it, plain(visit.texts.t("files.heard", text=heard)))
                await self._channel.inbox.note(arrival, heard=heard)
            text = f"{caption}\n\n{heard}" if caption else heard
            async with aclosing(await self._asked(visit, text, "", stop)) as events:
                async for event in events:
                    yield event

        await self._channel.turns.run(visit, replied)

    async def other(self, visit: Visit) -> None:
        """Say what can be sent instead; but not in a group, where e.g. a sticker is meant for the people."""
        if not visit.private:
            return
        texts = visit.texts
        works = [texts.t("files.works_text")]
        if self._vision is not None:
            works.append(texts.t("files.works_photos"))
        if self._transcriber is not None:
            works.append(texts.t("files.works_voice"))
        if self._channel.library is not None:
            works.append(texts.t("files.works_documents"))
        self._decline(visit, ChatError("other_kind", works=texts.t("files.comma").join(works)))

    async def _take_in(self, visit: Visit, message: Message, document: Document) -> None:
        try:
            library = self._library()
            await self._documents.only_for_admins(visit)
        except ChatError as error:
            self._decline(visit, error)
            return
        caption = self._caption_of([message])
        if visit.arrivals[0].message_id is not None:  # it was taken in, and asked about, before a restart
            await self._channel.turns.say(visit, caption)
            return
        refuse_big(document)
        await self._channel.access.charge(CHANNEL, str(visit.user.id))
        if await self._documents.take_in(visit, document, library) and caption:
            await self._channel.turns.say(visit, caption)

    def _library(self) -> Library:
        """Raises ChatError where there is none."""
        if self._channel.library is None:
            raise ChatError("no_documents")
        return self._channel.library

    def _decline(self, visit: Visit, error: ChatError) -> None:
        """Raise it, but only once for an album: its files arrive as messages of their own."""
        album = visit.message.media_group_id if visit.message else None
        if album is None:
            raise error
        if album not in self._declined:
            self._declined.append(album)
            raise error

    async def _asked(self, visit: Visit, text: str, context: str, stop: asyncio.Event) -> AsyncGenerator[Event]:
        return visit.chat.send(text, stop, await self._channel.groups.origin(visit, context))

    def _caption_of(self, messages: list[Message]) -> str:
        captions = (self._channel.groups.text_of(message) for message in messages)
        return next((caption for caption in captions if caption.strip()), "")


@contextlib.asynccontextmanager
async def _typing(visit: Visit) -> AsyncIterator[None]:
    """Let Telegram show that something is being done, for as long as that lasts."""

    async def keep_showing() -> None:
        while True:
            with contextlib.suppress(TelegramError):
                await visit.out.bot.send_chat_action(
                    visit.spot.chat_id, ChatAction.TYPING, message_thread_id=visit.spot.thread_id
                )
            await asyncio.sleep(TYPING_LASTS_S)

    showing = asyncio.create_task(keep_showing())
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)


def _picture_in(message: Message) -> PhotoSize | Document | None:
    """The largest size of a photo, or the file that it was sent as."""
    return message.photo[-1] if message.photo else message.document


def _sound_in(message: Message) -> Sound | None:
    return message.voice or message.audio or message.video_note or message.document


def _format_of(sound: Sound) -> tuple[str, str]:
    """The suffix and the MIME type by which a server knows what it is given."""
    if isinstance(sound, VideoNote):
        return ".mp4", "video/mp4"
    if isinstance(sound, Voice):
        return ".ogg", sound.mime_type or "audio/ogg"
    return suffix_of(sound) or ".mp3", sound.mime_type or "audio/mpeg"
