"""A run's data as it lies in the run's folder, and the manifest that stays when the texts are erased.

    data/{train,validation,test}.jsonl  examples       preferences.jsonl  judged.jsonl
    data/earlier.jsonl                  what the adapter that is gone on from has learned already, to be replayed
    data/unlearned.jsonl                what people took back that the adapter in force learned: only to be measured
    rounds/<number>.jsonl               the test of an earlier run, as far as it is still in the log
    manifest.json                       written last: numbers of messages, conversations and people, counts, fingerprint

Preferences and verdicts lie in one file each, and `load` keeps them apart: those of the test's conversations are for
measuring, those of the validation's for nothing, and the others for learning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from finetune import folders
from finetune.errors import DataRefused
from finetune.examples import (
    Example,
    Judged,
    Preference,
    as_json,
    example_from_json,
    judged_from_json,
    preference_from_json,
)
from finetune.files import read_json, read_lines, write_json, write_lines
from finetune.record import DataCounts
from finetune.split import Sides

UNLEARNED = Path("data") / "unlearned.jsonl"

Item = TypeVar("Item", Example, Preference, Judged)
Pair = TypeVar("Pair", Preference, Judged)


@dataclass(frozen=True)
class Manifest:
    """What a run's data was, without a word of it. Its sides are train, validation, test, earlier and pairs.

    `pairs` are the preferences and verdicts that are learnt: of the train's and the earlier's conversations, and of
    those that have no example of their own.
    """

    number: int  # the run's; 0 for a folder that is no run's
    made_at: datetime
    fingerprint: str
    message_ids: Mapping[str, tuple[int, ...]]  # of the log's replies, by side
    conversations: Mapping[str, tuple[str, ...]]  # likewise; "log:12", "file:NAME:3"
    person_ids: tuple[int, ...]
    counts: DataCounts

    def learned(self) -> set[str]:
        """The conversations that the adapter has learned from."""
        return {each for side in ("train", "earlier", "pairs") for each in self.conversations.get(side, ())}

    def of_the_log(self, *, pairs: bool = True) -> set[int]:
        """The log's conversations that the adapter is what it is by, those that decided when training stopped included.

        An adapter is to be marked when one of these is forgotten (store.lineage.trained_on). `pairs`: whether these
        were learnt, too (finetune.preferences).
        """
        sides = ("train", "validation", "earlier", *(("pairs",) if pairs else ()))
        names = {each for side in sides for each in self.conversations.get(side, ())}
        return {int(each.removeprefix("log:")) for each in names if each.startswith("log:")}


@dataclass(frozen=True)
class Loaded:
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    earlier: tuple[Example, ...]
    preferences: tuple[Preference, ...]  # to learn from
    judged: tuple[Judged, ...]
    test_preferences: tuple[Preference, ...]  # to measure by
    test_judged: tuple[Judged, ...]
    rounds: Mapping[int, tuple[Example, ...]] = field(default_factory=dict)  # by run
    unlearned: tuple[Example, ...] = ()


def save(
    folder: Path,
    sides: Sides,
    preferences: Sequence[Preference],
    judged: Sequence[Judged],
    counts: DataCounts,
    *,
    earlier: Sequence[Example] = (),
    rounds: Mapping[int, Sequence[Example]] | None = None,
    unlearned: Sequence[Example] = (),
) -> Manifest:
    """Write everything into a run's folder, in the place of what was there. Raises OSError."""
    (folder / folders.MANIFEST).unlink(missing_ok=True)
    folders.clear_texts(folder)
    for name, examples in (*sides.items(), ("earlier", tuple(earlier))):
        _write(folder / "data" / f"{name}.jsonl", examples)
    _write(folder / "preferences.jsonl", preferences)
    _write(folder / "judged.jsonl", judged)
    for number, test in (rounds or {}).items():
        _write(folder / "rounds" / f"{number}.jsonl", test)
    if unlearned:
        _write(folder / UNLEARNED, unlearned)
    manifest = _manifest(folder, sides, preferences, judged, counts, earlier)
    write_json(folder / folders.MANIFEST, asdict(manifest) | {"made_at": manifest.made_at.isoformat()})
    return manifest


