"""What may be learnt from: whose consent counts, and what is known of each reply of a tree of messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from store import conversations, feedback, people
from store.learning import LoggedReply, consents, logged, names
from store.session import Store
from store.tables import Conversation, Message, Person

Say = Callable[..., Message]
Answer = Callable[..., Message]

PROMPT = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def reply(answer: Answer) -> Answer:
    """reply(message, text): one that the model gave."""

    def add(message: Message, content: str = "Certainly.", **logged: object) -> Message:
        prompt = [{"role": "user", "content": message.sent or message.content}]
        return answer(message, content, **({"model": "smol", "finish": "stop", "prompt": prompt} | logged))

    return add


def texts(store: Store, policy: str = "ask", left_out: Counter[str] | None = None) -> list[str]:
    return [each.text for each in logged(store, policy, left_out)]  # type: ignore[arg-type]


def found(store: Store, message: Message) -> LoggedReply:
    return next(each for each in logged(store, "all") if each.message_id == message.id)


# Consent


def test_only_who_said_yes_is_learnt_from_when_people_are_asked(
    store: Store, ada: Person, bob: Person, say: Say, reply: Answer
) -> None:
    for person in (ada, bob):
        talk = conversations.start(store, person.id, "terminal", "familiar")
        reply(say(talk, "Hello"), f"To {person.name}")
    people.give_consent(store, ada.id, "yes")
    left_out: Counter[str] = Counter()
    assert texts(store, "ask", left_out) == ["To Ada"]
    assert left_out == {"no_consent": 1}


def test_the_newest_answer_counts(store: Store, ada: Person, talk: Conversation, say: Say, reply: Answer) -> None:
    reply(say(talk, "Hello"), "Hi")
    people.give_consent(store, ada.id, "yes")
    people.give_consent(store, ada.id, "no")
    people.note_asked(store, ada.id)
    assert texts(store) == []
    people.give_consent(store, ada.id, "yes")
    assert texts(store) == ["Hi"]


def test_a_no_is_honoured_whatever_the_operator_sets(
    store: Store, ada: Person, talk: Conversation, say: Say, reply: Answer
) -> None:
    reply(say(talk, "Hello"), "Hi")
    assert texts(store, "all") == ["Hi"]
    people.give_consent(store, ada.id, "no")
    for policy in ("all", "ask", "none"):
        assert texts(store, policy) == []


def test_nobody_is_learnt_from_when_learning_is_off(
    store: Store, ada: Person, talk: Conversation, say: Say, reply: Answer
) -> None:
    reply(say(talk, "Hello"), "Hi")
    people.give_consent(store, ada.id, "yes")
    assert texts(store, "none") == []


def test_who_is_quoted_must_agree_too_also_for_every_reply_after_it(
    store: Store, ada: Person, bob: Person, say: Say, reply: Answer
) -> None:
    people.give_consent(store, bob.id, "yes")
    talk = conversations.start(store, bob.id, "telegram", "familiar", "-100")
    before = reply(say(talk, "Hello"), "before")
    quote = conversations.add_user(store, talk.id, before.id, "So?", sent="Ada wrote: x\n\nSo?", quoted=[ada.id])
    reply(say(talk, "Why?", parent=reply(quote, "at")), "after")
    reply(say(talk, "Else?", parent=before), "beside")
    left_out: Counter[str] = Counter()
    assert texts(store, "ask", left_out) == ["before", "beside"]
    assert left_out == {"quoted_without_consent": 2}
    people.give_consent(store, ada.id, "yes")
    assert texts(store) == ["before", "at", "after", "beside"]
    people.give_consent(store, ada.id, "no")
    assert texts(store, "all") == ["before", "beside"]


def test_the_quoted_are_named_and_the_writer_is_not_among_them(
    store: Store, ada: Person, bob: Person, say: Say, reply: Answer
) -> None:
    talk = conversations.start(store, bob.id, "telegram", "familiar", "-100")
    quote = conversations.add_user(store, talk.id, None, "So?", sent="x\n\nSo?", quoted=[ada.id, bob.id])
    assert found(store, reply(quote)).quoted_persons == (ada.id,)
    assert names(store, [ada.id, bob.id, 99]) == {ada.id: "Ada", bob.id: "Bob"}


def test_people_are_counted_by_their_newest_answer(store: Store, ada: Person, bob: Person) -> None:
    carol = people.person_for(store, "terminal", "carol")
    people.give_consent(store, ada.id, "no")
    people.give_consent(store, ada.id, "yes")
    people.give_consent(store, bob.id, "no")
    people.note_asked(store, carol.id)
    assert consents(store) == {"yes": 1, "no": 1, "unasked": 1}


def test_an_empty_log_holds_nothing(store: Store) -> None:
    assert (texts(store, "all"), consents(store)) == ([], {})


# What is left out


def test_what_the_model_did_not_say_is_left_out(store: Store, talk: Conversation, say: Say, reply: Answer) -> None:
    reply(say(talk, "Hello"), "Not in the documents.", model="")
    left_out: Counter[str] = Counter()
    assert texts(store, "all", left_out) == []
    assert left_out == {"not_the_model": 1}


def test_a_reply_whose_prompt_lost_somebodys_words_is_left_out(
    store: Store, ada: Person, bob: Person, say: Say, reply: Answer
) -> None:
    talk = conversations.start(store, bob.id, "telegram", "familiar", "-100")
    quote = conversations.add_user(store, talk.id, None, "So?", sent="Ada wrote: x\n\nSo?", quoted=[ada.id])
    reply(quote, "It is.")
    people.forget(store, ada.id)
    left_out: Counter[str] = Counter()
    assert texts(store, "all", left_out) == []
    assert left_out == {"prompt_not_kept": 1}


def test_what_was_forgotten_is_gone(store: Store, ada: Person, talk: Conversation, say: Say, reply: Answer) -> None:
    reply(say(talk, "Hello"), "Hi")
    people.forget(store, ada.id, keep_person=True)
    assert texts(store, "all") == []


def test_a_conversation_that_is_deleted_while_the_log_is_read_is_passed_over(
    store: Store, ada: Person, bob: Person, say: Say, reply: Answer
) -> None:
    talks = [conversations.start(store, each.id, "terminal", "familiar") for each in (ada, bob)]
    for talk in talks:
        reply(say(talk, "Hello"), f"Number {talk.id}")
    reading = logged(store, "all")
    assert next(reading).conversation_id == talks[0].id
    conversations.delete(store, talks[1].id, bob.id)
    assert list(reading) == []


# What became of a reply


def test_a_reply_that_the_person_went_on_from_says_so(
    store: Store, talk: Conversation, say: Say, reply: Answer
) -> None:
    first = reply(say(talk, "Hello"), "Hi")
    last = reply(say(talk, "And now?"), "Bye")
    assert (found(store, first).went_on, found(store, first).on_branch) == (True, True)
    assert (found(store, last).went_on, found(store, last).on_branch) == (False, True)


def test_siblings_know_each_other_and_only_one_is_on_the_branch(
    store: Store, talk: Conversation, say: Say, reply: Answer
) -> None:
    asked = say(talk, "Hello")
    first, second = reply(asked, "One"), reply(asked, "Two")
    say(talk, "More", parent=first)
    one, two = found(store, first), found(store, second)
    assert (one.siblings, two.siblings) == ((second.id,), (first.id,))
    assert (one.on_branch, one.went_on) == (True, True)
    assert (two.on_branch, two.went_on) == (False, False)


def test_an_edited_message_leaves_the_replies_to_the_old_one_off_the_branch(
    store: Store, talk: Conversation, say: Say, reply: Answer
) -> None:
    opening = reply(say(talk, "Hello"), "Hi")
    old = reply(say(talk, "Waht?", parent=opening), "Pardon?")
    further = reply(say(talk, "I mean what?"), "What what?")
    new = reply(say(talk, "What?", parent=opening), "That.")
    assert [found(store, each).on_branch for each in (opening, old, further, new)] == [True, False, False, True]
    assert found(store, old).siblings == ()
    assert found(store, old).went_on


def test_ratings_and_corrections_are_those_that_stand_now(
    store: Store, ada: Person, talk: Conversation, say: Say, reply: Answer
) -> None:
    rated = reply(say(talk, "Capital of Australia?"), "Sydney.")
    assert (found(store, rated).rating, found(store, rated).correction, found(store, rated).corrected_at) == (
        None,
        None,
        None,
    )
    feedback.rate(store, rated.id, ada.id, 1)
    feedback.rate(store, rated.id, ada.id, -1)
    feedback.correct(store, rated.id, ada.id, "Melbourne.")
    feedback.correct(store, rated.id, ada.id, "堪培拉。")
    now = found(store, rated)
    assert (now.rating, now.correction) == (-1, "堪培拉。")
    assert now.corrected_at is not None
    assert now.corrected_at >= now.at
    feedback.unrate(store, rated.id, ada.id)
    assert found(store, rated).rating is None


def test_a_reply_is_handed_out_as_it_was_logged(
    store: Store, ada: Person, talk: Conversation, say: Say, reply: Answer
) -> None:
    people.set_language(store, ada.id, "zh")
    prompt = [{"role": "system", "content": "You are 小助手."}, {"role": "user", "content": "你好 👋"}]
    given = reply(
        say(talk, "你好 👋"), "您好", prompt=prompt, passages=["p1"], adapter="familiar@2", finish="length", error="e"
    )
    got = found(store, given)
    assert got.prompt == tuple(prompt)
    assert (got.question, got.text, got.language, got.person_name) == ("你好 👋", "您好", "zh", "Ada")
    assert (got.passages, got.model, got.adapter, got.finish, got.error) == (
        ("p1",),
        "smol",
        "familiar@2",
        "length",
        "e",
    )
    assert got.at == given.created_at


def test_a_thread_belongs_to_its_group_and_a_private_chat_to_no_place(
    store: Store, ada: Person, say: Say, reply: Answer
) -> None:
    places = {"": "", "/7": "", "-100": "telegram:-100", "-100/7": "telegram:-100"}
    for place, expected in places.items():
        talk = conversations.start(store, ada.id, "telegram", "familiar", place)
        assert found(store, reply(say(talk, "Hello"))).place == expected


def test_what_was_left_unanswered_before_is_known(store: Store, talk: Conversation, say: Say, reply: Answer) -> None:
    say(talk, "answered", parent=None)
    reply(say(talk, "Hello"), "Hi")
    say(talk, "one")
    reply(say(talk, "two"), "")
    asked = conversations.add_user(
        store, talk.id, conversations.get(store, talk.id, talk.person_id).head_id, "three", sent="quote\n\nthree"
    )
    got = found(store, reply(asked, "Yes?"))
    assert (got.question, got.unanswered) == ("quote\n\nthree", ("one", "two"))


def test_a_log_of_many_conversations_comes_whole_and_each_conversation_together(
    store: Store, ada: Person, say: Say, reply: Answer
) -> None:
    talks = [conversations.start(store, ada.id, "terminal", "familiar") for _ in range(60)]
    for turn in range(2):
        for talk in talks:
            reply(say(talk, f"Question {turn}"), f"{talk.id}, {turn}")
    assert texts(store, "all") == [f"{talk.id}, {turn}" for talk in talks for turn in range(2)]


def test_a_branch_of_thousands_of_messages_is_read_and_equal_texts_are_held_once(
    store: Store, long_branch: list[Message]
) -> None:
    """Of every prompt in a conversation all but the end is the prompt before it."""
    with store.writing() as session:
        for message in long_branch[1::2]:
            row = session.get_one(Message, message.id)
            row.role, row.model, row.finish = "assistant", "smol", "stop"
            row.prompt = [{"role": "system", "content": "You are Familiar. " * 5}, *PROMPT]
    replies = list(logged(store, "all"))
    assert len(replies) == 1250
    assert all(each.went_on for each in replies[:-1])
    assert len({id(each.prompt[0]["content"]) for each in replies}) == 1
    assert replies[0].prompt[1:] == tuple(PROMPT)
