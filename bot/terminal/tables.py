"""What commands answer with, as tables and texts for the console."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from bot.chat import ModelChoice, PersonaChoice
from bot.commands import commands_of
from bot.kept import Privacy
from bot.library import Document
from bot.terminal.stream import printable
from bot.texts import Texts
from store.conversations import Hit, Listed
from store.people import Stats
from store.tables import Message

_HINTS = {"docs": "hint.docs_terminal"}  # where a command takes more here than on other channels
_FIRST_LINE = 70  # characters of a reply in a list


def help_table(texts: Texts) -> Table:
    table = _rows(texts.t("help.title"))
    for command in commands_of("terminal"):
        hint = f" {texts.t(_HINTS.get(command.name, command.hint))}" if command.hint else ""
        table.add_row(Text(f"/{command.name}{hint}", style="bold"), texts.t(command.help))
    for key in ("stop", "line", "leave"):
        table.add_row(Text(texts.t(f"terminal.key_{key}"), style="bold"), texts.t(f"terminal.key_{key}_does"))
    return table


def conversations_table(
    listed: Sequence[Listed], shown: int | None, texts: Texts, now: datetime | None = None
) -> Table:
    """`shown` is the id of the conversation that is open."""
    table = _rows(texts.t("list.title"), 4)
    for each in listed:
        count = texts.t("list.messages", count=each.messages)
        title = printable(each.title) or texts.t("list.untitled")
        age = Text(_age(each.updated_at, now or datetime.now(UTC), texts), style="dim")
        table.add_row(
            _number(each.id), Text(title, style="bold" if each.id == shown else ""), age, Text(count, style="dim")
        )
    return table


def hits_table(hits: Sequence[Hit], words: str, texts: Texts) -> Table:
    table = _rows(texts.t("list.hits"))
    for hit in hits:
        found = Text(printable(hit.title) or texts.t("list.untitled"), style="dim")
        excerpt = Text(printable(hit.excerpt))
        excerpt.highlight_words(words.split(), style="bold reverse", case_sensitive=False)
        table.add_row(_number(hit.conversation_id), found + Text("\n") + excerpt)
    return table


def documents_table(documents: Sequence[Document], texts: Texts) -> Table:
    table = _rows(texts.t("files.list_title"), 3)
    for each in documents:
        count = texts.t("sources.passages", count=each.passages)
        table.add_row(_number(each.id), Text(printable(each.name)), Text(count, style="dim"))
    return table


def personas_table(personas: Iterable[PersonaChoice], texts: Texts) -> Table:
    return _choices(texts.t("list.personas"), ((each.name, each.title, each.chosen) for each in personas), texts)


def models_table(models: Iterable[ModelChoice], texts: Texts) -> Table:
    return _choices(texts.t("list.models"), ((each.name, each.note, each.chosen) for each in models), texts)


def replies_table(replies: Sequence[Message], chosen: int, texts: Texts) -> Table:
    """`chosen` counts from 0, what is shown from 1."""
    rows = (
        (str(index + 1), printable(reply.content).strip().partition("\n")[0][:_FIRST_LINE], index == chosen)
        for index, reply in enumerate(replies)
    )
    return _choices(texts.t("list.replies"), rows, texts)


def stats_text(stats: Stats, texts: Texts) -> Text:
    return Text("\n").join(
        [
            Text(texts.t("stats.title"), style="bold"),
            Text(texts.t("stats.conversations", count=stats.conversations)),
            Text(texts.t("stats.messages", count=stats.messages)),
            Text(texts.t("stats.replies", count=stats.replies)),
            Text(texts.t("stats.rated", up=stats.rated_up, down=stats.rated_down)),
            Text(texts.t("stats.corrected", count=stats.corrected)),
            Text(texts.t("stats.tokens", prompt=stats.prompt_tokens, completion=stats.completion_tokens)),
        ]
    )


def privacy_text(privacy: Privacy, texts: Texts) -> Text:
    now = [Text(texts.t("privacy.learns" if privacy.learns else "privacy.learns_not"), style="bold")]
    if privacy.policy == "ask" and privacy.choice is None:
        now.append(Text(texts.t("privacy.unasked")))
    explained = [Text(texts.t(f"privacy.{key}")) for key in ("kept", "where", "learning", f"policy_{privacy.policy}")]
    out = [Text(texts.t("privacy.way_out"))]
    if privacy.sealed_days:
        out.append(Text(texts.t("ask.sealed", days=f"{privacy.sealed_days:g}")))
    return Text("\n").join([*explained, *now, *out])


def _rows(title: str, columns: int = 2) -> Table:
    """Columns with nothing but space between them; what does not fit goes on in the next row."""
    table = Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=None,
        show_header=False,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for _ in range(columns):
        table.add_column(overflow="fold")
    return table


def _choices(title: str, rows: Iterable[tuple[str, str, bool]], texts: Texts) -> Table:
    table = _rows(title, 3)
    for name, note, chosen in rows:
        mark = Text(texts.t("list.chosen"), style="green") if chosen else Text("")
        table.add_row(Text(name, style="bold"), Text(printable(note)), mark)
    return table


def _number(conversation_id: int) -> Text:
    return Text(str(conversation_id), style="bold", justify="right")


def _age(then: datetime, now: datetime, texts: Texts) -> str:
    minutes = max(0, int((now - then).total_seconds() // 60))
    if minutes < 1:
        return texts.t("terminal.age_now")
    if minutes < 60:
        return texts.t("terminal.age_minutes", count=minutes)
    if minutes < 48 * 60:
        return texts.t("terminal.age_hours", count=minutes // 60)
    return texts.t("terminal.age_days", count=minutes // 60 // 24)
