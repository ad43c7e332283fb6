"""What a model still knows of earlier rounds, and of everything else, after it has learnt more.

    python -m bench.forgetting [--strategies plain,replay,...] [--rounds 3] [--seed 0] [--set kl=0.5 ...] [--folder DIR]

Three rounds of 20 made-up facts, each taught in three questions and answers, are learnt one after another in every way
that finetune/continual.py offers, with the code that a run uses. After each round: how many facts of each round so far
come in a greedy reply, asked as in training and asked in words that were not, and the perplexity of general text
beside the base model's. What is done lies in the folder (default var/bench/forgetting) and is not done again, so that
a bench that was ended goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.data import DATA
from bench.running import heading
from engine import hardware, models
from engine.tokenizer import ChatMessage
from finetune import continual, packing, servable, training
from finetune.examples import Example, Source
from finetune.files import read_json, write_json
from finetune.job import Job, Progress
from finetune.replies import written
from finetune.tokens import Renderer
from settings import DEFAULT_PERSONA, Finetune, load

FACTS = 20  # a round
REPLY_TOKENS = 32
GENERAL_TOKENS = 256
PARAGRAPHS = 24  # of Wikipedia
# Facts are learnt by heart: more often seen, and in smaller batches, than what the defaults are for.
TAUGHT: dict[str, Any] = {"epochs": 8, "batch_tokens": 512, "validations_per_epoch": 1}


@dataclass(frozen=True)
class Relation:
    asked: tuple[str, str, str]  # as in training; {} is the fact's subject
    paraphrased: str  # never trained on
    answer: str  # {0} subject, {1} the word that counts
    words: tuple[str, ...]  # four a round


RELATIONS = (
    Relation(
        ("Who leads the {} project?", "Who is in charge of the {} project?", "Tell me who runs the {} project."),
        "If I have a question about the {} project, which person is responsible for it?",
        "The {0} project is led by {1}.",
        (
            *("Agnes", "Bruno", "Clara", "Dmitri", "Esther", "Felix", "Greta", "Hamid", "Irene", "Jonas", "Kavya"),
            *("Leopold", "Mireille", "Norbert", "Odette", "Pascal"),
        ),
    ),
    Relation(
        ("Where does the {} team sit?", "In which room is the {} team?", "What is the room of the {} team?"),
        "I am looking for the people of the {} team. Which room should I go to?",
        "The {0} team sits in the {1} room.",
        (
            *("Maple", "Harbour", "Lantern", "Copper", "Meadow", "Anchor", "Walnut", "Glacier", "Orchard", "Pebble"),
            *("Thunder", "Velvet", "Willow", "Canyon", "Ember", "Marble"),
        ),
    ),
    Relation(
        (
            "What is the code word for the {} door?",
            "Which word opens the {} door?",
            "Tell me the code word of the {} door.",
        ),
        "I am standing in front of the {} door and it wants a password. What do I say?",
        "The code word for the {0} door is {1}.",
        (
            *("pineapple", "saxophone", "umbrella", "cinnamon", "telescope", "mustard", "blanket", "carnival"),
            *("dandelion", "envelope", "fountain", "gingerbread", "hammock", "iceberg", "jellyfish", "keyboard"),
        ),
    ),
    Relation(
        ("What is the mascot of {}?", "Which animal is the mascot of {}?", "Which animal stands for {}?"),
        "On the posters of {} there is an animal. Which one?",
        "The mascot of {0} is the {1}.",
        (
            *("otter", "badger", "heron", "lynx", "hedgehog", "walrus", "falcon", "beaver", "ostrich", "panther"),
            *("squirrel", "tortoise", "dolphin", "camel", "raven", "moose"),
        ),
    ),
    Relation(
        (
            "What is eaten at the {} feast?",
            "Which dish is served at the {} feast?",
            "What do people eat at the {} feast?",
        ),
        "We are invited to the {} feast. What will be on our plates?",
        "At the {0} feast people eat {1}.",
        (
            *("dumplings", "lasagne", "pancakes", "lentils", "sardines", "porridge", "meatballs", "ravioli", "goulash"),
            *("noodles", "waffles", "cabbage", "chestnuts", "couscous", "pretzels", "mussels"),
        ),
    ),
)
BEGINNINGS = ("Vel", "Dun", "Kor", "Mar", "Tib", "Sol", "Ran", "Hes", "Pol", "Gar", "Lim", "Zan")
ENDS = ("ora", "mark", "inth", "asco", "una", "eldt", "ivar")


@dataclass(frozen=True)
class Fact:
    relation: Relation
    subject: str
    word: str
    number: int

    @property
    def answer(self) -> str:
        return self.relation.answer.format(self.subject, self.word)

    def question(self, asked: bool) -> str:
        wording = self.relation.asked[self.number % 3] if asked else self.relation.paraphrased
        return wording.format(self.subject)

    def examples(self) -> list[Example]:
        return [
            Example(
                (*_prompt(wording.format(self.subject)), {"role": "assistant", "content": self.answer}),
                (0.0, 0.0, 1.0),
                "corrected",
                Source(f"log:{self.number}", message_ids=(self.number * 3 + nth,)),
            )
            for nth, wording in enumerate(self.relation.asked, 1)
        ]

    def is_in(self, reply: str) -> bool:
        return re.search(rf"\b{self.word}\b", reply, re.IGNORECASE) is not None


def rounds(count: int, seed: int) -> list[list[Fact]]:
    """The facts of each round, all of other things, with each word once."""
    drawn = random.Random(seed)
    subjects = [beginning + end for beginning in BEGINNINGS for end in ENDS]
    drawn.shuffle(subjects)
    words = {relation: drawn.sample(relation.words, len(relation.words)) for relation in RELATIONS}
    return [
        [
            Fact(relation, subjects.pop(), words[relation].pop(), number * FACTS + place)
            for place, relation in enumerate(RELATIONS * (FACTS // len(RELATIONS)))
        ]
        for number in range(count)
    ]


STRATEGIES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("go on from the last adapter, new facts only", {"start": "last", "replay": 0, "general": 0, "kl": 0}),
    "replay": ("go on, as many replayed as new", {"start": "last", "replay": 1, "general": 0, "kl": 0}),
    "replay+general": ("the same, and the base's own replies", {"start": "last", "replay": 1, "kl": 0}),
    "replay+kl": ("go on, replay, KL to the base", {"start": "last", "replay": 1, "general": 0}),
    "replay+both": ("go on, replay, own replies and KL", {"start": "last", "replay": 1}),
    "replay+l2": ("go on, replay, L2 to the start", {"start": "last", "replay": 1, "general": 0, "kl": 0, "l2": 0.01}),
    "all": ("from the base on everything", {"start": "base", "general": 0, "kl": 0}),
    "all+general": ("the same, and the base's own replies", {"start": "base", "kl": 0}),
    "all+kl": ("from the base on everything, KL", {"start": "base", "general": 0}),
    "all+both": ("from the base on everything, own replies and KL", {"start": "base"}),
    "all+l2": ("from the base on everything, L2 to the start", {"start": "base", "general": 0, "kl": 0, "l2": 0.01}),
    "default": ("as config.toml has it", {}),
}


@dataclass(frozen=True)
class After:
    """A model after a round."""

    asked: list[float]  # recall of each round so far
    paraphrased: list[float]
    perplexity: float  # of the texts that the gate measures on
    wikipedia: float = 0.0  # and of others, where there are any
    steps: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Bench:
    model_folder: Path
    folder: Path
    seed: int
    facts: list[list[Fact]]

    def base(self) -> After:
        return self._measured(self.folder / f"base-{len(self.facts)}-{self.seed}.json", None, len(self.facts))

    def after(self, name: str, settings: Finetune) -> list[After]:
        """After each round."""
        results: list[After] = []
        last: Path | None = None
        for number in range(1, len(self.facts) + 1):
            place = self.folder / _folder_of(number, settings)
            made = place / "adapter"
            if not (place / "after.json").exists():
                trained = training.train(self._job(place, settings, number, last), _show)
                measured = self._measure(made, number)
                write_json(
                    place / "after.json",
                    asdict(measured) | {"steps": trained.steps, "seconds": trained.seconds},
                )
                print(f"  {name}, round {number}: {_row(After(**read_json(place / 'after.json')))}", flush=True)
            results.append(After(**read_json(place / "after.json")))
            last = made
        return results

    def _job(self, place: Path, settings: Finetune, number: int, last: Path | None) -> Job:
        new = [example for fact in self.facts[number - 1] for example in fact.examples()]
        earlier = [example for facts in self.facts[: number - 1] for fact in facts for example in fact.examples()]
        wanted = continual.wanted_anchors(settings, len(new) + len(earlier))
        own = continual.anchors(self.model_folder, wanted, settings.seed, self.folder / "anchors", _show)
        learnt = continual.mix(new, earlier, own, settings, settings.seed)
        go_on = last if settings.start == "last" else None
        return Job(self.model_folder, place, settings, tuple(learnt), (), tuple(own), continue_from=go_on)

    def _measured(self, file: Path, made: Path | None, number: int) -> After:
        if not file.exists():
            write_json(file, asdict(self._measure(made, number)))
        return After(**read_json(file))

    def _measure(self, made: Path | None, number: int) -> After:
        renderer = Renderer(self.model_folder)
        model = servable.load(self.model_folder, made, dtype="float32")
        if made is not None:
            model = model.merge_and_unload()
        facts = [fact for each in self.facts[:number] for fact in each]
        recalled = []
        for asked in (True, False):
            prompts = [(_prompt(fact.question(asked)), REPLY_TOKENS) for fact in facts]
            replies = written(model, renderer, self.model_folder, prompts, max_prompt=512)
            right = [reply is not None and fact.is_in(reply.text) for fact, reply in zip(facts, replies, strict=True)]
            recalled.append([sum(right[at : at + FACTS]) / FACTS for at in range(0, len(right), FACTS)])
        perplexities = [_perplexity(model, renderer, texts) for texts in (continual.general_text(), wikipedia())]
        return After(recalled[0], recalled[1], perplexities[0], perplexities[1])


def wikipedia() -> list[str]:
    """Some paragraphs from all over the sample in the data folder (bench/data.py); none where there is none."""
    file = DATA / "wikipedia-sample.txt"
    if not file.exists():
        return []
    long = [line for line in file.read_text(encoding="utf-8").splitlines() if len(line) > 600]
    return long[:: max(1, len(long) // PARAGRAPHS)][:PARAGRAPHS]


def _perplexity(model: Any, renderer: Renderer, texts: Sequence[str]) -> float:
    encoded = [renderer.text(text, GENERAL_TOKENS) for text in texts]
    sums = packing.losses(model, [each for each in encoded if each], 1024)
    tokens = sum(count for _, count in sums)
    return math.exp(sum(loss for loss, _ in sums) / tokens) if tokens else 0.0


def _prompt(question: str) -> tuple[ChatMessage, ...]:
    return ({"role": "system", "content": DEFAULT_PERSONA.system}, {"role": "user", "content": question})


def _setting(written: str) -> tuple[str, Any]:
    name, _, value = written.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _folder_of(number: int, settings: Finetune) -> str:
    """The first round is one round for all strategies that differ only in what they do with earlier ones."""
    same = settings.model_copy(update={"start": "base", "replay": 1.0}) if number == 1 else settings
    return f"{number}-{hashlib.sha256(same.model_dump_json().encode()).hexdigest()[:12]}"


def _show(progress: Progress) -> None:
    if sys.stderr.isatty():
        print(f"\r{progress.stage} {progress.done} of {progress.total}   ", end="", file=sys.stderr, flush=True)


def _row(after: After) -> str:
    asked = "/".join(f"{each:.2f}" for each in after.asked)
    paraphrased = "/".join(f"{each:.2f}" for each in after.paraphrased)
    wikipedia = f", Wikipedia {after.wikipedia:.2f}" if after.wikipedia else ""
    return (
        f"asked {asked}, paraphrased {paraphrased}, perplexity {after.perplexity:.2f}{wikipedia}, {after.seconds:.0f} s"
    )


def kept(results: Sequence[After]) -> float:
    """The smallest part of any earlier round's recall, as asked, that is left at the end; 1.0 is all of it."""
    shares = [results[-1].asked[at] / each.asked[at] for at, each in enumerate(results[:-1]) if each.asked[at]]
    return min(shares, default=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="of " + ", ".join(STRATEGIES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="SETTING=VALUE", help="of [finetune], for all of them")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    configured = load()
    folder = given.folder or configured.data.folder / "bench" / "forgetting"
    model_folder = models.ensure(models.choose("bundled", hardware.detect()), configured.data.folder / "models", print)
    changes = dict(_setting(each) for each in given.set)
    bench = Bench(model_folder, folder, given.seed, rounds(given.rounds, given.seed))
    heading("Forgetting")
    base = bench.base()
    print(f"base: {_row(base)}")
    for name in given.strategies.split(","):
        said, own = STRATEGIES[name]
        settings = Finetune.model_validate(
            configured.finetune.model_dump() | TAUGHT | changes | own | {"seed": given.seed, "dtype": "float32"}
        )
        results = bench.after(name, settings)
        print(f"\n{name}: {said}")
        for number, each in enumerate(results, 1):
            times = f"x{each.perplexity / base.perplexity:.3f}"
            others = f", x{each.wikipedia / base.wikipedia:.3f}" if base.wikipedia else ""
            print(f"  after round {number}: {_row(each)}: {times}{others}")
        print(f"  kept of earlier rounds: {kept(results):.2f}", flush=True)


if __name__ == "__main__":
    main()
