"""What people think of replies, by buttons, reactions and better answers; and going between the replies."""

from __future__ import annotations

from typing import Any

import pytest
from sqlmodel import select

from settings import Access as AccessSettings
from store import conversations, feedback, people
from store.tables import Access, Person
from tests.bot.telegram.conftest import Talk
from tests.fakes.vllm import Fault, Hold, Refusal, Reply, eventually
from tests.telegram_server import Chat, Shown, User

RATINGS = ["👍", "👎", "🔁"]
NOT_YOURS = ("These buttons are for whoever asked the question.", True)
LONG = "\n\n".join(f"Paragraph {number}: {'word ' * 60}" for number in range(30))


@pytest.fixture
def ada(talk: Talk) -> Chat:
    return talk.private()


@pytest.fixture
def bo(talk: Talk) -> User:
    return talk.server.user(102, "Bo", language_code="en")


@pytest.fixture
def group(talk: Talk, ada: Chat, bo: User) -> Chat:
    assert ada.person is not None
    return talk.server.group(-1001, "Team", [ada.person, bo], bot_admin=True)


async def said(chat: Chat, text: str) -> Shown:
    await chat.wait_for(lambda: text in chat.last.text)  # type: ignore[union-attr]
    assert chat.last is not None
    return chat.last


async def answered(chat: Chat, text: str) -> Shown:
    """The bot's newest message, once it is this reply, complete."""
    await chat.wait_for(lambda: chat.last.text == text and len(chat.last.keyboard[0]) == 3)  # type: ignore[union-attr]
    assert chat.last is not None
    return chat.last


async def talked(talk: Talk, chat: Chat, question: str, answer: str) -> Shown:
    talk.vllm.script(Reply(answer))
    chat.send(question)
    return await answered(chat, answer)


async def again(talk: Talk, chat: Chat, shown: Shown, answer: str) -> None:
    """Another reply, in the place of the one shown."""
    talk.vllm.script(Reply(answer))
    chat.press(shown, "🔁")
    await chat.wait_for(lambda: shown.text == answer and len(shown.keyboard) == 2)


def labels(shown: Shown) -> list[str]:
    return [text for row in shown.keyboard for text, _ in row]


def rating(talk: Talk, chat: Chat, reply_id: int | None = None) -> int | None:
    """Of the last reply on the branch shown, or this one."""
    person = people.with_identity(talk.store, "telegram", str(chat.members[0].id))
    assert person is not None
    reply_id = reply_id or talk.branch(chat)[-1].id
    return feedback.feedback(talk.store, reply_id or 0, person.id or 0).rating


def correction(talk: Talk, chat: Chat, reply_id: int | None) -> str | None:
    person = people.with_identity(talk.store, "telegram", str(chat.members[0].id))
    assert person is not None
    return feedback.feedback(talk.store, reply_id or 0, person.id or 0).correction


def forged(talk: Talk, chat: Chat, data: str) -> None:
    assert chat.person is not None
    talk.server.pressed(chat, chat.messages[-1], data, chat.person)


# Thumbs


async def test_a_thumb_is_noted_and_marked_and_a_second_press_takes_it_back(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "Hello", "Hi")
    ada.press(reply, "👍")
    await ada.wait_for(lambda: labels(reply) == ["👍 ✓", "👎", "🔁"])
    assert rating(talk, ada) == 1
    assert ada.answers[-1] == ("Thanks, noted as a good reply.", False)
    ada.press(reply, "👎")
    await ada.wait_for(lambda: labels(reply) == ["👍", "👎 ✓", "🔁"])
    assert rating(talk, ada) == -1
    assert "/correct" in ada.answers[-1][0]
    ada.press(reply, "👎")
    await ada.wait_for(lambda: labels(reply) == RATINGS)
    assert rating(talk, ada) is None
    assert ada.answers[-1][0] == "Your rating is taken back."


async def test_an_earlier_reply_can_be_rated(talk: Talk, ada: Chat) -> None:
    first = await talked(talk, ada, "One", "First")
    first_id = talk.branch(ada)[-1].id
    second = await talked(talk, ada, "Two", "Second")
    ada.press(first, "👎")
    await ada.wait_for(lambda: labels(first) == ["👍", "👎 ✓", "🔁"])
    assert rating(talk, ada, first_id) == -1
    assert rating(talk, ada) is None
    assert labels(second) == RATINGS


