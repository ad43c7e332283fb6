"""The commands about conversations: begin, ask again, take back, reword, list, find, and who answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bot.commands import commands_of
from bot.errors import ChatError
from bot.telegram import keyboards, menu
from bot.telegram.visit import Visit, only_in_private
from store.conversations import Hit, Listed

if TYPE_CHECKING:
    from bot.telegram.channel import TelegramChannel

LONGEST_BUTTON = 48  # characters of a title on a button
LONGEST_NAME = 100  # characters of a persona's or model's name; more is a slip
LONGEST_NUMBER = 18  # digits
SHOWN = 10  # conversations in a list


class ConversationCommands:
    def __init__(self, channel: TelegramChannel) -> None:
        self._channel = channel

    async def start(self, visit: Visit) -> None:
        name = visit.user.first_name
        await visit.tell("telegram.welcome", name=name, bot=self._channel.name)
        if visit.private:
            await self._channel.rights.ask_once(visit)

    async def help(self, visit: Visit) -> None:
        texts = visit.texts
        lines = [texts.t("help.title"), ""]
        for command in commands_of("telegram", admin=visit.admin):
            hint = f" {texts.t(command.hint)}" if command.hint else ""
            lines.append(f"/{command.name}{hint} — {texts.t(command.help)}")
        await visit.say("\n".join([*lines, "", texts.t("telegram.help_more")]))

    async def new(self, visit: Visit) -> None:
        await visit.chat.new(_short(visit.argument.lower(), LONGEST_NAME))
        await visit.chat.settle()
        await visit.tell("done.new", persona=visit.chat.persona.title or visit.chat.persona.name)

    async def retry(self, visit: Visit) -> None:
        await self._channel.turns.run(visit, lambda stop, origin: visit.chat.retry(stop, origin=origin))

    async def edit(self, visit: Visit) -> None:
        text = visit.argument
        if not text:
            raise ChatError("usage", name="edit", hint=visit.texts.t("hint.edit"))
        await self._channel.turns.run(visit, lambda stop, origin: visit.chat.edit(text, stop, origin=origin))

    async def undo(self, visit: Visit) -> None:
        """What is taken back is noted first: when a crash interrupts this, no earlier message goes with it."""
        history, arrival = await visit.chat.history(), visit.arrivals[0]
        if "undone" not in arrival.progress:
            last = next((message for message in reversed(history) if message.role == "user"), None)
            if last is None:
                raise ChatError("nothing_to_undo")
            await self._channel.inbox.note(arrival, undone=last.id, text=_short(last.content, 200))
        if arrival.progress["undone"] in {message.id for message in history}:
            if history[-1].role == "assistant":  # what was taken back is not asked about any more
                for message_id in (await self._channel.turns.messages_of(visit, history[-1].id))[-1:]:
                    await visit.out.mark(visit.spot.chat_id, message_id, None)
            await visit.chat.undo()
        await visit.tell("telegram.undone", text=arrival.progress["text"])

    async def stop(self, visit: Visit) -> None:
        spot = visit.spot
        if not self._channel.replies.stop_in(spot.chat_id, spot.thread_id, visit.user.id):
            await visit.tell("telegram.nothing_to_stop")

    async def stop_button(self, visit: Visit) -> None:
        draft_id = int(visit.argument) if visit.argument.isdecimal() else 0
        stopped = self._channel.replies.stop_draft(draft_id, user_id=visit.user.id)
        if not stopped and self._channel.replies.is_running(draft_id):
            raise ChatError("not_yours")
        await visit.answer("" if stopped else visit.texts.t("telegram.nothing_to_stop"))

    async def unknown(self, visit: Visit) -> None:
        message = visit.message
        name = (message.text or "").split(maxsplit=1)[0].lstrip("/").partition("@")[0].lower() if message else ""
        raise ChatError("no_such_command", name=_short(name, 40))

    async def pick(self, visit: Visit) -> None:
        """A button of one of the lists below."""
        what, _, name = visit.argument.partition(":")
        _only_for_who_asked(visit)
        await visit.answer()
        match what:
            case "persona":
                await self.use_persona(visit, name)
            case "model":
                await self.use_model(visit, name)
            case "language":
                await self.use_language(visit, name)
            case "open" if name.isdecimal():
                await self.go_to(visit, int(name))

    async def list(self, visit: Visit) -> None:
        only_in_private(visit)
        listed = [each for each in await visit.chat.listing() if each.messages][:SHOWN]
        if not listed:
            await visit.tell("list.empty")
            return
        await visit.say(visit.texts.t("telegram.list_title"), keyboards.choices([_row(each, visit) for each in listed]))

    async def open(self, visit: Visit) -> None:
        only_in_private(visit)
        if not visit.argument:
            raise ChatError("usage", name="open", hint=visit.texts.t("hint.open"))
        if not visit.argument.isdecimal():
            raise ChatError("not_a_number", given=_short(visit.argument, 40))
        if len(visit.argument) > LONGEST_NUMBER:
            raise ChatError("no_such_conversation", number=_short(visit.argument, LONGEST_NUMBER))
        await self.go_to(visit, int(visit.argument))

    async def go_to(self, visit: Visit, conversation_id: int) -> None:
        """Go on with this conversation, here from now on; its last reply is shown again."""
        only_in_private(visit)
        opened = await visit.chat.open_conversation(conversation_id)
        await visit.chat.settle()
        await visit.tell("done.opened", title=opened.title or visit.texts.t("list.untitled"))
        last = next(reversed(await visit.chat.history()), None)
        if last is not None and last.id is not None and last.role == "assistant":
            await self._channel.turns.show(visit, last.id, [])
        elif last is not None:
            await visit.say(_short(last.content, 1000))

    async def search(self, visit: Visit) -> None:
        only_in_private(visit)
        if not visit.argument:
            raise ChatError("usage", name="search", hint=visit.texts.t("hint.search"))
        hits = (await visit.chat.search(visit.argument))[:SHOWN]
        if not hits:
            await visit.tell("list.no_hits", words=_short(visit.argument, 100))
            return
        lines = [f"{hit.conversation_id}: {hit.excerpt}" for hit in hits]
        rows = {hit.conversation_id: _hit_row(hit, visit) for hit in hits}
        await visit.say("\n\n".join([visit.texts.t("list.hits"), *lines]), keyboards.choices(list(rows.values())))

    async def persona(self, visit: Visit) -> None:
        if visit.argument:
            await self.use_persona(visit, _short(visit.argument.lower(), LONGEST_NAME))
            return
        rows = [
            (f"{'✓ ' if each.chosen else ''}{each.title}", f"pick:persona:{each.name}")
            for each in await visit.chat.personas()
        ]
        await visit.say(visit.texts.t("list.personas"), keyboards.choices(rows))

    async def use_persona(self, visit: Visit, name: str) -> None:
        await visit.chat.use_persona(name)
        await visit.chat.settle()
        for_the_group = await self._channel.groups.use_persona(visit, name)
        persona = visit.chat.persona.title or name
        await visit.say(visit.texts.t("group.persona" if for_the_group else "done.persona", persona=persona))

    async def model(self, visit: Visit) -> None:
        if visit.argument:
            await self.use_model(visit, _short(visit.argument, LONGEST_NAME))
            return
        models = await visit.chat.models()
        lines = [f"{each.name}: {each.note}" for each in models]
        rows = [(f"{'✓ ' if each.chosen else ''}{each.name}", f"pick:model:{each.name}") for each in models]
        await visit.say("\n".join([visit.texts.t("list.models"), *lines]), keyboards.choices(rows))

    async def use_model(self, visit: Visit, name: str) -> None:
        names = {each.name.lower(): each.name for each in await visit.chat.models()}  # phones begin with a capital
        name = names.get(name.lower(), name)
        await visit.chat.use_model(name)
        await visit.chat.settle()
        await visit.tell("done.model", model=name)

    async def stats(self, visit: Visit) -> None:
        texts, stats = visit.texts, await visit.chat.kept.stats()
        lines = [
            texts.t("stats.title"),
            texts.t("stats.conversations", count=stats.conversations),
            texts.t("stats.messages", count=stats.messages),
            texts.t("stats.replies", count=stats.replies),
            texts.t("stats.rated", up=stats.rated_up, down=stats.rated_down),
            texts.t("stats.corrected", count=stats.corrected),
            texts.t("stats.tokens", prompt=stats.prompt_tokens, completion=stats.completion_tokens),
        ]
        await visit.say("\n".join(lines))
        if visit.admin and visit.private:
            await self._channel.admin.stats(visit)

    async def language(self, visit: Visit) -> None:
        if visit.argument:
            await self.use_language(visit, visit.argument)
            return
        rows = [(visit.texts.t(f"language.{each}"), f"pick:language:{each}") for each in ("en", "zh", "auto")]
        await visit.say(visit.texts.t("language.which"), keyboards.choices(rows))

    async def use_language(self, visit: Visit, given: str) -> None:
        chosen: Literal["en", "zh", ""] | None = {"en": "en", "zh": "zh", "auto": ""}.get(given.strip().lower())  # type: ignore[assignment]
        if chosen is None:
            raise ChatError("no_such_language", given=_short(given, 40))
        await visit.chat.use_language(chosen, visit.user.language_code or "")
        await visit.tell("language.done")
        if visit.private:
            language = visit.texts.language if chosen else ""
            await menu.for_person(visit.out.bot, visit.spot.chat_id, language, admin=visit.admin)


def _only_for_who_asked(visit: Visit) -> None:
    """In a group a list stands under the message that asked for it."""
    answered = visit.message.reply_to_message if visit.message else None
    asker = answered.from_user if answered else None
    if not visit.private and asker is not None and asker.id != visit.user.id:
        raise ChatError("not_yours")


def _row(listed: Listed, visit: Visit) -> tuple[str, str]:
    title = listed.title or visit.texts.t("list.untitled")
    return _short(title, LONGEST_BUTTON), f"pick:open:{listed.id}"


def _hit_row(hit: Hit, visit: Visit) -> tuple[str, str]:
    title = hit.title or visit.texts.t("list.untitled")
    return f"{hit.conversation_id}: {_short(title, LONGEST_BUTTON)}", f"pick:open:{hit.conversation_id}"


def _short(text: str, characters: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[: characters - 1]}…"
