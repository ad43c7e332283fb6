"""Where a reply comes from: the quotation under it, and a button for each passage that it names."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bot.errors import ChatError
from bot.events import Source
from bot.library import Quote
from bot.telegram.rendering import MAX_ENTITIES, MAX_UNITS, Part, followed_by, render
from bot.telegram.shortening import one_line, shortened
from bot.telegram.sources import SHOWN, Grounds, under
from bot.texts import LANGUAGES, texts_for
from knowledge.errors import IndexBusy
from knowledge.search import Passage
from settings import Knowledge, Settings
from store.catalogue import owners
from tests.bot.telegram.conftest import Talk
from tests.bot.telegram.parts import covered, faults
from tests.fakes.finder import FakeFinder, passage
from tests.fakes.library import FakeLibrary
from tests.fakes.vllm import Hold, Reply
from tests.telegram_server import Chat, Shown, User
from tests.telegram_server.entities import units

EN, ZH = texts_for("en"), texts_for("zh")
RATINGS = ["👍", "👎", "🔁"]
HOURS = passage("The house opens at nine.\nIt closes at six.", heading="Opening hours", page=3)
DOGS = passage("Dogs wait outside.", "Animals", document_id=2)
UNDER_HOURS = "Sources\n[1] House rules › Opening hours, p. 3\nThe house opens at nine. It closes at six."


@pytest.fixture
def library() -> FakeLibrary:
    return FakeLibrary()


@pytest.fixture
def finder() -> FakeFinder:
    return FakeFinder()


@pytest.fixture
def knowledge() -> dict[str, Any]:
    """What a test sets of the section `knowledge`."""
    return {}


@pytest.fixture
def settings(settings: Settings, knowledge: dict[str, Any]) -> Settings:
    return settings.model_copy(update={"knowledge": Knowledge(**knowledge)})


@pytest.fixture
def ada(talk: Talk) -> Chat:
    return talk.private()


@pytest.fixture
def group(talk: Talk, ada: Chat) -> Chat:
    assert ada.person is not None
    bo = talk.server.user(102, "Bo", language_code="en")
    return talk.server.group(-1001, "Team", [ada.person, bo], bot_admin=True, forum=True)


def holds(talk: Talk, *passages: Passage) -> None:
    """The documents have these."""
    assert talk.finder is not None
    assert talk.library is not None
    talk.finder.passages = list(passages)
    for each in passages:
        quote = Quote(each.title, each.heading, each.page, each.page_end, each.text)
        talk.library.quotes[each.id] = each.owner, quote


async def answered(talk: Talk, chat: Chat, question: str, answer: str, **details: Any) -> Shown:
    """The last message of the reply, once it is complete."""
    before = {message.id for message in chat.replies}
    talk.vllm.script(Reply(answer))
    chat.send(question, **details)
    await chat.wait_for(lambda: chat.last.id not in before and labels(chat.last)[:3] == RATINGS)
    assert chat.last is not None
    return chat.last


def labels(shown: Shown | None) -> list[str]:
    return [button.text for row in shown.keyboard for button in row] if shown else []


def quoted(shown: Shown, kind: str = "expandable_blockquote") -> list[str]:
    """What of its text has this look."""
    data = shown.text.encode("utf-16-le")
    found = [each for each in shown.entities if each["type"] == kind]
    return [data[2 * each["offset"] : 2 * (each["offset"] + each["length"])].decode("utf-16-le") for each in found]


async def alerted(chat: Chat, text: str, times: int = 1) -> None:
    await chat.wait_for(lambda: chat.answers.count((text, True)) == times)


# Under a reply


async def test_a_reply_shows_its_source_in_a_quotation_and_has_a_button_for_it(talk: Talk, ada: Chat) -> None:
    holds(talk, HOURS, DOGS)
    reply = await answered(talk, ada, "When do you open?", "At nine [1].")
    assert reply.text == f"At nine [1].\n\n{UNDER_HOURS}"
    assert quoted(reply) == [UNDER_HOURS]
    assert labels(reply) == [*RATINGS, "[1] House rules"]
    assert [button.data.encode() for button in reply.keyboard[-1]] == [f"src:{talk.branch(ada)[-1].id}:1".encode()]
    assert all("Sources" not in draft for draft in ada.drafts)
    assert ada.replies == [reply]


async def test_sources_stand_in_the_order_in_which_the_reply_names_them(talk: Talk, ada: Chat) -> None:
    holds(talk, HOURS, DOGS)
    reply = await answered(talk, ada, "May I bring a dog, and when?", "Not inside [2]. From nine [1], see [2].")
    assert [line for line in reply.text.splitlines() if line.startswith("[")] == [
        "[2] Animals",
        "[1] House rules › Opening hours, p. 3",
    ]
    assert labels(reply)[3:] == ["[2] Animals", "[1] House rules"]


async def test_a_reply_that_names_no_passage_shows_no_sources(talk: Talk, ada: Chat) -> None:
    holds(talk, HOURS)
    reply = await answered(talk, ada, "Tell me a joke, please", "Why not?")
    assert reply.text == "Why not?"
    assert labels(reply) == RATINGS


@pytest.mark.parametrize("language", LANGUAGES)
async def test_familiars_words_around_sources_are_in_the_persons_language(talk: Talk, language: str) -> None:
    texts, chat = texts_for(language), talk.private(language=language)
    holds(talk, passage("早上九点开门。", "章程", heading="开放时间", page=3, page_end=4))
    reply = await answered(talk, chat, "什么时候开门？", "九点 [1]。")
    place = texts.t("sources.pages", place="章程 › 开放时间", page=3, last=4)
    assert quoted(reply) == [f"{texts.t('sources.title')}\n[1] {place}\n早上九点开门。"]


@pytest.mark.parametrize("knowledge", [{"passages": 20}])
async def test_of_many_sources_the_first_ones_are_shown(talk: Talk, ada: Chat, knowledge: dict[str, Any]) -> None:
    many = [passage(f"Rule {number}. " + "😀" * 300, "R" * 300, position=number, page=7) for number in range(1, 11)]
    holds(talk, *many)
    reply = await answered(talk, ada, "What are the rules?", " ".join(f"[{number}]" for number in range(1, 11)))
    assert [label[:3] for label in labels(reply)[3:]] == [f"[{number}]" for number in range(1, SHOWN + 1)]
    assert [line[:3] for line in reply.text.splitlines() if line.endswith("p. 7")] == [
        f"[{number}]" for number in range(1, SHOWN + 1)
    ]
    assert units(reply.text) <= MAX_UNITS


async def test_the_quotation_of_a_reply_of_several_messages_is_in_the_last(talk: Talk, ada: Chat) -> None:
    holds(talk, HOURS)
    long = "\n\n".join(f"Paragraph {number} [1]: {'word ' * 60}" for number in range(20))
    reply = await answered(talk, ada, "What are the rules?", long)
    assert len(ada.replies) > 1
    assert [quoted(message) for message in ada.replies] == [[]] * (len(ada.replies) - 1) + [[UNDER_HOURS]]
    assert reply.text.startswith("Paragraph ")
    assert [bool(message.keyboard) for message in ada.replies] == [False] * (len(ada.replies) - 1) + [True]


@pytest.mark.parametrize("answer", ["Nine [1] " + "x" * 4080, "Nine [1] " + "**a** b " * MAX_ENTITIES])
async def test_a_quotation_without_room_is_a_message_of_its_own_and_goes_with_its_reply(
    talk: Talk, ada: Chat, answer: str
) -> None:
    holds(talk, HOURS)
    reply = await answered(talk, ada, "When do you open?", answer)
    assert [message.text for message in ada.replies][1:] == [UNDER_HOURS]
    assert ada.replies[0].entities_cut == 0
    assert [labels(message) for message in ada.replies] == [[], [*RATINGS, "[1] House rules"]]
    talk.vllm.script(Reply("Early [1]"))
    ada.press(reply, "🔁")
    await ada.wait_for(lambda: [each.text for each in ada.replies] == [f"Early [1]\n\n{UNDER_HOURS}"])


async def test_a_reply_that_was_stopped_shows_what_it_had_named(talk: Talk, ada: Chat) -> None:
    holds(talk, HOURS)
    hold = Hold()
    talk.vllm.script(Reply("At nine [1]", ", and", hold, " never"))
    ada.send("When do you open?")
    await hold.reached.wait()
    await ada.wait_for(lambda: ada.draft is not None and "[1]" in ada.draft.text)
    ada.command("/stop")
    await ada.wait_for(lambda: ada.replies and labels(ada.replies[-1])[3:] == ["[1] House rules"])
    assert ada.replies[-1].text == f"At nine [1], and\n\n(stopped)\n\n{UNDER_HOURS}"


# Later


async def test_another_reply_and_going_back_show_each_its_own_sources_also_after_a_restart(
    talk: Talk, ada: Chat
) -> None:
    holds(talk, HOURS, DOGS)
    reply = await answered(talk, ada, "When do you open?", "At nine [1].")
    talk.vllm.script(Reply("With dogs never [2]."))
    ada.press(reply, "🔁")
    await ada.wait_for(lambda: "never [2].\n\nSources\n[2] Animals\nDogs wait outside." in reply.text)
    assert labels(reply) == [*RATINGS, "◀", "2/2", "▶", "[2] Animals"]
    await talk.restart()
    ada.press(reply, "◀")
    await ada.wait_for(lambda: reply.text == f"At nine [1].\n\n{UNDER_HOURS}")
    assert quoted(reply) == [UNDER_HOURS]
    assert labels(reply) == [*RATINGS, "◀", "1/2", "▶", "[1] House rules"]
    ada.press(reply, "[1]")
    await ada.wait_for(lambda: quoted(ada.replies[-1]) == [HOURS.text])


@pytest.mark.parametrize("telegram", [{"shutdown_grace_s": 0.0}])
async def test_a_reply_that_a_restart_kept_from_being_shown_is_shown_with_its_sources(talk: Talk, ada: Chat) -> None:
    holds(talk, HOURS)
    reached = asyncio.Event()

    async def hang(*_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    talk.channel.turns._deliver = hang  # type: ignore[method-assign]
    talk.vllm.script(Reply("At nine [1]."))
    ada.send("When do you open?")
    await reached.wait()
    await talk.restart()
    await ada.wait_for(lambda: ada.replies[-1].text == f"At nine [1].\n\n{UNDER_HOURS}")
    assert labels(ada.replies[-1]) == [*RATINGS, "[1] House rules"]
    assert len(talk.vllm.chats) == 1


async def test_while_the_store_does_not_answer_a_reply_still_has_its_sources(
    talk: Talk, ada: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def locked(*_: object) -> None:
        raise ChatError("store_locked")

    monkeypatch.setattr("bot.chat.Chat.rating_of", locked)
    holds(talk, HOURS)
    reply = await answered(talk, ada, "When do you open?", "At nine [1].")
    assert quoted(reply) == [UNDER_HOURS]
    assert labels(reply)[3:] == ["[1] House rules"]


async def test_a_rating_leaves_the_buttons_of_the_sources(talk: Talk, ada: Chat) -> None:
    holds(talk, HOURS)
    reply = await answered(talk, ada, "When do you open?", "At nine [1].")
    ada.press(reply, "👍")
    await ada.wait_for(lambda: labels(reply) == ["👍 ✓", "👎", "🔁", "[1] House rules"])


async def test_of_a_document_that_was_deleted_nothing_is_shown_any_more(
    talk: Talk, ada: Chat, library: FakeLibrary
) -> None:
    holds(talk, HOURS, DOGS)
    reply = await answered(talk, ada, "When do you open?", "At nine [1], without dogs [2].")
    del library.quotes[HOURS.id]
    ada.press(reply, "[1]")
    await alerted(ada, EN.t("sources.gone"))
    number = talk.branch(ada)[-1].conversation_id
    ada.command(f"/open {number}")
    await ada.wait_for(lambda: len(ada.replies) == 3 and ada.replies[-1].keyboard)
    assert quoted(ada.replies[-1]) == ["Sources\n[1] (not there any more)\n[2] Animals\nDogs wait outside."]
    assert labels(ada.replies[-1]) == [*RATINGS, "[2] Animals"]


async def test_a_library_that_cannot_be_reached_leaves_the_reply_and_a_button_for_later(
    talk: Talk, ada: Chat, library: FakeLibrary
) -> None:
    holds(talk, HOURS)
    reply = await answered(talk, ada, "When do you open?", "At nine [1].")
    library.down = ChatError("knowledge_failed", detail="It is being rebuilt.")
    ada.press(reply, "👍")
    await ada.wait_for(lambda: labels(reply) == ["👍 ✓", "👎", "🔁", "[1]"])
    assert reply.text == f"At nine [1].\n\n{UNDER_HOURS}"
    ada.press(reply, "[1]")
    await alerted(ada, EN.problem(library.down))
    library.down = None
    ada.press(reply, "[1]")
    await ada.wait_for(lambda: quoted(ada.replies[-1]) == [HOURS.text])


async def test_without_a_library_an_earlier_reply_is_shown_alone(talk: Talk, ada: Chat) -> None:
    holds(talk, HOURS)
    reply = await answered(talk, ada, "When do you open?", "At nine [1].")
    talk.library = None
    await talk.restart()
    ada.press(reply, "[1]")
    await alerted(ada, EN.t("sources.gone"))
    ada.command(f"/open {talk.branch(ada)[-1].conversation_id}")
    await ada.wait_for(lambda: len(ada.replies) == 3 and ada.replies[-1].text == "At nine [1].")
    assert labels(ada.replies[-1]) == RATINGS


# A source's button


async def test_the_button_of_a_source_sends_the_passage_under_its_reply(talk: Talk, ada: Chat) -> None:
    holds(talk, HOURS)
    reply = await answered(talk, ada, "When do you open?", "At nine [1].")
    ada.press(reply, "[1] House rules")
    await ada.wait_for(lambda: len(ada.replies) == 2)
    shown = ada.replies[-1]
    assert shown.text == f"[1] House rules › Opening hours, p. 3\n{HOURS.text}"
    assert quoted(shown) == [HOURS.text]
    assert shown.reply_to == reply.id


async def test_a_passage_longer_than_a_message_is_shortened_to_one(talk: Talk, ada: Chat) -> None:
    holds(talk, passage("👨‍👩‍👧 " * 3000))
    reply = await answered(talk, ada, "Who lives here?", "Families [1].")
    ada.press(reply, "[1]")
    await ada.wait_for(lambda: len(ada.replies) == 2)
    shown = ada.replies[-1]
    assert MAX_UNITS - 10 < units(shown.text) <= MAX_UNITS
    assert set(quoted(shown)[0].removesuffix("…").split()) == {"👨‍👩‍👧"}


async def test_a_source_is_shown_while_another_reply_is_being_made(talk: Talk, ada: Chat) -> None:
    holds(talk, HOURS)
    reply = await answered(talk, ada, "When do you open?", "At nine [1].")
    hold = Hold()
    talk.vllm.script(Reply("Well", hold))
    ada.send("Why is that so?")
    await hold.reached.wait()
    ada.press(reply, "[1]")
    await ada.wait_for(lambda: quoted(ada.replies[-1]) == [HOURS.text])
    hold.release.set()


@pytest.mark.parametrize("data", ["src:1:99", "src:1:0", "src:1", "src:1:²", f"src:1:{'9' * 50}"])
async def test_a_press_that_no_button_makes_shows_nothing(talk: Talk, ada: Chat, data: str) -> None:
    holds(talk, HOURS)
    reply = await answered(talk, ada, "When do you open?", "At nine [1].")
    number = talk.branch(ada)[-1].id
    assert ada.person is not None
    talk.server.pressed(ada, reply, data.replace("src:1", f"src:{number}", 1), ada.person)
    await alerted(ada, EN.t("sources.gone"))
    assert ada.replies == [reply]


async def test_the_source_of_somebody_elses_reply_is_not_shown(talk: Talk, ada: Chat) -> None:
    holds(talk, HOURS)
    bo = talk.private(102, "Bo")
    await answered(talk, ada, "When do you open?", "At nine [1].")
    theirs = await answered(talk, bo, "When do you open?", "At nine [1].")
    assert bo.person is not None
    for data in (f"src:{talk.branch(ada)[-1].id}:1", "src:x:1", f"src:{'9' * 50}:1", "src:"):
        bo.answers.clear()
        talk.server.pressed(bo, theirs, data, bo.person)
        await alerted(bo, EN.problem(ChatError("not_found")))
    assert bo.replies == [theirs]


# Whose


def bo_of(talk: Talk) -> User:
    return talk.server.users[102]


async def test_in_a_group_only_who_asked_is_shown_the_passage(talk: Talk, group: Chat) -> None:
    rule = passage("The team meets on Fridays.", "Team rules", owner=owners.group("telegram", "-1001"))
    holds(talk, rule)
    reply = await answered(talk, group, "@familiar_bot when do we meet?", "On Fridays [1].", thread=7)
    assert "[1] Team rules" in reply.text
    group.press(reply, "[1]", sender=bo_of(talk))
    await alerted(group, EN.problem(ChatError("not_yours")))
    group.press(reply, "[1]")
    await group.wait_for(lambda: quoted(group.replies[-1]) == [rule.text])
    shown = group.replies[-1]
    assert (shown.thread, shown.reply_to) == (7, reply.id)


async def test_replies_and_sources_come_from_the_same_documents(
    talk: Talk, ada: Chat, group: Chat, finder: FakeFinder
) -> None:
    """Those of the person in private, those of the group in each of its topics, and everybody's in both."""
    theirs = passage("Ada's own.", "Diary", owner=owners.person(1), document_id=2)
    of_group = passage("The group's own.", "Team rules", owner=owners.group("telegram", "-1001"), document_id=3)
    holds(talk, HOURS, theirs, of_group)
    private = await answered(talk, ada, "What is there?", "[1] [2] [3]")
    assert labels(private)[3:] == ["[1] House rules", "[2] Diary"]
    for thread in (None, 7):
        shown = await answered(talk, group, "@familiar_bot what is there?", "[1] [2] [3]", thread=thread)
        assert labels(shown)[3:] == ["[1] House rules", "[2] Team rules"]
        group.press(shown, "👍")
        await group.wait_for(lambda at=shown: labels(at) == ["👍 ✓", *RATINGS[1:], "[1] House rules", "[2] Team rules"])
    ada.press(private, "👍")
    await ada.wait_for(lambda: labels(private) == ["👍 ✓", *RATINGS[1:], "[1] House rules", "[2] Diary"])
    assert [each.readable for each in finder.searched] == [
        (owners.SHARED, theirs.owner),
        (owners.SHARED, of_group.owner),
        (owners.SHARED, of_group.owner),
    ]


