"""What each reply counts, by what became of it, and which pairs and verdicts come of it."""

from __future__ import annotations

import pytest

from bot.passages import framed
from bot.turn import SEARCH_FAILED
from finetune import grounding
from finetune.collect import Collected, collect
from knowledge.passages import Passage
from settings import Learning
from store import conversations, people
from store.tables import Message
from tests.finetune.made_log import MadeLog, contents, log

__all__ = ["log"]

LEARNING = Learning()


def collected(log: MadeLog, **settings: object) -> Collected:
    return collect(log.store, Learning(**settings))  # type: ignore[arg-type]


def whys(log: MadeLog) -> list[tuple[str, str, float]]:
    return [(each.reply, each.why, each.weights[-1]) for each in collected(log).examples]


def with_passages(question: str, *texts: str, language: str = "en") -> dict[str, object]:
    passages = [
        Passage(f"{number}:0-0@0", number, "shared", f"T{number}", "", "", "", None, None, text, 1, 1, 1)
        for number, text in enumerate(texts, 1)
    ]
    prompt = [{"role": "user", "content": framed(passages, question, language)}]
    return {"prompt": prompt, "passages": [each.id for each in passages]}


# The rule


def test_a_reply_that_was_gone_on_from_counts_a_little_and_the_last_one_nothing(log: MadeLog) -> None:
    talk = log.talk(log.person())
    log.turn(talk, "Hello", "Hi")
    log.turn(talk, "Bye", "Goodbye")
    assert whys(log) == [("Hi", "unremarked", LEARNING.unremarked)]
    assert collected(log).left_out == {"not_gone_on_with": 1}


def test_a_reply_rated_up_counts_also_when_nothing_follows(log: MadeLog) -> None:
    log.rate(log.turn(log.talk(log.person()), "Hello", "Hi"), 1)
    assert whys(log) == [("Hi", "rated_up", LEARNING.rated_up)]


def test_a_reply_rated_down_is_not_learnt_even_when_it_was_gone_on_from(log: MadeLog) -> None:
    talk = log.talk(log.person())
    log.rate(log.turn(talk, "Hello", "Grr"), -1)
    log.turn(talk, "Why so unfriendly?", "Sorry")
    assert whys(log) == []
    assert collected(log).left_out == {"rated_down": 1, "not_gone_on_with": 1}


def test_the_newest_rating_counts(log: MadeLog) -> None:
    reply = log.turn(log.talk(log.person()), "Hello", "Hi")
    log.rate(reply, 1)
    log.rate(reply, -1)
    assert whys(log) == []
    log.rate(reply, 1)
    assert whys(log) == [("Hi", "rated_up", LEARNING.rated_up)]


def test_a_correction_is_learnt_in_the_replys_place_on_the_prompt_that_was_sent(log: MadeLog) -> None:
    reply = log.turn(log.talk(log.person()), "澳大利亚的首都是哪里？", "悉尼。")
    log.rate(reply, -1)
    log.correct(reply, "堪培拉。")
    (example,) = collected(log).examples
    assert (example.why, example.weights) == ("corrected", (0.0, 0.0, LEARNING.corrected))
    assert contents(example.messages) == ["You are Familiar.", "澳大利亚的首都是哪里？", "堪培拉。"]
    assert [each["role"] for each in example.messages] == ["system", "user", "assistant"]
    assert example.source.message_ids == (reply.id,)


@pytest.mark.parametrize("finish", ["stopped", "error", "length"])
def test_a_reply_that_did_not_end_by_itself_is_learnt_only_as_corrected(log: MadeLog, finish: str) -> None:
    talk = log.talk(log.person())
    broken = log.turn(talk, "Tell me", "It is so that the", finish=finish)
    log.rate(broken, 1)
    log.turn(talk, "Go on", "end")
    assert whys(log) == []
    log.correct(broken, "It is so.")
    assert whys(log) == [("It is so.", "corrected", LEARNING.corrected)]


@pytest.mark.parametrize("value", [1, -1, None])
def test_a_reply_without_the_documents_since_searching_failed_is_learnt_only_as_corrected(
    log: MadeLog, value: int | None
) -> None:
    talk = log.talk(log.person())
    asked = log.ask(talk, "When is it open?")
    blind = log.reply(asked, "At any time, I think.", error=SEARCH_FAILED)
    if value is not None:
        log.rate(blind, value)
    again = log.reply(asked, "From nine.")
    log.rate(again, 1)
    log.reply(log.ask(talk, "Thanks", after=blind), "You are welcome")
    got = collected(log)
    assert [(each.reply, each.why) for each in got.examples] == [("From nine.", "rated_up")]
    assert got.left_out == {"error": 1, "not_gone_on_with": 1}
    assert got.preferences == ()
    assert [each.reply for each in got.judged] == ["From nine."]
    log.correct(blind, "From nine to five.")
    corrected = collected(log)
    assert ("From nine to five.", "corrected") in [(each.reply, each.why) for each in corrected.examples]
    assert [(each.chosen, each.why) for each in corrected.preferences] == [("From nine to five.", "corrected")]


