"""The Telegram channel as a running program: built on python-telegram-bot's Application, from start to shutdown.

    Telegram ── Updater ──> InboxQueue (written down) ──> Lanes (in order) ──> handlers ──> Turns ──> Telegram

A shutdown first stops receiving, then lets running replies end for a while. What has not begun stays in the inbox, and
so does what was cut short; the next start takes both up, before anything new.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog
from filelock import FileLock, Timeout
from telegram import Update
from telegram.constants import UpdateType
from telegram.error import BadRequest, Conflict, InvalidToken, NetworkError, RetryAfter, TelegramError
from telegram.ext import (
    Application,
    ApplicationBuilder,
    CallbackContext,
    CallbackQueryHandler,
    ChatMemberHandler,
    MessageHandler,
    MessageReactionHandler,
    TypeHandler,
    filters,
)
from telegram.request import HTTPXRequest

from bot.access import Access
from bot.assistant import Assistant
from bot.commands import commands_of
from bot.library import Library
from bot.telegram import feedback, menu, sources
from bot.telegram.addressed import Called
from bot.telegram.channel import Action, TelegramChannel
from bot.telegram.groups import STOPPED
from bot.telegram.inbox import CHANNEL, InboxQueue
from bot.telegram.lanes import Lanes
from bot.telegram.limiter import ChatRateLimiter
from bot.telegram.notices import Notices
from bot.telegram.outgoing import Outgoing
from bot.telegram.watchdog import Watchdog, WatchedRequest, fresh_updater, stop_updater
from bot.telemetry import Metrics
from engine.errors import EngineError
from settings import Settings, Telegram

log = structlog.get_logger("familiar.telegram")

ALLOWED_UPDATES = [
    UpdateType.MESSAGE,
    UpdateType.EDITED_MESSAGE,
    UpdateType.CALLBACK_QUERY,
    UpdateType.MESSAGE_REACTION,
    UpdateType.MY_CHAT_MEMBER,
    STOPPED,
]
CONNECTIONS = 128  # to Telegram at once
CALL_TIMEOUT_S = 20.0
WEBHOOK_PATIENCE_S = 20.0  # for a store that does not take an update; then Telegram is told to come again
RECEIVING_ENDS_WITHIN_S = 10.0
COUNTED_EVERY_S = 5.0
PRUNED_EVERY_S = 6 * 3600.0
ADMINS_TOLD_EVERY_S = 15.0

FOR_ADMINS = frozenset({"approve", "broadcast", "adapter"})  # words of buttons

App = Application[Any, Any, Any, Any, Any, Any]


async def run(assistant: Assistant, settings: Settings, library: Library | None = None) -> int:
    """Serve Telegram until SIGINT or SIGTERM; the exit code. A second signal does not wait for running replies.

    `settings.telegram.token` has the form of a token.
    """
    settings.data.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(settings.data.folder / "telegram.lock", blocking=False):
            return await _serve(assistant, settings, library)
    except Timeout:  # both would answer what waits in the inbox
        log.error("another program serves Telegram from this data folder already", folder=str(settings.data.folder))
        return 1


async def _serve(assistant: Assistant, settings: Settings, library: Library | None) -> int:
    metrics = Metrics()
    server = metrics.serve(settings.telemetry.metrics_port) if settings.telemetry.metrics_port else None
    try:
        channel = TelegramChannel(assistant, settings, Access(assistant.store, settings.access), metrics, library)
        return await Service(channel).run()
    finally:
        if server is not None:
            server.close()


class Service:
    """The application around one channel. A `limiter` of one's own is for those who know of no limits."""

    def __init__(self, channel: TelegramChannel, limiter: ChatRateLimiter | None = None) -> None:
        self._channel = channel
        self._notices = Notices(channel)
        self._limiter = limiter or ChatRateLimiter(on_flood=lambda _: channel.metrics.flood())
        self._telegram: Telegram = channel.settings.telegram
        self._watchdog = Watchdog(self._telegram.stalled_after_s)
        self._allowed = list(ALLOWED_UPDATES)  # polls read it anew each time
        self._app = self._built()
        self._ending = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self) -> int:
        with _signals(self.end):
            if not await self._connected():
                return 0 if self._ending.is_set() else 1
            async with self._serving() as receiving:
                ending = asyncio.create_task(self._ending.wait())
                await asyncio.wait({ending, receiving}, return_when=asyncio.FIRST_COMPLETED)
                ending.cancel()
                if receiving.done() and (error := receiving.exception()) is not None:
                    log.error("updates cannot be received", reason=str(error) or type(error).__name__)
                    return 1
        return 0

    def end(self) -> None:
        """Shut down; asked twice, without waiting for running replies."""
        if self._ending.is_set():
            self._hurry.set()
        self._ending.set()

    async def _connected(self) -> bool:
        """Introduce the bot to Telegram, however long the network is away; False when that cannot be, or is no use."""
        pause_s = 1.0
        while not self._ending.is_set():
            try:
                await self._app.initialize()
            except InvalidToken:
                log.error("Telegram does not know this token. BotFather shows the right one: /mybots, API Token.")
                return False
            except NetworkError as error:
                log.warning("Telegram cannot be reached yet", reason=str(error), again_in_s=pause_s)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), pause_s)
                pause_s = min(pause_s * 2, 60.0)
            else:
                return True
        return False

    @contextlib.asynccontextmanager
    async def _serving(self) -> AsyncIterator[asyncio.Task[None]]:
        """Everything runs while this is open; the task receives updates, and ends only when that cannot be."""
        channel, app = self._channel, self._app
        waiting = await channel.inbox.restore(app.bot)
        await app.start()
        registering = asyncio.create_task(menu.register(app.bot, channel.store, channel.settings))
        waking = asyncio.create_task(self._wake())
        receiving = asyncio.create_task(self._receive())
        log.info("Telegram is served", bot=f"@{app.bot.username}", updates=self._telegram.updates, waiting=waiting)
        try:
            yield receiving
        finally:
            log.info("shutting down", running_replies=len(channel.replies), waiting=channel.inbox.waiting)
            for task in (registering, waking, receiving):
                task.cancel()
            await asyncio.gather(registering, waking, receiving, return_exceptions=True)
            await self._stop_receiving()
            closing = asyncio.create_task(channel.lanes.close(self._telegram.shutdown_grace_s))
            hurry = asyncio.create_task(self._hurry.wait())
            await asyncio.wait({closing, hurry}, return_when=asyncio.FIRST_COMPLETED)
            if not closing.done():
                closing.cancel()
                await channel.lanes.close(0)
            hurry.cancel()
            await app.stop()
            await channel.inbox.close()
            await app.shutdown()
            log.info("shut down", left_in_the_inbox=channel.inbox.waiting)

    async def _wake(self) -> None:
        """Have the engine start before the first message. What goes wrong is told with that."""
        with contextlib.suppress(EngineError):
            await self._channel.assistant.client.address()

    async def _receive(self) -> None:
        """Receive updates, and begin anew whenever polling has gone silent."""
        if self._telegram.updates == "webhook":
            await self._listen()
            return
        try:
            await self._poll()
        except TelegramError as error:
            log.warning("polling did not start; it is tried again", reason=str(error))
        await self._watchdog.run(self._poll_anew)

    async def _poll(self) -> None:
        updater = self._app.updater
        assert updater is not None, "the builder makes one"
        await updater.start_polling(
            timeout=self._telegram.poll_timeout_s,
            allowed_updates=self._allowed,
            bootstrap_retries=-1,
            error_callback=self._polling_failed,
        )

    async def _poll_anew(self) -> None:
        updater = self._app.updater
        assert updater is not None, "the builder makes one"
        self._app.updater = await fresh_updater(updater)
        await self._poll()

    async def _listen(self) -> None:
        """Have updates delivered here, however long the network is away. Raises TelegramError, OSError."""
        pause_s = 1.0
        while True:
            try:
                await self._start_webhook()
                break
            except BadRequest as error:
                if not self._knows_no_stop(error):
                    raise
            except (NetworkError, RetryAfter) as error:
                log.warning("the webhook is not set yet", reason=str(error), again_in_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 60.0)
        await asyncio.Event().wait()

    async def _start_webhook(self) -> None:
        updater, telegram = self._app.updater, self._telegram
        assert updater is not None, "the builder makes one"
        await updater.start_webhook(
            listen=telegram.webhook_listen,
            port=telegram.webhook_port,
            url_path=_path_of(telegram.webhook_url),
            webhook_url=telegram.webhook_url,
            secret_token=telegram.webhook_secret.get_secret_value() or secrets.token_urlsafe(32),
            allowed_updates=self._allowed,
        )

    async def _stop_receiving(self) -> None:
        updater = self._app.updater
        if updater is not None and updater.running:
            await stop_updater(updater, within_s=RECEIVING_ENDS_WITHIN_S)

    def _polling_failed(self, error: TelegramError) -> None:
        if isinstance(error, Conflict):
            log.error("another program receives this bot's updates; a bot can be served by one at a time")
        elif not self._knows_no_stop(error):
            log.warning("a poll failed", reason=str(error))

    def _knows_no_stop(self, error: TelegramError) -> bool:
        """Does this server refuse to tell of the client's own Stop? Then it is not asked for again."""
        if STOPPED not in self._allowed or not isinstance(error, BadRequest) or "allowed_updates" not in str(error):
            return False
        log.info("this server does not know how a draft is stopped; /stop does it")
        self._allowed.remove(STOPPED)
        return True

    def _built(self) -> App:
        channel, telegram = self._channel, self._telegram
        token = telegram.token.get_secret_value()
        patience_s = WEBHOOK_PATIENCE_S if telegram.updates == "webhook" else None
        bot_id = int(token.partition(":")[0])
        channel.inbox = InboxQueue(channel.store, bot_id, channel.groups.hears, patience_s)
        channel.lanes = Lanes(
            channel.inbox,
            self._overtakes,
            lambda update: feedback.is_rating(update) or sources.is_asked_for(update),
            wait_s=telegram.join_wait_s,
            long_wait_s=telegram.join_wait_long_s,
        )
        api = telegram.api_url.rstrip("/")
        app: App = (
            ApplicationBuilder()
            .token(token)
            .base_url(f"{api}/bot")
            .base_file_url(f"{api}/file/bot")
            .request(
                HTTPXRequest(connection_pool_size=CONNECTIONS, pool_timeout=CALL_TIMEOUT_S, read_timeout=CALL_TIMEOUT_S)
            )
            .get_updates_request(WatchedRequest(self._watchdog.seen))
            .rate_limiter(self._limiter)
            .concurrent_updates(channel.lanes)
            .update_queue(channel.inbox)
            .build()
        )
        channel.out = Outgoing(app.bot)
        self._register(app)
        return app

    def _register(self, app: App) -> None:
        channel = self._channel
        new = filters.UpdateType.MESSAGE
        actions = self._commands()
        for command in commands_of("telegram", admin=True):
            handler = channel.handler(actions[command.name], for_admins=command.for_admins)
            app.add_handler(MessageHandler(new & Called(command.name), handler))
        for word, action in self._buttons().items():
            handler = channel.handler(action, for_admins=word in FOR_ADMINS)
            app.add_handler(CallbackQueryHandler(handler, pattern=rf"^{word}(:|$)"))
        app.add_handler(MessageReactionHandler(channel.handler(channel.feedback.reaction, quiet=True)))
        app.add_handler(MessageHandler(new & filters.COMMAND, channel.handler(channel.conversation.unknown)))
        app.add_handler(MessageHandler(new & filters.TEXT, channel.handler(channel.turns.message)))
        app.add_handler(
            MessageHandler(filters.UpdateType.EDITED_MESSAGE & filters.TEXT, channel.handler(channel.turns.edited))
        )
        for kind, action in self._kinds():
            app.add_handler(MessageHandler(new & kind, channel.handler(action)))
        app.add_handler(
            ChatMemberHandler(channel.handler(channel.groups.membership, quiet=True), ChatMemberHandler.MY_CHAT_MEMBER)
        )
        app.add_handler(MessageHandler(filters.StatusUpdate.MIGRATE, channel.groups.moved))
        app.add_handler(TypeHandler(Update, self._stopped))

        if app.job_queue is not None:
            app.job_queue.run_repeating(self._count, COUNTED_EVERY_S)
            app.job_queue.run_repeating(self._prune, PRUNED_EVERY_S, first=PRUNED_EVERY_S / 60)
            app.job_queue.run_repeating(self._tell_admins, ADMINS_TOLD_EVERY_S)

    async def _count(self, _: CallbackContext[Any, Any, Any, Any]) -> None:
        self._channel.metrics.queue(CHANNEL, self._channel.inbox.waiting)

    async def _prune(self, _: CallbackContext[Any, Any, Any, Any]) -> None:
        await self._channel.inbox.prune()

    async def _tell_admins(self, _: CallbackContext[Any, Any, Any, Any]) -> None:
        await self._notices.send()

    def _kinds(self) -> list[tuple[filters.BaseFilter, Action]]:
        """What is done with messages that hold more than text."""
        files = self._channel.files
        return [
            (filters.Document.ALL, files.document),
            (filters.PHOTO, files.photo),
            (filters.VOICE | filters.AUDIO | filters.VIDEO_NOTE, files.voice),
            (~filters.StatusUpdate.ALL, files.other),
        ]

    def _commands(self) -> dict[str, Action]:
        channel = self._channel
        rooms = (channel.conversation, channel.feedback, channel.rights, channel.groups, channel.files, channel.admin)
        names = [command.name for command in commands_of("telegram", admin=True)]
        return {name: next(getattr(room, name) for room in rooms if hasattr(room, name)) for name in names}

    def _buttons(self) -> dict[str, Action]:
        """What is done for the first word of a button's data."""
        channel = self._channel
        return {
            "up": channel.feedback.up,
            "down": channel.feedback.down,
            "again": channel.feedback.again,
            "show": channel.feedback.show,
            "src": channel.sources.show,
            "nothing": channel.feedback.nothing,
            "stop": channel.conversation.stop_button,
            "pick": channel.conversation.pick,
            "consent": channel.rights.consent,
            "forget": channel.rights.forget_button,
            "docs": channel.files.docs_page,
            "undoc": channel.files.docs_delete,
            "approve": channel.admin.approve,
            "broadcast": channel.admin.broadcast_button,
            "adapter": channel.admin.adapter,
        }

    def _overtakes(self, update: Update) -> bool:
        """Must this not wait for what is going on in its chat?"""
        data = (update.callback_query.data or "") if update.callback_query else ""
        text = (update.message.text or "") if update.message else ""
        command = text.split(maxsplit=1)[0].lower() if text.startswith("/") else ""
        stop = command.partition("@")[0] == "/stop" or data.startswith("stop:") or STOPPED in update.api_kwargs
        return stop or data.startswith("broadcast:")

    async def _stopped(self, update: Update, _: CallbackContext[Any, Any, Any, Any]) -> None:
        """The person stopped a draft with the client's own button."""
        stopped = update.api_kwargs.get(STOPPED)
        if stopped is not None and not self._channel.replies.stop_draft(int(stopped["draft_id"])):
            log.info("a draft was stopped that had already ended")


def _path_of(url: str) -> str:
    return url.split("://", 1)[1].partition("/")[2]


@contextlib.contextmanager
def _signals(end: Callable[[], None]) -> Any:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
