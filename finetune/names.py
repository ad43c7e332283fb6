"""Names of people in sentences: a linear head on what the bundled embedding model sees in each word.

Rules find the names that profiles tell (finetune.redact.own_names) and no others. This learns from sentences in which
names are marked, word by word in CoNLL's columns, and finds those of third persons. The model's own weights stay as
they are: each word is what its eighth layer sees at that word, and a logistic regression says whether a name begins
there, goes on, or is none; the best sequence that is possible is taken (Viterbi, 1967). What it finds is measured by
seqeval, by whole names: a name of which a word is missing is missed.

No data for it comes with Familiar, so nothing is trained by default: it is an operator's to train, and
`Redactor(also=[finder(tagger, states)])` uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from finetune.errors import DataRefused, NotEnoughData
from finetune.redact.findings import Finding
from finetune.redact.own_names import Find

Array = npt.NDArray[np.float32]

TAGS = ("O", "B-PER", "I-PER")
PERSON = frozenset(["PER", "PERSON"])
LAYER = 8  # of 12; the best by WNUT-17's development part, and the last ones are worse: they see whole texts
LONGEST = 480  # tokens the model sees at once
MIN_NAMES = 20
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+(?:['’-][^\W\u3400-\u9fff]+)*|[^\w\s]")


@dataclass(frozen=True)
class Sentence:
    words: tuple[str, ...]
    tags: tuple[str, ...]  # of TAGS, one a word


def read(file: Path) -> list[Sentence]:
    """A file of lines "word tag", empty lines between sentences, in IOB1, IOB2 or BIOES; other kinds of names are O.

    Raises DataRefused.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataRefused(f"{file} cannot be read as UTF-8 text: {error}") from error
    sentences: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*lines, ""], 1):
        columns = line.split()
        if not columns or columns[0] == "-DOCSTART-":
            if words:
                sentences.append(Sentence(tuple(words), tuple(tags)))
                words, tags = [], []
            continue
        if len(columns) < 2 or not re.fullmatch(r"O|[BIESLU]-\S+", columns[-1]):
            raise DataRefused(f'{file}, line {number}: {line[:60]!r} is not a word and its tag, such as "Ann B-PER".')
        words.append(columns[0])
        tags.append(_tag(columns[-1], tags[-1] if tags else "O"))
    return sentences


def _tag(given: str, before: str) -> str:
    mark, _, kind = given.partition("-")
    if mark == "O" or kind.upper() not in PERSON:
        return "O"
    return "B-PER" if mark in "BSU" or before == "O" else "I-PER"


