"""/docs in the terminal: the person's own documents. A file on this machine becomes one, and each can be deleted."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bot.chat import Chat
from bot.errors import ChatError
from bot.library import Library
from bot.terminal import tables
from bot.terminal.screen import Screen
from store.catalogue import owners

ADD = frozenset(["add", "添加", "加"])
DELETE = frozenset(["delete", "del", "remove", "删除", "刪除"])


class Documents:
    def __init__(self, chat: Chat, screen: Screen, library: Library | None) -> None:
        self._chat = chat
        self._screen = screen
        self._library = library

    async def command(self, argument: str) -> None:
        """The argument of /docs: nothing, a file to add, or which one to delete. Raises ChatError."""
        word, _, rest = argument.partition(" ")
        word, rest = word.lower(), rest.strip()
        if not argument:
            await self._list()
        elif word in ADD and rest:
            await self._add(rest.strip("\"'"))
        elif word in DELETE and rest:
            await self._delete(rest)
        else:
            raise ChatError("usage", name="docs", hint=self._chat.texts.t("hint.docs_terminal"))

    async def forget(self) -> None:
        """Delete all documents of the person's."""
        if self._library is not None:
            await self._library.forget(self._person_id())

    async def export(self) -> dict[str, Any]:
        """Their documents, which do not stand in the store."""
        if self._library is None:
            return {}
        held = await self._library.documents(self._owner())
        return {"documents": [asdict(each) | {"added_at": each.added_at.isoformat()} for each in held]}

    async def _list(self) -> None:
        documents = await self._shelf().documents(self._owner())
        if documents:
            self._screen.show(tables.documents_table(documents, self._chat.texts))
        else:
            self._screen.say(self._chat.texts.t("terminal.no_documents"))

    async def _add(self, name: str) -> None:
        library, texts = self._shelf(), self._chat.texts
        file = await asyncio.to_thread(_file, name)
        self._screen.say(texts.t("sources.reading", name=file.name), "dim")
        added = await library.add(self._owner(), self._person_id(), file.name, "", file, lambda share, stage: None)
        key = "files.known" if added.known else "files.added"
        self._screen.say(texts.t(key, name=file.name, count=added.passages), "green")

    async def _delete(self, number: str) -> None:
        if not number.isdecimal():
            raise ChatError("not_a_number", given=number)
        await self._shelf().remove(self._owner(), int(number))
        self._screen.say(self._chat.texts.t("files.deleted"), "green")

    def _shelf(self) -> Library:
        if self._library is None:
            raise ChatError("no_library")
        return self._library

    def _owner(self) -> str:
        return owners.person(self._person_id())

    def _person_id(self) -> int:
        person_id = self._chat.person.id
        assert person_id is not None, "a chat is of a stored person"
        return person_id


def _file(name: str) -> Path:
    """Raises ChatError where there is none."""
    try:
        file = Path(name).expanduser()
        if file.is_file():
            return file
    except (OSError, RuntimeError, ValueError):  # a name that is too long, an unknown ~user, a null character
        pass
    raise ChatError("no_such_file", file=name)
