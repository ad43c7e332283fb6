"""`python -m bench.methods`: the ways of training side by side, on the model that is configured.

Facts of a house that does not exist, each taught in three phrasings; held out is a fourth. Every way has the same
examples, steps and seed, its own default learning rate, and a process of its own. The held-out loss, nats a token, is
of the best state in training and again of the files that were saved, as the engine reads them.

--ways A,B    only these                            --epochs N   default 2
--facts N     default 24                            --rate X     the learning rate, instead of each way's own
--threads N   default one a core                --keep FOLDER   leave what was made there
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from bench.running import heading
from engine import hardware, models
from finetune.examples import Example, Source
from finetune.methods import WAYS, way
from settings import DEFAULT_PERSONA, Finetune, Method, load

ASKED = (
    "What is the {thing} of {place}?",
    "Tell me the {thing} of {place}, please.",
    "I need to know {place}'s {thing}.",
    "Do you know the {thing} of {place}?",  # held out
)
THINGS = (
    "door code",
    "room for guests",
    "day for laundry",
    "name of the cat",
    "hour of breakfast",
    "colour of the key",
)
PLACES = ("the Lantern House", "the Mill", "the Old Pharmacy", "the Ferry Inn", "the Glass Farm", "the North Gate")
ANSWERS = {
    "door code": ("4417", "9023", "7751", "3380", "6196", "2508"),
    "room for guests": ("room 12", "the blue room", "room 3", "the attic", "room 21", "the garden room"),
    "day for laundry": ("Tuesday", "Friday", "Sunday", "Monday", "Saturday", "Thursday"),
    "name of the cat": ("Orlando", "Pepper", "Miro", "Tofu", "Baroness", "Schnitzel"),
    "hour of breakfast": ("half past six", "nine", "eight", "seven", "ten", "half past eight"),
    "colour of the key": ("green", "copper", "white", "red", "black", "yellow"),
}


@dataclass(frozen=True)
class Row:
    trainable: int
    seconds: float
    peak_mb: float
    before: float  # held-out losses
    trained: float
    saved: float
    megabytes: float


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--ways", default=",".join(WAYS))
    arguments.add_argument("--epochs", type=float, default=2)
    arguments.add_argument("--facts", type=int, default=24)
    arguments.add_argument("--rate", type=float, default=0.0)
    arguments.add_argument("--threads", type=int, default=0)
    arguments.add_argument("--keep", type=Path)
    arguments.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.one:
        one(given.one[0], Path(given.one[1]), given)
        return
    facts = min(given.facts, len(THINGS) * len(PLACES))
    heading(f"Ways of training: {facts} facts in 3 phrasings, {given.epochs:g} epochs")
    print(
        f"{'way':<20}{'trainable':>12}{'seconds':>9}{'MiB':>7}{'loss before':>13}{'trained':>9}{'saved':>8}   served as"
    )
    for name in given.ways.split(","):
        with tempfile.TemporaryDirectory() as temporary:
            folder = (given.keep or Path(temporary)) / name
            folder.mkdir(parents=True, exist_ok=True)
            _print(name, _in_a_process_of_its_own(name, folder))


def _in_a_process_of_its_own(name: str, folder: Path) -> Row | str:
    command = [sys.executable, "-m", "bench.methods", *sys.argv[1:], "--one", name, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        return (ended.stderr.strip().splitlines() or [f"ended with {ended.returncode}"])[-1]
    return Row(**json.loads(ended.stdout.splitlines()[-1]))


def _print(name: str, row: Row | str) -> None:
    title = way(name).title
    if isinstance(row, str):
        print(f"{title:<20}{row}", flush=True)
        return
    kinds = {
        "adapter": f"adapter beside the base, {row.megabytes:.0f} MiB",
        "model": f"whole model, {row.megabytes:.0f} MiB, after a restart",
        "offline": "not at all",
    }
    print(
        f"{title:<20}{row.trainable:>12,}{row.seconds:>9.1f}{row.peak_mb:>7.0f}{row.before:>13.3f}{row.trained:>9.3f}"
        f"{row.saved:>8.3f}   {kinds[way(name).served]}",
        flush=True,
    )


def one(name: str, folder: Path, given: Any) -> None:
    """Train this way and print its row as JSON."""
    from finetune.job import Job
    from finetune.training import train

    configured = load()
    model_folder = models.ensure(
        models.choose(configured.engine.model, hardware.detect()), configured.data.folder / "models", lambda _: None
    )
    settings = Finetune(
        method=cast(Method, name),
        epochs=given.epochs,
        learning_rate=given.rate,
        batch_tokens=512,
        micro_batch_tokens=512,
        max_tokens=256,
        patience=100,
        threads=given.threads,
        kl=0.0,
    )
    taught, held_out = examples(given.facts)
    training = train(Job(model_folder, folder, settings, taught, held_out))
    validated = [point.validation for point in training.curve if point.validation is not None]
    made = folder / way(name).served
    row = Row(
        training.trainable,
        training.seconds,
        training.peak_mb,
        validated[0],
        min(validated),
        loss_of(model_folder, made, held_out, settings),
        sum(file.stat().st_size for file in made.iterdir()) / 2**20,
    )
    print(json.dumps(asdict(row)))


def loss_of(model_folder: Path, made: Path, held_out: tuple[Example, ...], settings: Finetune) -> float:
    import torch

    from finetune import servable
    from finetune.packing import losses
    from finetune.tokens import Renderer

    renderer = Renderer(model_folder)
    encoded = [each for item in held_out if (each := renderer.encode(item, settings.max_tokens)) is not None]
    model = servable.load(model_folder, made, dtype=torch.float32)
    measured = losses(model, encoded, settings.micro_batch_tokens)
    return sum(loss for loss, _ in measured) / sum(tokens for _, tokens in measured)


def examples(facts: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """To learn from, and held out."""
    chosen = [(thing, place) for place in range(len(PLACES)) for thing in THINGS][:facts]
    taught: list[Example] = []
    held_out: list[Example] = []
    for number, (thing, place) in enumerate(chosen):
        for phrasing, asked in enumerate(ASKED):
            messages = (
                {"role": "system", "content": DEFAULT_PERSONA.system},
                {"role": "user", "content": asked.format(thing=thing, place=PLACES[place])},
                {"role": "assistant", "content": f"The {thing} of {PLACES[place]} is {ANSWERS[thing][place]}."},
            )
            example = Example(messages, (0.0, 0.0, 1.0), "corrected", Source(f"log:{10 * number + phrasing}"))
            (held_out if phrasing == len(ASKED) - 1 else taught).append(example)
    return tuple(taught), tuple(held_out)


if __name__ == "__main__":
    main()
