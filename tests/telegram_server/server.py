"""The server: it takes HTTP requests apart, lets go wrong what a test wants to go wrong, and calls the methods."""

from __future__ import annotations

import inspect
import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from aiohttp import BodyPartReader, web

from tests.telegram_server.chats import Chat
from tests.telegram_server.faults import Fault, Faults
from tests.telegram_server.files import Files
from tests.telegram_server.messages import Shown, User, member
from tests.telegram_server.methods import Methods
from tests.telegram_server.refusal import Refused, bad_request, not_found, unauthorized
from tests.telegram_server.updates import Updates

MAX_UPLOAD = 50 * 1024 * 1024
MAX_BODY = MAX_UPLOAD + 1024 * 1024

# Everything else that comes as a string is read as JSON where it is JSON: forms carry numbers and objects so.
STRINGS = frozenset(
    [
        "text",
        "caption",
        "parse_mode",
        "url",
        "secret_token",
        "language_code",
        "action",
        "callback_query_id",
        "file_id",
        "document",
    ]
)


@dataclass
class Call:
    """What the bot asked for. The status is 0 until there is an answer, and stays so when the connection was cut."""

    method: str
    params: dict[str, Any]
    at: float  # time.monotonic()
    status: int = 0
    chat_id: Any = None
    description: str = ""  # of an error


@dataclass(frozen=True)
class Upload:
    """A file in a form."""

    name: str
    data: bytes
    mime: str


