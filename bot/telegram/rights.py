"""What people may ask of what is kept about them: to be asked, to see it, to have it, to have it deleted.

All of it is between a person and Familiar: in a group nothing of this is shown.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal
from zipfile import ZIP_DEFLATED, ZipFile

from telegram import InlineKeyboardMarkup, InputFile

from bot.commands import consent_in, means_everything
from bot.errors import ChatError
from bot.telegram import keyboards
from bot.telegram.outgoing import delivered
from bot.telegram.rendering import Part
from bot.telegram.visit import Visit, only_in_private

if TYPE_CHECKING:
    from bot.telegram.channel import TelegramChannel

LARGEST_FILE = 49_000_000  # bytes; a bot may send 50 MB


class Rights:
    def __init__(self, channel: TelegramChannel) -> None:
        self._channel = channel

    async def ask_once(self, visit: Visit) -> None:
        """Ask whether their conversations may be learnt from, the first time that they are here."""
        if await visit.chat.kept.is_to_be_asked():
            texts = visit.texts
            await visit.say(
                f"{texts.t('ask.consent')}\n\n{texts.t('ask.consent_explained')}", self._consent_buttons(visit)
            )

    async def privacy(self, visit: Visit) -> None:
        """Show what is kept and what it is used for, or take a yes or no."""
        only_in_private(visit)
        if visit.argument:
            choice = consent_in(visit.argument)
            if choice is None:
                raise ChatError("not_a_choice")
            await self._take(visit, choice)
            return
        texts, privacy = visit.texts, await visit.chat.kept.privacy()
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
        if privacy.sealed_days:
            lines.append(texts.t("ask.sealed", days=f"{privacy.sealed_days:g}"))
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
        await visit.chat.kept.consent(choice)
        await self._settle(visit, visit.texts.t(f"done.consent_{choice}"))

    async def export(self, visit: Visit) -> None:
        """Send everything that is stored about the person, as one JSON document."""
        only_in_private(visit)
        document = await visit.chat.kept.export() | await self._documents(visit)
        name, data = await asyncio.to_thread(_packed, document)
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

    async def _documents(self, visit: Visit) -> dict[str, Any]:
        """Their documents, which do not stand in the store."""
        library = self._channel.library
        if library is None:
            return {}
        held = await library.documents(visit.owner)
        return {"documents": [asdict(each) | {"added_at": each.added_at.isoformat()} for each in held]}

    async def forget(self, visit: Visit) -> None:
        """Ask which; nothing is deleted before a button is pressed."""
        only_in_private(visit)
        texts = visit.texts
        rows = [(texts.t("consent.button_forget_all"), "forget:all"), (texts.t("consent.button_keep"), "forget:no")]
        if means_everything(visit.argument):
            await visit.say(visit.chat.before_forgetting("ask.forget_all"), keyboards.choices(rows))
            return
        if visit.chat.conversation is not None:
            rows.insert(0, (texts.t("consent.button_forget_this"), f"forget:this:{visit.chat.conversation.id}"))
        await visit.say(visit.chat.before_forgetting("consent.forget_which"), keyboards.choices(rows))

    async def forget_button(self, visit: Visit) -> None:
        only_in_private(visit)
        what, _, conversation_id = visit.argument.partition(":")
        if what == "no":
            await self._settle(visit, visit.texts.t("terminal.kept"))
        elif what == "all":
            await self._forget_all(visit)
        elif what == "this" and conversation_id.isdecimal():
            await self._forget_this(visit, int(conversation_id))

    async def _forget_this(self, visit: Visit, conversation_id: int) -> None:
        """A new one follows, where they were in this one: an older one would be taken for it otherwise."""
        shown = visit.chat.conversation
        await visit.chat.open_conversation(conversation_id)
        await visit.chat.forget(everything=False)
        if shown is not None and shown.id == conversation_id:
            await visit.chat.settle()
        await self._settle(visit, visit.texts.t("done.forgotten"))

    async def _forget_all(self, visit: Visit) -> None:
        """What they wrote elsewhere and what waits is dropped, and replies to it that are being made are taken back.

        Their documents go first: where those cannot be deleted, nothing is.
        """
        person_id, texts, library = visit.person_id, visit.texts, self._channel.library
        if library is not None:
            await library.forget(person_id)
        self._channel.inbox.drop(visit.user.id, before=visit.arrivals[0])
        self._channel.replies.take_back_all(visit.user.id)
        self._channel.groups.unhear(visit.user.id)
        if library is not None:
            await library.forget(person_id)  # what was taken in elsewhere since
        forgotten = await visit.chat.forget(everything=True)
        assert forgotten is not None, "of a person, it is told how much it was"
        lines = [
            texts.t("done.forgotten_all", conversations=forgotten.conversations, messages=forgotten.messages),
        ]
        if forgotten.adapters:
            lines.append(texts.t("consent.forgotten_adapters", adapters=", ".join(forgotten.adapters)))
        await self._settle(visit, "\n\n".join(lines))

    async def _take(self, visit: Visit, choice: Literal["yes", "no"]) -> None:
        await visit.chat.kept.consent(choice)
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


def _packed(document: dict[str, Any]) -> tuple[str, bytes]:
    """A name for the file, and what is in it. Blocks."""
    name = f"familiar-export-{datetime.now(UTC).date().isoformat()}.json"
    data = json.dumps(document, ensure_ascii=False, indent=2).encode()
    if len(data) <= LARGEST_FILE:
        return name, data
    packed = BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return f"{name}.zip", packed.getvalue()