@pytest.mark.parametrize("correction", ["Hi", "  Hi\n", "", " \u200b "])
def test_a_correction_that_corrects_nothing_is_none(log: MadeLog, correction: str) -> None:
    reply = log.turn(log.talk(log.person()), "Hello", "Hi")
    log.correct(reply, correction)
    assert whys(log) == []
    log.rate(reply, 1)
    assert whys(log) == [("Hi", "rated_up", LEARNING.rated_up)]
    assert collected(log).preferences == ()


def test_of_several_replies_the_one_gone_on_from_was_chosen(log: MadeLog) -> None:
    talk = log.talk(log.person())
    asked = log.ask(talk, "Hello")
    first, _ = log.reply(asked, "One"), log.reply(asked, "Two")
    log.reply(log.ask(talk, "Fine", after=first), "Good")
    assert whys(log) == [("One", "chosen", LEARNING.chosen)]
    assert collected(log).left_out == {"not_chosen": 1, "not_gone_on_with": 1}


def test_the_newest_of_several_is_not_chosen_as_long_as_nobody_went_on_from_it(log: MadeLog) -> None:
    asked = log.ask(log.talk(log.person()), "Hello")
    log.reply(asked, "One")
    log.reply(asked, "Two")
    assert whys(log) == []
    assert collected(log).left_out == {"not_gone_on_with": 2}


def test_trying_again_after_a_failure_is_no_choice(log: MadeLog) -> None:
    talk = log.talk(log.person())
    asked = log.ask(talk, "Hello")
    log.reply(asked, "Hel", finish="stopped")
    log.reply(asked, "Hello!")
    log.turn(talk, "Thanks", "Welcome")
    assert whys(log) == [("Hello!", "unremarked", LEARNING.unremarked)]
    assert collected(log).preferences == ()


def test_a_branch_that_was_given_up_by_an_edit_is_not_learnt(log: MadeLog) -> None:
    talk = log.talk(log.person())
    opening = log.turn(talk, "Hello", "Hi")
    log.turn(talk, "Waht?", "Pardon?")
    log.turn(talk, "What, I mean", "What what?")
    log.reply(log.ask(talk, "What?", after=opening), "That.")
    assert whys(log) == [("Hi", "unremarked", LEARNING.unremarked)]


def test_a_weight_of_zero_leaves_its_replies_and_pairs_out(log: MadeLog) -> None:
    talk = log.talk(log.person())
    log.turn(talk, "Hello", "Hi")
    log.correct(log.turn(talk, "Capital?", "Sydney"), "Canberra")
    got = collected(log, unremarked=0, corrected=0)
    assert (got.examples, got.preferences, got.left_out) == ((), (), {"weight_0": 2})


def test_people_who_did_not_agree_are_counted_and_not_learnt_from(log: MadeLog) -> None:
    for name, consent in (("Ada", "yes"), ("Bob", "no"), ("Carol", "")):
        log.rate(log.turn(log.talk(log.person(name, consent)), "Hello", f"Hi {name}"), 1)
    got = collected(log)
    assert [each.reply for each in got.examples] == ["Hi Ada"]
    assert (got.left_out, got.people, got.consent) == ({"no_consent": 2}, 1, {"no": 1, "unasked": 1, "yes": 1})


def test_every_reply_of_the_log_is_an_example_or_left_out_for_a_reason(log: MadeLog) -> None:
    ada, bob = log.person(), log.person("Bob", "no")
    talk = log.talk(ada)
    for number, finish in enumerate(["stop", "length", "stopped", "error", "stop"]):
        log.turn(talk, f"Question {number}", f"Reply {number}", finish=finish)
    log.turn(talk, "Hm", "", finish="stop")
    log.turn(talk, "Hm", "Canned", model="")
    log.turn(talk, "Hm", "Lost", prompt=[])
    log.turn(log.talk(bob), "Hm", "His")
    got = collected(log)
    assert len(got.examples) + sum(got.left_out.values()) == 9


# Where it comes from


def test_an_example_says_whose_words_it_holds_and_from_where(log: MadeLog) -> None:
    ada, bob = log.person("Ada", language="zh"), log.person("Bob")
    talk = log.talk(ada, "-100/7")
    quote = log.ask(talk, "So?", sent="Bob wrote: x\n\nSo?", quoted=[bob.id])
    reply = log.reply(quote, "Yes")
    log.rate(reply, 1)
    (example,) = collected(log).examples
    assert example.source.conversation == f"log:{talk.id}"
    assert example.source.person_ids == (ada.id, bob.id)
    assert (example.source.place, example.source.language) == ("telegram:-100", "zh")
    assert example.source.at == reply.created_at