class TelegramServer:
    """One server for one bot, on a free port of this machine. Every attribute may be changed while it runs."""

    def __init__(
        self, *, token: str = "123456:TEST", username: str = "familiar_bot", record_calls: bool = True
    ) -> None:
        self.token = token
        self.bot: dict[str, Any] = {
            "id": int(token.partition(":")[0]),
            "is_bot": True,
            "first_name": "Familiar",
            "username": username,
            "can_join_groups": True,
            "supports_inline_queries": False,
        }
        self.record_calls = record_calls  # False: no calls, drafts, actions and earlier texts are kept, only counts
        self.privacy_mode = True
        self.refuse_drafts: bool | Literal["unknown"] = False
        self.draft_life_s = 30.0
        self.flood_share = 0.0  # of sendMessage, edits and drafts that are answered 429
        self.flood_retry_after = 1
        self.enforce_limits = False  # True: the documented limits on messages a second and a minute hold
        self.port = 0
        self.users: dict[int, User] = {}
        self.chats: dict[Any, Chat] = {}
        self.blocked: set[int] = set()
        self.files = Files()
        self.commands: dict[tuple[str, str], list[dict[str, str]]] = {}  # by scope and language
        self.calls: list[Call] = []
        self.counts: Counter[tuple[str, int]] = Counter()  # answers by method and status
        self.queries: dict[str, Chat] = {}  # presses of buttons, by the id of the callback query
        self.answers: list[tuple[str, bool]] = []  # to them: the text, and whether as an alert
        self.updates = Updates()
        self.faults = Faults(self)
        self._calls_of: defaultdict[str, list[Call]] = defaultdict(list)
        self._methods = Methods(self)
        self._newest_private_id = 0
        self._runner: web.AppRunner | None = None

    # Running

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen; after `stop`, on the same port again, with everything as it was."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/bot{token}/{method}", self._method)
        app.router.add_get("/file/bot{token}/{path:.+}", self._file)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.05, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True, backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.updates.start()

    async def stop(self) -> None:
        """Close every connection and refuse new ones."""
        self.updates.stop()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # People and chats

    def user(
        self, id: int, first_name: str, *, last_name: str = "", username: str = "", language_code: str = ""
    ) -> User:
        """A person, who has not talked to the bot yet."""
        self.users[id] = User(id, first_name, last_name, username, language_code)
        return self.users[id]

    def private(self, user: User) -> Chat:
        """The chat of this person with the bot, which the bot may write to from now on."""
        if user.id not in self.chats:
            chat = Chat(self, user.id, "private", person=user)
            chat.statuses[user.id] = "member"
            self.chats[user.id] = chat
        return self.chats[user.id]

    def group(
        self,
        id: int,
        title: str,
        members: Sequence[User],
        *,
        admins: Sequence[User] = (),
        forum: bool = False,
        bot_admin: bool = False,
    ) -> Chat:
        """A supergroup that the bot is in. The first of the admins has made it."""
        chat = Chat(self, id, "supergroup", title=title, forum=forum, bot_admin=bot_admin)
        chat.statuses.update({user.id: "member" for user in members})
        chat.statuses.update({user.id: "administrator" for user in admins})
        if admins:
            chat.statuses[admins[0].id] = "creator"
        self.chats[id] = chat
        return chat

    def block(self, user: User) -> None:
        """The person blocks the bot, of which the bot is told."""
        self.blocked.add(user.id)
        self._blocking(user, "member", "kicked")

    def unblock(self, user: User) -> None:
        self.blocked.discard(user.id)
        self._blocking(user, "kicked", "member")

    # What the bot did

    @property
    def pending(self) -> list[dict[str, Any]]:
        """The updates that are not confirmed, oldest first."""
        return list(self.updates.waiting)

    @property
    def acknowledged(self) -> int:
        """The highest update id that is confirmed."""
        return self.updates.acknowledged

    @property
    def webhook(self) -> dict[str, Any] | None:
        return self.updates.webhook

    def calls_of(self, method: str) -> list[Call]:
        return self._calls_of[method.lower()]

    # What shall go wrong

    def push(self, update: dict[str, Any]) -> int:
        """Queue an update as it is, whether the bot wants its kind or not; returns its id."""
        return self.updates.push_raw(update)

    def flood(self, retry_after: int = 2, *, method: str | None = None, chat_id: Any = None, times: int = 1) -> Fault:
        """Answer the next calls 429. Without a method: those that send or change a message."""
        return self.faults.add("flood", method, chat_id, times, retry_after)

    def fail(self, *, method: str | None = None, chat_id: Any = None, status: int = 502, times: int = 1) -> Fault:
        """Answer the next calls with an error of the server. The method "file" is the download of a file."""
        return self.faults.add("fail", method, chat_id, times, status)

    def drop(self, *, method: str | None = None, chat_id: Any = None, times: int = 1, after: bool = False) -> Fault:
        """Cut the connection of the next calls; with `after`, only once the call is carried out."""
        return self.faults.add("drop after" if after else "drop", method, chat_id, times)

    def hold(self, *, method: str | None = None, chat_id: Any = None, times: int = 1) -> Fault:
        """Let the next calls wait, before they are carried out, until the test sets `release`."""
        return self.faults.add("hold", method, chat_id, times)

    def reject_entities(self, times: int = 1) -> Fault:
        """Refuse the next calls that carry entities or a parse mode."""
        return self.faults.add("entities", None, None, times)

    @property
    def stall_polls(self) -> bool:
        """Whether getUpdates hangs without an answer, beyond its timeout."""
        return self.updates.stalled

    @stall_polls.setter
    def stall_polls(self, stalled: bool) -> None:
        self.updates.stalled = stalled

    # What chats and methods need

    def next_private_id(self) -> int:
        self._newest_private_id += 1
        return self._newest_private_id

    def pressed(self, chat: Chat, shown: Shown, data: str, person: User) -> str:
        query_id = str(4_000_000_000 + len(self.queries))
        self.queries[query_id] = chat
        query = {"id": query_id, "from": person.json(), "message": shown.json(), "chat_instance": str(chat.id)}
        self.updates.push("callback_query", {**query, "data": data})
        return query_id

    def membership(self, chat: Chat, who: User, whose: dict[str, Any], old: str, new: str) -> dict[str, Any]:
        """A ChatMemberUpdated."""
        return {
            "chat": chat.json(),
            "from": who.json(),
            "date": int(time.time()),
            "old_chat_member": member(whose, old),
            "new_chat_member": member(whose, new),
        }

    def _blocking(self, user: User, old: str, new: str) -> None:
        self.updates.push("my_chat_member", self.membership(self.private(user), user, self.bot, old, new))

    # HTTP

    async def _method(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["token"] != self.token:
            return _answer(unauthorized())
        name = request.match_info["method"]
        try:
            params = await _params(request)
        except Refused as refused:
            return _answer(refused)
        call = self._record(name, params)
        fault = self.faults.take(name.lower(), params, "hold")
        if fault is not None:
            fault.reached.set()
            await fault.release.wait()
        if self.faults.take(name.lower(), params, "drop") is not None:
            return _cut(request)
        cut_after = self.faults.take(name.lower(), params, "drop after")
        try:
            answer: dict[str, Any] | Refused = {"ok": True, "result": await self._result(name, params)}
        except Refused as refused:
            answer = refused
        if cut_after is not None:
            return _cut(request)
        call.status, call.description = (200, "") if isinstance(answer, dict) else (answer.code, answer.description)
        self.counts[name.lower(), call.status] += 1
        return _answer(answer)

    async def _result(self, name: str, params: dict[str, Any]) -> Any:
        method = self._methods.find(name)
        if method is None:
            raise not_found()
        refusal = self.faults.refusal(name.lower(), params)
        if refusal is not None:
            raise refusal
        result = method(params)
        return await result if inspect.isawaitable(result) else result

    async def _file(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["token"] != self.token:
            return _answer(unauthorized())
        call = self._record("file", {"path": request.match_info["path"]})
        if self.faults.take("file", {}, "drop", "drop after") is not None:
            return _cut(request)
        stored = self.files.by_path.get(request.match_info["path"])
        refusal = self.faults.refusal("file", {}) or (not_found() if stored is None else None)
        if refusal is not None or stored is None:
            call.status = refusal.code if refusal else 404
            return _answer(refusal or not_found())
        call.status = 200
        return web.Response(body=stored.data, content_type="application/octet-stream")

    def _record(self, method: str, params: dict[str, Any]) -> Call:
        call = Call(method, params, time.monotonic(), chat_id=params.get("chat_id"))
        if self.record_calls:
            self.calls.append(call)
            self._calls_of[method.lower()].append(call)
        return call


async def _params(request: web.Request) -> dict[str, Any]:
    """The parameters from the address, a form or JSON; files are in it as Upload."""
    given: dict[str, Any] = dict(request.query)
    if request.content_type == "application/json":
        try:
            body = json.loads(await request.read() or b"{}")
        except ValueError as error:
            raise bad_request("can't parse request body as JSON object") from error
        if not isinstance(body, dict):
            raise bad_request("can't parse request body as JSON object")
        given |= body
    elif request.content_type == "multipart/form-data":
        given |= await _multipart(request)
    elif request.can_read_body:
        given |= dict(await request.post())
    return {key: value if key in STRINGS else _read(value) for key, value in given.items() if value is not None}


async def _multipart(request: web.Request) -> dict[str, Any]:
    given: dict[str, Any] = {}
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            raise bad_request("nested multipart is not supported")
        data = bytes(await part.read(decode=True))
        if part.filename is None:
            given[str(part.name)] = data.decode()
        elif len(data) > MAX_UPLOAD:
            raise Refused(413, "Request Entity Too Large")
        else:
            mime = part.headers.get("Content-Type", "application/octet-stream")
            given[str(part.name)] = Upload(part.filename, data, mime)
    return given


def _read(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _answer(answer: dict[str, Any] | Refused) -> web.Response:
    if isinstance(answer, Refused):
        return web.json_response(answer.json(), status=answer.code)
    return web.json_response(answer)


def _cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
