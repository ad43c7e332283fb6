"""What a person sees in a chat with the bot, and what a person can do there.

Message ids count up over all private chats together and in each group from 1, as with Telegram, so the same id may
stand for different messages in different chats.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tests.telegram_server.entities import MAX_TEXT, automatic, units
from tests.telegram_server.messages import Button, Document, Draft, Shown, User

if TYPE_CHECKING:
    from tests.telegram_server.server import TelegramServer

MEMBERS = ("creator", "administrator", "member")


class Chat:
    """A private chat or a group. Made by `server.private` and `server.group`."""

    def __init__(
        self,
        server: TelegramServer,
        id: int,
        type: str,
        *,
        title: str = "",
        forum: bool = False,
        person: User | None = None,
        bot_admin: bool = False,
    ) -> None:
        self.server = server
        self.id = id
        self.type = type
        self.title = title
        self.forum = forum
        self.person = person
        self.statuses: dict[int, str] = {}  # of the people, by id: creator, administrator, member, left, kicked
        self.bot_status = "administrator" if bot_admin else "member"
        self.shown: dict[int, Shown] = {}
        self.threads: set[int] = set()
        self.drafts: list[str] = []  # every text of a draft, in order
        self.actions: list[str] = []
        self.answers: list[tuple[str, bool]] = []  # to presses in this chat: the text, and whether as an alert
        self._draft: Draft | None = None
        self._newest_id = 0

    def json(self) -> dict[str, Any]:
        if self.person is not None:
            named = {key: value for key, value in self.person.json().items() if key not in ("is_bot", "language_code")}
            return {**named, "type": "private"}
        return {"id": self.id, "title": self.title, "type": self.type, **({"is_forum": True} if self.forum else {})}

    # What is seen

    @property
    def messages(self) -> list[Shown]:
        return list(self.shown.values())

    @property
    def last(self) -> Shown | None:
        """The newest message of the bot."""
        return next((message for message in reversed(self.shown.values()) if message.sender == "bot"), None)

    @property
    def replies(self) -> list[Shown]:
        """All messages of the bot."""
        return [message for message in self.shown.values() if message.sender == "bot"]

    @property
    def draft(self) -> Draft | None:
        if self._draft is not None and time.monotonic() - self._draft.at >= self.server.draft_life_s:
            self._draft = None
        return self._draft

    @property
    def members(self) -> list[User]:
        return [self.server.users[user_id] for user_id, status in self.statuses.items() if status in MEMBERS]

    def seen(self) -> str:
        """The chat in words, for the message of a failed test."""
        lines = [f"chat {self.id}:"]
        for message in self.shown.values():
            buttons = " ".join(f"[{button.text}]" for row in message.keyboard for button in row)
            lines.append(f"  {message.id} {message.sender}: {message.text!r} {buttons}".rstrip())
        if self.draft is not None:
            lines.append(f"  draft {self.draft.draft_id}: {self.draft.text!r}")
        return "\n".join(lines)

    async def wait_for(self, condition: Callable[[], object], timeout: float = 20) -> None:
        """Return as soon as the condition holds. What is not there yet, e.g. `chat.last`, counts as not holding."""
        until = time.monotonic() + timeout
        while True:
            missing: Exception | None = None
            try:
                if condition():
                    return
            except (AttributeError, LookupError) as error:
                missing = error
            if time.monotonic() > until:
                raise AssertionError(f"not so within {timeout} s\n{self.seen()}") from missing
            await asyncio.sleep(0.005)

    # What people do

    def send(
        self,
        text: str,
        *,
        reply_to: int | Shown | None = None,
        thread: int | None = None,
        entities: list[dict[str, Any]] | None = None,
        sender: User | None = None,
        date: int | None = None,
    ) -> Shown:
        """Write a message. Commands, mentions and addresses are marked as Telegram does, unless entities are given."""
        assert units(text) <= MAX_TEXT, "a client splits this: use paste()"
        marked = automatic(text) if entities is None else entities
        return self._posted(sender, thread, reply_to, date, text=text, entities=marked)

    def command(self, text: str, *, sender: User | None = None, **details: Any) -> Shown:
        assert text.startswith("/"), text
        return self.send(text, sender=sender, **details)

    def paste(self, text: str, *, sender: User | None = None, thread: int | None = None) -> list[Shown]:
        """Write a text of any length: a client sends it in pieces of 4096."""
        pieces, start, size = [], 0, 0
        for position, character in enumerate(text):
            size += units(character)
            if size > MAX_TEXT:
                pieces.append(text[start:position])
                start, size = position, units(character)
        return [self.send(piece, sender=sender, thread=thread) for piece in [*pieces, text[start:]]]

    def edit(self, message: int | Shown, text: str) -> Shown:
        """Change a person's own message."""
        shown = self._one(message)
        assert shown.sender != "bot", "only the bot edits its messages"
        self.change(shown, text, automatic(text), shown.markup)
        shown.update_id = self._told("edited_message", shown)
        return shown

    def document(
        self,
        name: str,
        data: bytes,
        *,
        mime: str = "application/octet-stream",
        caption: str = "",
        size: int | None = None,
        sender: User | None = None,
        thread: int | None = None,
        reply_to: int | Shown | None = None,
    ) -> Shown:
        """Send a file. `size` states another size than the data has, so that a huge one needs no memory."""
        stored = self.server.files.store(name, data, "documents", size)
        media = {"document": {**stored, "file_name": name, "mime_type": mime}}
        return self._posted(
            sender,
            thread,
            reply_to,
            None,
            text=caption,
            media=media,
            document=Document(name, data),
            entities=automatic(caption),
        )

    def photo(self, data: bytes, *, caption: str = "", sender: User | None = None, thread: int | None = None) -> Shown:
        small, large = (self.server.files.store("photo.jpg", data, "photos") for _ in range(2))
        sizes = [{**small, "width": 90, "height": 60}, {**large, "width": 1280, "height": 853}]
        return self._posted(sender, thread, None, None, text=caption, media={"photo": sizes}, entities=[])

    def voice(self, data: bytes, *, seconds: int = 1, sender: User | None = None, thread: int | None = None) -> Shown:
        stored = self.server.files.store("voice.oga", data, "voice")
        voice = {**stored, "duration": seconds, "mime_type": "audio/ogg"}
        return self._posted(sender, thread, None, None, text="", media={"voice": voice}, entities=[])

    def press(
        self,
        message: int | Shown,
        label: str = "",
        *,
        callback_data: str = "",
        sender: User | None = None,
    ) -> str:
        """Press the inline button with this text, or the first that begins so, or the one with this data.

        Returns the id of the callback query.
        """
        shown = self._one(message)
        rows = (shown.markup or {}).get("inline_keyboard", [])
        buttons = [Button(b["text"], b["callback_data"]) for row in rows for b in row if "callback_data" in b]
        chosen = [button for button in buttons if button.data == callback_data] if callback_data else []
        if label:
            chosen = [b for b in buttons if b.text == label] or [b for b in buttons if b.text.startswith(label)]
        assert chosen, f"no button {label or callback_data!r} under message {shown.id}: {shown.keyboard}"
        return self.server.pressed(self, shown, chosen[0].data, self._person(sender))

    def react(self, message: int | Shown, emojis: Sequence[str], *, sender: User | None = None) -> int | None:
        """Set a person's reactions. In a group the bot hears of it only as an administrator, as documented."""
        shown, person = self._one(message), self._person(sender)
        old = shown.reactions.get(person.id, [])
        shown.reactions[person.id] = list(emojis)
        if self.type != "private" and self.bot_status != "administrator":
            return None
        change = {
            "chat": self.json(),
            "message_id": shown.id,
            "user": person.json(),
            "date": int(time.time()),
            "old_reaction": [{"type": "emoji", "emoji": emoji} for emoji in old],
            "new_reaction": [{"type": "emoji", "emoji": emoji} for emoji in emojis],
        }
        return self.server.updates.push("message_reaction", change)

    def stop_generation(self, draft_id: int | None = None) -> int | None:
        """Press Telegram's own Stop at the draft that is shown."""
        draft = self.draft
        assert draft is not None, f"no draft is shown\n{self.seen()}"
        assert draft.can_stop, f"the draft has no Stop button\n{self.seen()}"
        assert draft_id in (None, draft.draft_id), f"the draft is {draft.draft_id}"
        if not draft.keep_on_stop:
            self._draft = None
        stopped: dict[str, Any] = {"chat": self.json(), "draft_id": draft.draft_id}
        if draft.thread is not None:
            stopped["message_thread_id"] = draft.thread
        return self.server.updates.push("stopped_message_generation", stopped)

    def delete(self, message: int | Shown) -> None:
        """Delete a message for both; the bot is not told."""
        del self.shown[self._one(message).id]

    def set_member(self, user: User, status: str) -> None:
        """Let somebody join, leave or be promoted; the bot hears of it only as an administrator."""
        old = self.statuses.get(user.id, "left")
        self.statuses[user.id] = status
        if self.bot_status == "administrator":
            self.server.updates.push("chat_member", self.server.membership(self, user, user.json(), old, status))

    def remove_bot(self, sender: User | None = None) -> None:
        """Throw the bot out of a group."""
        old, self.bot_status = self.bot_status, "kicked"
        change = self.server.membership(self, self._person(sender), self.server.bot, old, "kicked")
        self.server.updates.push("my_chat_member", change)

    # What the server does here

    def next_id(self) -> int:
        if self.type == "private":
            return self.server.next_private_id()
        self._newest_id += 1
        return self._newest_id

    def add(self, shown: Shown) -> Shown:
        self.shown[shown.id] = shown
        if shown.sender == "bot":
            self._draft = None
        return shown

    def change(
        self, shown: Shown, text: str, entities: Sequence[dict[str, Any]], markup: dict[str, Any] | None
    ) -> None:
        if self.server.record_calls and text != shown.text:
            shown.edits.append(shown.text)
        shown.text, shown.entities, shown.markup = text, list(entities), markup
        shown.edit_date = int(time.time())

    def show_draft(self, draft: Draft) -> None:
        self._draft = draft
        if self.server.record_calls:
            self.drafts.append(draft.text)

    def root_of(self, message_id: int) -> int:
        """The first message of the row of replies that this one stands in."""
        while (shown := self.shown.get(message_id)) is not None and shown.reply_to is not None:
            message_id = shown.reply_to
        return message_id

    def _posted(
        self,
        sender: User | None,
        thread: int | None,
        reply_to: int | Shown | None,
        date: int | None,
        **content: Any,
    ) -> Shown:
        if thread is not None:
            self.threads.add(thread)
        original = self._one(reply_to).id if reply_to is not None else None
        now = int(time.time()) if date is None else date
        person = self._person(sender)
        shown = Shown(self.next_id(), self, person.id, reply_to=original, thread=thread, date=now, **content)
        self.add(shown)
        shown.update_id = self._told("message", shown)
        return shown

    def _told(self, kind: str, shown: Shown) -> int | None:
        return self.server.updates.push(kind, shown.json()) if self._reaches_the_bot(shown) else None

    def _reaches_the_bot(self, shown: Shown) -> bool:
        """In groups a bot in privacy mode gets commands for it or for nobody and replies to it, but no mentions."""
        if self.type == "private":
            return True
        if self.bot_status in ("left", "kicked"):
            return False
        if not self.server.privacy_mode or self.bot_status == "administrator":
            return True
        original = self.shown.get(shown.reply_to or 0)
        if original is not None and original.sender == "bot":
            return True
        first: dict[str, Any] = shown.entities[0] if shown.entities else {"type": ""}
        if first["type"] != "bot_command" or first["offset"]:
            return False
        addressee = shown.text[: first["length"]].partition("@")[2]  # a command is ASCII: units are characters
        return addressee.lower() in ("", self.server.bot["username"].lower())

    def _person(self, sender: User | None) -> User:
        if sender is not None:
            return sender
        return self.person if self.person is not None else self.members[0]

    def _one(self, message: int | Shown) -> Shown:
        message_id = message.id if isinstance(message, Shown) else message
        assert message_id in self.shown, f"no message {message_id}\n{self.seen()}"
        return self.shown[message_id]