def test_a_place_can_be_collected_alone(log: MadeLog) -> None:
    ada = log.person()
    for place in ("", "-100", "-100/7", "-200"):
        log.rate(log.turn(log.talk(ada, place), "Hello", f"at {place}"), 1)
    of_group = collect(log.store, LEARNING, place="telegram:-100")
    assert [each.reply for each in of_group.examples] == ["at -100", "at -100/7"]
    assert of_group.left_out == {"other_place": 2}
    assert [each.reply for each in collect(log.store, LEARNING, place="").examples] == ["at "]
    assert len(collect(log.store, LEARNING).examples) == 4


# Pairs and verdicts


def pairs(log: MadeLog) -> list[tuple[str, str, str]]:
    return [(each.chosen, each.rejected, each.why) for each in collected(log).preferences]


def test_a_correction_is_better_than_its_reply(log: MadeLog) -> None:
    log.correct(log.turn(log.talk(log.person()), "Capital?", "Sydney"), "Canberra")
    assert pairs(log) == [("Canberra", "Sydney", "corrected")]
    assert collected(log).preferences[0].weight == LEARNING.corrected


def test_up_is_better_than_down_among_replies_to_one_message(log: MadeLog) -> None:
    talk = log.talk(log.person())
    asked = log.ask(talk, "Hello")
    up, down, other = log.reply(asked, "Up"), log.reply(asked, "Down"), log.reply(asked, "Other")
    log.rate(up, 1)
    log.rate(down, -1)
    log.rate(log.turn(log.talk(log.person()), "Hello", "Elsewhere"), -1)
    assert pairs(log) == [("Up", "Down", "rated")]
    assert collected(log).preferences[0].source.message_ids == (up.id, down.id)
    assert other.id not in collected(log).preferences[0].source.message_ids


def test_what_was_gone_on_from_is_better_than_what_was_passed_over(log: MadeLog) -> None:
    talk = log.talk(log.person())
    asked = log.ask(talk, "Hello")
    log.reply(asked, "One")
    log.reply(asked, "Two")
    log.turn(talk, "Fine", "Good")
    assert pairs(log) == [("Two", "One", "chosen")]


def test_a_pair_of_the_same_texts_is_there_once_for_its_strongest_reason(log: MadeLog) -> None:
    talk = log.talk(log.person())
    asked = log.ask(talk, "Hello")
    first, second = log.reply(asked, "One"), log.reply(asked, "Two")
    log.rate(first, -1)
    log.rate(second, 1)
    log.turn(talk, "Fine", "Good")
    assert pairs(log) == [("Two", "One", "rated")]


def test_what_people_said_is_not_turned_round_by_where_they_went_on(log: MadeLog) -> None:
    talk = log.talk(log.person())
    asked = log.ask(talk, "Hello")
    first, second = log.reply(asked, "One"), log.reply(asked, "Two")
    log.rate(first, 1)
    log.rate(second, -1)
    log.turn(talk, "Fine", "Good")
    assert pairs(log) == [("One", "Two", "rated")]


def test_a_reply_that_was_rated_up_is_not_the_worse_one_because_another_was_gone_on_from(log: MadeLog) -> None:
    talk = log.talk(log.person())
    asked = log.ask(talk, "Hello")
    log.rate(log.reply(asked, "One"), 1)
    log.reply(asked, "Two")
    log.turn(talk, "Fine", "Good")
    assert pairs(log) == []


def test_equal_replies_make_no_pair(log: MadeLog) -> None:
    talk = log.talk(log.person())
    asked = log.ask(talk, "Hello")
    log.reply(asked, "Same")
    log.reply(asked, "Same")
    log.turn(talk, "Fine", "Good")
    assert pairs(log) == []


def test_rated_replies_are_judged_and_a_stopped_one_is_not(log: MadeLog) -> None:
    talk = log.talk(log.person())
    log.rate(log.turn(talk, "One", "Good"), 1)
    log.rate(log.turn(talk, "Two", "Bad"), -1)
    log.rate(log.turn(talk, "Three", "Brok", finish="stopped"), -1)
    contradicted = log.turn(talk, "Four", "Nearly")
    log.rate(contradicted, 1)
    log.correct(contradicted, "Quite")
    log.turn(talk, "Five", "Unrated")
    assert [(each.reply, each.good) for each in collected(log).judged] == [("Good", True), ("Bad", False)]


# Passages


