"""`familiar finetune`, as an operator gives its commands. What a run does is tested in tests/finetune."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from finetune import folders
from finetune.record import DataCounts, Decision, Record, Sample
from settings import Data, Settings
from store import adapters, canaries, places, runs
from store.session import Store
from store.tables import now
from tests.finetune.tiny import chat_model

FAMILIAR = str(Path(sys.executable).with_name("familiar"))
OTHERWISE = {"finetune": {}, "learning": {}, "file": "", "strict": False, "offline": False}  # a run's settings


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def environment(data: Path, model: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FAMILIAR_")}
    return {
        **clean,
        "FAMILIAR_DATA__FOLDER": str(data),
        "FAMILIAR_ENGINE__MODEL": str(model),
        "COLUMNS": "200",
    }


@pytest.fixture
def store(data: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{data / 'familiar.db'}") as opened:
        yield opened


def familiar(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FAMILIAR, "finetune", *words], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def over(store: Store, data: Path, verdict: str = "promoted", said: str = "Better by 0.2 nats [0.1, 0.3].") -> int:
    """A run that came to its end, with a record."""
    number = runs.begin(store, "familiar", "by hand", {}).id
    assert number is not None
    record = Record(number, "familiar", "by hand", now(), now(), verdict=verdict, said=said)  # type: ignore[arg-type]
    decision = Decision("promoted", said)
    sample = Sample("log:1", "What is [bold]this[/]?", "", "old reply", "new reply")
    record = Record(**vars(record) | {"data": DataCounts(people=3), "decision": decision, "samples": (sample,)})
    folder = folders.new(Settings(data=Data(folder=data)), number)
    folders.save(folder, record)
    (folder / "report.html").write_text("<h1>Run</h1>")
    runs.note(store, number, version=number)
    runs.end(store, number, verdict, said)
    return number


# Nothing there yet


def test_before_anything_was_learnt_it_is_said_how_to_begin(environment: dict[str, str]) -> None:
    shown = familiar(environment, "status")
    assert shown.returncode == 0
    assert "Nothing has been learnt yet. `familiar finetune run`" in shown.stdout
    assert "In force: the base model." in shown.stdout
    assert "No run is scheduled" in shown.stdout


def test_with_too_little_data_it_says_how_much_there_is_how_much_it_takes_and_what_counts(
    environment: dict[str, str], store: Store
) -> None:
    ran = familiar(environment, "run")
    assert ran.returncode == 0, ran.stderr
    assert "There are 0 examples to learn from, and a run takes 50 (finetune.min_new_examples)." in ran.stdout
    assert "What counts: replies that people corrected, rated up" in ran.stdout
    assert "· preparing" in ran.stderr
    assert [row.verdict for row in runs.listing(store)] == ["nothing_to_learn"]
    assert not (Path(environment["FAMILIAR_DATA__FOLDER"]) / "finetune" / "runs" / "1").exists()


def test_what_cannot_be_served_is_trained_only_where_nobody_wants_to_serve_it(
    environment: dict[str, str], store: Store
) -> None:
    refused = familiar(environment, "run", "--method", "prompt")
    assert refused.returncode == 1
    assert "Prompt tuning cannot be served" in refused.stderr
    assert "give --offline" in refused.stderr
    measured = familiar(environment, "run", "--method", "prompt", "--offline")
    assert measured.returncode == 0, measured.stderr
    assert "There are 0 examples to learn from" in measured.stdout, "it got as far as the data"
    assert [row.verdict for row in runs.listing(store)] == ["nothing_to_learn", "failed"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("report",), "No run has come to its end yet"),
        (("report", "7"), "There is no run 7"),
        (("run", "--resume", "7"), "There is no run 7"),
        (("rollback",), "The base model answers; there is no version of familiar in force"),
    ],
)
def test_what_is_not_there_is_said_in_one_sentence(
    environment: dict[str, str], words: tuple[str, ...], said: str
) -> None:
    ran = familiar(environment, *words)
    assert ran.returncode == 1
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--method", "magic"), "'magic' is none of lora, rslora"),
        (("promote", "seven"), "'seven' is not a version"),
        (("export", "x.jsonl", "--form", "csv"), "'csv' is none of openai, sharegpt, preferences"),
        (("schedule",), "finetune.schedule is ''"),
    ],
)
def test_a_mistake_is_told_before_anything_begins(
    environment: dict[str, str], store: Store, words: tuple[str, ...], said: str
) -> None:
    ran = familiar(environment, *words)
    assert ran.returncode == 2
    assert said in " ".join(ran.stderr.replace("│", " ").split())
    assert runs.listing(store) == []


def test_where_groups_have_adapters_of_their_own_each_place_is_learnt_in_turn(
    environment: dict[str, str], store: Store
) -> None:
    places.place(store, "telegram", "-100", "House")
    places.place(store, "telegram", "-200", "Garden")
    runs.begin(store, "telegram-200", "by hand", OTHERWISE, place="telegram:-200")  # cut short, so it goes on or ends
    environment = environment | {"FAMILIAR_LEARNING__APART": "groups"}

    ran = familiar(environment, "run")

    assert ran.returncode == 0, ran.stderr
    shown = ran.stdout.splitlines()
    assert shown[0] == "House (telegram:-100): 0 examples, and a run takes 50."
    headings = [line for line in shown if ": the adapter " in line]
    assert headings == ["Private chats: the adapter familiar", "Garden (telegram:-200): the adapter telegram-200"]
    assert ran.stdout.count("There are 0 examples to learn from") == 2
    assert [(row.name, row.place) for row in runs.ended(store) if row.verdict == "nothing_to_learn"] == [
        ("familiar", ""),
        ("telegram-200", "telegram:-200"),
    ]


def test_one_group_can_be_named_and_an_override_names_one(environment: dict[str, str], store: Store) -> None:
    places.place(store, "telegram", "-100", "House")
    runs.begin(store, "telegram-100", "by hand", OTHERWISE, place="telegram:-100")
    environment = environment | {"FAMILIAR_LEARNING__APART": "groups"}
    which = familiar(environment, "run", "--override", "I say so")
    assert which.returncode == 2
    assert "Say which with --group" in " ".join(which.stderr.replace("│", " ").split())
    one = familiar(environment, "run", "--group", "telegram:-100/7", "--override", "I say so")
    assert one.returncode == 0, one.stderr
    private = familiar(environment, "run", "--group", "private")
    assert private.returncode == 0, private.stderr
    over = [(row.name, row.place) for row in runs.ended(store) if row.verdict == "nothing_to_learn"]
    assert over == [("telegram-100", "telegram:-100"), ("familiar", "")]


def test_a_file_that_is_not_there_or_is_malformed_is_told(environment: dict[str, str], tmp_path: Path) -> None:
    missing = familiar(environment, "run", "--data", str(tmp_path / "none.jsonl"))
    assert missing.returncode == 1
    assert "none.jsonl" in missing.stderr
    (tmp_path / "half.jsonl").write_text('{"messages": [\n')
    half = familiar(environment, "run", "--strict", "--data", str(tmp_path / "half.jsonl"))
    assert half.returncode == 1
    assert "half.jsonl" in half.stderr
    assert "line 1" in half.stderr
    assert "Traceback" not in missing.stderr + half.stderr


# What there is


def test_the_runs_are_listed_with_what_came_of_them(environment: dict[str, str], store: Store, data: Path) -> None:
    over(store, data)
    runs.begin(store, "familiar", "schedule", {})
    adapters.register(store, "familiar", 1, "familiar/1", "tiny", "f00", 4)
    adapters.activate(store, "familiar", 1)
    canaries.begin(store, "familiar", 2, 1, 0.25)
    shown = familiar({**environment, "FAMILIAR_FINETUNE__SCHEDULE": "0 3 * * *"}, "status").stdout
    assert "Better by 0.2 nats [0.1, 0.3]." in shown
    assert "preparing (cut short)" in shown
    assert "familiar@2 answers 25% of the conversations since" in shown
    assert "In force: familiar@1." in shown
    assert "The next run is due" in shown


def test_a_run_that_goes_on_is_told_apart_from_one_that_was_cut_short(
    environment: dict[str, str], store: Store, data: Path
) -> None:
    settings = Settings(data=Data(folder=data))
    number = runs.begin(store, "familiar", "schedule", {}).id
    assert number is not None
    runs.note(store, number, state="training")
    line = {"stage": "training", "done": 12, "total": 96, "said": "", "point": None}
    (folders.new(settings, number) / "progress.jsonl").write_text(json.dumps(line) + "\n")
    with FileLock(folders.root(settings) / ".lock"):
        shown = familiar(environment, "status").stdout
        second = familiar(environment, "run")
    assert "cut short" not in shown
    assert "Run 1 is training: 12 of 96." in shown
    assert second.returncode == 1
    assert "Run 1 (training) is going on. `familiar finetune status` shows how far it is." in second.stderr


def test_a_report_shows_the_newest_run_or_the_one_that_is_asked_for(
    environment: dict[str, str], store: Store, data: Path
) -> None:
    over(store, data, said="The first.")
    over(store, data, "rejected", said="The [bold]second[/].")
    newest = familiar(environment, "report")
    assert newest.returncode == 0, newest.stderr
    assert "The [bold]second[/]." in newest.stdout, "it is no markup"
    assert str(Path("finetune") / "runs" / "2" / "report.html") in newest.stdout
    assert "The first." in familiar(environment, "report", "1").stdout


def test_of_an_old_run_its_row_is_shown(environment: dict[str, str], store: Store) -> None:
    number = runs.begin(store, "familiar", "by hand", {}).id
    runs.end(store, number or 0, "rejected", "It was worse.")
    shown = familiar(environment, "report", "1").stdout
    assert "Run 1: rejected. It was worse." in shown


def test_an_empty_log_is_exported_as_an_empty_file(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    ran = familiar(environment, "export", str(file))
    assert ran.returncode == 0, ran.stderr
    assert "0 rows of 0 people" in ran.stdout
    assert file.read_text() == ""


def test_of_each_run_the_first_sentence_is_listed_and_the_list_stays_short(
    environment: dict[str, str], store: Store, data: Path
) -> None:
    said = "On 60 held-out conversations the loss fell by 0.312 nats a token. The check e.g. loops failed. And more."
    for _ in range(3):
        over(store, data, "promoted", said)
    runs.end(store, runs.begin(store, "familiar", "by hand", {}).id or 0, "failed", "Out of memory (0.5 GB left). So.")
    shown = familiar({**environment, "COLUMNS": "80"}, "status").stdout
    flat = " ".join(shown.split())
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert len(shown.splitlines()) == 11
    assert "And more" not in flat
    assert "loops" not in flat
    assert "familiar@3" in flat
    assert "Out of memory (0.5 GB left)." in flat


# As a service


ENDING = """
import sys
import finetune.run
from finetune.record import DataCounts, Decision, Record, Sample
from store.tables import now

