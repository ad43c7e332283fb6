from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import date

import pytest

from store import access, adapters, conversations, feedback, inbox, lineage, people, posts, usage
from store.errors import NotFound
from store.session import Store
from store.tables import Conversation, Message, Person

Say = Callable[..., Message]


def test_a_person_is_known_again_by_channel_and_number(store: Store) -> None:
    first = people.person_for(store, "telegram", "42", name="Ada", language="en")
    again = people.person_for(store, "telegram", "42", name="Somebody", language="zh")
    assert (again.id, again.name, again.language) == (first.id, "Ada", "en")


def test_the_same_number_on_another_channel_is_another_person(store: Store) -> None:
    assert people.person_for(store, "telegram", "42").id != people.person_for(store, "terminal", "42").id


def test_a_person_who_writes_twice_at_once_is_one_person(store: Store) -> None:
    at_once = threading.Barrier(8)
    found: list[int | None] = []

    def arrive() -> None:
        at_once.wait()
        found.append(people.person_for(store, "telegram", "42", name="Ada").id)

    threads = [threading.Thread(target=arrive) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_name_and_language_can_be_changed(store: Store, ada: Person) -> None:
    people.set_name(store, ada.id, "埃达")
    people.set_language(store, ada.id, "zh")
    again = people.person_for(store, "terminal", "ada")
    assert (again.name, again.language) == ("埃达", "zh")


def test_the_newest_answer_about_learning_counts_and_all_are_kept(store: Store, ada: Person) -> None:
    assert people.consent(store, ada.id) is None
    people.give_consent(store, ada.id, "yes")
    assert people.consent(store, ada.id) == "yes"
    people.give_consent(store, ada.id, "no")
    assert people.consent(store, ada.id) == "no"
    assert [each["choice"] for each in people.export(store, ada.id)["consents"]] == ["yes", "no"]


def test_consent_is_yes_or_no(store: Store, ada: Person) -> None:
    with pytest.raises(ValueError, match="'maybe'"):
        people.give_consent(store, ada.id, "maybe")
    assert people.consent(store, ada.id) is None


def test_one_persons_consent_is_not_anothers(store: Store, ada: Person, bob: Person) -> None:
    people.give_consent(store, ada.id, "yes")
    assert people.consent(store, bob.id) is None


def test_being_asked_is_remembered_and_is_no_answer(store: Store, ada: Person, bob: Person) -> None:
    assert not people.was_asked(store, ada.id)
    people.note_asked(store, ada.id)
    assert (people.was_asked(store, ada.id), people.consent(store, ada.id)) == (True, None)
    people.give_consent(store, ada.id, "yes")
    people.note_asked(store, ada.id)
    assert (people.was_asked(store, ada.id), people.consent(store, ada.id)) == (True, "yes")
    assert not people.was_asked(store, bob.id)


def test_who_answered_unasked_need_not_be_asked(store: Store, ada: Person) -> None:
    people.give_consent(store, ada.id, "no")
    assert people.was_asked(store, ada.id)


def test_looking_for_somebody_does_not_make_them(store: Store) -> None:
    assert people.with_identity(store, "telegram", "42") is None
    assert people.everybody(store) == []
    ada = people.person_for(store, "telegram", "42", name="Ada")
    assert people.with_identity(store, "telegram", "42") == ada
    assert people.with_identity(store, "api", "42") is None


def test_everybody_is_listed_who_wrote_last_first(
    store: Store, ada: Person, bob: Person, talk: Conversation, say: Say, answer: Callable[..., Message]
) -> None:
    carol, dave = (people.person_for(store, "telegram", each, name=each, language="zh") for each in ("Carol", "Dave"))
    bobs = conversations.start(store, bob.id, "terminal", "familiar")
    answer(say(talk, "one"))
    say(bobs, "one")
    last = say(talk, "two")
    listed = people.everybody(store)
    assert [(each.person_id, each.name, each.messages) for each in listed] == [
        (ada.id, "Ada", 2),
        (bob.id, "Bob", 1),
        (dave.id, "Dave", 0),
        (carol.id, "Carol", 0),
    ]
    assert (listed[0].last_at, listed[2].last_at) == (last.created_at, None)
    assert (listed[0].identities, listed[3].identities) == ((("terminal", "ada"),), (("telegram", "Carol"),))
    assert listed[3].language == "zh"


def test_totals_count_everybody(
    store: Store, ada: Person, bob: Person, talk: Conversation, say: Say, answer: Callable[..., Message]
) -> None:
    assert people.totals(store) == people.Totals(2, 1, 0, 0, 0, 0, 0, 0, 0, 0)
    for choice in ("no", "yes"):
        people.give_consent(store, ada.id, choice)
    for choice in ("yes", "no"):
        people.give_consent(store, bob.id, choice)
    for each in (ada, bob):
        people.note_asked(store, each.id)
    people.person_for(store, "telegram", "carol")
    bobs = conversations.start(store, bob.id, "terminal", "familiar")
    question = say(talk, "hello")
    good = answer(question, prompt_tokens=10, completion_tokens=3)
    bad = answer(question, prompt_tokens=10, completion_tokens=4)
    bobs_reply = answer(say(bobs, "hi"), prompt_tokens=100, completion_tokens=50)
    feedback.rate(store, good.id, ada.id, 1)
    feedback.rate(store, bad.id, ada.id, -1)
    feedback.rate(store, bobs_reply.id, bob.id, 1)
    feedback.correct(store, bad.id, ada.id, "Hello!")
    assert people.totals(store) == people.Totals(
        people=3,
        conversations=2,
        messages=2,
        replies=3,
        rated_up=2,
        rated_down=1,
        corrected=1,
        consented=1,
        prompt_tokens=120,
        completion_tokens=57,
    )


def test_nobody_can_be_changed_who_is_not_there(store: Store) -> None:
    for change in (
        lambda: people.give_consent(store, 99, "yes"),
        lambda: people.note_asked(store, 99),
        lambda: people.set_name(store, 99, "Nobody"),
        lambda: people.set_language(store, 99, "en"),
        lambda: people.export(store, 99),
        lambda: people.forget(store, 99),
    ):
        with pytest.raises(NotFound):
            change()


def test_stats_count_what_is_theirs_only(
    store: Store,
    ada: Person,
    bob: Person,
    talk: Conversation,
    say: Callable[..., Message],
    answer: Callable[..., Message],
) -> None:
    question = say(talk, "hello")
    good = answer(question, prompt_tokens=10, completion_tokens=3)
    bad = answer(question, prompt_tokens=10, completion_tokens=4)
    feedback.rate(store, good.id, ada.id, 1)
    feedback.rate(store, bad.id, ada.id, -1)
    feedback.correct(store, bad.id, ada.id, "Hello!")
    other = conversations.start(store, bob.id, "terminal", "familiar")
    answer(say(other, "hi"), prompt_tokens=1000, completion_tokens=1000)
    assert people.stats(store, ada.id) == people.Stats(
        conversations=1,
        messages=1,
        replies=2,
        rated_up=1,
        rated_down=1,
        corrected=1,
        prompt_tokens=20,
        completion_tokens=7,
    )


def test_stats_of_a_new_person_are_all_zero(store: Store, ada: Person) -> None:
    assert people.stats(store, ada.id) == people.Stats(0, 0, 0, 0, 0, 0, 0, 0)


def test_the_export_holds_everything_of_a_person_and_nothing_of_others(
    store: Store,
    ada: Person,
    bob: Person,
    talk: Conversation,
    say: Callable[..., Message],
    answer: Callable[..., Message],
) -> None:
    people.give_consent(store, ada.id, "yes")
    question = say(talk, "What is the answer? 🤔")
    prompt = [{"role": "user", "content": "What is the answer? 🤔"}]
    reply = answer(question, "Forty-two.", prompt=prompt, model="small", timings={"ttft": 0.25}, finish="stop")
    feedback.rate(store, reply.id, ada.id, -1)
    feedback.correct(store, reply.id, ada.id, "42")
    inbox.receive(store, "terminal", "a", {"text": "not handled yet"}, external_id="ada")
    posts.record(store, "terminal", "screen", reply.id, ["5", "6"])
    usage.add(store, "terminal", "ada", date(2026, 1, 2), messages=1, tokens=9)
    access.decide(store, "terminal", "ada", "allowed", "admin", name="Ada")
    adapter = adapters.register(store, "house", 1, "house/1", "small", "f00", 8)
    lineage.trained_on(store, adapter.id, [talk.id])
    theirs = conversations.start(store, bob.id, "terminal", "familiar")
    feedback.rate(store, answer(say(theirs, "Bob's secret"), "Bob's answer").id, bob.id, 1)
    inbox.receive(store, "terminal", "b", {"text": "Bob's arrival"}, external_id="bob")
    quote = conversations.add_user(store, theirs.id, None, "Bob's question", sent="42: Bob asks", quoted=[ada.id])
    posts.record(store, "terminal", "Bob's screen", quote.id, ["7"])
    usage.add(store, "terminal", "bob", date(2026, 1, 2), messages=1)
    access.decide(store, "terminal", "bob", "blocked", name="Bob")
    lineage.trained_on(store, adapter.id, [theirs.id])

    export = people.export(store, ada.id)
    text = json.dumps(export, ensure_ascii=False)
    assert "Bob" not in text
    assert export["person"]["name"] == "Ada"
    assert export["identities"][0]["external_id"] == "ada"
    assert export["consents"][0]["choice"] == "yes"
    assert export["inbox"][0]["payload"] == {"text": "not handled yet"}
    (conversation,) = export["conversations"]
    first, second = conversation["messages"]
    assert (conversation["title"], conversation["head_id"]) == ("What is the answer? 🤔", reply.id)
    assert (first["content"], first["parent_id"]) == ("What is the answer? 🤔", None)
    assert (second["content"], second["parent_id"], second["prompt"]) == ("Forty-two.", question.id, prompt)
    assert (second["model"], second["timings"], second["finish"]) == ("small", {"ttft": 0.25}, "stop")
    assert [each["value"] for each in second["ratings"]] == [-1]
    assert [each["text"] for each in second["corrections"]] == ["42"]
    assert [(each["external_id"], each["part"]) for each in second["posts"]] == [("5", 0), ("6", 1)]
    assert set(second) == {*Message.model_fields, "ratings", "corrections", "posts"}
    assert [each["message_id"] for each in export["quotations"]] == [quote.id]
    assert [(each["state"], each["role"]) for each in export["access"]] == [("allowed", "admin")]
    assert [(each["day"], each["tokens"]) for each in export["usage"]] == [("2026-01-02", 9)]
    assert [each["conversation_id"] for each in export["trained_on"]] == [talk.id]
    assert first["created_at"].endswith("Z")
