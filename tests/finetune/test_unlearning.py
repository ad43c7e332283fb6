"""Unlearning as it truly is: two adapters are trained, the second without what people took back, and all is measured.

The base model is tiny, and has been taught only how a reply about a password is made: five words out of two dozen, each
as likely as another. So what an adapter foretells better than that, it has learned by heart.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from finetune import comparison, continual, dataset, evaluate, probes
from finetune.data import prepare
from finetune.dataset import Manifest
from finetune.job import Job
from finetune.job import save as save_job
from finetune.packing import packs, token_losses
from finetune.record import DataCounts, Record, Unlearned
from finetune.report import unlearning
from finetune.servable import made_in
from finetune.tokens import Renderer
from finetune.training import train
from settings import Data, Finetune, Gate, Learning, Settings
from store import adapters, lineage, people, sealed
from store.tables import Adapter, now
from tests.finetune.made_log import MadeLog, log
from tests.finetune.tiny import chat_model, example

__all__ = ["log"]

WORDS = (
    "red", "green", "blue", "black", "white", "brown", "gold", "silver", "iron", "stone", "water", "fire", "wind",
    "sand", "glass", "wood", "paper", "bread", "salt", "milk", "corn", "rice", "wool", "silk",
)  # fmt: skip
THINGS = (
    "ladder", "kettle", "lantern", "hammer", "blanket", "compass", "bucket", "whistle", "candle", "mirror",
    "pillow", "basket", "anchor", "barrel", "bell", "boat", "book", "bottle", "bowl", "box", "brush", "button",
    "chair", "clock",
)  # fmt: skip
SYSTEM = "You are Familiar."
STEPS = 150


def question(thing: str) -> str:
    return f"What is the password of the {thing}?"


def password(chance: random.Random) -> str:
    return " ".join(chance.sample(WORDS, 5)) + "."


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = chat_model(tmp_path_factory.mktemp("base"))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    renderer, chance = Renderer(folder), random.Random(1)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / STEPS)
        made = [renderer.encode(example(question(chance.choice(THINGS)), password(chance)), 256) for _ in range(4)]
        encoded = [each for each in made if each is not None]
        loss = sum(token_losses(model, pack).mean() for pack in packs(encoded, 512))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
    model.save_pretrained(folder)
    return folder


def settings_for(folder: Path) -> Settings:
    by_heart = Finetune(
        min_new_examples=5,
        kl=0.0,
        general=0.0,
        learning_rate=0.02,
        epochs=20,
        batch_tokens=256,
        micro_batch_tokens=256,
        dtype="float32",
        threads=1,
    )
    return Settings(data=Data(folder=folder), finetune=by_heart, learning=Learning(redact=False, sealed_days=7))


class House:
    def __init__(self, log: MadeLog, base: Path, folder: Path) -> None:
        self.store = log.store
        self._base = base
        self._settings = settings_for(folder)
        self._folder = folder
        self._manifests: list[Manifest] = []
        self._in_force: Adapter | None = None

    def learn(self, number: int) -> tuple[Path, DataCounts]:
        """A run's data, and the adapter that learned from it by heart, which comes into force."""
        folder = self._folder / str(number)
        folder.mkdir()
        counts = prepare(
            self.store, self._settings, self._base, folder, earlier=self._manifests, in_force=self._in_force
        )
        loaded = dataset.load(folder)
        before = made_in(self._folder / str(number - 1)) if self._in_force else None
        job = Job(self._base, folder, self._settings.finetune, loaded.train, (), before=before)
        save_job(job)
        train(job)
        self._comes_into_force(dataset.manifest_of(folder))
        return folder, counts

    def _comes_into_force(self, manifest: Manifest) -> None:
        version = adapters.next_version(self.store, "familiar")
        made = adapters.register(self.store, "familiar", version, f"familiar/{version}", "tiny", "f00", 16)
        assert made.id is not None
        lineage.trained_on(self.store, made.id, manifest.of_the_log())
        adapters.activate(self.store, "familiar", version)
        self._manifests.append(manifest)
        self._in_force = made


def measured(folder: Path, counts: DataCounts) -> Unlearned:
    """As a run does it."""
    evaluate.main(folder)
    before, after = evaluate.read(folder)
    found = comparison.unlearned(before, after, evaluate.read_base(folder), counts.taken_back, Gate())
    assert found is not None
    return found


def test_what_people_took_back_is_no_better_known_to_the_next_adapter_than_to_the_base_model(
    base: Path, log: MadeLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continual, "general_text", list)
    monkeypatch.setattr(probes, "asked", tuple)
    house, chance = House(log, base, tmp_path), random.Random(2)
    withdraws, forgets, stays = (log.person(name) for name in ("Bob", "Eve", "Ada"))
    for thing, person in zip(THINGS, [withdraws] * 6 + [forgets] * 6 + [stays] * 12, strict=True):
        prompt = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question(thing)}]
        log.rate(log.turn(log.talk(person), question(thing), password(chance), prompt=prompt), 1)
    house.learn(1)
    people.give_consent(log.store, withdraws.id, "no")  # type: ignore[arg-type]
    people.forget(log.store, forgets.id, seal=True)  # type: ignore[arg-type]

    folder, counts = house.learn(2)
    found = measured(folder, counts)

    assert (found.people, counts.taken_back["taught_by_others"]) == (2, 0)
    assert found.conversations > 6
    learned = found.base - found.before
    assert learned > 0.4, "the adapter before had learned it"
    assert found.after > found.base - 0.1 * learned, "and the new one has not"
    assert found.after < found.base + 2 * learned, "nor is it broken"
    assert found.low is not None
    said = unlearning.said(Record(2, "familiar", "by hand", now(), before="familiar@1", unlearned=found))
    assert said.startswith("What 2 people took back is not known any more: its loss went from ")
    sealed.release(log.store, 7)
    assert sealed.conversations(log.store, range(100)) == set()
