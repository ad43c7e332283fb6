"""A log as conversations leave it, made in a line or two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from finetune.examples import Example, Source
from store import conversations, feedback, people
from store.session import Store
from store.tables import Conversation, Message, Person


class MadeLog:
    def __init__(self, store: Store) -> None:
        self.store = store

    def person(self, name: str = "Ada", consent: str = "yes", language: str = "") -> Person:
        person = people.person_for(self.store, "terminal", name, name=name, language=language)
        if consent:
            people.give_consent(self.store, person.id, consent)  # type: ignore[arg-type]
        return person

    def talk(self, person: Person, place: str = "") -> Conversation:
        return conversations.start(self.store, person.id, "telegram" if place else "terminal", "familiar", place)

    def ask(self, talk: Conversation, text: str, after: Message | None = None, **more: Any) -> Message:
        head = after.id if after else conversations.get(self.store, talk.id, talk.person_id).head_id
        return conversations.add_user(self.store, talk.id, head, text, **more)

    def reply(self, asked: Message, text: str, **logged: Any) -> Message:
        prompt = [{"role": "system", "content": "You are Familiar."}, {"role": "user", "content": asked.content}]
        fields = {"model": "smol", "finish": "stop", "prompt": prompt} | logged
        reply = Message(
            conversation_id=asked.conversation_id, parent_id=asked.id, role="assistant", content=text, **fields
        )
        return conversations.add_reply(self.store, reply)

    def turn(self, talk: Conversation, question: str, reply: str, **logged: Any) -> Message:
        return self.reply(self.ask(talk, question), reply, **logged)

    def rate(self, reply: Message, value: int) -> None:
        feedback.rate(self.store, reply.id, self._owner(reply), value)  # type: ignore[arg-type]

    def correct(self, reply: Message, text: str) -> None:
        feedback.correct(self.store, reply.id, self._owner(reply), text)

    def _owner(self, reply: Message) -> int:
        with self.store.reading() as session:
            return session.get_one(Conversation, reply.conversation_id).person_id


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MadeLog]:
    monkeypatch.setattr("store.sqlite._PRAGMAS", ("journal_mode=WAL", "synchronous=OFF", "foreign_keys=ON"))
    with Store(f"sqlite:///{tmp_path / 'familiar.db'}") as store:
        yield MadeLog(store)


def example(
    question: str, reply: str, conversation: str = "log:1", *, why: Any = "rated_up", weight: float = 1.0, **source: Any
) -> Example:
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": reply})
    return Example(messages, (0.0, weight), why, Source(conversation, **source))


def contents(messages: Sequence[dict[str, str]]) -> list[str]:
    return [each["content"] for each in messages]
