"""From the log, or from a file, to a run's data set: collected, redacted, cleaned, split and saved.

What earlier runs saw decides where a conversation may stand. One that was learnt from is tested on last, because the
adapter in force would have an advantage on it that the new one does not have; and never, where the new adapter goes on
from that one. There, what was learnt already is no longer new: it is kept aside, to be replayed.

Of the test of a run whose adapter came into force, a share is never learnt from (learning.kept_share), or nothing could
show whether a later run forgets what that one taught. It is taken from the log again, so that what has been forgotten
or taken back since is not in it; what is nearly the same as something learnt is left out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from engine.errors import ModelUnavailable
from finetune import dataset, formats, taken_back
from finetune.clean import cleaned
from finetune.collect import collect
from finetune.dataset import Manifest
from finetune.errors import DataRefused, NotEnoughData
from finetune.examples import Example, Judged, Preference, Source
from finetune.job import Progress, Told
from finetune.near_duplicates import across, said
from finetune.record import DataCounts
from finetune.redacting import Learnt, Redaction, people_of, redacted
from finetune.split import Sides, prove_apart, split, without_likes_of
from finetune.taken_back import TakenBack
from settings import Settings
from store import learning as log
from store.session import Store
from store.tables import Adapter

WHAT_COUNTS = (
    "What counts: replies that people corrected, rated up, chose among several or went on from, of people who agreed "
    "that their conversations are learnt from (/privacy yes)."
)
WHAT_COUNTS_IN_A_FILE = (
    'What counts: lines with a conversation and a reply to learn, {"messages": [...]} or {"conversations": [...]}.'
)
LISTED = 10  # malformed lines


@dataclass(frozen=True)
class _Gathered:
    examples: tuple[Example, ...]
    preferences: tuple[Preference, ...]
    judged: tuple[Judged, ...]
    counts: DataCounts


def prepare(
    store: Store,
    settings: Settings,
    model_folder: Path,
    folder: Path,
    *,
    file: Path | None = None,
    strict: bool = False,
    place: str = "",
    earlier: Sequence[Manifest] = (),
    in_force: Adapter | None = None,
    told: Told = lambda _: None,
) -> DataCounts:
    """Write a run's data set into its folder. What was there before is replaced; nothing is written on failure.

    `file`: learn from its examples instead of the log's; `strict`: malformed lines refuse it, instead of being passed
    over. `place`: the group that the adapter is for, where groups have their own. `earlier`: the manifests of the runs
    whose adapters came into force. `in_force`: what the new adapter is compared with; what that one learned and people
    took back since is measured, too. Blocks, for seconds to minutes.

    Raises NotEnoughData, DataRefused, ModelUnavailable, StoreError, OSError.
    """
    told(Progress("preparing", 0, 0, "collecting"))
    gathered = _from_file(file, strict) if file else _from_log(store, settings, place)
    rounds = _from_log(store, settings, place) if file and earlier else gathered
    kept = _kept(earlier, settings.learning.kept_share)
    tests = _tests_of(rounds.examples, earlier, kept)
    gathered = _without(gathered, kept)
    redactor = _redactor(settings)
    if redactor is not None:
        gathered, tests = _redacted(store, gathered, tests, redactor, told)
    told(Progress("preparing", 0, 0, "cleaning"))
    count = _counter(model_folder)
    clean = cleaned(gathered.examples, count, settings.finetune, settings.learning)
    left_out = Counter(gathered.counts.left_out) + Counter(clean.left_out)
    counts = replace(gathered.counts, left_out=dict(left_out), forgotten=_forgotten(gathered, earlier))
    _refuse_too_few(clean.examples, gathered, counts, settings.finetune.min_new_examples)

    known, new = _parted(clean.examples, earlier if settings.finetune.start == "last" else ())
    sides = _split(new, settings, earlier)
    if not sides.train or not sides.test:
        raise NotEnoughData(
            f"{_counted(len(new), 'example')} of {_counted(_conversations(new), 'conversation')} cannot be divided "
            f"into some to learn from and some to be tested on. {_what_counts(counts)}",
            counts.malformed,
        )
    prove_apart(sides, settings.learning.near_duplicate)
    known, preferences, judged = _without_likes_of_the_test(sides, known, gathered, settings, left_out)
    left_out.update(sides.left_out)
    learnt = [*sides.train, *sides.validation, *sides.test, *known]
    back: list[TakenBack] = []
    if in_force is not None:
        back = _taken_back(store, settings, in_force, earlier, redactor, count)
        back = _apart_from(back, [*learnt, *preferences, *judged])
    counts = replace(
        counts,
        examples=_by_why((*sides.train, *sides.validation, *sides.test)),
        left_out=dict(sorted((+left_out).items())),
        sides={name: len(examples) for name, examples in sides.items()},
        conversations={name: _conversations(examples) for name, examples in sides.items()},
        preferences=len(preferences),
        judged=len(judged),
        taken_back=taken_back.counted(back, learnt, settings.learning.near_duplicate),
    )
    taught = [*sides.train, *sides.validation, *known]
    rounds_left = {
        number: without_likes_of(taught, test, settings.learning.near_duplicate)[0] for number, test in tests.items()
    }
    told(Progress("preparing", 0, 0, "saving"))
    manifest = dataset.save(
        folder,
        sides,
        preferences,
        judged,
        replace(counts, malformed=()),  # the manifest stays, and has no word of anybody
        earlier=known,
        rounds={number: test for number, test in rounds_left.items() if test},
        unlearned=[each.example for each in back],
    )
    return replace(manifest.counts, malformed=counts.malformed)


# Where it comes from


def _from_log(store: Store, settings: Settings, place: str) -> _Gathered:
    if place and settings.learning.apart == "off":
        raise DataRefused(
            f"{place} is to have an adapter of its own, and it would learn from everybody, since learning.apart is "
            f"'off'. Set it to 'groups'."
        )
    found = collect(store, settings.learning, place=place if settings.learning.apart == "groups" else None)
    counts = DataCounts(left_out=found.left_out, people=found.people, consent=found.consent)
    return _Gathered(found.examples, found.preferences, found.judged, counts)


def _from_file(file: Path, strict: bool) -> _Gathered:
    found = formats.read(file, strict=strict)
    left_out = {"malformed": len(found.malformed)} if found.malformed else {}
    counts = DataCounts(left_out=left_out, source=file.name, malformed=_listed(file, found.malformed))
    return _Gathered(found.examples, found.preferences, found.judged, counts)


def _listed(file: Path, malformed: Sequence[formats.Malformed]) -> tuple[str, ...]:
    lines = [f"{file.name}, line {each.line}, was passed over: {each.reason}." for each in malformed[:LISTED]]
    if more := len(malformed) - len(lines):
        lines.append(f"So {'was' if more == 1 else 'were'} {_counted(more, 'more line')} of {file.name}.")
    return tuple(lines)


def _kept(earlier: Sequence[Manifest], share: float) -> set[str]:
    """Conversations of earlier tests from which nothing is ever learnt: the same ones in every run."""

    def drawn(conversation: str) -> bool:
        number = int.from_bytes(hashlib.sha256(f"kept {conversation}".encode()).digest()[:8], "big")
        return number < share * 2**64

    tested = {each for manifest in earlier for each in manifest.conversations.get("test", ())}
    return {each for each in tested - _learned_from(earlier) if each.startswith("log:") and drawn(each)}


def _without(gathered: _Gathered, kept: Collection[str]) -> _Gathered:
    return replace(
        gathered,
        examples=tuple(each for each in gathered.examples if each.source.conversation not in kept),
        preferences=tuple(each for each in gathered.preferences if each.source.conversation not in kept),
        judged=tuple(each for each in gathered.judged if each.source.conversation not in kept),
    )


def _tests_of(
    examples: Sequence[Example], earlier: Sequence[Manifest], kept: Collection[str]
) -> dict[int, list[Example]]:
    """By run, what of its test is in the log and was kept."""
    tests = {}
    for manifest in earlier:
        ids = set(manifest.message_ids.get("test", ()))
        tests[manifest.number] = [
            each for each in examples if each.source.conversation in kept and ids.intersection(each.source.message_ids)
        ]
    return {number: test for number, test in tests.items() if test}


def _forgotten(gathered: _Gathered, earlier: Sequence[Manifest]) -> int:
    """Conversations of the log that adapters before learned from, and that nothing is learnt from any more."""
    if gathered.counts.source != "log":
        return 0
    learned = {each for each in _learned_from(earlier) if each.startswith("log:")}
    items: list[Learnt] = [*gathered.examples, *gathered.preferences, *gathered.judged]
    return len(learned - {each.source.conversation for each in items})


def _taken_back(
    store: Store,
    settings: Settings,
    in_force: Adapter,
    earlier: Sequence[Manifest],
    redactor: Redaction | None,
    count: Callable[[str], int],
) -> list[TakenBack]:
    """As training would have had it; of so many conversations, and only what the manifests say was learned."""
    found: list[TakenBack] = []
    conversations: set[str] = set()
    for each in taken_back.collected(store, settings.learning, in_force):
        if earlier and not _parted([each.example], earlier)[0]:
            continue
        conversations.add(each.example.source.conversation)
        if len(conversations) > taken_back.CONVERSATIONS:
            break
        found.append(each)
    if redactor is not None and found:
        found = taken_back.without_names(store, found, redactor)
    clean = cleaned([each.example for each in found], count, settings.finetune, settings.learning).examples
    kept = {id(each) for each in clean}
    return [each for each in found if id(each.example) in kept]


def _apart_from(back: Sequence[TakenBack], learnt: Sequence[Learnt]) -> list[TakenBack]:
    """Somebody may have taken it back only just now."""
    seen = {message_id for each in learnt for message_id in each.source.message_ids}
    return [each for each in back if seen.isdisjoint(each.example.source.message_ids)]


# Personal data, and how long a text is


def _redactor(settings: Settings) -> Redaction | None:
    if not settings.learning.redact:
        return None
    from finetune.redact import Redactor

    return Redactor()


def _redacted(
    store: Store, gathered: _Gathered, tests: Mapping[int, Sequence[Example]], redactor: Redaction, told: Told
) -> tuple[_Gathered, dict[int, list[Example]]]:
    items: list[Learnt] = [*gathered.examples, *gathered.preferences, *gathered.judged]
    numbers = [number for number, test in tests.items() for _ in test]
    items += [each for test in tests.values() for each in test]
    placed, counts = redacted(items, log.names(store, people_of(items)), redactor, told)
    own = placed[: len(placed) - len(numbers)]
    of_tests: dict[int, list[Example]] = {}
    for number, each in zip(numbers, placed[len(own) :], strict=True):
        of_tests.setdefault(number, []).append(cast(Example, each))
    changed = replace(
        gathered,
        examples=tuple(each for each in own if isinstance(each, Example)),
        preferences=tuple(each for each in own if isinstance(each, Preference)),
        judged=tuple(each for each in own if isinstance(each, Judged)),
        counts=replace(gathered.counts, redactions=dict(sorted(counts.items()))),
    )
    return changed, of_tests


def _counter(model_folder: Path) -> Callable[[str], int]:
    from tokenizers import Tokenizer

    file = model_folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise ModelUnavailable(f"{file} cannot be read: {error}") from error
    tokenizer.no_truncation()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


# The sides


def _parted(examples: Sequence[Example], earlier: Sequence[Manifest]) -> tuple[list[Example], list[Example]]:
    """What earlier runs learned as it is now, and what is new. A correction made after a run is new."""
    learned_at = {each: manifest.made_at for manifest in earlier for each in manifest.message_ids.get("train", ())}

    def is_known(source: Source) -> bool:
        if not source.message_ids or source.at is None:
            return False
        return all(each in learned_at and source.at <= learned_at[each] for each in source.message_ids)

    return [each for each in examples if is_known(each.source)], [
        each for each in examples if not is_known(each.source)
    ]


def _split(examples: Sequence[Example], settings: Settings, earlier: Sequence[Manifest]) -> Sides:
    return split(
        examples,
        validation_share=settings.learning.validation_share,
        test_share=settings.learning.test_share,
        near_duplicate=settings.learning.near_duplicate,
        seed=settings.finetune.seed,
        learned=_learned_from(earlier),
        learned_is_tested=settings.finetune.start == "base",
    )


def _without_likes_of_the_test(
    sides: Sides, known: Sequence[Example], gathered: _Gathered, settings: Settings, left_out: Counter[str]
) -> tuple[list[Example], list[Preference], list[Judged]]:
    """What else is learnt from must not say what is tested either; only what is of the test's conversations stays."""
    held_out = {each.source.conversation for each in sides.test}
    test = [said(each) for each in sides.test]
    threshold = settings.learning.near_duplicate or 1.0

    def alike(texts: Sequence[str]) -> set[int]:
        return {number for _, number in across(test, texts, threshold)}

    replayed = alike([said(each) for each in known])
    chosen = alike([_said(each, each.chosen) for each in gathered.preferences])
    replies = alike([_said(each, each.reply) for each in gathered.judged])
    left_out["near_duplicate_of_test"] += len(replayed)
    return (
        [each for number, each in enumerate(known) if number not in replayed],
        [
            each
            for number, each in enumerate(gathered.preferences)
            if number not in chosen or each.source.conversation in held_out
        ],
        [
            each
            for number, each in enumerate(gathered.judged)
            if number not in replies or each.source.conversation in held_out
        ],
    )


