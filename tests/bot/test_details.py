"""Which adapter answers, where it comes from, and what is known of a reply."""

from __future__ import annotations

import asyncio
import re

import pytest

from bot.chat import Chat
from bot.details import lines
from bot.errors import ChatError
from bot.events import Finished, Token
from store import adapters, canaries, conversations, places, runs
from store.tables import Message
from tests.bot.taught import loaded, teach
from tests.fakes.vllm import Hold, Reply


@pytest.fixture
async def chat(assistant):
    return await Chat.open(assistant, channel="terminal", external_id="ada", name="Ada", language="en")


async def said(chat: Chat, text: str = "Hi") -> Finished:
    events = [event async for event in chat.send(text)]
    assert isinstance(events[-1], Finished)
    return events[-1]


def notes(choices) -> dict[str, str]:
    return {each.name: re.sub(r"\d{4}-\d\d-\d\d", "DAY", each.note) for each in choices}


async def test_the_models_tell_when_a_version_was_learnt_by_which_run_and_which_is_in_force(chat, store, vllm):
    loaded(store, vllm, 6)
    loaded(store, vllm, 7, active=True)
    run = runs.begin(store, "familiar", "schedule", {})
    runs.note(store, run.id, version=7)
    told = notes(await chat.models())
    assert told["familiar@6"] == "version 6, learnt on DAY"
    assert told["familiar@7"] == f"version 7, learnt on DAY in run {run.id}; in force"
    made = adapters.get(store, "familiar", 6).created_at
    assert f"{made:%Y-%m-%d}" in (await chat.models())[2].note


async def test_a_version_on_trial_says_in_how_many_conversations(chat, store, vllm):
    loaded(store, vllm, 6, active=True)
    loaded(store, vllm, 7)
    canaries.begin(store, "familiar", 7, 6, 0.25)
    assert notes(await chat.models())["familiar@7"] == "version 7, learnt on DAY; on trial in 25% of the conversations"


async def test_a_conversation_on_which_the_lot_fell_is_answered_by_the_version_on_trial(chat, store, vllm):
    loaded(store, vllm, 6, active=True)
    loaded(store, vllm, 7)
    canary = canaries.begin(store, "familiar", 7, 6, 0.5)
    answered = set()
    for _ in range(12):
        await chat.new()
        first, second = await said(chat), await said(chat, "Go on")
        assert first.adapter == second.adapter, "a conversation stays with one"
        assert first.adapter == f"familiar@{7 if canaries.takes(canary, chat.conversation.id) else 6}"
        assert first.adapter in notes(await chat.models())["auto"]
        answered.add(first.adapter)
    assert answered == {"familiar@6", "familiar@7"}


@pytest.mark.parametrize("chosen", ["familiar@6", "base", "auto"])
async def test_beside_a_whole_model_a_choice_is_answered_by_that_and_told_so(chat, store, vllm, connection, chosen):
    loaded(store, vllm, 6)
    await chat.use_model(chosen)
    row = adapters.register(store, "familiar", 8, "familiar/8", "base", "0" * 32, 0, kind="model")
    adapters.mark_loaded(store, row.id, True)
    adapters.activate(store, "familiar", 8)
    vllm.adapters.clear()
    connection.address = vllm.address.model_copy(update={"whole": "familiar@8", "wholes": ("familiar@8",)})
    reply = await said(chat)
    assert vllm.chats[-1].body["model"] == vllm.model, "the server knows no other name"
    assert reply.adapter == (await chat.details()).reply.adapter == "familiar@8"
    told = notes(await chat.models())
    assert {name for name, note in told.items() if "for now familiar@8 answers" in note} == {"familiar@6", "base"}
    assert told["auto"] == "the adapter in force: familiar@8"


async def test_a_reply_stopped_half_way_names_the_whole_model_that_wrote_it(chat, vllm, connection):
    await chat.use_model("base")
    connection.address = vllm.address.model_copy(update={"whole": "familiar@8", "wholes": ("familiar@8",)})
    vllm.script(Reply("Once", " upon", Hold(), " a time"))
    stop = asyncio.Event()
    async for event in chat.send("Tell", stop=stop):
        if isinstance(event, Token):
            stop.set()
    reply = (await chat.details()).reply
    assert (reply.finish, reply.adapter) == ("stopped", "familiar@8")


