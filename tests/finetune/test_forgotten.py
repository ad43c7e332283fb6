"""What somebody asks to be forgotten leaves the folders of the runs that saw it."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from finetune import folders, forgotten
from finetune.files import read_json, write_json
from finetune.record import Record, Sample
from finetune.report import text
from finetune.run import run, tidy
from settings import Settings
from store import adapters, conversations, lineage, people, runs, sealed
from store.session import Store
from store.tables import Adapter, Conversation, Message, Run, now
from tests.finetune.standins import NAMES, StandIns, failing, say_something, settings_for, store_for


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with store_for(tmp_path) as store:
        yield store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path)


@pytest.fixture
def talks(store: Store) -> list[Conversation]:
    return say_something(store, 2)


@pytest.fixture
def standins(tmp_path: Path, talks: list[Conversation]) -> StandIns:
    return StandIns(tmp_path / "done", learned=(talks[0].id, talks[1].id))  # type: ignore[arg-type]


def erase(settings: Settings, store: Store, standins: StandIns, *, cut_short: bool = False) -> int:
    return forgotten.erase(settings, store, standins.stages.render, cut_short=cut_short)


def forget(store: Store, talk: Conversation) -> None:
    conversations.delete(store, talk.id, talk.person_id)


def everything_in(folder: Path) -> str:
    return "".join(file.read_text() for file in folder.rglob("*") if file.is_file())


async def test_sample_replies_of_a_forgotten_conversation_leave_the_record_and_the_report(
    settings: Settings, store: Store, standins: StandIns, talks: list[Conversation]
) -> None:
    record = await run(settings, store, stages=standins.stages)
    folder = folders.folder_of(settings, 1)
    assert len(record.samples) == (folder / "report.html").read_text().count("my secret") == 2
    forget(store, talks[0])
    assert erase(settings, store, standins) == 1
    kept = folders.load(folder)
    assert kept is not None
    assert [each.conversation for each in kept.samples] == [f"log:{talks[1].id}"]
    assert (folder / "report.html").read_text().count("my secret") == 1
    people.forget(store, talks[1].person_id)
    assert erase(settings, store, standins) == 1
    assert "my secret" not in everything_in(folder)
    assert erase(settings, store, standins) == 0


async def test_what_was_generated_from_a_forgotten_question_goes_and_the_losses_stay(
    settings: Settings, store: Store, standins: StandIns, talks: list[Conversation]
) -> None:
    await run(settings, store, stages=standins.stages)
    file = folders.folder_of(settings, 1) / "after.json"
    names = [f"log:{each.id}" for each in talks]
    replies = [{"key": name, "conversation": name, "question": "my secret", "text": "yes"} for name in names]
    losses = [{"key": name, "conversation": name, "loss": 1.5, "tokens": 3} for name in names]
    write_json(file, {"losses": {"test": losses}, "replies": replies, "probes": [{"key": "p", "question": "2+2?"}]})
    forget(store, talks[0])
    assert erase(settings, store, standins) == 1
    measured = read_json(file)
    assert [each["conversation"] for each in measured["replies"]] == names[1:]
    assert measured["losses"]["test"] == losses
    assert measured["probes"] == [{"key": "p", "question": "2+2?"}]


async def test_words_of_somebody_who_was_quoted_leave_too(settings: Settings, store: Store, standins: StandIns) -> None:
    bob = people.person_for(store, "telegram", "2", name="Bob")
    ada = people.person_for(store, "terminal", "ada")
    quoting = conversations.start(store, ada.id, "telegram", "familiar")  # type: ignore[arg-type]
    conversations.add_user(store, quoting.id, None, "so?", sent="Bob: my secret\n\nso?", quoted=[bob.id])  # type: ignore[arg-type, list-item]
    standins.learned = (quoting.id,)  # type: ignore[assignment]
    await run(settings, store, stages=standins.stages)
    people.forget(store, bob.id)  # type: ignore[arg-type]
    assert erase(settings, store, standins) == 1
    assert "my secret" not in everything_in(folders.folder_of(settings, 1))


async def test_every_run_takes_out_what_was_forgotten_since_the_last(
    settings: Settings, store: Store, standins: StandIns, talks: list[Conversation]
) -> None:
    await run(settings, store, stages=standins.stages)
    people.forget(store, talks[0].person_id)
    standins.learned = ()
    await run(settings, store, stages=standins.stages)
    assert "my secret" not in everything_in(folders.folder_of(settings, 1))


async def test_what_is_sealed_goes_with_the_run_that_puts_a_new_adapter_in_force(
    settings: Settings, store: Store, standins: StandIns, talks: list[Conversation]
) -> None:
    settings = settings.model_copy(update={"learning": settings.learning.model_copy(update={"sealed_days": 7})})
    await run(settings, store, stages=standins.stages)
    (made,) = adapters.all_adapters(store)
    asked = conversations.add_user(store, talks[0].id, None, "my secret")  # type: ignore[arg-type]
    reply = Message(conversation_id=talks[0].id, parent_id=asked.id, role="assistant", content="Yes.", model="tiny")
    conversations.add_reply(store, reply)
    with store.writing() as session:
        session.get_one(Adapter, made.id).created_at = now()
        session.get_one(Message, reply.id).prompt = [{"role": "user", "content": "my secret"}]
    lineage.trained_on(store, made.id, [talks[0].id])  # type: ignore[arg-type, list-item]
    conversations.delete(store, talks[0].id, talks[0].person_id, seal=True)  # type: ignore[arg-type]
    standins.learned, standins.verdict, standins.messages = (talks[1].id,), "rejected", (7, 8, 9)  # type: ignore[assignment]
    await run(settings, store, stages=standins.stages)
    assert sealed.conversations(store, {talks[0].id}) == {talks[0].id}, "the old one is in force"  # type: ignore[arg-type]
    standins.verdict, standins.messages = "promoted", (10, 11, 12)
    await run(settings, store, stages=standins.stages)
    assert sealed.conversations(store, {talks[0].id}) == set()  # type: ignore[arg-type]


async def test_a_failed_run_keeps_what_it_needs_to_go_on_without_what_is_forgotten(
    settings: Settings, store: Store, standins: StandIns, talks: list[Conversation]
) -> None:
    standins.on = failing("within evaluate")
    await run(settings, store, stages=standins.stages)
    forget(store, talks[0])
    erase(settings, store, standins)
    rows = [json.loads(line) for line in (folders.folder_of(settings, 1) / "data" / "train.jsonl").open()]
    assert {row["source"]["conversation"] for row in rows} == {f"log:{talks[1].id}"}
    assert rows


async def test_after_a_week_a_failed_run_keeps_no_words_at_all(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    standins.on = failing("within evaluate")
    await run(settings, store, stages=standins.stages)
    erase(settings, store, standins)
    assert (folders.folder_of(settings, 1) / "data").exists()
    with store.writing() as session:
        row = session.get_one(Run, 1)
        assert row.finished_at is not None
        row.finished_at -= forgotten.RESUMABLE_FOR + timedelta(hours=1)
    erase(settings, store, standins)
    assert not (folders.folder_of(settings, 1) / "data").exists()
    assert (folders.folder_of(settings, 1) / "report.html").exists()


async def test_a_run_that_goes_on_is_left_alone(
    settings: Settings, store: Store, standins: StandIns, talks: list[Conversation]
) -> None:
    standins.held = asyncio.Event()
    going = asyncio.create_task(run(settings, store, stages=standins.stages))
    await standins.reached.wait()
    forget(store, talks[0])
    assert erase(settings, store, standins) == 0
    standins.held.set()
    assert (await going).verdict == "promoted"
    assert erase(settings, store, standins) == 1


async def test_a_run_that_was_cut_short_before_it_had_learned_begins_anew_without_them(
    settings: Settings, store: Store, standins: StandIns, talks: list[Conversation]
) -> None:
    standins.on = failing("within train", asyncio.CancelledError())  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await run(settings, store, stages=standins.stages)
    forget(store, talks[0])
    standins.on, standins.learned = (lambda point: None), (talks[1].id,)  # type: ignore[assignment]
    record = await run(settings, store, stages=standins.stages)
    assert (record.number, record.verdict) == (1, "promoted")
    assert standins.done == ["prepare", *NAMES]


async def test_one_that_was_cut_short_later_goes_on(
    settings: Settings, store: Store, standins: StandIns, talks: list[Conversation]
) -> None:
    standins.on = failing("within evaluate", asyncio.CancelledError())  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await run(settings, store, stages=standins.stages)
    forget(store, talks[0])
    standins.on = lambda point: None
    await run(settings, store, stages=standins.stages)
    assert standins.done == list(NAMES)


async def cut_short(settings: Settings, store: Store, standins: StandIns, point: str) -> None:
    standins.on = failing(point, asyncio.CancelledError())  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await run(settings, store, stages=standins.stages)


@pytest.mark.parametrize("point", ["within train", "within evaluate"])
async def test_one_that_was_cut_short_loses_what_is_forgotten_without_being_gone_on_with(
    settings: Settings, store: Store, standins: StandIns, talks: list[Conversation], point: str
) -> None:
    await cut_short(settings, store, standins, point)
    folder = folders.folder_of(settings, 1)
    assert "my secret" in everything_in(folder)
    people.forget(store, talks[0].person_id)
    assert tidy(settings, store, standins.stages.render) == 1
    assert "my secret" not in everything_in(folder)


async def test_one_that_goes_on_is_not_taken_for_cut_short(
    settings: Settings, store: Store, standins: StandIns, talks: list[Conversation]
) -> None:
    standins.held = asyncio.Event()
    going = asyncio.create_task(run(settings, store, stages=standins.stages))
    await standins.reached.wait()
    forget(store, talks[0])
    with store.writing() as session:
        session.get_one(Run, 1).updated_at -= forgotten.RESUMABLE_FOR + timedelta(hours=1)
    assert tidy(settings, store, standins.stages.render) == 0
    standins.held.set()
    assert (await going).verdict == "promoted"


async def test_one_that_nobody_goes_on_with_for_a_week_is_over_and_keeps_nothing(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    await cut_short(settings, store, standins, "within evaluate")
    tidy(settings, store, standins.stages.render)
    assert (folders.folder_of(settings, 1) / "data").exists()
    with store.writing() as session:
        session.get_one(Run, 1).updated_at -= forgotten.RESUMABLE_FOR + timedelta(hours=1)
    tidy(settings, store, standins.stages.render)
    assert not folders.folder_of(settings, 1).exists()
    row = runs.get(store, 1)
    assert (row.verdict, row.said) == ("failed", "It was cut short, and nobody went on with it for 7 days.")
    standins.on = lambda point: None
    assert (await run(settings, store, stages=standins.stages)).number == 2


async def test_sample_replies_that_scheduled_runs_once_printed_leave_the_log(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    file = settings.data.folder / "log" / "finetune.log"
    file.parent.mkdir()
    shown = Console(file=io.StringIO(), width=80)
    record = Record(1, "familiar", "schedule", now(), verdict="promoted", said="It is better.")
    shown.print(text(record))
    numbers = shown.file.getvalue()  # type: ignore[attr-defined]
    shown.print(text(replace(record, samples=(Sample("log:1", "my secret", "", "old", "new"),))))
    file.write_text(numbers)
    erase(settings, store, standins)
    assert file.read_text() == numbers
    with file.open("a") as running:
        file.write_text(shown.file.getvalue())  # type: ignore[attr-defined]
        erase(settings, store, standins)
        running.write("It goes on.")
    assert file.read_text() == "It goes on."


async def test_a_report_that_cannot_be_made_anew_is_gone_rather_than_too_much(
    settings: Settings, store: Store, standins: StandIns, talks: list[Conversation]
) -> None:
    await run(settings, store, stages=standins.stages)
    forget(store, talks[0])

    def broken(*_: object) -> None:
        raise OSError("No space left on device")

    assert forgotten.erase(settings, store, broken) == 1
    assert not (folders.folder_of(settings, 1) / "report.html").exists()


async def test_a_folder_that_cannot_be_read_does_not_keep_the_others_from_being_cleared(
    settings: Settings, store: Store, standins: StandIns, talks: list[Conversation]
) -> None:
    await run(settings, store, stages=standins.stages)
    standins.messages = (7, 8, 9)
    await run(settings, store, stages=standins.stages)
    (folders.folder_of(settings, 1) / "record.json").write_text('{"half": ')
    (folders.root(settings) / "runs" / "notes").mkdir()
    people.forget(store, talks[0].person_id)
    assert erase(settings, store, standins) == 1
    assert "my secret" not in everything_in(folders.folder_of(settings, 2))
    assert runs.get(store, 2).verdict == "promoted"
