"""Is a reply one that people will rate up? A small head that learns it from their ratings.

Question and reply are embedded by the model that `knowledge` searches with, and a logistic regression reads both
vectors, how they differ and agree, and what can be counted (length, loops, refusals). It is measured by
cross-validation in which no conversation is on both sides, beside the guess that is always the commoner verdict: with
few ratings, or ratings that follow nothing in the text, it is no better than that, and `Scores` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from finetune import degenerate
from finetune.errors import DataRefused, NotEnoughData
from finetune.examples import Judged

Array = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Array]  # (texts, dimensions), of unit length: Embedder.embed_passages

MIN_EACH = 20  # rated replies of each verdict
MIN_CONVERSATIONS = 10
FOLDS = 5
_REGULARISED = 0.3  # the inverse strength of scikit-learn; there are more features than ratings
_COUNTED = 4


@dataclass(frozen=True)
class Head:
    """Knows the replies of one kind of vectors only."""

    weights: Array  # (features,)
    constant: float

    def probability(self, features: Array) -> npt.NDArray[np.float64]:
        """That a reply is good, one a row. features: (replies, features)"""
        scores = features.astype(np.float64) @ self.weights + self.constant
        return np.asarray(0.5 * (1 + np.tanh(scores / 2)))

    def save(self, file: Path) -> None:
        with file.open("wb") as stream:
            np.savez(stream, weights=self.weights, constant=np.float64(self.constant))


def load(file: Path) -> Head:
    """Raises DataRefused."""
    try:
        with np.load(file, allow_pickle=False) as saved:
            head = Head(saved["weights"].astype(np.float32), float(saved["constant"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise DataRefused(f"{file} is no saved head of reply quality: {error}") from error
    if head.weights.ndim != 1 or not np.isfinite(head.weights).all() or not math.isfinite(head.constant):
        raise DataRefused(f"{file} is no saved head of reply quality: its numbers are none.")
    return head


@dataclass(frozen=True)
class Scores:
    """Of replies in conversations that were not learnt from; "good" is what is looked for."""

    precision: float
    recall: float
    f1: float
    support: int  # good replies
    accuracy: float
    commoner: float  # the accuracy of always saying what is commoner
    printed: str  # as scikit-learn prints it


def features(judged: Sequence[Judged], embed: Embed) -> Array:
    """(replies, features)"""
    questions = embed([_question(each) for each in judged])
    replies = embed([each.reply for each in judged])
    counted = np.array([_counted(each) for each in judged], np.float32).reshape(len(judged), _COUNTED)
    return np.concatenate([questions, replies, questions * replies, np.abs(questions - replies), counted], axis=1)


def learn(judged: Sequence[Judged], embed: Embed) -> Head:
    """Raises NotEnoughData."""
    _refuse_too_few(judged)
    return _fitted(features(judged, embed), *_verdicts(judged))


def evaluated(judged: Sequence[Judged], embed: Embed, *, seed: int = 0) -> Scores:
    """Each reply is scored by a head that learnt from other conversations. Raises NotEnoughData."""
    from sklearn.metrics import accuracy_score, classification_report
    from sklearn.model_selection import StratifiedGroupKFold

    _refuse_too_few(judged)
    seen = features(judged, embed)
    good, weights = _verdicts(judged)
    conversations = [each.source.conversation for each in judged]
    said = np.zeros(len(judged), bool)
    for learnt, held_out in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(
        seen, good, conversations
    ):
        if len(set(good[learnt])) < 2:  # all of one verdict stand in one conversation
            said[held_out] = good[learnt][0]
            continue
        said[held_out] = _fitted(seen[learnt], good[learnt], weights[learnt]).probability(seen[held_out]) >= 0.5
    given: dict[str, Any] = {"target_names": ["bad", "good"], "labels": [False, True], "zero_division": 0}
    row = classification_report(good, said, output_dict=True, **given)["good"]
    return Scores(
        float(row["precision"]),
        float(row["recall"]),
        float(row["f1-score"]),
        int(row["support"]),
        float(accuracy_score(good, said)),
        max(float(good.mean()), 1 - float(good.mean())),
        str(classification_report(good, said, digits=3, **given)),
    )


def _fitted(seen: Array, good: npt.NDArray[np.bool_], weights: Array) -> Head:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=_REGULARISED, max_iter=1000, class_weight="balanced")
    model.fit(seen, good, sample_weight=weights)
    return Head(model.coef_[0].astype(np.float32), float(model.intercept_[0]))


def _verdicts(judged: Sequence[Judged]) -> tuple[npt.NDArray[np.bool_], Array]:
    return np.array([each.good for each in judged]), np.array([each.weight for each in judged], np.float32)


def _refuse_too_few(judged: Sequence[Judged]) -> None:
    good = sum(each.good for each in judged)
    conversations = len({each.source.conversation for each in judged})
    if min(good, len(judged) - good) < MIN_EACH or conversations < MIN_CONVERSATIONS:
        raise NotEnoughData(
            f"There are {good} replies rated up and {len(judged) - good} rated down, in {conversations} conversations. "
            f"It takes {MIN_EACH} of each, in {MIN_CONVERSATIONS} conversations, to learn what people think of replies."
        )


def _question(judged: Judged) -> str:
    return next((each["content"] for each in reversed(judged.prompt) if each["role"] == "user"), "")


def _counted(judged: Judged) -> tuple[float, ...]:
    reply = judged.reply
    return (
        math.log1p(len(reply)) / 5,
        float(degenerate.looping(reply)),
        float(degenerate.refusal(reply)),
        float(degenerate.empty(reply)),
    )