async def test_what_a_group_was_told_from_its_documents_is_not_shown_elsewhere(
    talk: Talk, ada: Chat, group: Chat
) -> None:
    holds(talk, passage("The team meets on Fridays.", "Team rules", owner=owners.group("telegram", "-1001")))
    await answered(talk, group, "@familiar_bot when do we meet?", "On Fridays [1].")
    number = talk.branch(group)[-1].conversation_id
    ada.command(f"/open {number}")
    await ada.wait_for(lambda: quoted(ada.replies[-1]) == ["Sources\n[1] (not there any more)"])
    assert labels(ada.replies[-1]) == RATINGS
    assert ada.person is not None
    talk.server.pressed(ada, ada.replies[-1], f"src:{talk.branch(ada)[-1].id}:1", ada.person)
    await alerted(ada, EN.t("sources.gone"))


# What the documents do not say


async def test_a_question_that_no_document_answers_is_said_to_be_one_also_after_a_restart(
    talk: Talk, ada: Chat
) -> None:
    note = EN.t("sources.unanswered")
    reply = await answered(talk, ada, "Who founded the house?", "Perhaps Bo.")
    assert reply.text == f"Perhaps Bo.\n\n{note}"
    assert quoted(reply, "italic") == [note]
    talk.vllm.script(Reply("Nobody knows."))
    ada.press(reply, "🔁")
    await ada.wait_for(lambda: reply.text == f"Nobody knows.\n\n{note}" and "2/2" in labels(reply))
    await talk.restart()
    ada.press(reply, "◀")
    await ada.wait_for(lambda: reply.text == f"Perhaps Bo.\n\n{note}")
    assert quoted(reply, "italic") == [note]