def _said(item: Preference | Judged, reply: str) -> str:
    weights = (*[0.0] * len(item.prompt), 1.0)
    return said(Example((*item.prompt, {"role": "assistant", "content": reply}), weights, "imported", item.source))


def _learned_from(earlier: Sequence[Manifest]) -> set[str]:
    """Conversations; of a file, its lines may be others by now, but the name is all that there is to go by."""
    return {each for manifest in earlier for each in manifest.learned()}


# What is said of it


def _refuse_too_few(examples: Sequence[Example], gathered: _Gathered, counts: DataCounts, least: int) -> None:
    if len(examples) >= least:
        return
    of_a_file = counts.source != "log"
    where = f" in {counts.source}" if of_a_file else ""
    there = "There is 1 example" if len(examples) == 1 else f"There are {len(examples)} examples"
    said = [f"{there} to learn from{where}, and a run takes {least} (finetune.min_new_examples)."]
    pairs, judged = len(gathered.preferences), len(gathered.judged)
    if of_a_file and (pairs or judged):
        said.append(
            f"{_counted(pairs, 'pair')} and {_counted(judged, 'labelled reply', 'labelled replies')} are no examples: "
            f"they are learnt from in a second stage (finetune.preferences), which goes on from what examples taught, "
            f"and the gate measures on examples. The prompt of a pair with its chosen reply can be written as one."
        )
    said.append(_what_counts(counts))
    if counts.consent:
        said.append("People: " + ", ".join(f"{many} {_CHOICES[each]}" for each, many in counts.consent.items()) + ".")
    if counts.left_out:
        reasons = sorted(counts.left_out.items(), key=lambda each: -each[1])
        said.append("Left out: " + ", ".join(f"{many} {reason.replace('_', ' ')}" for reason, many in reasons) + ".")
    raise NotEnoughData(" ".join(said), counts.malformed)


def _what_counts(counts: DataCounts) -> str:
    return WHAT_COUNTS if counts.source == "log" else WHAT_COUNTS_IN_A_FILE


_CHOICES = {"yes": "said yes", "no": "said no", "unasked": "have not answered"}


def _by_why(examples: Sequence[Example]) -> dict[str, int]:
    return dict(sorted(Counter(each.why for each in examples).items()))


def _conversations(examples: Sequence[Example]) -> int:
    return len({each.source.conversation for each in examples})


def _counted(many: int, one: str, more: str = "") -> str:
    return f"{many} {one}" if many == 1 else f"{many} {more or one + 's'}"
