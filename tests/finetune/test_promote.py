"""Putting a version in force, for everybody or for some, and taking it back: a fake engine, real adapters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from engine.adapters import resolve
from engine.errors import AdapterRefused, EngineFailed
from engine.state import Address
from finetune import promote
from finetune.errors import FinetuneError
from settings import Data, Gate, Settings
from store import adapters as table
from store import canaries, conversations, feedback, lineage, notices, people
from store.session import Store
from store.tables import Adapter, Canary, Message
from tests.engine.test_adapters import LoraServer
from tests.engine.tiny import save_adapter, save_base
from tests.fakes.vllm import FakeConnection


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("trained")
    return [save_adapter(folder / str(seed), base, seed=seed) for seed in range(3)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path / 'familiar.db'}") as store:
        yield store


@pytest.fixture
async def server() -> AsyncIterator[LoraServer]:
    async with LoraServer() as server:
        yield server


@dataclass
class World:
    store: Store
    connection: FakeConnection
    base: Path
    trained: list[Path]
    folder: Path
    share: float = 0.0

    @property
    def settings(self) -> Settings:
        gate = Gate(canary_share=self.share, canary_min_ratings=5, canary_days=7, resamples=500)
        return Settings(data=Data(folder=self.folder), gate=gate)

    def register(self, which: int, learned_from: tuple[int, ...] = ()) -> Adapter:
        return promote.register(self.settings, self.store, "familiar", self.trained[which], self.base, learned_from)

    async def put(self, which: int, instead_of: str | None = None) -> promote.Promoted:
        adapter = self.register(which)
        return await promote.put(self.settings, self.store, self.connection, adapter, instead_of=instead_of)

    async def rollback(self) -> str:
        return await promote.rollback(self.settings, self.store, self.connection)

    async def canary(self) -> Canary:
        """familiar@2 beside familiar@1, for half of the conversations."""
        await self.put(0)
        self.share = 0.5
        await self.put(1)
        canary = canaries.under_way(self.store, "familiar")
        assert canary is not None
        return canary

    async def check(self, canary: Canary) -> str:
        return await promote.check_canary(self.settings, self.store, self.connection, canary)

    def rate(self, adapter: str, *values: int) -> None:
        """In a conversation of its own each."""
        ada = people.person_for(self.store, "terminal", "ada")
        for value in values:
            talk = conversations.start(self.store, ada.id, "terminal", "familiar")
            asked = conversations.add_user(self.store, talk.id, None, "hello")
            reply = Message(conversation_id=talk.id, parent_id=asked.id, role="assistant", content="hi", model="base")
            reply.adapter = adapter
            feedback.rate(self.store, conversations.add_reply(self.store, reply).id, ada.id, value)  # type: ignore[arg-type]

    def answers(self) -> set[str]:
        return {resolve(self.store, "", sticky=number) for number in range(200)}


@pytest.fixture
def world(store: Store, server: LoraServer, base: Path, trained: list[Path], tmp_path: Path) -> World:
    address: Address = server.address.model_copy(update={"model_folder": base})
    return World(store, FakeConnection(address), base, trained, tmp_path)


# For everybody


async def test_a_version_is_put_in_force_and_the_one_before_stays_loaded(world: World, server: LoraServer) -> None:
    assert (await world.put(0, "base")).said == "familiar@1 is in force."
    promoted = await world.put(1, "familiar@1")
    assert (promoted.version, promoted.said) == (2, "familiar@2 is in force.")
    assert world.answers() == {"familiar@2"}
    assert set(server.adapters) == {"familiar@1", "familiar@2"}


async def test_promoted_once_more_after_a_crash_it_is_the_same_version(world: World, server: LoraServer) -> None:
    for _ in range(2):
        assert (await world.put(0, "base")).version == 1
    assert [row.version for row in table.all_adapters(world.store)] == [1]
    assert server.loads == 1


async def test_what_it_learned_from_is_written_down_with_it(world: World) -> None:
    ada = people.person_for(world.store, "terminal", "ada")
    talk = conversations.start(world.store, ada.id, "terminal", "familiar")
    adapter = world.register(0, (talk.id, 999))
    assert lineage.learned_from(world.store, adapter.id) == {talk.id, 999}
    promoted = await promote.put(world.settings, world.store, world.connection, adapter)
    assert promoted.notes == ("Forgotten since it learned from them: 1 conversation. The next run goes without.",)


async def test_what_was_compared_with_something_else_than_what_is_in_force_is_not_promoted(world: World) -> None:
    await world.put(0)
    await world.put(1)
    with pytest.raises(FinetuneError, match="familiar@3 was compared with familiar@1, and familiar@2 has been put"):
        await world.put(2, "familiar@1")
    assert world.answers() == {"familiar@2"}


async def test_an_engine_that_is_down_leaves_what_was_in_force(world: World) -> None:
    await world.put(0)
    world.connection.failure = EngineFailed("no memory")
    with pytest.raises(EngineFailed):
        await world.put(1)
    assert world.answers() == {"familiar@1"}


async def test_an_adapter_that_answers_nonsense_is_never_in_force(world: World, server: LoraServer) -> None:
    await world.put(0)
    server.broken.add("familiar@2")
    with pytest.raises(Exception, match="does not answer rightly"):
        await world.put(1)
    assert world.answers() == {"familiar@1"}


# Back


async def test_a_rollback_is_one_step_and_no_later_one_returns_to_what_was_left(world: World) -> None:
    for which in range(3):
        await world.put(which)
        if which == 1:
            assert await world.rollback() == "familiar@1"
            assert world.answers() == {"familiar@1"}
    assert world.answers() == {"familiar@3"}
    assert await world.rollback() == "familiar@1", "version 2 was taken back before"
    assert await world.rollback() == ""
    assert world.answers() == {""}
    with pytest.raises(AdapterRefused, match="The base model answers"):
        await world.rollback()


# For some first


async def test_a_canary_answers_a_share_of_the_conversations_and_each_always_the_same(world: World) -> None:
    canary = await world.canary()
    first = [resolve(world.store, "", sticky=number) for number in range(400)]
    assert first == [resolve(world.store, "familiar", sticky=number) for number in range(400)]
    assert 150 < first.count("familiar@2") < 250
    assert set(first) == {"familiar@1", "familiar@2"}
    assert resolve(world.store, "") == "familiar@1", "nobody's conversation"
    assert resolve(world.store, "base", sticky=1) == ""
    assert {resolve(world.store, "familiar@1", sticky=number) for number in range(50)} == {"familiar@1"}
    assert canary.share == 0.5


async def test_begun_once_more_after_a_crash_it_is_the_same_canary(world: World) -> None:
    canary = await world.canary()
    await world.put(1)
    assert [each.id for each in canaries.all_under_way(world.store)] == [canary.id]


async def test_the_first_version_may_be_a_canary_beside_the_base_model(world: World) -> None:
    world.share = 0.5
    promoted = await world.put(0)
    assert promoted.said == "familiar@1 answers 50% of the conversations first, for up to 7 days."
    assert promoted.share == 0.5
    assert world.answers() == {"", "familiar@1"}


async def test_while_there_are_few_ratings_a_canary_stays_open(world: World) -> None:
    canary = await world.canary()
    world.rate("familiar@2", -1, -1, -1)
    assert await world.check(canary) == ""
    assert len(world.answers()) == 2


async def test_a_canary_that_people_rate_lower_is_taken_back_by_itself(world: World, server: LoraServer) -> None:
    canary = await world.canary()
    world.rate("familiar@1", *[1] * 18, -1, -1)
    world.rate("familiar@2", *[-1] * 15, 1, 1, 1)
    assert await world.check(canary) == "rolled_back"
    assert world.answers() == {"familiar@1"}
    assert set(server.adapters) == {"familiar@1"}
    (notice,) = notices.waiting(world.store)
    assert (notice.key, notice.args["adapter"]) == ("learning.canary_rolled_back", "familiar@2")
    assert "90% of 20 ratings were good, of the new one 17% of 18" in notice.args["said"]


async def test_a_canary_that_people_rate_higher_goes_to_everybody(world: World) -> None:
    canary = await world.canary()
    world.rate("familiar@1", *[-1] * 15, 1, 1, 1)
    world.rate("familiar@2", *[1] * 18, -1, -1)
    assert await world.check(canary) == "promoted"
    assert world.answers() == {"familiar@2"}
    assert [each.key for each in notices.waiting(world.store)] == ["learning.canary_promoted"]


async def test_a_difference_that_may_be_chance_leaves_it_open(world: World) -> None:
    canary = await world.canary()
    world.rate("familiar@1", *[1] * 6, -1, -1)
    world.rate("familiar@2", *[1] * 5, -1, -1, -1)
    assert await world.check(canary) == ""


async def test_many_bad_ratings_in_one_conversation_are_one_opinion(world: World) -> None:
    canary = await world.canary()
    world.rate("familiar@1", *[1] * 10)
    ada = people.person_for(world.store, "terminal", "ada")
    talk = conversations.start(world.store, ada.id, "terminal", "familiar")
    for _ in range(10):
        asked = conversations.add_user(world.store, talk.id, None, "hello")
        reply = Message(conversation_id=talk.id, parent_id=asked.id, role="assistant", content="hi", model="base")
        reply.adapter = "familiar@2"
        feedback.rate(world.store, conversations.add_reply(world.store, reply).id, ada.id, -1)
    assert await world.check(canary) == ""


async def test_after_its_days_a_canary_that_nobody_minds_goes_to_everybody(world: World) -> None:
    canary = await world.canary()
    with world.store.writing() as session:
        kept = session.get_one(Canary, canary.id)
        kept.started_at -= timedelta(days=8)
    canary = canaries.under_way(world.store, "familiar") or canary
    assert await world.check(canary) == "promoted"
    assert world.answers() == {"familiar@2"}


async def test_a_decision_that_the_engine_does_not_carry_out_is_made_again(world: World) -> None:
    canary = await world.canary()
    world.rate("familiar@1", *[-1] * 10)
    world.rate("familiar@2", *[1] * 10)
    world.connection.failure = EngineFailed("no memory")
    with pytest.raises(EngineFailed):
        await world.check(canary)
    assert len(world.answers()) == 2
    world.connection.failure = None
    assert await world.check(canary) == "promoted"


async def test_even_without_an_engine_a_canary_that_people_rate_lower_gets_no_more_conversations(world: World) -> None:
    canary = await world.canary()
    world.rate("familiar@1", *[1] * 10)
    world.rate("familiar@2", *[-1] * 10)
    world.connection.failure = EngineFailed("no memory")
    assert await world.check(canary) == "rolled_back"
    assert world.answers() == {"familiar@1"}


async def test_a_rollback_ends_a_canary(world: World) -> None:
    await world.canary()
    assert await world.rollback() == "familiar@1"
    assert world.answers() == {"familiar@1"}
    assert canaries.all_under_way(world.store) == []


@pytest.mark.parametrize(("version", "outcome"), [(2, "promoted"), (3, "replaced")])
async def test_an_operator_who_promotes_a_version_ends_the_canary(world: World, version: int, outcome: str) -> None:
    await world.canary()
    world.register(2)
    name = await promote.promote(world.settings, world.store, world.connection, "familiar", version)
    assert name == f"familiar@{version}"
    assert world.answers() == {name}
    newest = canaries.newest(world.store, "familiar")
    assert newest is not None
    assert newest.outcome == outcome


async def test_a_version_put_in_force_by_other_means_ends_the_canary(world: World) -> None:
    canary = await world.canary()
    world.register(2)
    table.activate(world.store, "familiar", 3)
    table.mark_loaded(world.store, table.get(world.store, "familiar", 3).id, True)
    assert world.answers() == {"familiar@3"}
    assert await world.check(canary) == "replaced"


async def test_a_canary_whose_adapter_is_not_loaded_leaves_the_old_one_to_everybody(
    world: World, unloaded: Callable[[int], None]
) -> None:
    await world.canary()
    unloaded(2)
    assert world.answers() == {"familiar@1"}


@pytest.fixture
def unloaded(store: Store) -> Callable[[int], None]:
    def unload(version: int) -> None:
        table.mark_loaded(store, table.get(store, "familiar", version).id, False)

    return unload


# Groups of their own


async def test_a_group_with_an_adapter_of_its_own_gets_that_and_others_do_not(world: World) -> None:
    await world.put(0)
    group = promote.register(world.settings, world.store, "telegram-100", world.trained[1], world.base, ())
    await promote.put(world.settings, world.store, world.connection, group)
    assert resolve(world.store, "", place="telegram:-100/7", sticky=1) == "telegram-100@1"
    assert resolve(world.store, "", place="telegram:-200", sticky=1) == "familiar@1"
    assert resolve(world.store, "", sticky=1) == "familiar@1"