async def test_small_talk_and_an_empty_library_need_no_such_note(talk: Talk, ada: Chat, finder: FakeFinder) -> None:
    assert (await answered(talk, ada, "Good morning to you", "Hello.")).text == "Hello."
    finder.empty = True
    assert (await answered(talk, ada, "Who founded the house?", "Perhaps Bo.")).text == "Perhaps Bo."
    ada.command(f"/open {talk.branch(ada)[-1].conversation_id}")
    await ada.wait_for(lambda: [message.text for message in ada.replies][-1] == "Perhaps Bo." and len(ada.replies) == 4)


@pytest.mark.parametrize("knowledge", [{"unanswered": "silent"}])
async def test_where_the_operator_wants_silence_nothing_is_noted(talk: Talk, ada: Chat) -> None:
    await answered(talk, ada, "Who founded the house?", "Perhaps Bo.")
    ada.command(f"/open {talk.branch(ada)[-1].conversation_id}")
    await ada.wait_for(lambda: len(ada.replies) == 3)
    assert [ada.replies[0].text, ada.replies[-1].text] == ["Perhaps Bo."] * 2


@pytest.mark.parametrize("knowledge", [{"unanswered": "only_documents"}])
async def test_a_reply_that_is_itself_the_note_has_no_second_one(talk: Talk, ada: Chat) -> None:
    ada.send("Who founded the house?")
    told = EN.t("knowledge.not_in_documents")
    await ada.wait_for(lambda: ada.replies[-1].text == told and ada.replies[-1].keyboard)
    ada.command(f"/open {talk.branch(ada)[-1].conversation_id}")
    await ada.wait_for(lambda: len(ada.replies) == 3)
    assert ada.replies[-1].text == told
    assert talk.vllm.chats == []


