"""A turn with documents: what is searched for whom, what the model is sent, and what person and log are told."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pytest

from bot.assistant import Assistant, Origin
from bot.events import Event, Failed, Finished, Retrieved, Token
from bot.retrieval import asks, readable_by
from bot.turn import SEARCH_FAILED
from knowledge.errors import IndexDamaged
from settings import Knowledge, Settings
from store import conversations, people
from store.catalogue import owners
from store.errors import StoreDamaged
from store.gaps import gaps
from store.session import Store
from store.tables import Conversation, Message, Person
from tests.fakes.finder import FakeFinder, passage
from tests.fakes.vllm import FakeVllm, Fault, Reply

DEPTH = "The harbour was dredged in 1998 to a depth of eleven metres."
HOURS = "The lighthouse museum opens at nine on weekdays."


@pytest.fixture
def finder() -> FakeFinder:
    return FakeFinder([passage(DEPTH, "Harbour", page=3), passage(HOURS, "Museum", document_id=2)])


@pytest.fixture
def assistant(store: Store, client, settings: Settings, finder: FakeFinder) -> Assistant:
    return Assistant(store, client, settings, finder)


async def told(turn: AsyncGenerator[Event]) -> list[Event]:
    async with aclosing(turn) as events:
        return [event async for event in events]


async def finished(turn: AsyncGenerator[Event]) -> Finished:
    last = (await told(turn))[-1]
    assert isinstance(last, Finished), last
    return last


def with_settings(assistant: Assistant, **knowledge: object) -> Assistant:
    settings = assistant.settings.model_copy(update={"knowledge": Knowledge(**knowledge)})  # type: ignore[arg-type]
    return Assistant(assistant.store, assistant.client, settings, assistant.knowledge)


def sent(vllm: FakeVllm, chat: int = -1) -> list[dict[str, str]]:
    return vllm.chats[chat].body["messages"]


def reply_of(store: Store, conversation: Conversation, person: Person) -> Message:
    head = conversations.get(store, conversation.id, person.id).head_id
    return conversations.path(store, head)[-1]


# What the model is sent


async def test_passages_stand_before_the_question_in_the_newest_message(assistant, conversation, person, vllm):
    vllm.script(Reply("Eleven metres [1]."))
    await finished(assistant.turn(conversation, person, "How deep is the harbour?"))
    *_, newest = sent(vllm)
    assert f"[1] Harbour, p. 3\n> {DEPTH}" in newest["content"]
    assert f"[2] Museum\n> {HOURS}" in newest["content"]
    assert newest["content"].endswith("Question: How deep is the harbour?")


async def test_in_the_history_a_message_is_as_the_person_wrote_it(assistant, conversation, person, vllm):
    vllm.script(Reply("Eleven metres [1]."), Reply("At nine [2]."))
    await finished(assistant.turn(conversation, person, "How deep is the harbour?"))
    await finished(assistant.turn(conversation, person, "When does the museum open?"))
    assert sent(vllm)[1:-1] == [
        {"role": "user", "content": "How deep is the harbour?"},
        {"role": "assistant", "content": "Eleven metres [1]."},
    ]


async def test_a_prompt_begins_as_the_one_before_it_up_to_the_newest_question(assistant, conversation, person, vllm):
    vllm.script(*[Reply("So [1].") for _ in range(3)])
    for question in ("How deep is it?", "Since when is that so?", "And how wide is it?"):
        await finished(assistant.turn(conversation, person, question))
    second, third = sent(vllm, 1), sent(vllm, 2)
    assert third[: len(second) - 1] == second[:-1]


async def test_what_was_quoted_in_a_group_stands_before_the_question_too(assistant, conversation, person, vllm):
    origin = Origin(context="[Bo wrote: the harbour is shallow]")
    await finished(assistant.turn(conversation, person, "How deep is it?", origin=origin))
    assert sent(vllm)[-1]["content"].endswith("[Bo wrote: the harbour is shallow]\n\nHow deep is it?")


async def test_passages_take_no_more_than_their_share_of_the_room(assistant, conversation, person, vllm, finder):
    finder.passages = [passage("The tide is high. " * 150, document_id=number) for number in range(4)]
    await finished(assistant.turn(conversation, person, "When is high tide?"))
    wide = len(sent(vllm)[-1]["content"])
    narrow = with_settings(assistant, prompt_share=0.1)
    await finished(narrow.turn(conversation, person, "When is high tide?"))
    assert len(sent(vllm)[-1]["content"]) < wide / 2
    assert "[1]" in sent(vllm)[-1]["content"]


async def test_a_question_in_chinese_is_framed_in_chinese(assistant, conversation, person, vllm, finder):
    finder.passages = [passage("埃勒里港的高潮在早上六点。", "潮汐表")]
    await finished(assistant.turn(conversation, person, "埃勒里港的高潮是几点？"))
    assert sent(vllm)[-1]["content"].endswith("问题：埃勒里港的高潮是几点？")


# Who may be answered from what


async def test_in_private_what_is_shared_and_the_persons_own_is_searched(assistant, conversation, person, finder):
    await finished(assistant.turn(conversation, person, "How deep is the harbour?"))
    assert finder.searched[0].readable == (owners.SHARED, owners.person(person.id))


async def test_in_a_group_what_is_shared_and_the_groups_is_searched(assistant, store, person, finder):
    for place in ("-100123", "-100123/7"):
        there = conversations.start(store, person.id, "telegram", "familiar", place=place)
        await finished(assistant.turn(there, person, "How deep is the harbour?"))
        assert finder.searched[-1].readable == (owners.SHARED, owners.group("telegram", "-100123"))


async def test_a_thread_in_a_private_chat_is_private(store, person):
    there = conversations.start(store, person.id, "telegram", "familiar", place="/7")
    assert readable_by(person, there) == (owners.SHARED, owners.person(person.id))


async def test_anothers_documents_never_reach_the_prompt(assistant, conversation, person, store, vllm, finder):
    other = people.person_for(store, "terminal", "bo", "Bo", "en")
    finder.passages = [passage("Bo's secret is Marzipan.", owner=owners.person(other.id))]
    await finished(assistant.turn(conversation, person, "What is Bo's secret?"))
    assert "Marzipan" not in str(sent(vllm))


async def test_who_gave_a_document_to_a_group_can_have_its_words_forgotten(assistant, store, person, vllm, finder):
    bo = people.person_for(store, "telegram", "2", "Bo", "en")
    there = conversations.start(store, person.id, "telegram", "familiar", place="-100123")
    finder.passages = [passage(DEPTH, owner=owners.group("telegram", "-100123"), document_id=5)]
    finder.given_by = {5: bo.id}
    await finished(assistant.turn(there, person, "How deep is the harbour?"))
    assert DEPTH in str(reply_of(store, there, person).prompt)
    people.forget(store, bo.id)
    assert reply_of(store, there, person).prompt == []
    await finished(assistant.turn(there, person, "How deep is it?"))
    assert DEPTH not in str(sent(vllm)), "a document of somebody who is gone"


# What the person is told


async def test_the_person_is_told_what_was_found_before_the_reply(assistant, conversation, person, vllm):
    vllm.script(Reply("Eleven", " metres [1]."))
    events = await told(assistant.turn(conversation, person, "How deep is the harbour?"))
    assert isinstance(events[0], Retrieved)
    assert [(source.number, source.title, source.page) for source in events[0].sources] == [
        (1, "Harbour", 3),
        (2, "Museum", None),
    ]


async def test_the_sources_that_the_reply_names_are_told_in_its_order(assistant, conversation, person, vllm):
    vllm.script(Reply("At nine [2], and eleven metres", " [", "1] [7]."))
    last = await finished(assistant.turn(conversation, person, "When, and how deep?"))
    assert last.text == "At nine [2], and eleven metres [1]."
    assert [source.title for source in last.sources] == ["Museum", "Harbour"]


async def test_what_is_shown_is_what_is_logged(assistant, conversation, person, store, vllm):
    vllm.script(Reply("Eleven [", "9", "] metres", " [1"))
    events = await told(assistant.turn(conversation, person, "How deep is the harbour?"))
    shown = "".join(event.text for event in events if isinstance(event, Token))
    reply = reply_of(store, conversation, person)
    assert shown == events[-1].text == reply.content
    assert "[9]" not in shown
    assert reply.passages == ["1:0-0@0123abcd", "2:0-0@0123abcd"]
    assert reply.relevance == 0.9
    assert reply.prompt == sent(vllm)


async def test_a_reply_that_names_nothing_gets_the_number_of_the_passage_that_says_it(
    assistant, conversation, person, vllm
):
    vllm.script(Reply("It was dredged to eleven metres."))
    last = await finished(assistant.turn(conversation, person, "How deep is the harbour?"))
    assert last.text == "It was dredged to eleven metres. [1]"
    assert [source.title for source in last.sources] == ["Harbour"]


async def test_a_question_that_no_document_answers_is_told_to_be_one(assistant, conversation, person, store, finder):
    finder.passages = []
    events = await told(assistant.turn(conversation, person, "Who is the mayor of Port Ellery?"))
    assert events[0] == Retrieved(unanswered=True)
    assert events[-1].unanswered
    assert reply_of(store, conversation, person).relevance == 0.1


async def test_thanks_are_not_a_question_that_nothing_answers(assistant, conversation, person, finder):
    finder.passages = []
    last = await finished(assistant.turn(conversation, person, "Thank you very much!"))
    assert not last.unanswered


async def test_only_from_documents_the_model_is_not_asked_what_they_do_not_answer(
    assistant, conversation, person, store, vllm, finder
):
    finder.passages = []
    strict = with_settings(assistant, unanswered="only_documents")
    last = await finished(strict.turn(conversation, person, "Who is the mayor of Port Ellery?"))
    assert last.text == "My documents do not say anything about this."
    assert vllm.chats == []
    assert reply_of(store, conversation, person).model == ""
    vllm.script(Reply("You are welcome."))
    assert (await finished(strict.turn(conversation, person, "Thank you very much!"))).text == "You are welcome."


async def test_silent_says_nothing_of_what_was_not_found(assistant, conversation, person, finder):
    finder.passages = []
    quiet = with_settings(assistant, unanswered="silent")
    assert not (await finished(quiet.turn(conversation, person, "Who is the mayor?"))).unanswered


@pytest.mark.parametrize("fault", [IndexDamaged("It is damaged."), StoreDamaged("It is damaged.")])
async def test_when_the_documents_cannot_be_searched_the_reply_comes_without_them(
    assistant, conversation, person, store, vllm, finder, fault
):
    finder.fault = fault
    vllm.script(Reply("Deep."))
    events = await told(assistant.turn(conversation, person, "How deep is the harbour?"))
    assert events[0] == Retrieved(failed=True)
    assert events[-1].text == "Deep."
    assert sent(vllm)[-1]["content"] == "How deep is the harbour?"
    reply = reply_of(store, conversation, person)
    assert (reply.relevance, reply.finish, reply.error) == (None, "stop", SEARCH_FAILED)


async def test_half_a_search_that_finds_nothing_does_not_say_that_no_document_answers(
    assistant, conversation, person, vllm, finder
):
    finder.passages, finder.degraded = [], "the embedding server does not answer"
    vllm.script(Reply("Deep."))
    events = await told(assistant.turn(conversation, person, "Where is the harbour?"))
    assert events[0] == Retrieved(failed=True)
    assert not events[-1].unanswered


async def test_of_a_reply_that_broke_off_the_log_says_what_broke_it_off(
    assistant, conversation, person, store, vllm, finder
):
    finder.fault = IndexDamaged("It is damaged.")
    vllm.script(Reply("Deep", Fault()))
    last = (await told(assistant.turn(conversation, person, "How deep is the harbour?")))[-1]
    assert isinstance(last, Failed)
    reply = reply_of(store, conversation, person)
    assert (reply.finish, reply.error) == ("error", last.detail)


async def test_a_question_whose_passages_had_no_room_is_no_gap_in_the_documents(
    assistant, conversation, person, store, finder
):
    narrow = with_settings(assistant, prompt_share=0.001)
    last = await finished(narrow.turn(conversation, person, "How deep is the harbour?"))
    assert (last.unanswered, reply_of(store, conversation, person).passages) == (False, [])
    assert gaps(store, "all").found == ()
    finder.passages = []
    await finished(narrow.turn(conversation, person, "Who is the mayor of Port Ellery?"))
    assert [gap.question for gap in gaps(store, "all").found] == ["Who is the mayor of Port Ellery?"]


async def test_without_documents_nothing_is_searched_and_nothing_told(assistant, conversation, person, store, finder):
    finder.empty = True
    events = await told(assistant.turn(conversation, person, "How deep is the harbour?"))
    assert not [event for event in events if isinstance(event, Retrieved)]
    assert finder.searched == []
    assert reply_of(store, conversation, person).relevance is None


# Follow-ups


async def test_a_question_is_searched_with_those_before_it_in_mind(assistant, conversation, person, finder):
    await finished(assistant.turn(conversation, person, "When does the museum open?"))
    await finished(assistant.turn(conversation, person, "And on Sundays?"))
    assert finder.searched[1].question == "And on Sundays?"
    assert finder.searched[1].history == ("When does the museum open?",)
    alone = with_settings(assistant, follow_ups="off")
    await finished(alone.turn(conversation, person, "And on Mondays?"))
    assert finder.searched[2].history == ()


async def test_a_follow_up_can_be_rewritten_by_the_model(assistant, conversation, person, vllm, finder):
    rewriting = with_settings(assistant, follow_ups="rewrite")
    vllm.script(Reply("At nine [2]."), Reply("When does the museum open on Sundays?\nOr so."), Reply("At ten."))
    await finished(rewriting.turn(conversation, person, "When does the museum open?"))
    await finished(rewriting.turn(conversation, person, "And on Sundays?"))
    assert [each.question for each in finder.searched] == [
        "When does the museum open?",
        "When does the museum open on Sundays?",
    ]
    assert len(vllm.chats) == 3


async def test_a_retry_is_searched_anew(assistant, conversation, person, store, vllm, finder):
    last = await finished(assistant.turn(conversation, person, "How deep is the harbour?"))
    finder.passages = [replace(finder.passages[0], text="It is twelve metres deep now.")]
    await finished(assistant.reply_to(conversation, person, last.asked_id))
    assert "> It is twelve metres deep now." in sent(vllm)[-1]["content"]


@pytest.mark.parametrize(
    "text",
    ["How deep is the harbour?", "Tell me about the museum", "埃勒里港有多深", "高潮是几点？", "deep it is, is it?"],
)
def test_what_asks(text: str) -> None:
    assert asks(text)


@pytest.mark.parametrize("text", ["Thanks!", "Hello there", "?", "你好", "谢谢你", "Write a poem about the sea.", ""])
def test_what_does_not_ask(text: str) -> None:
    assert not asks(text)
