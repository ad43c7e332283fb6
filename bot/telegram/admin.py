"""Admin of the Telegram channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bot.telegram.channel import TelegramChannel


class Admin:
    def __init__(self, channel: TelegramChannel) -> None:
        self._channel = channel