async def test_documents_that_could_not_be_searched_are_told_and_the_reply_comes(
    talk: Talk, ada: Chat, finder: FakeFinder
) -> None:
    holds(talk, HOURS)
    finder.fault = IndexBusy("another process is at it")
    reply = await answered(talk, ada, "When do you open?", "I do not know.")
    note = EN.t("sources.failed")
    assert reply.text == f"I do not know.\n\n{note}"
    assert quoted(reply, "italic") == [note]
    assert labels(reply) == RATINGS
    finder.fault = None
    assert "Sources" in (await answered(talk, ada, "And now, when?", "At nine [1].")).text


async def test_that_documents_could_not_be_searched_is_still_said_after_a_restart(
    talk: Talk, ada: Chat, finder: FakeFinder
) -> None:
    holds(talk, HOURS)
    finder.fault = IndexBusy("another process is at it")
    reply = await answered(talk, ada, "When do you open?", "I do not know.")
    finder.fault = None
    talk.vllm.script(Reply("At nine [1]."))
    ada.press(reply, "🔁")
    await ada.wait_for(lambda: reply.text == f"At nine [1].\n\n{UNDER_HOURS}" and "2/2" in labels(reply))
    await talk.restart()
    ada.press(reply, "◀")
    await ada.wait_for(lambda: reply.text == f"I do not know.\n\n{EN.t('sources.failed')}")
    assert quoted(reply, "italic") == [EN.t("sources.failed")]


