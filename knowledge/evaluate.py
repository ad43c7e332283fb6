"""How well the search finds things in these documents, and the relevance floor that fits them.

With questions of the operator (JSON lines), recall and rank are measured, and the floor is put where it best separates
the questions from the same questions with their own document left out, and from those that no document answers.

Without any, questions are made of the documents themselves: some telling words of a sentence. They are found too
easily, so their numbers are an estimate, and only what the *wrong* documents score with them sets the floor.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from knowledge import lexical, relevance
from knowledge.errors import EmbeddingsFailed
from knowledge.passages import Passage

if TYPE_CHECKING:
    from knowledge.search import Searcher

RANKS = 10
ENOUGH = 10  # questions with and without an answer, to move the floor
MADE = 200
HIDING = 2  # times as bad as showing a passage that does not answer is it to hide the one that does
# Whatever a floor comes out at. Documents of one subject are hard to tell apart by a score, and a floor that tries to
# would hide their answers.
LOWEST, HIGHEST = 0.1, 0.5
LET_THROUGH = 0.05  # of the wrong ones, where only they are known

_SENTENCE = re.compile(r"[^.!?。！？\n]+")
_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
_HAN = re.compile(r"[\u3400-\u9fff]")
_MADE_WORDS = 6
_MADE_HAN = 14  # characters


@dataclass(frozen=True)
class Asked:
    """A question and what a passage must be to answer it: of this document, from this source, with this in its text."""

    question: str
    document: str = ""  # its name or its title
    source: str = ""
    answer: str = ""
    answerable: bool = True  # False: no document answers it

    def is_answered_by(self, passage: Passage) -> bool:
        if not self.answerable:
            return False
        if self.document and _plain(self.document) not in (_plain(passage.name), _plain(passage.title)):
            return False
        if self.source and self.source != passage.source:
            return False
        return _plain(self.answer) in _plain(passage.text)


@dataclass(frozen=True)
class Malformed:
    line: int  # from 1
    reason: str


@dataclass(frozen=True)
class Evaluation:
    questions: int  # that have an answer
    without_answer: int  # asked with their document left out, or of no document
    recall: dict[int, float]  # at 1, 5 and 10 passages: the share of the questions that are answered by one of them
    mrr: float  # mean reciprocal rank of the first that answers, among 10
    auc: float  # how well relevance separates the two kinds: .5 is chance, 1 is perfect
    floor: float
    answered: float  # share of the questions with a passage that answers above the floor
    misled: float  # share of those without an answer where some passage is above it
    moved: bool  # whether there were enough questions to set the floor
    estimate: bool  # whether the questions were made from the documents


def read_questions(path: Path) -> tuple[list[Asked], list[Malformed]]:
    """One JSON object a line: `question`, and `document`, `source` or `answer`; `"answer": null` if nothing answers it.

    Raises OSError.
    """
    asked: list[Asked] = []
    malformed: list[Malformed] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip().removeprefix(b"\xef\xbb\xbf"):
            continue
        try:
            asked.append(_parsed(line))
        except ValueError as error:
            malformed.append(Malformed(number, str(error)))
    return asked, malformed


def calibrate(
    searcher: Searcher,
    readable: Sequence[str],
    questions: Sequence[Asked] | None = None,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure, and keep the floor in the catalogue for all searches to come. None: make questions.

    Raises KnowledgeError, StoreError.
    """
    estimate = questions is None
    asked = made_questions(searcher, readable) if questions is None else list(questions)
    calibration = _measured_cosines(searcher, readable, asked)
    if not calibration.judge.startswith(relevance.BUNDLED.judge):
        relevance.save(searcher.catalogue, calibration)  # the relevance below rests on it
    outcomes = []
    for number, each in enumerate(asked, 1):
        outcomes.append(_ask(searcher, readable, each))
        if on_progress:
            on_progress(number, len(asked))
    rights = [outcome.right for outcome in outcomes if outcome.right is not None]
    wrongs = [outcome.wrong for outcome in outcomes if outcome.wrong is not None]
    moved = len(wrongs) >= ENOUGH and (estimate or len(rights) >= ENOUGH)
    floor = calibration.floor
    if moved:
        floor = _not_let_through(wrongs) if estimate else _separating(rights, wrongs)
        relevance.save(searcher.catalogue, replace(calibration, floor=floor))
    ranks = [outcome.rank for outcome in outcomes if outcome.right is not None]
    return Evaluation(
        questions=len(rights),
        without_answer=len(wrongs),
        recall={at: _share(rank is not None and rank <= at for rank in ranks) for at in (1, 5, 10)},
        mrr=sum(1 / rank for rank in ranks if rank) / len(ranks) if ranks else 0.0,
        auc=_auc(rights, wrongs),
        floor=floor,
        answered=_share(score >= floor for score in rights),
        misled=_share(score >= floor for score in wrongs),
        moved=moved,
        estimate=estimate,
    )


