"""Telegram as a channel."""

import os

# python-telegram-bot gives times as timedelta from its next major version on, and now where this is set.
os.environ.setdefault("PTB_TIMEDELTA", "true")