async def run(settings, store, *, name, trigger, **_):
    sample = Sample("log:1", "my secret", "right", "old reply", "new reply")
    decision = Decision(VERDICT, "It fell by 0.3.")
    more = {"data": DataCounts(people=3), "decision": decision, "samples": (sample,)} if VERDICT == "promoted" else {}
    return Record(1, name, trigger, now(), now(), VERDICT, "It fell by 0.3.", can_go_on=CAN_GO_ON, **more)

finetune.run.run = run
import cli
sys.argv = ["familiar", "finetune", "run", *sys.argv[1:]]
cli.main()
"""


def ended_with(
    environment: dict[str, str], *words: str, verdict: str = "promoted", can_go_on: bool = True
) -> subprocess.CompletedProcess[str]:
    script = ENDING.replace("CAN_GO_ON", str(can_go_on)).replace("VERDICT", repr(verdict))
    command = [sys.executable, "-c", script, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("words", [(), ("--scheduled",)])
def test_what_people_said_is_shown_to_an_operator_and_stands_in_no_log(
    environment: dict[str, str], words: tuple[str, ...]
) -> None:
    ran = ended_with(environment, *words)
    assert ran.returncode == 0, ran.stderr
    assert "It fell by 0.3." in ran.stdout
    for quoted in ("my secret", "old reply", "new reply", "right"):
        assert (quoted in ran.stdout + ran.stderr) == (not words)


@pytest.mark.parametrize("can_go_on", [True, False])
def test_resuming_is_advised_where_it_can_come_to_another_end(environment: dict[str, str], can_go_on: bool) -> None:
    ran = ended_with(environment, verdict="failed", can_go_on=can_go_on)
    assert ran.returncode == 1
    assert "It fell by 0.3." in ran.stderr
    assert ("--resume 1" in ran.stderr) == can_go_on


def test_the_help_says_that_an_override_promotes_what_was_rejected_too(environment: dict[str, str]) -> None:
    shown = familiar(environment, "run", "--help").stdout
    assert "Promote it even if rejected or not proven: why." in shown


def test_the_schedule_runs_until_it_is_ended(environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        [FAMILIAR, "finetune", "schedule"],
        env={**environment, "FAMILIAR_FINETUNE__SCHEDULE": "0 3 * * *", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("The next run is due")
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "Traceback" not in said


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, cli\n"
        "try: cli.app(['finetune', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('torch', 'transformers', 'sqlalchemy', 'croniter', 'numpy', 'rich.progress')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
