"""People, messages and drafts: what there is in a chat.

A message that is shown is one live object: it changes when the bot edits it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.telegram_server.chats import Chat

ADMIN_RIGHTS = [
    "can_be_edited",
    "is_anonymous",
    "can_manage_chat",
    "can_delete_messages",
    "can_manage_video_chats",
    "can_restrict_members",
    "can_promote_members",
    "can_change_info",
    "can_invite_users",
    "can_post_stories",
    "can_edit_stories",
    "can_delete_stories",
]


@dataclass(frozen=True)
class User:
    """A person."""

    id: int
    first_name: str
    last_name: str = ""
    username: str = ""
    language_code: str = ""

    def json(self) -> dict[str, Any]:
        optional = {"last_name": self.last_name, "username": self.username, "language_code": self.language_code}
        named = {key: value for key, value in optional.items() if value}
        return {"id": self.id, "is_bot": False, "first_name": self.first_name, **named}


class Button(NamedTuple):
    """An inline button; data is the address for a button that opens one."""

    text: str
    data: str


class Document(NamedTuple):
    """A file in a message."""

    name: str
    data: bytes


@dataclass
class Shown:
    """A message as it stands in the chat now. `text` is the caption when there is a document."""

    id: int
    chat: Chat
    sender: int | str  # the person's id, or "bot"
    text: str = ""
    entities: list[dict[str, Any]] = field(default_factory=list)
    entities_cut: int = 0  # those beyond 100, which the server left out
    markup: dict[str, Any] | None = None
    reply_to: int | None = None
    thread: int | None = None
    document: Document | None = None
    media: dict[str, Any] = field(default_factory=dict)  # fields of the wire format: document, photo, voice
    edits: list[str] = field(default_factory=list)  # earlier texts, oldest first
    reactions: dict[int | str, list[str]] = field(default_factory=dict)
    date: int = 0
    edit_date: int | None = None
    update_id: int | None = None  # of the newest update about it; None: the bot was not told

    @property
    def keyboard(self) -> list[list[Button]]:
        rows = (self.markup or {}).get("inline_keyboard", [])
        return [[Button(b["text"], b.get("callback_data", b.get("url", ""))) for b in row] for row in rows]

    def json(self, *, replied: bool = True) -> dict[str, Any]:
        """The wire format; a message that is replied to comes without the one that it replies to."""
        server = self.chat.server
        sender = server.bot if self.sender == "bot" else server.users[int(self.sender)].json()
        message: dict[str, Any] = {
            "message_id": self.id,
            "from": sender,
            "chat": self.chat.json(),
            "date": self.date,
            **self.media,
        }
        of_text, of_entities = ("caption", "caption_entities") if self.media else ("text", "entities")
        if self.text:
            message[of_text] = self.text
        if self.entities:
            message[of_entities] = self.entities
        if self.edit_date is not None:
            message["edit_date"] = self.edit_date
        if self.markup is not None:
            message["reply_markup"] = self.markup
        if self.thread is not None:
            message["message_thread_id"] = self.thread
            if self.chat.forum:
                message["is_topic_message"] = True
        elif self.reply_to is not None and self.chat.type == "supergroup":
            message["message_thread_id"] = self.chat.root_of(self.reply_to)
        if replied and (original := self.chat.shown.get(self.reply_to or 0)) is not None:
            message["reply_to_message"] = original.json(replied=False)
        return message


@dataclass(frozen=True)
class Draft:
    """A reply that is being written, as the person sees it; an empty text is shown as "Thinking…"."""

    text: str
    entities: list[dict[str, Any]]
    draft_id: int
    can_stop: bool
    keep_on_stop: bool
    thread: int | None
    at: float


def member(user: dict[str, Any], status: str) -> dict[str, Any]:
    """A ChatMember."""
    described: dict[str, Any] = {"user": user, "status": status}
    if status == "creator":
        described["is_anonymous"] = False
    if status == "administrator":
        described |= dict.fromkeys(ADMIN_RIGHTS, False) | {"can_manage_chat": True, "can_delete_messages": True}
    if status == "kicked":
        described["until_date"] = 0
    return described
