"""What the documents did not answer, and of whom an operator may read it."""

from __future__ import annotations

from store import conversations, feedback, people
from store.gaps import gaps
from store.session import Store
from store.tables import Message, Person


def asked(
    store: Store, person: Person, question: str, *, relevance: float | None = 0.1, passages: tuple[str, ...] = ()
) -> Message:
    """A question of theirs in a conversation of its own, with a reply."""
    assert person.id is not None
    conversation = conversations.start(store, person.id, "terminal", "familiar")
    assert conversation.id is not None
    message = conversations.add_user(store, conversation.id, None, question)
    reply = Message(
        conversation_id=conversation.id,
        parent_id=message.id,
        role="assistant",
        content="So it is.",
        relevance=relevance,
        passages=list(passages),
    )
    return conversations.add_reply(store, reply)


def somebody(store: Store, name: str, choice: str | None = "yes") -> Person:
    person = people.person_for(store, "terminal", name, name, "en")
    assert person.id is not None
    if choice == "yes" or choice == "no":
        people.give_consent(store, person.id, choice)
    return person


def test_a_question_for_which_nothing_was_found_is_a_gap(store: Store) -> None:
    ada = somebody(store, "ada")
    asked(store, ada, "When is high tide?")
    asked(store, ada, "How deep is the harbour?", relevance=0.9, passages=("1:0-0@abc",))
    asked(store, ada, "Hello!", relevance=None)
    assert [(gap.question, gap.why) for gap in gaps(store, "ask").found] == [("When is high tide?", "nothing_found")]


def test_a_reply_from_documents_that_was_rated_down_is_a_gap(store: Store) -> None:
    ada = somebody(store, "ada")
    reply = asked(store, ada, "How deep is the harbour?", relevance=0.9, passages=("1:0-0@abc",))
    assert ada.id is not None
    assert reply.id is not None
    feedback.rate(store, reply.id, ada.id, -1)
    assert [(gap.question, gap.why) for gap in gaps(store, "ask").found] == [("How deep is the harbour?", "rated_down")]


def test_a_question_that_was_replied_to_twice_is_one_gap(store: Store) -> None:
    ada = somebody(store, "ada")
    first = asked(store, ada, "When is high tide?")
    conversations.add_reply(
        store,
        Message(
            conversation_id=first.conversation_id,
            parent_id=first.parent_id,
            role="assistant",
            content="Again.",
            relevance=0.2,
        ),
    )
    assert len(gaps(store, "ask").found) == 1


def test_questions_of_people_who_have_not_agreed_are_counted_and_not_shown(store: Store) -> None:
    asked(store, somebody(store, "bo", None), "What does Bo earn?")
    asked(store, somebody(store, "cy", "no"), "What does Cy earn?")
    assert gaps(store, "ask").found == ()
    assert gaps(store, "ask").withheld == 2
    assert [gap.question for gap in gaps(store, "all").found] == ["What does Bo earn?"]
    assert gaps(store, "none").found == ()


def test_a_no_after_a_yes_counts_and_being_asked_is_no_answer(store: Store) -> None:
    ada = somebody(store, "ada")
    assert ada.id is not None
    asked(store, ada, "When is high tide?")
    people.note_asked(store, ada.id)
    assert len(gaps(store, "ask").found) == 1
    people.give_consent(store, ada.id, "no")
    assert gaps(store, "ask").found == ()


def test_what_is_forgotten_is_no_gap(store: Store) -> None:
    ada = somebody(store, "ada")
    asked(store, ada, "When is high tide?")
    assert ada.id is not None
    people.forget(store, ada.id)
    assert gaps(store, "all") == gaps(store, "all").__class__((), 0)
