"""/adapter, for admins: which adapters there are, putting one in force, and going back to the one before.

Going back names the version that it leaves. So pressing the button twice, or being killed in between, is one step.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from telegram import InlineKeyboardMarkup

from bot.asking import ask
from bot.errors import ChatError
from bot.events import Waiting
from bot.telegram import keyboards
from bot.telegram.rendering import Part
from bot.telegram.status import Status
from bot.telegram.visit import Visit
from engine.adapters import DEFAULT, WANTED, Adapters, served_name
from engine.errors import EngineError
from engine.in_force import Told, left_by_roll_back, put_in_force, roll_back
from engine.state import State
from store import adapters as table
from store.errors import StoreError
from store.session import Store
from store.tables import Adapter

if TYPE_CHECKING:
    from bot.telegram.channel import TelegramChannel

SHOWN = 15  # adapters in a list, the newest
STATUS_EVERY_S = 2.0


class Promotion:
    def __init__(self, channel: TelegramChannel) -> None:
        self._channel = channel

    async def adapter(self, visit: Visit) -> None:
        """`/adapter`, `/adapter name@version`, `/adapter rollback [name]`, and the buttons under the list."""
        words = visit.argument.replace(":", " ").split()
        if not words:
            text, buttons = await self._list(visit)
            await visit.say(text, buttons)
            return
        if words[0].lower() == "rollback" and len(words) <= 2:
            await self._roll_back(visit, *_name_and_version(visit, words[1] if len(words) == 2 else DEFAULT))
            return
        name, version = _name_and_version(visit, " ".join(words))
        if not version:
            raise _usage(visit)
        connection = self._channel.assistant.client.connection
        await self._change(
            visit,
            visit.texts.t("admin.adapter_loading", adapter=f"{name}@{version}"),
            lambda told: put_in_force(connection, self._adapters(), name, version, told),
        )

    async def _roll_back(self, visit: Visit, name: str, version: int) -> None:
        """Leave this version; 0 is the one that a step back left when the command was first read."""
        arrival = visit.arrivals[0]
        left = await ask(left_by_roll_back, self._channel.store, name)
        now = left.version if left else 0
        if not version:
            version = arrival.progress.get("leaves", now)
            await self._channel.inbox.note(arrival, leaves=version)
        if version != now:
            raise ChatError("adapter_left", adapter=f"{name}@{version}")
        connection = self._channel.assistant.client.connection
        await self._change(
            visit,
            visit.texts.t("admin.adapter_leaving", adapter=f"{name}@{version}" if version else name),
            lambda told: roll_back(connection, self._adapters(), name, told),
        )

    async def _change(self, visit: Visit, begun: str, change: Callable[[Told], Awaitable[str]]) -> None:
        await visit.answer()
        status = Status(visit, self._channel.inbox, STATUS_EVERY_S)
        try:
            await status.begin(begun)
            await status.end(await self._outcome(visit, change(lambda state: _show(visit, status, state))))
        finally:
            status.close()
        if visit.update.callback_query is not None and visit.message is not None:
            text, buttons = await self._list(visit)
            await visit.out.edit(visit.spot.chat_id, visit.message.message_id, Part(text, ()), keyboard=buttons)

    async def _outcome(self, visit: Visit, change: Awaitable[str]) -> str:
        try:
            now = await change
        except (EngineError, StoreError) as error:
            self._channel.log.warning("an adapter was not put in force", reason=str(error))
            return visit.texts.t("admin.adapter_refused", detail=error)
        self._channel.log.info("in force", adapter=now or "base")
        return visit.texts.t("admin.adapter_done", adapter=now) if now else visit.texts.t("admin.adapter_base")

    async def _list(self, visit: Visit) -> tuple[str, InlineKeyboardMarkup | None]:
        texts, rows = visit.texts, await ask(table.all_adapters, self._channel.store)
        if not rows:
            return texts.t("admin.adapters_none"), None
        lines, buttons = [texts.t("admin.adapters")], []
        left = await ask(_left, self._channel.store, {row.name for row in rows})
        for row in sorted(rows, key=lambda row: row.created_at, reverse=True)[:SHOWN]:
            name = served_name(row)
            told = texts.t(f"admin.adapter_{_state(row, name in left)}")
            date = f"{row.created_at.astimezone():%Y-%m-%d}"
            lines.append(texts.t("admin.adapter", adapter=name, state=told, base=row.base, date=date))
            if name in left:
                buttons.append((texts.t("admin.button_roll_back", adapter=name), f"adapter:rollback:{name}"))
            if not row.active:
                buttons.append((texts.t("admin.button_use", adapter=name), f"adapter:{name}"))
        if not any(row.active and row.name == DEFAULT for row in rows):
            lines.append(texts.t("admin.adapter_base"))
        return "\n".join(lines), keyboards.choices(buttons)

    def _adapters(self) -> Adapters:
        settings = self._channel.settings
        return Adapters(
            self._channel.store, settings.data.folder / "adapters", max_cpu_loras=settings.engine.max_cpu_loras
        )


def _left(store: Store, names: set[str]) -> set[str]:
    """Which versions a step back would leave: one a name, in force or on trial."""
    return {served_name(row) for name in names if (row := left_by_roll_back(store, name)) is not None}


def _state(row: Adapter, is_left: bool) -> str:
    if row.active:
        return "in_force"
    if is_left:
        return "on_trial"
    return "loaded" if row.loaded else "registered"


def _show(visit: Visit, status: Status, state: State) -> None:
    if state.phase != "ready":
        waited_s = max(0.0, time.time() - state.since)
        status.show(visit.texts.waiting(Waiting(state.phase, waited_s, state.detail)))


def _name_and_version(visit: Visit, wanted: str) -> tuple[str, int]:
    """The version is 0 where none is given. Raises ChatError."""
    parts = WANTED.fullmatch(wanted)
    if parts is None:
        raise _usage(visit)
    return parts["name"], int(parts["version"] or 0)


def _usage(visit: Visit) -> ChatError:
    return ChatError("usage", name="adapter", hint=visit.texts.t("hint.adapter"))
