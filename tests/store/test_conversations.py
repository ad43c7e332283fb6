from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import SQLAlchemyError

from store import conversations, feedback, people
from store.conversations import Listed
from store.errors import NotFound
from store.session import Store
from store.tables import Conversation, Message, Person

Say = Callable[..., Message]
Answer = Callable[..., Message]


def texts(messages: list[Message]) -> list[str]:
    return [message.content for message in messages]


def head_of(store: Store, talk: Conversation) -> int | None:
    return conversations.get(store, talk.id, talk.person_id).head_id


def test_a_new_conversation_is_empty(store: Store, ada: Person, talk: Conversation) -> None:
    found = conversations.get(store, talk.id, ada.id)
    assert (found.channel, found.persona, found.title, found.head_id) == ("terminal", "familiar", "", None)
    assert found.created_at.tzinfo is UTC
    assert abs(found.created_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_every_place_of_a_channel_has_its_own_latest_conversation(store: Store, ada: Person, say: Say) -> None:
    private, group, thread = (
        conversations.start(store, ada.id, "telegram", "familiar", place) for place in ("", "-100", "-100/45")
    )
    for each in (thread, group, private):
        say(each, "hello")
    assert conversations.latest(store, ada.id, "telegram").id == private.id
    assert conversations.latest(store, ada.id, "telegram", "-100").id == group.id
    assert conversations.latest(store, ada.id, "telegram", place="-100/45").id == thread.id
    assert conversations.latest(store, ada.id, "telegram", "-200") is None


def test_a_conversation_that_is_held_elsewhere_from_now_on_is_the_latest_there(
    store: Store, ada: Person, say: Say
) -> None:
    private, group = (conversations.start(store, ada.id, "telegram", "familiar", place) for place in ("", "-100"))
    for each in (group, private):
        say(each, "hello")
    conversations.touch(store, group.id, "telegram")
    assert conversations.latest(store, ada.id, "telegram").id == group.id
    assert conversations.latest(store, ada.id, "telegram", "-100") is None
    with pytest.raises(NotFound):
        conversations.touch(store, 99, "telegram")


def test_the_newest_message_after_one_is_the_end_of_its_own_branch(
    store: Store, talk: Conversation, say: Say, answer: Answer
) -> None:
    question = say(talk, "one")
    first, second = answer(question, "two"), answer(question, "zwei")
    conversations.move_head(store, talk.id, first.id)
    last = answer(say(talk, "three"), "four")
    assert conversations.newest_after(store, first.id).id == last.id
    assert conversations.newest_after(store, question.id).id == last.id
    assert conversations.newest_after(store, second.id).id == second.id
    with pytest.raises(NotFound):
        conversations.newest_after(store, 99)


def test_nobody_can_start_a_conversation_who_is_not_there(store: Store) -> None:
    with pytest.raises(NotFound):
        conversations.start(store, 99, "terminal", "familiar")


def test_messages_follow_each_other_from_first_to_last(
    store: Store, talk: Conversation, say: Say, answer: Answer
) -> None:
    answer(say(talk, "one"), "two")
    last = answer(say(talk, "three"), "four")
    assert texts(conversations.path(store, last.id)) == ["one", "two", "three", "four"]
    assert head_of(store, talk) == last.id


def test_a_regenerated_reply_is_a_sibling_and_both_are_kept(
    store: Store, talk: Conversation, say: Say, answer: Answer
) -> None:
    question = say(talk, "tell me")
    first, second = answer(question, "first"), answer(question, "second")
    assert texts(conversations.siblings(store, first.id)) == ["first", "second"]
    assert texts(conversations.siblings(store, second.id)) == ["first", "second"]
    assert conversations.count_replies(store, question.id) == 2
    assert conversations.count_replies(store, first.id) == 0
    assert head_of(store, talk) == second.id
    assert texts(conversations.path(store, first.id)) == ["tell me", "first"]
    assert texts(conversations.path(store, second.id)) == ["tell me", "second"]


def test_an_edited_message_branches_and_the_old_branch_can_be_gone_back_to(
    store: Store, talk: Conversation, say: Say, answer: Answer
) -> None:
    opening = answer(say(talk, "hello"), "hi")
    old = answer(say(talk, "old question", parent=opening), "old answer")
    new = answer(say(talk, "new question", parent=opening), "new answer")
    assert texts(conversations.path(store, new.id)) == ["hello", "hi", "new question", "new answer"]
    conversations.move_head(store, talk.id, old.id)
    again = say(talk, "go on")
    assert texts(conversations.path(store, again.id)) == ["hello", "hi", "old question", "old answer", "go on"]


def test_an_edited_first_message_is_a_sibling_of_the_first(store: Store, ada: Person, talk: Conversation) -> None:
    first = conversations.add_user(store, talk.id, None, "helo")
    conversations.add_user(store, talk.id, None, "hello")
    other = conversations.start(store, ada.id, "terminal", "familiar")
    conversations.add_user(store, other.id, None, "elsewhere")
    assert texts(conversations.siblings(store, first.id)) == ["helo", "hello"]


def test_moving_the_head_to_nothing_begins_anew(store: Store, talk: Conversation, say: Say) -> None:
    say(talk, "hello")
    conversations.move_head(store, talk.id, None)
    assert texts(conversations.path(store, say(talk, "anew").id)) == ["anew"]


def test_a_path_of_thousands_of_messages_is_whole(long_branch: list[Message]) -> None:
    assert texts(long_branch) == [str(number) for number in range(1, 2501)]


def test_a_reply_keeps_all_that_belongs_in_the_log(store: Store, ada: Person, talk: Conversation, say: Say) -> None:
    question = say(talk, "hello")
    logged = {
        "prompt": [{"role": "system", "content": "Be brief. 简短"}, {"role": "user", "content": "hello"}],
        "window_start_id": question.id,
        "passages": ["handbook.md#3"],
        "model": "small",
        "adapter": "house@2",
        "sampling": {"temperature": 0.7, "stop": ["\n\n"], "seed": None},
        "timings": {"queue": 0.0, "ttft": 0.12, "total": 1.5},
        "prompt_tokens": 12,
        "cached_tokens": 8,
        "completion_tokens": 3,
        "finish": "stopped",
        "error": "",
    }
    reply = Message(conversation_id=talk.id, parent_id=question.id, role="assistant", content="hi", **logged)
    added = conversations.add_reply(store, reply)
    found = conversations.message(store, added.id, ada.id)
    assert {name: getattr(found, name) for name in logged} == logged


def test_a_path_can_be_read_without_its_prompts(store: Store, talk: Conversation, say: Say, answer: Answer) -> None:
    reply = answer(say(talk, "hello"), "hi", prompt=[{"role": "user", "content": "hello"}], passages=["a"])
    assert conversations.path(store, reply.id)[-1].prompt == [{"role": "user", "content": "hello"}]
    lean = conversations.path(store, reply.id, prompts=False)
    assert texts(lean) == ["hello", "hi"]
    assert lean[-1].passages == ["a"]
    with pytest.raises(SQLAlchemyError):
        _ = lean[-1].prompt


def test_a_users_message_keeps_how_it_was_sent(store: Store, ada: Person, talk: Conversation) -> None:
    message = conversations.add_user(store, talk.id, None, "why?", sent="[1] Because.\n\nwhy?")
    assert conversations.message(store, message.id, ada.id).sent == "[1] Because.\n\nwhy?"


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("Plan a trip to 北京", "Plan a trip to 北京"),
        ("  \n\n  first line  \nsecond line", "first line"),
        ("x" * 61, "x" * 60),
        ("word " * 30, "word word word word word word word word word word word word"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_the_first_message_gives_the_title(
    store: Store, ada: Person, talk: Conversation, written: str, title: str
) -> None:
    conversations.add_user(store, talk.id, None, written)
    assert conversations.get(store, talk.id, ada.id).title == title


def test_later_messages_leave_the_title(store: Store, ada: Person, talk: Conversation, say: Say) -> None:
    say(talk, "first")
    say(talk, "second")
    assert conversations.get(store, talk.id, ada.id).title == "first"


def test_a_given_title_stays(store: Store, ada: Person, talk: Conversation, say: Say) -> None:
    conversations.configure(store, talk.id, title="Mine")
    say(talk, "first")
    assert conversations.get(store, talk.id, ada.id).title == "Mine"


def test_configuring_changes_only_what_is_given(store: Store, ada: Person, talk: Conversation) -> None:
    conversations.configure(store, talk.id, title="Title", persona="classifier", adapter="house@1")
    configured = conversations.configure(store, talk.id, adapter="")
    assert (configured.title, configured.persona, configured.adapter) == ("Title", "classifier", "")
    assert conversations.get(store, talk.id, ada.id).persona == "classifier"


def test_the_latest_conversation_is_the_one_last_written_in_on_that_channel(
    store: Store, ada: Person, say: Say, answer: Answer
) -> None:
    assert conversations.latest(store, ada.id, "terminal") is None
    first = conversations.start(store, ada.id, "terminal", "familiar")
    second = conversations.start(store, ada.id, "terminal", "familiar")
    on_telegram = conversations.start(store, ada.id, "telegram", "familiar")
    assert conversations.latest(store, ada.id, "terminal").id == second.id
    question = say(first, "hello again")
    assert conversations.latest(store, ada.id, "terminal").id == first.id
    say(second, "hello")
    answer(question)
    assert conversations.latest(store, ada.id, "terminal").id == first.id
    assert conversations.latest(store, ada.id, "telegram").id == on_telegram.id


def test_the_list_shows_the_newest_first_with_the_number_of_messages(
    store: Store, ada: Person, bob: Person, talk: Conversation, say: Say, answer: Answer
) -> None:
    empty = conversations.start(store, ada.id, "terminal", "familiar")
    conversations.start(store, bob.id, "terminal", "familiar")
    question = say(talk, "hello")
    answer(question)
    answer(question)
    listed = conversations.listing(store, ada.id)
    assert [(each.id, each.title, each.messages) for each in listed] == [(talk.id, "hello", 3), (empty.id, "", 0)]
    assert isinstance(listed[0], Listed)
    assert listed[0].updated_at > listed[1].updated_at
    assert [each.id for each in conversations.listing(store, ada.id, limit=1)] == [talk.id]


def test_a_deleted_conversation_is_gone_with_its_messages_and_feedback_and_no_other(
    store: Store, ada: Person, talk: Conversation, say: Say, answer: Answer
) -> None:
    reply = answer(say(talk, "hello"))
    feedback.rate(store, reply.id, ada.id, 1)
    other = conversations.start(store, ada.id, "terminal", "familiar")
    kept = answer(say(other, "stay"))
    feedback.rate(store, kept.id, ada.id, -1)
    conversations.delete(store, talk.id, ada.id)
    with pytest.raises(NotFound):
        conversations.get(store, talk.id, ada.id)
    with pytest.raises(NotFound):
        conversations.message(store, reply.id, ada.id)
    assert texts(conversations.path(store, kept.id)) == ["stay", "Certainly."]
    counted = people.stats(store, ada.id)
    assert (counted.conversations, counted.rated_up, counted.rated_down) == (1, 0, 1)


def test_what_is_somebody_elses_is_not_found(
    store: Store, ada: Person, bob: Person, talk: Conversation, say: Say, answer: Answer
) -> None:
    reply = answer(say(talk, "private"))
    for attempt in (
        lambda: conversations.get(store, talk.id, bob.id),
        lambda: conversations.message(store, reply.id, bob.id),
        lambda: conversations.delete(store, talk.id, bob.id),
        lambda: feedback.feedback(store, reply.id, bob.id),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert conversations.search(store, bob.id, "private") == []
    assert conversations.listing(store, bob.id) == []
    assert conversations.get(store, talk.id, ada.id).head_id == reply.id


def test_somebody_elses_and_missing_read_the_same(store: Store, bob: Person, talk: Conversation) -> None:
    with pytest.raises(NotFound) as theirs:
        conversations.get(store, talk.id, bob.id)
    conversations.delete(store, talk.id, talk.person_id)
    with pytest.raises(NotFound) as missing:
        conversations.get(store, talk.id, bob.id)
    assert str(theirs.value) == str(missing.value)


def test_what_is_not_there_is_not_found(store: Store, ada: Person, talk: Conversation, say: Say) -> None:
    say(talk, "hello")
    for attempt in (
        lambda: conversations.get(store, 99, ada.id),
        lambda: conversations.message(store, 99, ada.id),
        lambda: conversations.path(store, 99),
        lambda: conversations.siblings(store, 99),
        lambda: conversations.move_head(store, 99, None),
        lambda: conversations.move_head(store, talk.id, 99),
        lambda: conversations.configure(store, 99, title="x"),
        lambda: conversations.delete(store, 99, ada.id),
        lambda: conversations.add_user(store, 99, None, "x"),
        lambda: conversations.add_user(store, talk.id, 99, "x"),
    ):
        with pytest.raises(NotFound):
            attempt()


def test_a_message_cannot_follow_one_of_another_conversation(
    store: Store, ada: Person, talk: Conversation, say: Say
) -> None:
    message = say(talk, "hello")
    other = conversations.start(store, ada.id, "terminal", "familiar")
    with pytest.raises(NotFound):
        conversations.add_user(store, other.id, message.id, "x")
    with pytest.raises(NotFound):
        conversations.move_head(store, other.id, message.id)
    with pytest.raises(NotFound):
        conversations.add_reply(
            store, Message(conversation_id=other.id, parent_id=message.id, role="assistant", content="x")
        )
    assert conversations.listing(store, ada.id)[0].messages + conversations.listing(store, ada.id)[1].messages == 1


def test_a_reply_answers_a_users_message_and_nothing_else(
    store: Store, talk: Conversation, say: Say, answer: Answer
) -> None:
    question = say(talk, "hello")
    reply = answer(question)
    for wrong in (
        Message(conversation_id=talk.id, parent_id=reply.id, role="assistant", content="x"),
        Message(conversation_id=talk.id, parent_id=None, role="assistant", content="x"),
        Message(conversation_id=talk.id, parent_id=question.id, role="user", content="x"),
    ):
        with pytest.raises(ValueError, match="repl"):
            conversations.add_reply(store, wrong)
    assert head_of(store, talk) == reply.id