async def test_a_rating_does_not_wait_for_the_reply_that_is_being_written(talk: Talk, ada: Chat) -> None:
    first = await talked(talk, ada, "One", "First")
    hold = Hold()
    talk.vllm.script(Reply("Slow", hold))
    ada.send("Two")
    await hold.reached.wait()
    ada.press(first, "👍")
    await ada.wait_for(lambda: "👍 ✓" in labels(first))
    hold.release.set()
    await answered(ada, "Slow")


async def test_presses_in_quick_succession_count_in_their_order(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "Hello", "Hi")
    for thumb in ("👍", "👎", "👍", "👎"):
        ada.press(reply, thumb)
    await ada.wait_for(lambda: len(ada.answers) == 4)
    await ada.wait_for(lambda: labels(reply) == ["👍", "👎 ✓", "🔁"])
    assert rating(talk, ada) == -1
    assert [text[:6] for text, _ in ada.answers] == ["Thanks", "Noted.", "Thanks", "Noted."]


async def test_a_rating_that_a_crash_interrupts_is_not_taken_back(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "Hello", "Hi")
    talk.server.fail(method="editMessageReplyMarkup", times=1000)
    ada.press(reply, "👍")
    await eventually(lambda: rating(talk, ada) == 1)
    await eventually(lambda: any(call.status == 502 for call in talk.server.calls_of("editMessageReplyMarkup")))
    talk.service.end()
    await talk.stop()
    talk.server.faults.clear()
    await talk.start()
    await ada.wait_for(lambda: labels(reply) == ["👍 ✓", "👎", "🔁"])
    assert rating(talk, ada) == 1


async def test_a_press_whose_answer_is_refused_still_counts(talk: Talk, ada: Chat) -> None:
    """Telegram takes no answer to a press that has waited for too long."""
    reply = await talked(talk, ada, "Hello", "Hi")
    talk.server.fail(method="answerCallbackQuery", status=400)
    ada.press(reply, "👍")
    await ada.wait_for(lambda: "👍 ✓" in labels(reply))


# Reactions


@pytest.mark.parametrize(
    ("emoji", "value"), [("👍", 1), ("❤", 1), ("🔥", 1), ("👎", -1), ("💩", -1), ("🤔", None), ("😢", None)]
)
async def test_a_reaction_on_a_reply_is_a_rating_where_it_is_clear(
    talk: Talk, ada: Chat, emoji: str, value: int | None
) -> None:
    reply = await talked(talk, ada, "Hello", "Hi")
    ada.react(reply, [emoji])
    await eventually(lambda: talk.channel.inbox.waiting == 0 and not talk.server.pending)
    assert rating(talk, ada) == value
    up, down = int(value == 1), int(value == -1)
    ada.command("/stats")
    await said(ada, f"rated good: {up}, rated bad: {down}")


async def test_a_reaction_that_is_changed_or_taken_back_changes_the_rating_and_its_mark(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "Hello", "Hi")
    steps: list[tuple[list[str], list[str]]] = [
        (["👍"], ["👍 ✓", "👎", "🔁"]),
        (["👎"], ["👍", "👎 ✓", "🔁"]),
        (["👎", "🔥"], RATINGS),  # both: nothing clear
        (["🔥"], ["👍 ✓", "👎", "🔁"]),
        ([], RATINGS),
    ]
    for emojis, shown in steps:
        ada.react(reply, emojis)
        await ada.wait_for(lambda shown=shown: labels(reply) == shown)
    assert rating(talk, ada) is None


async def test_a_reaction_that_goes_takes_no_other_rating_with_it(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "Hello", "Hi")
    ada.react(reply, ["👍"])
    await ada.wait_for(lambda: "👍 ✓" in labels(reply))
    ada.press(reply, "👎")
    await ada.wait_for(lambda: "👎 ✓" in labels(reply))
    ada.react(reply, [])
    ada.press(reply, "👎")
    await ada.wait_for(lambda: len(ada.answers) == 2)
    assert ada.answers[-1][0] == "Your rating is taken back."  # so it was still there


