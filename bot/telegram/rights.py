"""What people may ask of what is kept about them: to be asked, to see it, to have it, to have it deleted.

All of it is between a person and Familiar: in a group nothing of this is shown.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Literal
from zipfile import ZIP_DEFLATED, ZipFile

from telegram import InlineKeyboardMarkup, InputFile

from bot.commands import consent_in, means_everything
from bot.errors import ChatError
from bot.telegram import keyboards
from bot.telegram.outgoing import delivered
from bot.telegram.rendering import Part
from bot.telegram.visit import Visit

if TYPE_CHECKING:
    from bot.telegram.channel import TelegramChannel

LARGEST_FILE = 49_000_000  # bytes; a bot may send 50 MB


class Rights:
    def __init__(self, channel: TelegramChannel) -> None:
        self._channel = channel

    async def ask_once(self, visit: Visit) -> None:
        """Ask whether their conversations may be learnt from, the first time that they are here."""
        if await visit.chat.ask_for_consent():
            texts = visit.texts
            await visit.say(
                f"{texts.t('ask.consent')}\n\n{texts.t('ask.consent_explained')}", self._consent_buttons(visit)
            )

    async def privacy(self, visit: Visit) -> None:
        """Show what is kept and what it is used for, or take a yes or no."""
        _only_in_private(visit)
        if visit.argument:
            choice = consent_in(visit.argument)
            if choice is None:
                raise ChatError("not_a_choice")
            await self._take(visit, choice)
            return
        texts, privacy = visit.texts, await visit.chat.privacy()
        lines = [
            texts.t("privacy.kept"),
            texts.t("privacy.where"),
            texts.t("privacy.learning"),
            texts.t(f"privacy.policy_{privacy.policy}"),
            texts.t("privacy.learns" if privacy.learns else "privacy.learns_not"),
        ]
        if privacy.policy == "ask" and privacy.choice is None:
            lines.append(texts.t("privacy.unasked"))
        lines.append(texts.t("privacy.way_out"))
        buttons = None if privacy.policy == "none" else self._consent_buttons(visit)
        await visit.say("\n\n".join(lines), buttons)

    async def consent(self, visit: Visit) -> None:
        """One of the buttons under the question was pressed."""
        if visit.argument == "later":
            await self._settle(visit, visit.texts.t("consent.later_said"))
            return
        choice = consent_in(visit.argument)
        if choice is None:
            raise ChatError("not_a_choice")
        await visit.chat.consent(choice)
        await self._settle(visit, visit.texts.t(f"done.consent_{choice}"))

    async def export(self, visit: Visit) -> None:
        """Send everything that is stored about the person, as one JSON document."""
        _only_in_private(visit)
        document = await visit.chat.export()
        name = f"familiar-export-{datetime.now(UTC).date().isoformat()}.json"
        data = json.dumps(document, ensure_ascii=False, indent=2).encode()
        if len(data) > LARGEST_FILE:
            name, data = f"{name}.zip", _zipped(name, data)
        if len(data) > LARGEST_FILE:
            raise ChatError("export_too_large", megabytes=len(data) // 1_000_000)
        await delivered(
            lambda: visit.out.bot.send_document(
                visit.spot.chat_id,
                InputFile(BytesIO(data), filename=name),
                caption=visit.texts.t("consent.exported"),
                message_thread_id=visit.spot.thread_id,
            )
        )

    async def forget(self, visit: Visit) -> None:
        """Ask which; nothing is deleted before a button is pressed."""
        _only_in_private(visit)
        texts = visit.texts
        rows = [(texts.t("consent.button_forget_all"), "forget:all"), (texts.t("consent.button_keep"), "forget:no")]
        if means_everything(visit.argument):
            await visit.say(texts.t("ask.forget_all"), keyboards.choices(rows))
            return
        rows.insert(0, (texts.t("consent.button_forget_this"), f"forget:this:{_conversation_id(visit)}"))
        await visit.say(texts.t("consent.forget_which"), keyboards.choices(rows))

    async def forget_button(self, visit: Visit) -> None:
        _only_in_private(visit)
        what, _, conversation_id = visit.argument.partition(":")
        if what == "no":
            await self._settle(visit, visit.texts.t("terminal.kept"))
        elif what == "all":
            await self._forget_all(visit)
        elif what == "this" and conversation_id.isdecimal():
            await self._forget_this(visit, int(conversation_id))

    async def _forget_this(self, visit: Visit, conversation_id: int) -> None:
        if conversation_id:
            await visit.chat.open_conversation(conversation_id)
        else:
            await visit.chat.new()
        await visit.chat.forget(everything=False)
        await self._settle(visit, visit.texts.t("done.forgotten"))

    async def _forget_all(self, visit: Visit) -> None:
        """Replies that are being made end first; they would be about somebody who is not known any more."""
        person_id, texts = visit.chat.person.id, visit.texts
        self._channel.replies.stop_all(visit.user.id)
        if self._channel.library is not None and person_id is not None:
            await self._channel.library.forget(person_id)
        forgotten = await visit.chat.forget(everything=True)
        assert forgotten is not None, "of a person, it is told how much it was"
        lines = [
            texts.t("done.forgotten_all", conversations=forgotten.conversations, messages=forgotten.messages),
        ]
        if forgotten.adapters:
            lines.append(texts.t("consent.forgotten_adapters", adapters=", ".join(forgotten.adapters)))
        await self._settle(visit, "\n\n".join(lines))

    async def _take(self, visit: Visit, choice: Literal["yes", "no"]) -> None:
        await visit.chat.consent(choice)
        await visit.tell(f"done.consent_{choice}")

    async def _settle(self, visit: Visit, text: str) -> None:
        """Say what came of a question, in its place, so that its buttons go."""
        await visit.answer()
        message = visit.message
        if message is None or not await visit.out.edit(visit.spot.chat_id, message.message_id, Part(text, ())):
            await visit.say(text)

    def _consent_buttons(self, visit: Visit) -> InlineKeyboardMarkup:
        texts = visit.texts
        return keyboards.choices(
            [
                (texts.t("consent.button_yes"), "consent:yes"),
                (texts.t("consent.button_no"), "consent:no"),
                (texts.t("consent.button_later"), "consent:later"),
            ]
        )


def _only_in_private(visit: Visit) -> None:
    if not visit.private:
        raise ChatError("only_in_private")


def _conversation_id(visit: Visit) -> int:
    """Of the one shown; 0 when it is new and holds nothing."""
    conversation = visit.chat.conversation
    return conversation.id or 0 if conversation is not None and conversation.head_id is not None else 0


def _zipped(name: str, data: bytes) -> bytes:
    packed = BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return packed.getvalue()
