"""An adapter that learned from what somebody corrected."""

from __future__ import annotations

from store import adapters, conversations, feedback, lineage, people, runs
from store.session import Store
from store.tables import Message
from tests.fakes.vllm import FakeVllm


def loaded(store: Store, vllm: FakeVllm, version: int, *, active: bool = False) -> int:
    """A version of familiar that can be asked for; its id."""
    row = adapters.register(store, "familiar", version, f"familiar/{version}", "base", "0" * 32, 16)
    assert row.id is not None
    adapters.mark_loaded(store, row.id, True)
    vllm.adapters[f"familiar@{version}"] = f"familiar/{version}"
    if active:
        adapters.activate(store, "familiar", version)
    return row.id


def teach(store: Store, vllm: FakeVllm, channel: str, external_id: str, name: str = "Ada", *, version: int = 7) -> None:
    """They corrected a reply, a run learned from it, and its version answers everybody."""
    person = people.person_for(store, channel, external_id, name, "en")
    assert person.id is not None
    talk = conversations.start(store, person.id, channel, "familiar", "elsewhere")
    assert talk.id is not None
    question = conversations.add_user(store, talk.id, None, "Where is the key?")
    reply = Message(conversation_id=talk.id, parent_id=question.id, role="assistant", content="I do not know.")
    corrected = conversations.add_reply(store, reply)
    assert corrected.id is not None
    feedback.correct(store, corrected.id, person.id, "In the blue pot.")
    run = runs.begin(store, "familiar", "by hand", {})
    assert run.id is not None
    lineage.trained_on(store, loaded(store, vllm, version, active=True), [talk.id])
    runs.note(store, run.id, version=version)