@pytest.mark.parametrize(("question", "language"), [("How long is leave?", "en"), ("年假有多少天？", "zh")])
def test_the_question_is_found_behind_the_passages_that_the_assistant_puts_before_it(
    question: str, language: str
) -> None:
    several = f"{question}\n\nQuestion: or\n\n问题：is there more?\n> quoted"
    tricky = "Leave\n\nQuestion: not this\n\n问题：也不是"
    prompt = with_passages(several, tricky, "Second", language=language)["prompt"]
    assert isinstance(prompt, list)
    assert grounding.asked(prompt[0]["content"]) == several
    assert grounding.asked("earlier\n\n" + prompt[0]["content"]) == several
    assert grounding.asked(question) == question


def test_passages_stay_in_the_prompt_and_their_marks_in_the_reply(log: MadeLog) -> None:
    logged = with_passages("How long?", "Thirty days.")
    log.rate(log.turn(log.talk(log.person()), "How long?", "30 days [1].", **logged), 1)
    (example,) = collected(log).examples
    assert "> Thirty days." in example.question
    assert example.reply == "30 days [1]."


def test_dropped_passages_leave_the_bare_question_and_no_mark_that_points_at_nothing(log: MadeLog) -> None:
    logged = with_passages("How long?", "Thirty days.", "Or more.")
    reply = "30 days [1], or more [1, 2]【2】. See [9], `a[1]` and\n```\nb[2]\n```"
    log.rate(log.turn(log.talk(log.person()), "How long?", reply, **logged), 1)
    (example,) = collected(log, passages="dropped").examples
    assert contents(example.messages) == ["How long?", "30 days, or more. See [9], `a[1]` and\n```\nb[2]\n```"]
    (judged,) = collected(log, passages="dropped").judged
    assert contents(judged.prompt) == ["How long?"]
    assert "[1]." not in judged.reply


def test_dropped_passages_leave_what_was_quoted_and_what_was_said_before_without_an_answer(log: MadeLog) -> None:
    ada = log.person()
    talk = log.talk(ada)
    log.ask(talk, "Are you there?")
    asked = log.ask(talk, "How long?", sent="Bob said: x\n\nHow long?")
    logged = with_passages(asked.sent, "Thirty days.")
    prompt = logged["prompt"]
    assert isinstance(prompt, list)
    prompt[0]["content"] = f"Are you there?\n\n{prompt[0]['content']}"
    log.rate(log.reply(asked, "30 days [1].", **logged), 1)
    (example,) = collected(log, passages="dropped").examples
    assert example.question == "Are you there?\n\nBob said: x\n\nHow long?"


def test_a_correction_that_cites_is_learnt_with_the_passages_and_one_that_does_not_without(log: MadeLog) -> None:
    ada = log.person()
    for correction in ("14 days [1].", "14 days."):
        reply = log.turn(log.talk(ada), "How long?", "30 days [1].", **with_passages("How long?", "14 days."))
        log.correct(reply, correction)
    cited, bare = collected(log).examples
    assert "> 14 days." in cited.question
    assert cited.reply == "14 days [1]."
    assert contents(bare.messages) == ["How long?", "14 days."]
    cited_pair, bare_pair = collected(log).preferences
    assert (cited_pair.chosen, cited_pair.rejected) == ("14 days [1].", "30 days [1].")
    assert (contents(bare_pair.prompt), bare_pair.chosen, bare_pair.rejected) == (["How long?"], "14 days.", "30 days.")


def test_replies_that_rest_on_different_passages_are_compared_without_them(log: MadeLog) -> None:
    talk = log.talk(log.person())
    asked = log.ask(talk, "How long?")
    first = log.reply(asked, "30 days [1].", **with_passages("How long?", "Thirty."))
    second = log.reply(asked, "14 days [1].", prompt=[{"role": "user", "content": "How long?"}], passages=["other"])
    log.rate(first, 1)
    log.rate(second, -1)
    (pair,) = collected(log).preferences
    assert (contents(pair.prompt), pair.chosen, pair.rejected) == (["How long?"], "30 days.", "14 days.")


def test_what_was_forgotten_is_in_no_example(log: MadeLog) -> None:
    ada, bob = log.person("Ada"), log.person("Bob")
    talk = log.talk(bob, "-100")
    log.rate(log.reply(log.ask(talk, "So?", sent="Ada wrote: x\n\nSo?", quoted=[ada.id]), "Yes"), 1)
    log.rate(log.turn(log.talk(ada), "Hello", "Hi"), 1)
    people.forget(log.store, ada.id)
    got = collected(log)
    assert (got.examples, got.judged, got.left_out) == ((), (), {"prompt_not_kept": 1})


def test_a_deleted_conversation_is_in_no_example(log: MadeLog) -> None:
    ada = log.person()
    talk = log.talk(ada)
    reply: Message = log.turn(talk, "Hello", "Hi")
    log.rate(reply, 1)
    conversations.delete(log.store, talk.id, ada.id)
    assert collected(log).examples == ()