def made_questions(searcher: Searcher, readable: Sequence[str], count: int = MADE, seed: int = 0) -> list[Asked]:
    """Some telling words of a sentence each, of documents drawn by chance; the same for the same documents."""
    documents = sorted(searcher.catalogue.documents(readable), key=lambda document: document.id)
    chance = random.Random(seed)
    made: list[Asked] = []
    for document in chance.sample(documents, len(documents)) * max(1, count // max(1, len(documents))):
        if len(made) == count:
            break
        chunks = searcher.catalogue.chunks_of(document.id)
        if not chunks:
            continue  # removed meanwhile
        chunk = chance.choice(chunks)
        sentences = [sentence for sentence in _SENTENCE.findall(chunk.text) if _words_of(sentence, chance)]
        if sentences:
            words = _words_of(chance.choice(sentences), chance)
            made.append(Asked(words, document=document.name, source=document.source))
    return made


@dataclass(frozen=True)
class _Outcome:
    rank: int | None  # of the first passage that answers, from 1
    right: float | None  # relevance of the best passage that answers, 0 if there is none; None: unanswerable
    wrong: float | None  # relevance of the best passage of other documents; None: there were none


def _ask(searcher: Searcher, readable: Sequence[str], asked: Asked) -> _Outcome:
    passages = _found(searcher, readable, asked, 2 * RANKS)
    answering = [passage for passage in passages if asked.is_answered_by(passage)]
    own = {passage.document_id for passage in answering}
    others = [passage.score for passage in passages if passage.document_id not in own]
    rank = next((number for number, passage in enumerate(passages[:RANKS], 1) if passage in answering), None)
    if not asked.answerable:
        return _Outcome(None, None, max(others, default=0.0))
    right = max((passage.score for passage in answering), default=0.0)
    # Where the right one was not found, the others may well be the right one's neighbours: they tell nothing.
    return _Outcome(rank, right, max(others, default=None) if own else None)


def _found(searcher: Searcher, readable: Sequence[str], asked: Asked, limit: int) -> tuple[Passage, ...]:
    """A floor that was found with words alone would be in force when the embedding model is back, so it is not."""
    found = searcher.search(asked.question, readable, limit=limit, floor=0.0)
    if found.degraded:
        raise EmbeddingsFailed(found.degraded)
    return found.passages


def _measured_cosines(searcher: Searcher, readable: Sequence[str], asked: Sequence[Asked]) -> relevance.Calibration:
    """What the cosine of a question is to any passage, and to the one that answers it, if the model is not known."""
    calibration = relevance.in_force(searcher.catalogue, searcher.judge)
    if searcher.judge.startswith(relevance.BUNDLED.judge):
        return replace(calibration or relevance.BUNDLED, judge=searcher.judge)
    estimated = relevance.estimated(searcher.catalogue, searcher.embedder.id, searcher.judge)
    keys = [key for key in searcher.catalogue.chunk_keys(limit=20 * relevance.SAMPLED) if key[1] in readable]
    hashes = sorted({chunk_hash for _, _, chunk_hash in keys})[: relevance.SAMPLED]
    vectors = list(searcher.catalogue.vectors(hashes, searcher.embedder.id).values())
    sample = [each for each in asked if each.answerable][:MADE]
    if len(sample) < ENOUGH or len(vectors) < ENOUGH:
        return calibration or estimated
    questions = searcher.embedder.embed_queries([each.question for each in sample])
    related = []
    for each in sample:
        passages = _found(searcher, readable, each, RANKS)
        related += [max(cosines)] if (cosines := [p.dense for p in passages if each.is_answered_by(p)]) else []
    if len(related) < ENOUGH:
        return calibration or estimated
    unrelated = float((questions @ np.stack(vectors).T).mean())
    return replace(estimated, unrelated=unrelated, related=float(np.mean(related)))


def _separating(rights: Sequence[float], wrongs: Sequence[float]) -> float:
    """Where most of the ones are above and most of the others below, in the middle of the gap."""
    scores = sorted({*rights, *wrongs})
    cuts = [0.0, *((low + high) / 2 for low, high in itertools.pairwise(scores))]
    right, wrong = np.asarray(rights), np.asarray(wrongs)
    best = max(cuts, key=lambda cut: HIDING * float((right >= cut).mean()) - float((wrong >= cut).mean()))
    return min(max(best, LOWEST), HIGHEST)


def _not_let_through(wrongs: Sequence[float]) -> float:
    return min(max(float(np.quantile(wrongs, 1 - LET_THROUGH)), LOWEST), HIGHEST)


def _auc(rights: Sequence[float], wrongs: Sequence[float]) -> float:
    """The chance that a question with an answer scores above one without; ties count half."""
    if not rights or not wrongs:
        return float("nan")
    right, wrong = np.asarray(rights)[:, None], np.asarray(wrongs)[None, :]
    return float(((right > wrong) + 0.5 * (right == wrong)).mean())


def _share(of: Iterable[bool]) -> float:
    values = list(of)
    return sum(values) / len(values) if values else 0.0


def _parsed(line: bytes) -> Asked:
    try:
        fields = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise ValueError("this is not JSON in UTF-8") from None
    if not isinstance(fields, dict):
        raise ValueError("this is not an object with a question")  # noqa: TRY004 - of the file, not of our code
    question = fields.get("question")
    if not isinstance(question, str) or not question.strip():
        raise ValueError("there is no question")
    if "answer" in fields and fields["answer"] is None:
        return Asked(question, answerable=False)
    expected = {name: fields.get(name, "") for name in ("document", "source", "answer")}
    wrong = [name for name, value in expected.items() if not isinstance(value, str)]
    if wrong:
        raise ValueError(f"{wrong[0]} is not text")
    if not any(value.strip() for value in expected.values()):
        raise ValueError("it says neither document, source nor answer")
    return Asked(question, **expected)


def _words_of(sentence: str, chance: random.Random) -> str:
    """Up to six telling words in their order, or a piece of a Chinese sentence; "" if there are too few."""
    if _HAN.search(sentence):
        run = sentence.strip()
        if len(run) < _MADE_HAN // 2:
            return ""
        start = chance.randrange(max(1, len(run) - _MADE_HAN + 1))
        return run[start : start + _MADE_HAN]
    words = [word for word in _WORD.findall(sentence) if lexical.content_terms(word)]
    if len(words) < _MADE_WORDS - 2:
        return ""
    chosen = sorted(chance.sample(range(len(words)), min(_MADE_WORDS, len(words))))
    return " ".join(words[index] for index in chosen)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
