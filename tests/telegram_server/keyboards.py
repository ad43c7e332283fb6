"""Inline keyboards, checked as the Bot API checks them."""

from __future__ import annotations

from typing import Any

from tests.telegram_server.refusal import bad_request

OTHER_ACTIONS = frozenset(
    [
        "url",
        "web_app",
        "login_url",
        "switch_inline_query",
        "switch_inline_query_current_chat",
        "switch_inline_query_chosen_chat",
        "copy_text",
        "callback_game",
        "pay",
    ]
)
MAX_BUTTONS = 100


def inline_keyboard(markup: Any) -> dict[str, Any] | None:
    """The keyboard as it will be shown; None for none, and for markup of other kinds, which no message carries."""
    if not markup:
        return None
    if not isinstance(markup, dict):
        raise bad_request("can't parse reply keyboard markup JSON object")
    if "inline_keyboard" not in markup:
        return None
    rows = markup["inline_keyboard"]
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise bad_request('can\'t parse inline keyboard: field "inline_keyboard" must be of type Array of Arrays')
    for row in rows:
        for button in row:
            _check(button)
    if sum(map(len, rows)) > MAX_BUTTONS:
        raise bad_request("REPLY_MARKUP_TOO_LONG")
    return {"inline_keyboard": shown} if (shown := [row for row in rows if row]) else None


def _check(button: Any) -> None:
    if not isinstance(button, dict) or not str(button.get("text") or "").strip():
        raise bad_request('can\'t parse inline keyboard button: field "text" must not be empty')
    data = button.get("callback_data")
    if data is None:
        if not OTHER_ACTIONS & button.keys():
            raise bad_request("can't parse inline keyboard button: text buttons are unallowed in the inline keyboard")
        return
    if not isinstance(data, str) or not 1 <= len(data.encode()) <= 64:
        raise bad_request("BUTTON_DATA_INVALID")
