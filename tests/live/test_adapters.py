"""Adapters trained here are swapped into the serving engine; broken ones are refused while it goes on serving."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bot.assistant import Assistant
from bot.chat import Chat
from engine.adapters import Adapters
from engine.errors import AdapterRefused
from engine.process import LocalEngine
from settings import Settings
from store.session import Store
from tests.live.conftest import FACTS, ready
from tests.live.test_talk import said

TELLTALES = ("Marzipan", "turquoise", "Oakes")
FACTS_AND_TELLTALES = tuple(zip(FACTS, TELLTALES, strict=True))


@pytest.fixture
def adapters(store: Store, live_settings: Settings) -> Adapters:
    return Adapters(store, live_settings.data.folder / "adapters", max_cpu_loras=live_settings.engine.max_cpu_loras)


async def test_a_trained_adapter_answers_what_the_base_does_not_know(
    trained: Path, adapters: Adapters, assistant: Assistant, engine: LocalEngine, live_settings: Settings
) -> None:
    address = await ready(engine)
    assert address.model_folder is not None
    chat = await Chat.open(assistant, channel="terminal", external_id="ada")
    for question, telltale in FACTS_AND_TELLTALES:
        await chat.new()
        reply = await said(chat.send(question))
        assert telltale not in reply.text
        assert reply.adapter == ""

    adapter = adapters.register("familiar", trained, address.model_folder, max_rank=16)
    await adapters.swap(address, "familiar", adapter.version)

    for question, telltale in FACTS_AND_TELLTALES:
        await chat.new()
        reply = await said(chat.send(question))
        assert telltale in reply.text
        assert reply.adapter == f"familiar@{adapter.version}"
    await chat.new()
    await chat.use_model("base")
    assert TELLTALES[0] not in (await said(chat.send(next(iter(FACTS))))).text


async def test_a_broken_adapter_is_refused_and_serving_goes_on(
    trained: Path, adapters: Adapters, assistant: Assistant, engine: LocalEngine, tmp_path: Path
) -> None:
    address = await ready(engine)
    assert address.model_folder is not None
    weights = load_file(trained / "adapter_model.safetensors")
    poisoned = {name: np.full_like(tensor, np.nan) for name, tensor in weights.items()}
    foreign = {name.replace("layers.0.", "layers.77."): tensor for name, tensor in weights.items()}
    for damage in (poisoned, foreign):
        folder = tmp_path / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(trained, folder)
        save_file(damage, folder / "adapter_model.safetensors")
        with pytest.raises(AdapterRefused):
            adapters.register("broken", folder, address.model_folder, max_rank=16)
    cut = tmp_path / "broken" / "adapter_model.safetensors"
    cut.write_bytes((trained / "adapter_model.safetensors").read_bytes()[:-1000])
    with pytest.raises(AdapterRefused):
        adapters.register("broken", tmp_path / "broken", address.model_folder, max_rank=16)

    chat = await Chat.open(assistant, channel="terminal", external_id="ada")
    assert "Paris" in (await said(chat.send("What is the capital of France?"))).text