async def test_a_reaction_on_any_part_of_a_long_reply_rates_it_and_marks_the_buttons(talk: Talk, ada: Chat) -> None:
    talk.vllm.script(Reply(LONG))
    ada.send("Tell me everything")
    await ada.wait_for(lambda: "Paragraph 29" in ada.last.text and ada.last.keyboard)  # type: ignore[union-attr]
    ada.react(ada.replies[0], ["👍"])
    await ada.wait_for(lambda: "👍 ✓" in labels(ada.replies[-1]))


async def test_a_reaction_on_something_else_than_a_reply_is_none(talk: Talk, ada: Chat) -> None:
    asked = ada.send("Hello")
    reply = await answered(ada, "Hello there!")
    ada.command("/help")
    ada.react(await said(ada, "/retry"), ["👍"])
    ada.react(asked, ["👎"])
    ada.react(reply, ["🔥"])
    await ada.wait_for(lambda: "👍 ✓" in labels(reply))
    ada.command("/stats")
    await said(ada, "rated good: 1, rated bad: 0")


@pytest.mark.parametrize("access", [AccessSettings(mode="pairing", allow=("telegram:101",))])
async def test_who_only_reacts_to_the_reply_to_somebody_else_is_neither_rated_nor_written_down(
    talk: Talk, ada: Chat, group: Chat, bo: User
) -> None:
    reply = await talked(talk, group, "@familiar_bot Hello", "Hi")
    group.react(reply, ["👎"], sender=bo)
    await eventually(lambda: talk.channel.inbox.waiting == 0 and not talk.server.pending)
    assert rating(talk, group) is None
    assert people.with_identity(talk.store, "telegram", "102") is None
    with talk.store.reading() as session:
        assert [person.name for person in session.exec(select(Person))] == ["Ada"]
        assert list(session.exec(select(Access))) == []
    assert len(group.replies) == 1


async def test_in_a_group_the_asker_rates_with_a_reaction(talk: Talk, ada: Chat, group: Chat, bo: User) -> None:
    reply = await talked(talk, group, "@familiar_bot Hello", "Hi")
    group.react(reply, ["👍"], sender=ada.person)
    await group.wait_for(lambda: "👍 ✓" in labels(reply))
    group.react(reply, ["👎"], sender=bo)
    await eventually(lambda: talk.channel.inbox.waiting == 0 and not talk.server.pending)
    assert rating(talk, group) == 1


# Another reply, and between them


async def test_another_reply_takes_the_place_of_the_first_which_is_kept(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "Hello", "First")
    await again(talk, ada, reply, "Second")
    assert labels(reply) == [*RATINGS, "◀", "2/2", "▶"]
    assert len(ada.replies) == 1
    assert talk.prompt() == ["Hello"]
    await again(talk, ada, reply, "Third")
    assert "3/3" in labels(reply)
    for button, text, number in (
        ("◀", "Second", "2/3"),
        ("◀", "First", "1/3"),
        ("◀", "Third", "3/3"),
        ("▶", "First", "1/3"),
    ):
        ada.press(reply, button)
        await ada.wait_for(lambda text=text, number=number: reply.text == text and number in labels(reply))
    ada.press(reply, "1/3")
    await talked(talk, ada, "Go on", "Gladly")
    assert talk.prompt() == ["Hello", "First", "Go on"]


async def test_the_rating_shown_is_that_of_the_reply_shown(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "Hello", "First")
    ada.press(reply, "👎")
    await ada.wait_for(lambda: "👎 ✓" in labels(reply))
    await again(talk, ada, reply, "Second")
    assert labels(reply)[:3] == RATINGS
    ada.press(reply, "◀")
    await ada.wait_for(lambda: reply.text == "First" and "👎 ✓" in labels(reply))


async def test_a_reply_in_the_place_of_another_can_be_reacted_to_and_corrected(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "Hello", "First")
    await again(talk, ada, reply, "Second")
    second_id = talk.branch(ada)[-1].id
    ada.react(reply, ["👍"])
    await ada.wait_for(lambda: "👍 ✓" in labels(reply))
    ada.press(reply, "◀")
    await ada.wait_for(lambda: reply.text == "First")
    ada.command("/correct Better", reply_to=reply)
    await said(ada, "your version is noted")
    assert rating(talk, ada, second_id) == 1
    assert correction(talk, ada, talk.branch(ada)[-1].id) == "Better"
    assert correction(talk, ada, second_id) is None


