"""Files that people send, from Telegram into memory."""

from __future__ import annotations

import mimetypes
import re
from pathlib import PurePosixPath

from telegram import Audio, Document, File, PhotoSize, VideoNote, Voice
from telegram.error import TelegramError

from bot.errors import ChatError
from bot.telegram.outgoing import TelegramBot, delivered

MOST_MB = 20  # what Telegram lets a bot fetch

Sent = Audio | Document | PhotoSize | VideoNote | Voice


def refuse_big(*sent: Sent | File) -> None:
    """Before anything is fetched. Raises ChatError."""
    if any((each.file_size or 0) > MOST_MB * 1024 * 1024 for each in sent):
        raise _too_big()


async def fetched(bot: TelegramBot, sent: Sent) -> bytes:
    """Its content. Raises ChatError, Gone, Undelivered."""
    try:
        file = await delivered(lambda: bot.get_file(sent.file_id))
        refuse_big(sent, file)
        if not file.file_path:
            raise ChatError("file_unavailable")
        return bytes(await delivered(file.download_as_bytearray))
    except TelegramError as error:
        too_big = "too big" in str(error).lower()
        raise (_too_big() if too_big else ChatError("file_unavailable")) from error


def suffix_of(sent: Audio | Document) -> str:
    """That of its name, else of its MIME type; "" when it is not plain letters and digits."""
    suffix = PurePosixPath(sent.file_name or "").suffix or mimetypes.guess_extension(sent.mime_type or "") or ""
    return suffix.lower() if re.fullmatch(r"\.[A-Za-z0-9]{1,10}", suffix) else ""


def _too_big() -> ChatError:
    return ChatError("file_too_big", limit=MOST_MB)