def load(folder: Path) -> Loaded:
    """Raises DataRefused when there is no whole data set, or no longer."""
    data = folder / "data"
    train, validation, test, earlier = (
        _read(data / f"{name}.jsonl", example_from_json) for name in ("train", "validation", "test", "earlier")
    )
    sides = Sides(train, validation, test)
    preferences = _parted(_read(folder / "preferences.jsonl", preference_from_json), sides)
    judged = _parted(_read(folder / "judged.jsonl", judged_from_json), sides)
    rounds = {int(file.stem): _read(file, example_from_json) for file in (folder / "rounds").glob("[0-9]*.jsonl")}
    return Loaded(
        train,
        validation,
        test,
        earlier,
        preferences[0],
        judged[0],
        preferences[1],
        judged[1],
        dict(sorted(rounds.items())),
        _read(folder / UNLEARNED, example_from_json) if (folder / UNLEARNED).exists() else (),
    )


def manifest_of(folder: Path) -> Manifest:
    """Raises DataRefused when there is none, or none that can be read."""
    file = folder / folders.MANIFEST
    row = read_json(file)
    try:
        return Manifest(
            int(row["number"]),
            datetime.fromisoformat(row["made_at"]),
            str(row["fingerprint"]),
            {side: tuple(ids) for side, ids in row["message_ids"].items()},
            {side: tuple(names) for side, names in row["conversations"].items()},
            tuple(row["person_ids"]),
            DataCounts(**row["counts"] | {"malformed": ()}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataRefused(f"{file} is not a manifest as this version of Familiar writes it: {error}.") from error


def fingerprint(*items: Iterable[Example | Preference | Judged]) -> str:
    """sha256 over the sorted items: the same for the same data, in whatever order."""
    hashes = sorted(hashlib.sha256(_canonical(each)).digest() for some in items for each in some)
    return hashlib.sha256(b"".join(hashes)).hexdigest()


def _canonical(item: Example | Preference | Judged) -> bytes:
    return json.dumps([type(item).__name__, as_json(item)], sort_keys=True, ensure_ascii=False).encode()


def _manifest(
    folder: Path,
    sides: Sides,
    preferences: Sequence[Preference],
    judged: Sequence[Judged],
    counts: DataCounts,
    earlier: Sequence[Example],
) -> Manifest:
    sources = {name: [each.source for each in examples] for name, examples in sides.items()}
    sources["earlier"] = [each.source for each in earlier]
    sources["pairs"] = [each.source for each in _parted(preferences, sides)[0]]
    sources["pairs"] += [each.source for each in _parted(judged, sides)[0]]
    mark = fingerprint(sides.train, sides.validation, sides.test, earlier, preferences, judged)
    return Manifest(
        int(folder.name) if folder.name.isdecimal() else 0,
        datetime.now(UTC),
        mark,
        {side: tuple(sorted({each for source in of for each in source.message_ids})) for side, of in sources.items()},
        {side: tuple(sorted({source.conversation for source in of})) for side, of in sources.items()},
        tuple(sorted({each for of in sources.values() for source in of for each in source.person_ids})),
        replace(counts, fingerprint=mark),
    )


def _parted(items: Sequence[Pair], sides: Sides) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Those to learn from and those to measure by."""
    test = {each.source.conversation for each in sides.test}
    validation = {each.source.conversation for each in sides.validation}
    return (
        tuple(each for each in items if each.source.conversation not in test | validation),
        tuple(each for each in items if each.source.conversation in test),
    )


def _write(file: Path, items: Iterable[Example | Preference | Judged]) -> None:
    write_lines(file, (as_json(each) for each in items))


def _read(file: Path, from_json: Callable[[Mapping[str, Any]], Item]) -> tuple[Item, ...]:
    return tuple(_items(file, from_json))


def _items(file: Path, from_json: Callable[[Mapping[str, Any]], Item]) -> Iterator[Item]:
    for number, row in enumerate(read_lines(file), 1):
        try:
            yield from_json(row)
        except (KeyError, TypeError, ValueError) as error:
            raise DataRefused(
                f"{file}, line {number}, is not what this version of Familiar writes: {error}."
            ) from error
