"""What is said about a reply below it, and about the conversation below the line of input."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

from bot.chat import Chat
from bot.events import Finished
from bot.texts import Texts

_BETWEEN = " · "


def about_reply(reply: Finished, texts: Texts) -> str:
    """How it ended if it was cut short, which reply it is, tokens, the cache's share, speed, who answered."""
    how = {"stopped": texts.t("status.stopped"), "length": texts.t("status.cut")}.get(reply.finish, "")
    number = texts.t("status.reply_of", number=reply.siblings, count=reply.siblings) if reply.siblings > 1 else ""
    return _BETWEEN.join(part for part in (how, number, *_figures(reply, texts), _who(reply)) if part)


def about_chat(chat: Chat, last: Finished | None, columns: int) -> str:
    """The chosen model, the figures of the last turn and the title, as much as fits in a row of `columns` cells."""
    parts = [_who(last), *_figures(last, chat.texts)] if last else [chat.model, chat.persona.title or chat.persona.name]
    title = chat.conversation.title if chat.conversation else ""
    row = _BETWEEN.join(part for part in (*parts, title) if part)
    return row if cell_len(row) <= columns else set_cell_size(row, max(columns - 1, 0)).rstrip() + "…"


def _figures(reply: Finished, texts: Texts) -> list[str]:
    figures = [texts.t("status.tokens", prompt=reply.prompt_tokens, reply=reply.completion_tokens)]
    if reply.cached_tokens and reply.prompt_tokens:
        share = f"{reply.cached_tokens / reply.prompt_tokens:.0%}"
        figures.append(texts.t("terminal.cached_share", share=share))
    if reply.tokens_per_s:
        figures.append(texts.t("status.speed", tokens_per_s=f"{reply.tokens_per_s:.1f}"))
    return figures


def _who(reply: Finished) -> str:
    return f"{reply.model} + {reply.adapter}" if reply.adapter else reply.model
