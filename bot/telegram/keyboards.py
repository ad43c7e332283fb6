"""The buttons under messages, and what pressing them says.

    up:7  down:7     rate reply 7            again:7   another reply beside 7       show:8   show reply 8 in its place
    src:7:2          show the passage that reply 7 names as [2]
    stop:5           stop the draft or reply 5
    consent:yes|no|later   forget:all|this:7|no   pick:persona:x, pick:model:x, pick:language:x, pick:open:7
    docs:20          one's documents, those after the 20th    undoc:7:20   delete document 7 and show that list again
    approve:K7QX-M3PW        broadcast:send|no|stop:5        adapter:x@2, adapter:rollback:x@2

Telegram allows 64 bytes a button.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from telegram import InlineKeyboardButton, InlineKeyboardMarkup

from bot.texts import Texts

MOST_BYTES = 64
SOURCES_A_ROW = 2  # their titles can still be read on a phone


def under_reply(
    reply_id: int,
    rating: Literal[1, -1] | None = None,
    siblings: Sequence[int] = (),
    sources: Sequence[tuple[int, str]] = (),
) -> InlineKeyboardMarkup:
    """Rate, ask again, and, when the message has several replies, go between them; then a button a source.

    `siblings` are the replies' ids; `sources` the numbers that this one names, and what their buttons show.
    """
    up, down = ("👍 ✓" if rating == 1 else "👍"), ("👎 ✓" if rating == -1 else "👎")
    rows = [[_button(up, f"up:{reply_id}"), _button(down, f"down:{reply_id}"), _button("🔁", f"again:{reply_id}")]]
    if len(siblings) > 1 and reply_id in siblings:
        at = siblings.index(reply_id)
        rows.append(
            [
                _button("◀", f"show:{siblings[at - 1]}"),  # from the first to the last
                _button(f"{at + 1}/{len(siblings)}", "nothing"),
                _button("▶", f"show:{siblings[(at + 1) % len(siblings)]}"),
            ]
        )
    named = [_button(shown, f"src:{reply_id}:{number}") for number, shown in sources]
    rows += [named[at : at + SOURCES_A_ROW] for at in range(0, len(named), SOURCES_A_ROW)]
    return InlineKeyboardMarkup(rows)


def stop(texts: Texts, draft_id: int) -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup([[_button(texts.t("telegram.button_stop"), f"stop:{draft_id}")]])


def choices(rows: Sequence[tuple[str, str]]) -> InlineKeyboardMarkup:
    """One button a row: (what it shows, what it says). Those that would say too much for Telegram are left out."""
    return InlineKeyboardMarkup([[_button(shown, said)] for shown, said in rows if len(said.encode()) <= MOST_BYTES])


def _button(shown: str, said: str) -> InlineKeyboardButton:
    return InlineKeyboardButton(shown, callback_data=said)
