"""A small Bot API server that behaves as the one of Telegram is documented to, so that nothing here reaches Telegram.

    async with TelegramServer() as server:
        ada = server.user(id=101, first_name="Ada", language_code="en")
        chat = server.private(ada)
        ...  # start the bot with base_url(f"{server.url}/bot") and base_file_url(f"{server.url}/file/bot")
        chat.send("hello")
        await chat.wait_for(lambda: chat.last.text == "Hello, Ada.")

A test speaks for the people: `Chat` holds what they see and what they do. Faults are ordered in advance: `flood`,
`fail`, `drop`, `hold`, `reject_entities`. The words of the errors are those of the real server as far as they are known
from its documentation and from what people quote of it.

server.py takes requests, methods.py answers them, chats.py and messages.py are what people see and do, updates.py is
what the bot has yet to be told, faults.py is what goes wrong, entities.py and keyboards.py check what the bot sends,
files.py keeps files.
"""

from tests.telegram_server.chats import Chat
from tests.telegram_server.faults import Fault
from tests.telegram_server.messages import Button, Document, Draft, Shown, User
from tests.telegram_server.server import Call, TelegramServer

__all__ = ["Button", "Call", "Chat", "Document", "Draft", "Fault", "Shown", "TelegramServer", "User"]