class States:
    """What the bundled embedding model sees in each word. Opening takes a second; any thread may ask."""

    def __init__(self, folder: Path) -> None:
        """`folder`: knowledge.embedding.bundled.ensure's."""
        import onnx
        import onnxruntime

        from knowledge.embedding.bundled import MODEL
        from knowledge.embedding.tokens import Tokens

        model = onnx.load(folder / MODEL)
        normalised = [node.output[0] for node in model.graph.node if node.op_type == "LayerNormalization"]
        self._output = normalised[2 * LAYER]  # one after the embeddings, then two a layer
        model.graph.output.append(onnx.helper.make_tensor_value_info(self._output, onnx.TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._tokens = Tokens(folder)
        self._opening, self._closing = self._tokens.sequence("", LONGEST)

    def __call__(self, words: Sequence[str]) -> Array:
        """(words, features). Words past the model's length, and those it has no token for, are zeros."""
        ids, places = [self._opening], []
        for word in words:
            own = self._tokens.ids(word)
            if len(ids) + len(own) >= LONGEST:
                break
            places.append((len(ids), len(ids) + len(own)))
            ids += own
        given = np.array([[*ids, self._closing]], np.int64)
        seen: Array = self._session.run([self._output], {"input_ids": given})[0][0]  # (tokens, features)
        features = np.zeros((len(words), seen.shape[1]), np.float32)
        for number, (begin, end) in enumerate(places):
            if begin < end:
                features[number] = seen[begin:end].mean(axis=0)
        return features


@dataclass(frozen=True)
class Tagger:
    weights: Array  # (features, 3), for features of mean 0 and deviation 1
    constants: Array  # (3,)
    mean: Array  # (features,)
    deviation: Array  # (features,)

    def tag(self, features: Array) -> tuple[str, ...]:
        """Of TAGS, one a word. features: (words, features)"""
        if not len(features):
            return ()
        scores = ((features - self.mean) / self.deviation) @ self.weights + self.constants
        return tuple(TAGS[number] for number in _best(scores))

    def save(self, file: Path) -> None:
        with file.open("wb") as stream:
            np.savez(stream, weights=self.weights, constants=self.constants, mean=self.mean, deviation=self.deviation)


def load(file: Path) -> Tagger:
    """Raises DataRefused."""
    try:
        with np.load(file, allow_pickle=False) as saved:
            tagger = Tagger(*(saved[name] for name in ("weights", "constants", "mean", "deviation")))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataRefused(f"{file} is no saved tagger of names: {error}") from error
    width = len(tagger.mean)
    if (
        tagger.weights.shape != (width, len(TAGS))
        or tagger.deviation.shape != (width,)
        or not np.isfinite(tagger.weights).all()
    ):
        raise DataRefused(f"{file} is no saved tagger of names: its parts do not fit together.")
    return tagger


def learn(sentences: Sequence[Sentence], states: States, *, seed: int = 0) -> Tagger:
    """Raises NotEnoughData."""
    from sklearn.linear_model import LogisticRegression

    names = sum(tag == "B-PER" for sentence in sentences for tag in sentence.tags)
    if names < MIN_NAMES:
        raise NotEnoughData(f"There are {names} marked names in {len(sentences)} sentences; it takes {MIN_NAMES}.")
    features = np.concatenate([states(sentence.words) for sentence in sentences])
    tags = np.array([TAGS.index(tag) for sentence in sentences for tag in sentence.tags])
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    features -= mean
    features /= deviation
    head = LogisticRegression(C=0.01, max_iter=300, random_state=seed).fit(features, tags)
    weights = np.zeros((features.shape[1], len(TAGS)), np.float32)
    constants = np.full(len(TAGS), -1e9, np.float32)  # a tag that never came is never given
    if len(head.classes_) == 2:
        weights[:, head.classes_[1]], constants[head.classes_[1]] = head.coef_[0], head.intercept_[0]
        constants[head.classes_[0]] = 0
    else:
        weights[:, head.classes_], constants[head.classes_] = head.coef_.T, head.intercept_
    return Tagger(weights, constants, mean, deviation)


def _best(scores: npt.NDArray[np.floating[Any]]) -> list[int]:
    """The sequence of tags with the highest sum in which no name goes on that has not begun. scores: (words, 3)"""
    inside = TAGS.index("I-PER")
    step = np.zeros((len(TAGS), len(TAGS)))
    step[TAGS.index("O"), inside] = -np.inf
    best = scores[0].astype(np.float64)
    best[inside] = -np.inf
    came_from = []
    for word in scores[1:]:
        paths = best[:, None] + step
        came_from.append(paths.argmax(axis=0))
        best = paths.max(axis=0) + word
    sequence = [int(best.argmax())]
    for sources in reversed(came_from):
        sequence.append(int(sources[sequence[-1]]))
    return sequence[::-1]


@dataclass(frozen=True)
class Scores:
    """Over whole names."""

    precision: float
    recall: float
    f1: float
    support: int
    printed: str  # as seqeval prints it


def evaluated(tagger: Tagger, sentences: Sequence[Sentence], states: States) -> Scores:
    """How well names are found in sentences that were not learnt from."""
    return scored([list(each.tags) for each in sentences], [list(tagger.tag(states(each.words))) for each in sentences])


def scored(marked: list[list[str]], found: list[list[str]]) -> Scores:
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOB2

    if not any(tag != "O" for sentence in (*marked, *found) for tag in sentence):
        return Scores(0.0, 0.0, 0.0, 0, "no names are marked, and none were found")
    given: dict[str, Any] = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    row = cast(dict[str, Any], classification_report(marked, found, output_dict=True, **given)).get("PER", {})
    printed = str(classification_report(marked, found, digits=3, **given))
    precision, recall, f1 = (float(row.get(name, 0)) for name in ("precision", "recall", "f1-score"))
    return Scores(precision, recall, f1, int(row.get("support", 0)), printed)


def finder(tagger: Tagger, states: States) -> Find:
    """Names in running text, for `Redactor(also=...)`."""

    def find(text: str) -> Iterator[Finding]:
        for begin, end in _sentences(text):
            words = list(_WORD.finditer(text, begin, end))
            tags = tagger.tag(states([word[0] for word in words]))
            for first, last in _runs(tags):
                yield Finding(words[first].start(), words[last].end(), "NAME")

    return find


def _sentences(text: str) -> Iterable[tuple[int, int]]:
    begin = 0
    for match in re.finditer(r"[.!?](?=\s)|[。！？\n]|\0+", text):
        yield begin, match.start()
        begin = match.end()
    yield begin, len(text)


def _runs(tags: Sequence[str]) -> Iterator[tuple[int, int]]:
    first: int | None = None
    for number, tag in enumerate([*tags, "O"]):
        if first is not None and tag != "I-PER":
            yield first, number - 1
            first = None
        if tag == "B-PER":
            first = number
