"""How many names of people are found whom no profile tells, and how many findings are right: finetune.names.

    python -m bench.names TRAIN TEST

Both files have CoNLL's columns: a word and its tag a line, an empty line between sentences; other kinds of names than
those of persons are passed over. WNUT-17 (https://github.com/leondz/emerging_entities_17, CC BY 4.0; Derczynski et al.,
2017) has such files, wnut17train.conll and emerging.test.annotated. None comes with Familiar.

The head learns from TRAIN and is asked on TEST; beside it stands a list of the names that TRAIN marks, looked up. Both
are printed by seqeval, by whole names.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence, Set
from pathlib import Path

from bench.running import heading
from finetune import names
from finetune.names import Sentence
from knowledge.embedding import bundled
from settings import load

Name = tuple[str, ...]  # its words


def main(train: Path, test: Path) -> None:
    learnt, asked = names.read(train), names.read(test)
    heading(f"Names of people: learnt from {train.name}, asked on {test.name}")
    listed = {each for sentence in learnt for each in marked(sentence)}
    print(f"{_counts(learnt)} to learn from, {_counts(asked)} to be asked on\n")

    print(f"A list of the {len(listed)} names of {train.name}:\n")
    tags = [list(each.tags) for each in asked]
    print(names.scored(tags, [looked_up(each.words, listed) for each in asked]).printed)

    states = names.States(bundled.ensure(load().data.folder, print))
    begun = time.process_time()
    tagger = names.learn(learnt, states)
    seconds = time.process_time() - begun
    begun = time.process_time()
    scores = names.evaluated(tagger, asked, states)
    each_ms = 1000 * (time.process_time() - begun) / len(asked)
    print(f"The head, learnt in {seconds:.0f} s of one core, {each_ms:.0f} ms a sentence:\n")
    print(scores.printed.rstrip())


def marked(sentence: Sentence) -> list[Name]:
    found: list[list[str]] = []
    for word, tag in zip(sentence.words, sentence.tags, strict=True):
        if tag == "B-PER":
            found.append([word])
        elif tag == "I-PER":
            found[-1].append(word)
    return [tuple(each) for each in found]


def looked_up(words: Sequence[str], listed: Set[Name]) -> list[str]:
    """A tag each word: every listed name, and of two that begin at one word the longer one."""
    longest = max(map(len, listed), default=0)
    tags = ["O"] * len(words)
    at = 0
    while at < len(words):
        sizes = range(min(longest, len(words) - at), 0, -1)
        size = next((size for size in sizes if tuple(words[at : at + size]) in listed), 0)
        if size:
            tags[at : at + size] = ["B-PER", *["I-PER"] * (size - 1)]
        at += size or 1
    return tags


def _counts(sentences: Sequence[Sentence]) -> str:
    return f"{sum(len(marked(each)) for each in sentences):,} names in {len(sentences):,} sentences"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    given = parser.parse_args()
    main(given.train, given.test)