async def test_a_group_is_answered_by_its_own_adapter(assistant, store, vllm):
    loaded(store, vllm, 6, active=True)
    row = adapters.register(store, "telegram-1001", 1, "telegram-1001/1", "base", "0" * 32, 16)
    adapters.mark_loaded(store, row.id, True)
    adapters.activate(store, "telegram-1001", 1)
    vllm.adapters["telegram-1001@1"] = "telegram-1001/1"
    group = await Chat.open(assistant, channel="telegram", external_id="5", place="-1001/3")
    private = await Chat.open(assistant, channel="telegram", external_id="5")
    assert "telegram-1001@1" in notes(await group.models())["auto"]
    assert (await said(group)).adapter == "telegram-1001@1"
    assert (await said(private)).adapter == "familiar@6"


async def test_a_groups_own_adapter_is_not_offered_elsewhere(assistant, store, vllm):
    loaded(store, vllm, 6, active=True)
    places.place(store, "telegram", "-1001", "House")
    row = adapters.register(store, "telegram-1001", 1, "telegram-1001/1", "base", "0" * 32, 16)
    adapters.mark_loaded(store, row.id, True)
    group = await Chat.open(assistant, channel="telegram", external_id="5", place="-1001/3")
    private = await Chat.open(assistant, channel="telegram", external_id="5")
    assert "telegram-1001@1" in notes(await group.models())
    assert "telegram-1001@1" not in notes(await private.models())
    with pytest.raises(ChatError):
        await private.use_model("telegram-1001@1")


async def test_a_reply_tells_which_adapter_wrote_it_also_when_another_is_in_force(chat, store, vllm):
    loaded(store, vllm, 6, active=True)
    first = await said(chat)
    loaded(store, vllm, 7, active=True)
    await said(chat, "And now?")
    old, new = (
        "\n".join(lines(await chat.details(first.message_id), chat.texts)),
        lines(await chat.details(), chat.texts),
    )
    assert "by: base with familiar@6" in old
    assert "in force" not in old
    assert "by: base with familiar@7" in new
    assert new[-2].endswith("; in force")
    assert new[1].startswith("written: 20")
    assert new[1].endswith(" UTC")


async def test_a_reply_of_the_base_model_and_one_of_a_version_that_is_gone_say_so(chat, store, vllm):
    end = await said(chat)
    told = lines(await chat.details(), chat.texts)
    assert "by: base as it came, without an adapter" in told
    assert f"tokens: {end.prompt_tokens} read, {end.completion_tokens} written" in told
    gone = conversations.add_reply(
        store,
        Message(
            conversation_id=chat.conversation.id,
            parent_id=end.asked_id,
            role="assistant",
            content="Hm",
            model="base",
            adapter="familiar@99",
            passages=["a", "b"],
        ),
    )
    told = lines(await chat.details(gone.id), chat.texts)
    assert "by: base with familiar@99" in told
    assert chat.texts.t("model.gone") in told
    assert "passages of documents in its prompt: 2" in told


async def test_fixed_words_are_not_said_to_be_the_models(chat, store):
    end = await said(chat)
    fixed = Message(conversation_id=chat.conversation.id, parent_id=end.asked_id, role="assistant", content="No.")
    reply = conversations.add_reply(store, fixed)
    told = lines(await chat.details(reply.id), chat.texts)
    assert "by: fixed words; the model was not asked" in told
    assert not [line for line in told if line.startswith("tokens")]


async def test_without_a_reply_there_is_nothing_to_tell(chat):
    with pytest.raises(ChatError) as caught:
        await chat.details()
    assert caught.value.key == "nothing_to_tell"


async def test_somebody_elses_reply_is_not_told_about(assistant, chat):
    end = await said(chat)
    bob = await Chat.open(assistant, channel="terminal", external_id="bob")
    with pytest.raises(ChatError) as caught:
        await bob.details(end.message_id)
    assert caught.value.key == "not_found"


async def test_a_store_that_does_not_answer_is_no_reason_to_spoil_a_reply(chat, store, vllm, monkeypatch):
    teach(store, vllm, "terminal", "ada")
    await chat.models()
    store.close()
    assert await chat.kept.learned_in("familiar@7") is None
