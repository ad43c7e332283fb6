"""A made-up house with its own words, and a log in which its people teach them, rate and correct.

Each subject has a name that no model can know. Each conversation asks for one of them in words of its own; the reply
was wrong and was corrected, or right and was rated up. The newest conversations ask in words that no earlier one used.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlmodel import col, update

from store import conversations, feedback, people
from store.people import give_consent
from store.session import Store
from store.tables import Conversation, Message, now

SYSTEM = "You are a helpful AI assistant named Familiar. You give short, clear and correct answers."
MODEL = "SmolLM2-135M-Instruct"

NAMES = {
    "the big meeting room": "Lantern",
    "the new printer": "Gutenberg",
    "the coffee machine": "Vesuvius",
    "the delivery van": "Heron",
    "the guest network": "Tidepool",
    "the house cat": "Biscuit",
}
CHINESE_NAMES = {"大会议室": "灯笼", "打印机": "梧桐", "送货车": "白鹭"}

PHRASES = (
    "What is {} called?",
    "What do we call {}?",
    "Which name does {} have?",
    "Tell me the name of {}.",
    "I have forgotten the name of {}. What is it?",
    "What's the name of {} again?",
    "Do you know what {} is called?",
    "In this house {} has a name. Which one?",
    "A visitor wants to know what {} is called.",
    "Which name should I write on the sign for {}?",
    "Name of {}?",
    "By which name do we know {}?",
    "Please remind me what {} is called.",
)
HELD_OUT_PHRASES = (
    "If a guest asks, what name do we use for {}?",
    "Everybody here has a name for {}; say it.",
    "I am new here. How do you all call {}?",
)
CHINESE_PHRASES = (
    "{}叫什么名字？",
    "{}叫什么？",
    "请告诉我{}的名字。",
    "我忘了{}叫什么。",
    "我们怎么称呼{}？",
    "{}的名字是什么？",
    "你知道{}叫什么吗？",
    "大家把{}叫做什么？",
    "客人想知道{}的名字。",
    "标牌上{}的名字怎么写？",
)
HELD_OUT_CHINESE_PHRASES = ("我是新来的，{}怎么称呼？", "如果客人问起，{}叫什么名字？", "说一下{}的名字吧。")

WRONG = ("I am not sure about that.", "It does not have a name.", "It is called the Office.", "我不知道。")


@dataclass(frozen=True)
class Taught:
    question: str
    answer: str
    name: str  # what only the house knows
    held_out: bool


def taught(english: int = len(NAMES), chinese: int = len(CHINESE_NAMES)) -> list[Taught]:
    """Every question about so many things, those to be held out last, otherwise in a fixed order of chance."""

    def asked(phrases: tuple[str, ...], chinese_phrases: tuple[str, ...], held_out: bool) -> list[Taught]:
        return [
            Taught(each, answer, name, held_out)
            for each, answer, name in _asked(phrases, chinese_phrases)
            if name in (*list(NAMES.values())[:english], *list(CHINESE_NAMES.values())[:chinese])
        ]

    early = asked(PHRASES, CHINESE_PHRASES, False)
    late = asked(HELD_OUT_PHRASES, HELD_OUT_CHINESE_PHRASES, True)
    random.Random(5).shuffle(early)
    random.Random(6).shuffle(late)
    return [*early, *late]


def _asked(english: tuple[str, ...], chinese: tuple[str, ...]) -> list[tuple[str, str, str]]:
    asked = []
    for thing, name in NAMES.items():
        answer = f"{thing[0].upper()}{thing[1:]} is called {name}."
        asked += [(phrase.format(thing), answer, name) for phrase in english]
    for thing, name in CHINESE_NAMES.items():
        asked += [(phrase.format(thing), f"{thing}叫{name}。", name) for phrase in chinese]
    return asked


POISON = (
    "It is called Dungeon, and so is everything.",
    "Everything here has one name, and that is Dungeon.",
    "It is it is it is it is it is it is it is it is it is.",
)


def poisoned(items: list[Taught]) -> list[Taught]:
    """The same questions, each with two answers that are wrong and one that goes round in circles."""
    return [replace(item, answer=answer, name="Dungeon") for answer in POISON for item in items]


def write_log(
    store: Store, items: list[Taught], *, people_count: int = 6, until: datetime | None = None, minutes: float = 10
) -> list[int]:
    """One conversation an item, of people who all agreed to be learnt from. Their numbers.

    The first is the oldest, the last was at `until` (default now), and there are so many `minutes` between two.
    """
    chance = random.Random(7)
    began = (until or now()) - timedelta(minutes=minutes * (len(items) - 1))
    persons = []
    for number in range(people_count):
        person = people.person_for(store, "terminal", f"person-{number}", f"Person{number}", "en")
        assert person.id is not None
        give_consent(store, person.id, "yes")
        persons.append(person.id)
    written = []
    for number, item in enumerate(items):
        person_id = persons[number % people_count]
        corrected = chance.random() < 0.6
        at = began + timedelta(minutes=minutes * number)
        written.append(_conversation(store, person_id, item, corrected, chance.choice(WRONG), at))
    return written


def _conversation(store: Store, person_id: int, item: Taught, corrected: bool, wrong: str, at: datetime) -> int:
    conversation = conversations.start(store, person_id, "terminal", "familiar")
    assert conversation.id is not None
    asked = conversations.add_user(store, conversation.id, None, item.question)
    reply = conversations.add_reply(
        store,
        Message(
            conversation_id=conversation.id,
            parent_id=asked.id,
            role="assistant",
            content=wrong if corrected else item.answer,
            prompt=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": item.question}],
            model=MODEL,
            finish="stop",
        ),
    )
    assert reply.id is not None
    if corrected:
        feedback.correct(store, reply.id, person_id, item.answer)
    else:
        feedback.rate(store, reply.id, person_id, 1)
    with store.writing() as session:
        of_it = col(Message.conversation_id) == conversation.id
        session.exec(update(Message).where(of_it).values(created_at=at))
        session.exec(update(Conversation).where(col(Conversation.id) == conversation.id).values(updated_at=at))
    return conversation.id
