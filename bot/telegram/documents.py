"""Documents of a person or a group: how one that was sent is taken in, and the list from which they are deleted.

In private they are the person's own. Those of a group are everybody's there, and only its admins add and delete them.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from telegram import Document as SentDocument
from telegram import InlineKeyboardMarkup

from bot.errors import ChatError
from bot.library import Added, Library, Progress, Stage
from bot.stoppable import unless_stopped
from bot.telegram import keyboards
from bot.telegram.fetching import fetched, suffix_of
from bot.telegram.outgoing import Gone, Undelivered
from bot.telegram.rendering import plain
from bot.telegram.shortening import one_line
from bot.telegram.status import Status
from bot.telegram.visit import Visit

if TYPE_CHECKING:
    from bot.telegram.channel import TelegramChannel

FETCHED_AT_ONCE = 4
SHOWN = 10  # documents in a list
LONGEST_NAME = 200  # UTF-16 units, as those below
LONGEST_SHOWN = 60
LONGEST_BUTTON = 32
DELETE = frozenset(["delete", "del", "remove", "删除", "刪除"])
STAGES: dict[Stage, str] = {
    "reading": "files.reading",
    "splitting": "files.splitting",
    "indexing": "files.indexing",
}


class Documents:
    def __init__(self, channel: TelegramChannel) -> None:
        self._channel = channel
        self._fetching = asyncio.Semaphore(FETCHED_AT_ONCE)

    async def take_in(self, visit: Visit, document: SentDocument, library: Library) -> bool:
        """Hand it to the library, and tell in one message how that goes; False when it was stopped or refused.

        Who sent it may stop it like a reply. Handled again after a restart, it begins anew in the same message.
        """
        channel, texts, spot = self._channel, visit.texts, visit.spot
        name = one_line(document.file_name or "", LONGEST_NAME) or f"document{suffix_of(document)}"
        shown = one_line(name, LONGEST_SHOWN)
        with channel.replies.one(spot.chat_id, spot.thread_id, visit.user.id) as running:
            stop_button = keyboards.stop(texts, running.draft_id)
            status = Status(visit, channel.inbox, channel.settings.telegram.edit_interval_s, stop_button)
            progress = _progress(visit, status, shown)
            try:
                await status.begin(texts.t("files.fetching", name=shown))
                added = await unless_stopped(
                    lambda: self._handed_over(visit, document, name, library, progress), running.stop
                )
                await status.end(_outcome(visit, shown, added))
            except ChatError as error:
                await status.end(texts.problem(error))
                return False
            except (Gone, Undelivered):
                raise
            except Exception:
                await status.withdraw()
                raise
            finally:
                status.close()
        if added is not None:
            channel.log.info("a document was added", passages=added.passages, known=added.known)
        return added is not None

    async def command(self, visit: Visit, library: Library) -> None:
        """The argument of /docs: nothing, or which one to delete."""
        if not visit.argument:
            await visit.say(*await self._page(visit, library, 0))
            return
        word, _, number = visit.argument.partition(" ")
        if word.lower() not in DELETE or not number.strip():
            raise ChatError("usage", name="docs", hint=visit.texts.t("hint.docs"))
        if not number.strip().isdecimal():
            raise ChatError("not_a_number", given=one_line(number, 40))
        await self.only_for_admins(visit)
        await library.remove(visit.owner, _number(number.strip()))
        await visit.tell("files.deleted")

    async def turn_page(self, visit: Visit, library: Library) -> None:
        """The button of a list: `docs:20` shows what comes after 20."""
        await visit.answer()
        await self._show(visit, *await self._page(visit, library, _number(visit.argument)))

    async def delete(self, visit: Visit, library: Library) -> None:
        """The button of a document: `undoc:7:20` deletes document 7 and shows the list after 20 again."""
        document_id, _, after = visit.argument.partition(":")
        await self.only_for_admins(visit)
        try:
            await library.remove(visit.owner, _number(document_id))
        except ChatError as error:
            await visit.answer(visit.texts.problem(error), alert=True)
        else:
            await visit.answer(visit.texts.t("files.deleted"))
        await self._show(visit, *await self._page(visit, library, _number(after)))

    async def only_for_admins(self, visit: Visit) -> None:
        """Raises ChatError for somebody else in a group; and Gone, Undelivered, TelegramError."""
        if not visit.private and not await self._channel.groups.is_by_admin(visit.update):
            raise ChatError("group_documents_admins")

    async def _handed_over(
        self, visit: Visit, document: SentDocument, name: str, library: Library, progress: Progress
    ) -> Added:
        with tempfile.TemporaryDirectory(prefix="familiar-") as folder:
            path = Path(folder) / f"document{suffix_of(document)}"
            async with self._fetching:
                await asyncio.to_thread(path.write_bytes, await fetched(self._channel.bot, document))
            mime = document.mime_type or ""
            return await library.add(visit.owner, visit.person_id, name, mime, path, progress)

    async def _page(self, visit: Visit, library: Library, after: int) -> tuple[str, InlineKeyboardMarkup | None]:
        """The list from there on, or its last page, and a button to delete each."""
        texts = visit.texts
        documents = await library.documents(visit.owner)
        if not documents:
            return texts.t("files.none" if visit.private else "files.none_in_group"), None
        after = min(after, (len(documents) - 1) // SHOWN * SHOWN)
        shown = documents[after : after + SHOWN]
        lines = [texts.t("files.list_title" if visit.private else "files.list_title_in_group"), ""]
        lines += [
            texts.t("files.row", number=each.id, name=one_line(each.name, LONGEST_SHOWN), count=each.passages)
            for each in shown
        ]
        rows = [
            (texts.t("files.button_delete", name=one_line(each.name, LONGEST_BUTTON)), f"undoc:{each.id}:{after}")
            for each in shown
        ]
        if after:
            rows.append((texts.t("files.button_newer"), f"docs:{after - SHOWN}"))
        if after + SHOWN < len(documents):
            rows.append((texts.t("files.button_older"), f"docs:{after + SHOWN}"))
        return "\n".join(lines), keyboards.choices(rows)

    async def _show(self, visit: Visit, text: str, keyboard: InlineKeyboardMarkup | None) -> None:
        """In the place of the list whose button was pressed, if it is still there."""
        message = visit.message
        if message is None or not await visit.out.edit(
            visit.spot.chat_id, message.message_id, plain(text)[0], keyboard=keyboard
        ):
            await visit.say(text, keyboard)


def _progress(visit: Visit, status: Status, shown: str) -> Progress:
    loop = asyncio.get_running_loop()

    def progress(share: float, stage: Stage) -> None:
        percent = round(100 * min(max(share, 0.0), 1.0))
        text = visit.texts.t(STAGES[stage], name=shown, percent=percent)
        with contextlib.suppress(RuntimeError):  # from a thread that outlives the program's event loop
            loop.call_soon_threadsafe(status.show, text)

    return progress


def _outcome(visit: Visit, shown: str, added: Added | None) -> str:
    if added is None:
        return visit.texts.t("files.stopped", name=shown)
    key = "files.known" if added.known else "files.added"
    return visit.texts.t(key if visit.private else f"{key}_to_group", name=shown, count=added.passages)


def _number(given: str) -> int:
    """0, which no document has, for what is no number, or one beyond all that a store counts to."""
    return int(given) if given.isdecimal() and len(given) <= 18 else 0
