"""The methods of the Bot API that a chat assistant needs, each under its documented name in lower case.

A method gets the parameters as Python values and returns the result; it raises Refused with the real server's words.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.telegram_server.chats import Chat
from tests.telegram_server.entities import MAX_CAPTION, MAX_TEXT, Formatted, formatted
from tests.telegram_server.keyboards import inline_keyboard
from tests.telegram_server.messages import Document, Draft, Shown, member
from tests.telegram_server.refusal import bad_request, forbidden, not_found

if TYPE_CHECKING:
    from tests.telegram_server.server import TelegramServer

Params = dict[str, Any]
ACTIONS = frozenset(
    [
        "typing",
        "upload_photo",
        "record_video",
        "upload_video",
        "record_voice",
        "upload_voice",
        "upload_document",
        "choose_sticker",
        "find_location",
        "record_video_note",
        "upload_video_note",
    ]
)


class Methods:
    """The methods of one server."""

    def __init__(self, server: TelegramServer) -> None:
        self.server = server

    def find(self, name: str) -> Callable[[Params], Any] | None:
        """The method of this name, in any case."""
        method: Callable[[Params], Any] | None = getattr(self, f"do_{name.lower()}", None)
        return method

    # The bot itself

    def do_getme(self, _: Params) -> Any:
        return {**self.server.bot, "can_read_all_group_messages": not self.server.privacy_mode}

    def do_logout(self, _: Params) -> Any:
        return True

    do_close = do_logout

    async def do_getupdates(self, params: Params) -> Any:
        allowed = params.get("allowed_updates")
        offset, limit, timeout = (
            int(params.get(key) or default) for key, default in (("offset", 0), ("limit", 100), ("timeout", 0))
        )
        return await self.server.updates.poll(offset, limit, timeout, allowed)

    def do_setwebhook(self, params: Params) -> Any:
        if not params.get("url"):
            return self.do_deletewebhook(params)
        if params.get("drop_pending_updates"):
            self.server.updates.forget()
        self.server.updates.set_webhook(params)
        return True

    def do_deletewebhook(self, params: Params) -> Any:
        if params.get("drop_pending_updates"):
            self.server.updates.forget()
        self.server.updates.delete_webhook()
        return True

    def do_getwebhookinfo(self, _: Params) -> Any:
        return self.server.updates.webhook_info()

    def do_setmycommands(self, params: Params) -> Any:
        commands = params.get("commands")
        if not isinstance(commands, list) or len(commands) > 100:
            raise bad_request("can't parse commands: expected an Array of at most 100 BotCommand")
        for command in commands:
            if not re.fullmatch(r"[a-z0-9_]{1,32}", str(command.get("command", ""))):
                raise bad_request("BOT_COMMAND_INVALID")
            if not 1 <= len(str(command.get("description", ""))) <= 256:
                raise bad_request("BOT_COMMAND_DESCRIPTION_INVALID")
        self.server.commands[_scope(params)] = commands
        return True

    def do_getmycommands(self, params: Params) -> Any:
        return self.server.commands.get(_scope(params), [])

    def do_deletemycommands(self, params: Params) -> Any:
        self.server.commands.pop(_scope(params), None)
        return True

    # Messages

    def do_sendmessage(self, params: Params) -> Any:
        chat = self._chat(params)
        content = _text(params)
        if not content.text:
            raise bad_request("message text is empty")
        return self._post(chat, params, content).json()

    def do_senddocument(self, params: Params) -> Any:
        chat = self._chat(params)
        given = params.get("document")
        if isinstance(given, str) and given.startswith("attach://"):
            given = params.get(given.removeprefix("attach://"))
        content = _caption(params)
        if isinstance(given, str):
            known = self.server.files.by_id.get(given)
            if known is None:
                raise bad_request("wrong remote file identifier specified: Wrong character in the string")
            document, mime = Document(known.name, known.data), "application/octet-stream"
        elif given is None:
            raise bad_request("there is no document in the request")
        else:
            document, mime = Document(given.name, given.data), given.mime
        if not document.data:
            raise bad_request("file must be non-empty")
        stored = self.server.files.store(document.name, document.data, "documents")
        media = {"document": {**stored, "file_name": document.name, "mime_type": mime}}
        return self._post(chat, params, content, document=document, media=media).json()

    def do_editmessagetext(self, params: Params) -> Any:
        shown = self._own(params)
        content = _text(params)
        if not content.text:
            raise bad_request("message text is empty")
        if shown.media:
            raise bad_request("there is no text in the message to edit")
        return self._edit(shown, content, inline_keyboard(params.get("reply_markup")))

    def do_editmessagecaption(self, params: Params) -> Any:
        shown = self._own(params)
        if not shown.media:
            raise bad_request("there is no caption in the message to edit")
        return self._edit(shown, _caption(params), inline_keyboard(params.get("reply_markup")))

    def do_editmessagereplymarkup(self, params: Params) -> Any:
        shown = self._own(params)
        content = Formatted(shown.text, tuple(shown.entities), shown.entities_cut)
        return self._edit(shown, content, inline_keyboard(params.get("reply_markup")))

    def do_deletemessage(self, params: Params) -> Any:
        chat = self._chat(params)
        shown = chat.shown.get(_number(params, "message_id"))
        if shown is None:
            raise bad_request("message to delete not found")
        if not _may_delete(chat, shown):
            raise bad_request("message can't be deleted")
        del chat.shown[shown.id]
        return True

    def do_deletemessages(self, params: Params) -> Any:
        chat = self._chat(params)
        ids = params.get("message_ids")
        if not isinstance(ids, list) or not 1 <= len(ids) <= 100:
            raise bad_request("message identifiers are not specified")
        for message_id in ids:
            shown = chat.shown.get(message_id)
            if shown is not None and _may_delete(chat, shown):
                del chat.shown[message_id]
        return True

    def do_setmessagereaction(self, params: Params) -> Any:
        shown = self._chat(params).shown.get(_number(params, "message_id"))
        if shown is None:
            raise bad_request("message to react not found")
        shown.reactions["bot"] = [str(reaction.get("emoji", "")) for reaction in params.get("reaction") or []]
        return True

    def do_sendchataction(self, params: Params) -> Any:
        chat = self._chat(params)
        if params.get("action") not in ACTIONS:
            raise bad_request("wrong parameter action in request")
        if self.server.record_calls:
            chat.actions.append(params["action"])
        return True

    def do_sendmessagedraft(self, params: Params) -> Any:
        if self.server.refuse_drafts == "unknown":
            raise not_found()
        if self.server.refuse_drafts:
            raise bad_request("method is available only for private chats")
        chat = self._chat(params)
        if chat.type != "private":
            raise bad_request("TEXTDRAFT_PEER_INVALID")
        if not _number(params, "draft_id"):
            raise bad_request("draft identifier must be non-zero")
        content = _text(params)
        can_stop, keep = (params.get(key) is True for key in ("can_stop", "keep_on_stop"))
        chat.show_draft(
            Draft(
                content.text,
                list(content.entities),
                params["draft_id"],
                can_stop,
                keep,
                params.get("message_thread_id"),
                time.monotonic(),
            )
        )
        return True

    def do_answercallbackquery(self, params: Params) -> Any:
        chat = self.server.queries.get(str(params.get("callback_query_id")))
        if chat is None:
            raise bad_request("query is too old and response timeout expired or query ID is invalid")
        text = str(params.get("text") or "")
        if len(text) > 200:
            raise bad_request("MESSAGE_TOO_LONG")
        answer = (text, params.get("show_alert") is True)
        self.server.answers.append(answer)
        chat.answers.append(answer)
        return True

    def do_getfile(self, params: Params) -> Any:
        return self.server.files.get(str(params.get("file_id")))

    # Chats and members

    def do_getchat(self, params: Params) -> Any:
        gifts = ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription", "gifts_from_channels")
        return {
            **self._chat(params).json(),
            "accent_color_id": 0,
            "max_reaction_count": 11,
            "accepted_gift_types": dict.fromkeys(gifts, True),
        }

    def do_getchatmember(self, params: Params) -> Any:
        chat, user_id = self._chat(params), _number(params, "user_id")
        if user_id == self.server.bot["id"]:
            return member(self.server.bot, chat.bot_status)
        user = self.server.users.get(user_id)
        if user is None:
            raise bad_request("PARTICIPANT_ID_INVALID")
        return member(user.json(), chat.statuses.get(user_id, "left"))

    def do_getchatadministrators(self, params: Params) -> Any:
        chat = self._chat(params)
        if chat.type == "private":
            raise bad_request("there are no administrators in the private chat")
        admins = [
            member(self.server.users[user_id].json(), status)
            for user_id, status in chat.statuses.items()
            if status in ("creator", "administrator")
        ]
        return admins + ([member(self.server.bot, "administrator")] if chat.bot_status == "administrator" else [])

    def do_getchatmembercount(self, params: Params) -> Any:
        return len(self._chat(params).members) + 1

    def do_leavechat(self, params: Params) -> Any:
        chat = self._chat(params)
        if chat.type == "private":
            raise bad_request("chat member status can't be changed in private chats")
        chat.bot_status = "left"
        return True

    # What several of them need

    def _chat(self, params: Params) -> Chat:
        chat_id = params.get("chat_id")
        if not chat_id or not isinstance(chat_id, (int, str)):
            raise bad_request("chat_id is empty")
        chat = self.server.chats.get(chat_id)
        if chat is None:
            if chat_id in self.server.users:
                raise forbidden("bot can't initiate conversation with a user")
            raise bad_request("chat not found")
        if chat_id in self.server.blocked:
            raise forbidden("bot was blocked by the user")
        if chat.bot_status == "kicked":
            raise forbidden("bot was kicked from the supergroup chat")
        if chat.bot_status == "left":
            raise forbidden("bot is not a member of the supergroup chat")
        return chat

    def _own(self, params: Params) -> Shown:
        if params.get("message_id") is None:
            raise bad_request("message identifier is not specified")
        shown = self._chat(params).shown.get(_number(params, "message_id"))
        if shown is None:
            raise bad_request("message to edit not found")
        if shown.sender != "bot":
            raise bad_request("message can't be edited")
        return shown

    def _post(
        self,
        chat: Chat,
        params: Params,
        content: Formatted,
        document: Document | None = None,
        media: dict[str, Any] | None = None,
    ) -> Shown:
        thread = params.get("message_thread_id")
        if thread is not None and thread not in chat.threads and (chat.forum or thread not in chat.shown):
            raise bad_request("message thread not found")
        markup = inline_keyboard(params.get("reply_markup"))
        reply_to = _replied(chat, params)
        shown = Shown(
            chat.next_id(),
            chat,
            "bot",
            content.text,
            list(content.entities),
            content.entities_cut,
            markup,
            reply_to,
            thread,
            document,
            media or {},
            date=int(time.time()),
        )
        return chat.add(shown)

    def _edit(self, shown: Shown, content: Formatted, markup: dict[str, Any] | None) -> Any:
        if (content.text, list(content.entities), markup) == (shown.text, shown.entities, shown.markup):
            raise bad_request(
                "message is not modified: specified new message content and reply markup are exactly the same as a "
                "current content and reply markup of the message"
            )
        shown.entities_cut = content.entities_cut
        shown.chat.change(shown, content.text, content.entities, markup)
        return shown.json()


def _text(params: Params) -> Formatted:
    given = params.get("text"), params.get("entities"), params.get("parse_mode")
    return formatted(*given, MAX_TEXT, "message is too long")


def _caption(params: Params) -> Formatted:
    given = params.get("caption"), params.get("caption_entities"), params.get("parse_mode")
    return formatted(*given, MAX_CAPTION, "message caption is too long")


def _number(params: Params, name: str) -> int:
    value = params.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool):
        raise bad_request(f"invalid {name} specified")
    return value


def _replied(chat: Chat, params: Params) -> int | None:
    wanted = params.get("reply_parameters") or {}
    message_id = wanted.get("message_id", params.get("reply_to_message_id"))
    if message_id is None or message_id in chat.shown:
        return message_id
    if wanted.get("allow_sending_without_reply") or params.get("allow_sending_without_reply"):
        return None
    raise bad_request("message to be replied not found")


def _may_delete(chat: Chat, shown: Shown) -> bool:
    return shown.sender == "bot" or chat.type == "private" or chat.bot_status == "administrator"


def _scope(params: Params) -> tuple[str, str]:
    scope = params.get("scope") or {"type": "default"}
    name = scope["type"] if len(scope) == 1 else json.dumps(scope, sort_keys=True)
    return name, str(params.get("language_code") or "")