async def test_a_long_reply_and_a_short_one_take_turns_in_one_place(talk: Talk, ada: Chat) -> None:
    talk.vllm.script(Reply(LONG))
    ada.send("Tell me")
    await ada.wait_for(lambda: "Paragraph 29" in ada.last.text and ada.last.keyboard)  # type: ignore[union-attr]
    parts = len(ada.replies)
    assert parts >= 3
    talk.vllm.script(Reply("Short"))
    ada.press(ada.replies[-1], "🔁")
    await ada.wait_for(lambda: [m.text for m in ada.replies] == ["Short"] and "2/2" in labels(ada.replies[0]))
    ada.press(ada.replies[0], "◀")
    await ada.wait_for(lambda: len(ada.replies) == parts and "1/2" in labels(ada.replies[-1]))
    text = " ".join(message.text for message in ada.replies)
    assert all(text.count(f"Paragraph {number}:") == 1 for number in range(30))
    assert [bool(message.keyboard) for message in ada.replies] == [False] * (parts - 1) + [True]
    ada.press(ada.replies[-1], "▶")
    await ada.wait_for(lambda: [m.text for m in ada.replies] == ["Short"] and "2/2" in labels(ada.replies[0]))


async def test_another_reply_pressed_twice_at_once_is_one_more_reply(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "Hello", "First")
    talk.vllm.script(Reply("Second"), Reply("Third"))
    ada.press(reply, "🔁")
    ada.press(reply, "🔁")
    ada.send("Go on")
    await ada.wait_for(lambda: [message.text for message in ada.replies] == ["Second", "Third"])
    assert labels(reply) == [*RATINGS, "◀", "2/2", "▶"]
    assert talk.prompt() == ["Hello", "Second", "Go on"]
    assert ada.answers[-1][0] == "Another answer stands here by now."


async def test_going_back_while_another_reply_is_written_waits_for_it(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "Hello", "First")
    await again(talk, ada, reply, "Second")
    hold = Hold()
    talk.vllm.script(Reply("Third", hold, " reply"))
    back = next(data for text, data in reply.keyboard[1] if text == "◀")
    ada.press(reply, "🔁")
    await hold.reached.wait()
    assert ada.person is not None
    talk.server.pressed(ada, reply, back, ada.person)
    hold.release.set()
    await ada.wait_for(lambda: reply.text == "First" and "1/3" in labels(reply))
    assert "Third reply" in reply.edits
    await talked(talk, ada, "Go on", "Gladly")
    assert talk.prompt() == ["Hello", "First", "Go on"]


async def test_the_buttons_of_a_retry_leaf_in_its_own_place(talk: Talk, ada: Chat) -> None:
    first = await talked(talk, ada, "Hello", "First")
    talk.vllm.script(Reply("Second"))
    ada.command("/retry")
    second = await answered(ada, "Second")
    ada.press(second, "◀")
    await ada.wait_for(lambda: second.text == "First" and "1/2" in labels(second))
    ada.press(second, "▶")
    await ada.wait_for(lambda: second.text == "Second" and "2/2" in labels(second))
    await again(talk, ada, first, "Third")
    assert [message.text for message in ada.replies] == ["Third", "Second"]


async def test_a_look_at_an_older_alternative_loses_nothing_of_what_followed(talk: Talk, ada: Chat) -> None:
    first = await talked(talk, ada, "One", "First")
    await again(talk, ada, first, "Primus")
    await talked(talk, ada, "Two", "Second")
    for button, text in (("◀", "First"), ("▶", "Primus")):
        ada.press(first, button)
        await ada.wait_for(lambda text=text: first.text == text)
    await talked(talk, ada, "Three", "Third")
    assert talk.prompt() == ["One", "Primus", "Two", "Second", "Three"]


async def test_when_another_reply_fails_the_first_stands_again(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "Hello", "First")
    talk.vllm.script(Refusal(400))
    ada.press(reply, "🔁")
    await said(ada, "did not accept")
    assert (reply.text, labels(reply)) == ("First", RATINGS)
    await again(talk, ada, reply, "Second")


async def test_another_reply_stopped_before_its_first_word_leaves_the_first(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "Hello", "First")
    hold = Hold()
    talk.vllm.script(Reply(hold, "never"))
    ada.press(reply, "🔁")
    await hold.reached.wait()
    ada.command("/stop")
    await said(ada, "Stopped before the first word")
    assert (reply.text, labels(reply)) == ("First", RATINGS)