@pytest.mark.parametrize("knowledge", [{"prompt_share": 0.001}])
async def test_passages_that_a_prompt_had_no_room_for_are_never_said_not_to_exist(talk: Talk, ada: Chat) -> None:
    holds(talk, HOURS)
    reply = await answered(talk, ada, "When do you open?", "I do not know.")
    assert reply.text == "I do not know."
    assert HOURS.text not in talk.prompt()[-1]
    ada.command(f"/open {talk.branch(ada)[-1].conversation_id}")
    await ada.wait_for(lambda: len(ada.replies) == 3)
    assert ada.replies[-1].text == "I do not know."


# How it is written


def grounds(*sources: tuple[str, str, str]) -> Grounds:
    return Grounds(
        {n: Source(n, str(n), title, heading, None, None, text) for n, (title, heading, text) in enumerate(sources, 1)}
    )


@pytest.mark.parametrize(
    "title", ["two\nlines\r\n", "\u202etxt.exe", "\ud83d half", "😀" * 200, "[1] **bold** <b>", "\u200b", ""]
)
@pytest.mark.parametrize("text", ["", " \n ", "\ud83d\n\n😀" * 300, "a\u0000b\u2028c", "中" * 500])
def test_whatever_a_document_holds_makes_a_message_that_telegram_takes(title: str, text: str) -> None:
    part = under(EN, grounds(*[(title, title, text)] * SHOWN))
    assert part is not None
    part.text.encode()
    assert faults(part) == []
    assert part.text.count("\n") <= 2 * SHOWN
    assert covered(part, part.entities[0]) == part.text