async def test_another_reply_stopped_in_the_middle_is_kept_beside_the_first(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "Hello", "First")
    hold = Hold()
    talk.vllm.script(Reply("Half", hold, " never"))
    ada.press(reply, "🔁")
    await ada.wait_for(lambda: reply.text == "Half")
    ada.press(reply, "◼ Stop")
    await ada.wait_for(lambda: "2/2" in labels(reply))
    assert reply.text.startswith("Half")
    assert "stopped" in reply.text


async def test_a_reply_that_broke_off_is_marked_as_such_among_the_others(talk: Talk, ada: Chat) -> None:
    talk.vllm.script(Reply("Half of", Fault()), Reply("Whole"))
    ada.send("Tell me")
    await said(ada, "broke off")
    ada.command("/retry")
    whole = await answered(ada, "Whole")
    ada.press(whole, "◀")
    await ada.wait_for(lambda: whole.text == "Half of\n\n(broken off)" and "1/2" in labels(whole))


@pytest.mark.parametrize("access", [AccessSettings(mode="open", messages_per_minute=1)])
async def test_a_quota_that_is_reached_is_said_where_another_reply_was_wanted(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "Hello", "First")
    ada.press(reply, "🔁")
    await said(ada, "faster than is allowed")
    assert (reply.text, labels(reply)) == ("First", RATINGS)


async def test_a_reply_that_the_person_deleted_is_said_anew(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "Hello", "First")
    hold = Hold()
    talk.vllm.script(Reply("Second", hold, " reply"))
    ada.press(reply, "🔁")
    await hold.reached.wait()
    ada.delete(reply)
    hold.release.set()
    await ada.wait_for(lambda: "2/2" in labels(ada.last) and ada.last.text == "Second reply")  # type: ignore
    assert len(ada.replies) == 1


async def test_a_part_that_the_person_deleted_leaves_no_old_parts_behind(talk: Talk, ada: Chat) -> None:
    talk.vllm.script(Reply(LONG))
    ada.send("Tell me")
    await ada.wait_for(lambda: "Paragraph 29" in ada.last.text and ada.last.keyboard)  # type: ignore[union-attr]
    old = ada.replies[-1]
    ada.delete(ada.replies[0])
    talk.vllm.script(Reply(LONG.replace("Paragraph", "Section")))
    ada.press(old, "🔁")
    await ada.wait_for(lambda: "Section 29" in ada.last.text and "2/2" in labels(ada.last))  # type: ignore
    text = " ".join(message.text for message in ada.replies)
    assert "Paragraph" not in text
    assert all(text.count(f"Section {number}:") == 1 for number in range(30))


async def test_an_old_reply_is_answered_anew_in_its_own_conversation(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "About cats", "Meow")
    ada.command("/new")
    await said(ada, "A new conversation")
    await talked(talk, ada, "About dogs", "Woof")
    await again(talk, ada, reply, "Purr")
    await talked(talk, ada, "And?", "Yes")
    assert talk.prompt() == ["About cats", "Purr", "And?"]


# Buttons of others, and buttons that nobody made


@pytest.mark.parametrize("button", ["👍", "👎", "🔁"])
async def test_in_a_group_the_buttons_are_for_whoever_asked(
    talk: Talk, ada: Chat, group: Chat, bo: User, button: str
) -> None:
    reply = await talked(talk, group, "@familiar_bot Hello", "Hi")
    group.press(reply, button, sender=bo)
    await group.wait_for(lambda: group.answers == [NOT_YOURS])
    assert rating(talk, group) is None
    assert (reply.text, labels(reply), len(talk.vllm.chats)) == ("Hi", RATINGS, 1)


@pytest.mark.parametrize("word", ["up", "down", "again", "show"])
async def test_a_forged_button_reaches_nothing_of_anybody_else(talk: Talk, ada: Chat, word: str) -> None:
    other = talk.private(102, "Bo")
    await talked(talk, other, "My secret", "Kept")
    theirs = talk.branch(other)[-1].id or 0
    await talked(talk, ada, "Hello", "Hi")
    question = talk.branch(ada)[0].id
    numbers = [theirs, question, 0, -1, "9" * 55, "", "x", "1.5", "٠"]
    for number in numbers:
        forged(talk, ada, f"{word}:{number}")
    await ada.wait_for(lambda: len(ada.answers) == len(numbers))
    assert all("no longer there" in text for text, _ in ada.answers)
    assert rating(talk, other) is None
    assert len(conversations.siblings(talk.store, theirs)) == 1
    assert [message.text for message in ada.replies] == ["Hi"]