def test_a_long_excerpt_ends_with_an_ellipsis_and_tears_no_character() -> None:
    part = under(EN, grounds(("Families", "", "👨‍👩‍👧" * 100)))
    assert part is not None
    excerpt = part.text.splitlines()[-1]
    assert excerpt == "👨‍👩‍👧" * (excerpt.count("👧")) + "…"
    assert 150 < units(excerpt) <= 200


def test_a_button_tells_of_its_source_what_there_is_room_for() -> None:
    assert grounds(("House rules of the whole wide world", "", "x")).buttons == [(1, "[1] House rules of the whol…")]


def test_what_is_short_enough_stays_and_what_is_not_fits() -> None:
    assert shortened("😀😀", 4) == "😀😀"
    assert shortened("😀😀😀", 4) == "😀…"
    assert one_line(" a\n b\u200b\tc ", 10) == "a b c"


def test_two_notes_and_a_quotation_do_not_overlap() -> None:
    part = under(ZH, Grounds(grounds(("😀", "", "x")).sources, unanswered=True, not_searched=True))
    assert part is not None
    looks = [(entity.type, covered(part, entity)) for entity in part.entities]
    assert looks == [
        ("italic", ZH.t("sources.failed")),
        ("italic", ZH.t("sources.unanswered")),
        ("expandable_blockquote", f"{ZH.t('sources.title')}\n[1] 😀\nx"),
    ]


def test_what_follows_a_message_keeps_its_looks_in_their_place() -> None:
    more = under(EN, Grounds(unanswered=True))
    assert more is not None
    (joined,) = followed_by(render("😀 **bold**"), more)
    assert joined.text == f"😀 bold\n\n{more.text}"
    assert [covered(joined, entity) for entity in joined.entities] == ["bold", more.text]


def test_there_is_room_to_the_last_unit() -> None:
    more = Part("x", ())
    assert [len(part.text) for part in followed_by([Part("y" * (MAX_UNITS - 3), ())], more)] == [MAX_UNITS]
    assert len(followed_by([Part("y" * (MAX_UNITS - 2), ())], more)) == 2