async def test_in_a_group_a_forged_button_changes_no_message_of_anybody_else(
    talk: Talk, ada: Chat, group: Chat, bo: User
) -> None:
    """Bo's own reply, shown where Ada's stands, by a client that says he has pressed a button there."""
    talk.vllm.script(Reply("For Bo"))
    group.send("@familiar_bot And me?", sender=bo)
    await answered(group, "For Bo")
    bos = talk.branch(group, bo)[-1].id
    adas = await talked(talk, group, "@familiar_bot Hello", "For Ada")
    claims = [f"up:{bos}", f"again:{bos}", f"show:{bos}", "consent:yes", "docs:0", "pick:persona:diary"]
    for data in claims:
        talk.server.pressed(group, adas, data, bo)
    await group.wait_for(lambda: len(group.answers) == len(claims))
    assert {text for text, _ in group.answers} == {"This button does not stand here any more."}
    assert (adas.text, labels(adas)) == ("For Ada", RATINGS)
    assert len(group.replies) == 2


# A better answer


async def test_a_better_answer_is_noted_for_the_last_reply(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "Capital of France?", "Lyon")
    ada.command("/correct Paris.\n\nIt has been for long.")
    await said(ada, "your version is noted")
    assert correction(talk, ada, talk.branch(ada)[-1].id) == "Paris.\n\nIt has been for long."


async def test_a_better_answer_is_noted_for_the_reply_that_it_answers(talk: Talk, ada: Chat) -> None:
    first = await talked(talk, ada, "One", "First")
    first_id = talk.branch(ada)[-1].id
    await talked(talk, ada, "Two", "Second")
    ada.command("/correct 第一", reply_to=first)
    await said(ada, "your version is noted")
    assert correction(talk, ada, first_id) == "第一"
    assert correction(talk, ada, talk.branch(ada)[-1].id) is None
    ada.command("/correct 一", reply_to=first)
    await eventually(lambda: correction(talk, ada, first_id) == "一")


async def test_a_better_answer_that_fills_several_messages_is_noted_whole(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "Tell me", "No")
    text = " ".join(f"word{number}" for number in range(1200))
    ada.paste(f"/correct {text}")
    await said(ada, "your version is noted")
    assert correction(talk, ada, talk.branch(ada)[-1].id) == text
    assert len(talk.vllm.chats) == 1


@pytest.mark.parametrize(
    ("command", "problem"), [("/correct", "/correct <text>"), ("/correct Better", "no reply to correct yet")]
)
async def test_a_better_answer_for_nothing_says_what_is_missing(ada: Chat, command: str, problem: str) -> None:
    ada.command(command)
    await said(ada, problem)


async def test_a_better_answer_to_something_else_than_a_reply_is_not_taken(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "Hello", "Hi")
    ada.command("/help")
    ada.command("/correct Better", reply_to=await said(ada, "/retry"))
    await said(ada, "none of my answers")
    assert correction(talk, ada, talk.branch(ada)[-1].id) is None


async def test_nobody_corrects_the_reply_to_somebody_else(talk: Talk, group: Chat, bo: User) -> None:
    reply = await talked(talk, group, "@familiar_bot Hello", "Hi")
    group.command("/correct Worse", reply_to=reply, sender=bo)
    await said(group, "only they can correct it")
    assert correction(talk, group, talk.branch(group)[-1].id) is None


async def test_what_is_shown_is_noted_also_while_the_store_is_busy(
    talk: Talk, ada: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its buttons need the store, the reply itself must not wait for it."""
    from store.errors import StoreLocked

    def locked(*_: Any, **__: Any) -> Any:
        raise StoreLocked("in use")

    monkeypatch.setattr(feedback, "rating_of", locked)
    monkeypatch.setattr("bot.telegram.turns.posts.record", locked)
    reply = await talked(talk, ada, "Hello", "Hi")
    monkeypatch.undo()
    ada.press(reply, "👍")
    await ada.wait_for(lambda: "👍 ✓" in labels(reply))
    assert len(ada.replies) == 1
